//! moe_ffn: Σ over the chosen experts of weight · (w_down · swiglu_clamped(gate, up) + b_down).

use rayon::prelude::*;

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::declared::{Block, Inside, Matrix, Shared, moved};
use crate::ops::embedding::in_range;
use crate::ops::linear::{WEIGHT_VARIANTS, linear, weight_variant};
use crate::ops::swiglu_clamped::{self, ALPHA, LIMIT, swiglu_clamped};
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Slack, Values, declared, dims, slack,
};

/// The op.
pub struct MoeFfn;

static SIGNATURE: Signature = Signature {
    name: "moe_ffn",
    source: "openai/gpt-oss, gpt_oss/torch/model.py, MLPBlock",
    operands: &[
        Operand::new("x", Class::D, &["n", "h"]),
        Operand::new("ids", Class::Ids, &["n", "t"]),
        Operand::new("weights", Class::F32, &["n", "t"]),
        Operand::new("w_gate", Class::W, &["e", "f", "h"]),
        Operand::new("w_up", Class::W, &["e", "f", "h"]),
        Operand::new("w_down", Class::W, &["e", "h", "f"]),
        Operand::optional("b_gate", Class::P, &["e", "f"]),
        Operand::optional("b_up", Class::P, &["e", "f"]),
        Operand::optional("b_down", Class::P, &["e", "h"]),
    ],
    attributes: &[ALPHA, LIMIT, Attribute::TO],
    results: &[ResultSlot::new("y", Class::ToF32, &["n", "h"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "MoeFfnArgs",
    fields: &[
        ("x", Field::Ptr),
        ("ids", Field::Ptr),
        ("weights", Field::Ptr),
        ("w_gate", Field::Ptr),
        ("w_up", Field::Ptr),
        ("w_down", Field::Ptr),
        ("b_gate", Field::Ptr),
        ("b_up", Field::Ptr),
        ("b_down", Field::Ptr),
        ("hidden", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("h", Field::I32),
        ("f", Field::I32),
        ("experts", Field::I32),
        ("top_k", Field::I32),
        ("alpha", Field::F32),
        ("limit", Field::F32),
    ],
};

static PAGE: Page = Page {
    name: "moe_ffn",
    text: include_str!("../../../cuda/moe_ffn.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// What the row `x` becomes inside expert `id`, and the expert's result.
fn inside(asked: &Asked, x: &[f64], id: usize) -> (Inside, Vec<f64>) {
    let [h, f] = dims(&asked.question.dims, ["h", "f"]);
    let [alpha, limit] = ["alpha", "limit"].map(|name| asked.question.attributes.real(name));
    let of = |name: &str, size: usize| {
        asked.inputs.find_real(name).map(|b| &b[id * size..(id + 1) * size])
    };
    let weight = |name: &str| of(name, h * f).expect("required");
    let gate = linear(x, weight("w_gate"), of("b_gate", f), h);
    let up = linear(x, weight("w_up"), of("b_up", f), h);
    let hidden: Vec<f64> = (0..f).map(|i| swiglu_clamped(gate[i], up[i], alpha, limit)).collect();
    // What is clamped keeps its slope, as in the slack.
    let clamped = |i: usize| (gate[i].min(limit), up[i].clamp(-limit, limit));
    let sigmoid = |g: f64| 1.0 / (1.0 + (-alpha * g).exp());
    let slopes = |i: usize| {
        let ((g, u), s) = (clamped(i), sigmoid(clamped(i).0));
        (s * (1.0 + alpha * g * (1.0 - s)) * (u + 1.0), g * s)
    };
    let unit = |i: usize| {
        let ((g, u), (by_gate, by_up)) = (clamped(i), slopes(i));
        let products = [moved(by_gate, gate[i]), moved(by_up, up[i])];
        let steps = swiglu_clamped::steps(g, u, alpha);
        products.into_iter().chain(steps).chain([moved(1.0, hidden[i])]).collect()
    };
    let activation = declared::by_step((0..f).map(unit));
    let (by_gate, by_up) = (0..f).map(slopes).unzip();
    let y = linear(&hidden, weight("w_down"), of("b_down", h), f);
    ((vec![("w_gate", by_gate), ("w_up", by_up)], activation, hidden), y)
}

impl Op for MoeFfn {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let gate = question.type_of("w_gate");
        for name in ["w_up", "w_down"] {
            if question.type_of(name) != gate {
                let message = format!("is {}, w_gate is {gate}", question.type_of(name));
                return Err(Refusal::new(RefusalKind::DtypeMismatch, name, message));
            }
        }
        Ok(())
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [h, f, e, t] = dims(&question.dims, ["h", "f", "e", "t"]);
        let [alpha, limit] = ["alpha", "limit"].map(|name| question.attributes.real(name));
        let (ids, weights) = (inputs.ids("ids"), inputs.real("weights"));
        in_range(ids, e, RefusalKind::IdOutOfRange, "ids")?;
        let expert = |name: &str, id: usize, size: usize| {
            inputs.find_real(name).map(|w| &w[id * size..(id + 1) * size])
        };
        let one = |(x, (ids, weights)): (&[f64], (&[i32], &[f64]))| {
            let mut y = vec![0.0; h];
            for (id, weight) in ids.iter().zip(weights) {
                let id = *id as usize;
                let product = |w: &str, b: &str, x: &[f64], from: usize, to: usize| {
                    let w = expert(w, id, from * to).expect("required");
                    linear(x, w, expert(b, id, to), from)
                };
                let gate = product("w_gate", "b_gate", x, h, f);
                let up = product("w_up", "b_up", x, h, f);
                let pairs = gate.iter().zip(&up);
                let hidden: Vec<f64> =
                    pairs.map(|(&g, &u)| swiglu_clamped(g, u, alpha, limit)).collect();
                let down = product("w_down", "b_down", &hidden, f, h);
                y.iter_mut().zip(down).for_each(|(y, d)| *y += weight * d);
            }
            y
        };
        let tokens = inputs.real("x").par_chunks_exact(h);
        let routes = ids.par_chunks_exact(t).zip(weights.par_chunks_exact(t));
        let y: Vec<Vec<f64>> = tokens.zip(routes).map(one).collect();
        Ok(vec![Values::Real(y.concat())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, h, f, e, t] = dims(&question.dims, ["n", "h", "f", "e", "t"]);
        let slot = |name: &'static str| match question.has(name) {
            true => Arg::Slot(name, 0),
            false => Arg::Null,
        };
        let args = Args::new(
            &ARGS,
            [
                ("x", slot("x")),
                ("ids", slot("ids")),
                ("weights", slot("weights")),
                ("w_gate", slot("w_gate")),
                ("w_up", slot("w_up")),
                ("w_down", slot("w_down")),
                ("b_gate", slot("b_gate")),
                ("b_up", slot("b_up")),
                ("b_down", slot("b_down")),
                ("hidden", Arg::Slot("hidden", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("h", Arg::I32(h as i32)),
                ("f", Arg::I32(f as i32)),
                ("experts", Arg::I32(e as i32)),
                ("top_k", Arg::I32(t as i32)),
                ("alpha", Arg::F32(question.attributes.real("alpha") as f32)),
                ("limit", Arg::F32(question.attributes.real("limit") as f32)),
            ],
        );
        let d = question.dtype;
        let variant = weight_variant(question.type_of("w_gate"));
        let launch = |entry: String, rows: usize, pairs: usize, args: Args| {
            let mut launch = Launch::new(&PAGE, entry, 1, 128, args);
            launch.grid = [pairs as u32, rows.div_ceil(4) as u32, 1];
            launch.variant = variant;
            launch
        };
        let y = question.result_type("y");
        Lowered {
            launches: vec![
                launch(format!("moe_ffn_inner_{d}"), f, n * t, args.clone()),
                launch(format!("moe_ffn_outer_{d}_{y}"), h, n, args),
            ],
            workspace: vec![("hidden", n * t * f * d.bytes())],
            faults: vec![(RefusalKind::IdOutOfRange, "ids")],
            ..Lowered::default()
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, _values: &[Values]) -> Vec<Slack> {
        let [n, h, f, t] = dims(&asked.question.dims, ["n", "h", "f", "t"]);
        let names = ["w_gate", "w_up", "w_down"];
        let parts = names.map(|name| slack::parts(&asked.tensors[name], asked.inputs.real(name)));
        let dtype = asked.question.type_of("w_gate");
        let [alpha, limit] = ["alpha", "limit"].map(|name| asked.question.attributes.real(name));
        let bias = |name: &str, id: usize, size: usize| {
            asked.inputs.find_real(name).map(|b| &b[id * size..(id + 1) * size])
        };
        let (mut slack, mut kept) = (vec![0.0; n * h], vec![0.0; n * h]);
        for (pair, id) in asked.inputs.ids("ids").iter().enumerate() {
            let (token, id) = (pair / t, *id as usize);
            let weight = asked.inputs.real("weights")[pair].abs();
            let x = &asked.inputs.real("x")[token * h..(token + 1) * h];
            let ws = [0, 1, 2].map(|i| slack::slice(&parts[i], id * h * f..(id + 1) * h * f));
            let inner = |i: usize, b: &str| {
                let y = linear(x, &slack::whole(&ws[i]), bias(b, id, f), h);
                (y, slack::matmul(x, &ws[i], dtype, bias(b, id, f), h, asked.sums).0)
            };
            let ((gate, a_gate), (up, a_up)) = (inner(0, "b_gate"), inner(1, "b_up"));
            let unit = |i: usize| swiglu_clamped(gate[i], up[i], alpha, limit);
            let hidden: Vec<f64> = (0..f).map(unit).collect();
            let clamped = |i: usize| (gate[i].min(limit), up[i].clamp(-limit, limit) + 1.0);
            let gated = |g: f64| g / (1.0 + (-alpha * g).exp());
            // A clamped value has no slope, but an error may carry it over the edge.
            let by_gate = |i| slack::slope(gated, clamped(i).0) * clamped(i).1 * a_gate[i];
            let by_up = |i| gated(clamped(i).0) * a_up[i];
            let by_unit = |i| slack::swiglu(clamped(i).0, clamped(i).1, hidden[i], Some(alpha));
            let errors = [
                (0..f).map(by_gate).collect(),
                (0..f).map(by_up).collect(),
                (0..f).map(by_unit).collect(),
            ];
            let b_down = bias("b_down", id, h);
            let (s, q) = slack::down(&hidden, &ws[2], dtype, b_down, &errors, asked.sums);
            let y = linear(&hidden, &slack::whole(&ws[2]), b_down, f);
            for i in 0..h {
                slack[token * h + i] += weight * (s[i] + 16.0 * y[i].abs());
                kept[token * h + i] += (weight * q[i]).powi(2);
            }
        }
        let kept: Vec<f64> = kept.into_iter().map(f64::sqrt).collect();
        vec![Slack::of(slack).keep("hidden", &kept)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], x: &[&str]) -> Vec<Declared> {
        let [h, f, t] = dims(&asked.question.dims, ["h", "f", "t"]);
        let experts = asked.question.dims.get("e");
        let block = asked.question.type_of("w_gate").is_block();
        let g = declared::direction(&values[0]);
        let (mut all, mut shared) = (Declared::of(g.len()).with(x), Shared::default());
        let of = |name: &str, id: usize| &asked.inputs.real(name)[id * h * f..(id + 1) * h * f];
        let ids = asked.inputs.ids("ids").chunks_exact(t);
        let routes = ids.zip(asked.inputs.real("weights").chunks_exact(t));
        let rows = asked.inputs.real("x").chunks_exact(h).zip(g.chunks_exact(h));
        for (token, ((ids, weights), (x, g))) in routes.zip(rows).enumerate() {
            let (mut blocks, mut total) = (Vec::new(), vec![0.0; h]);
            for (id, share) in ids.iter().zip(weights) {
                let id = *id as usize;
                let (inside, y) = inside(asked, x, id);
                let (inner, activation, hidden) = inside;
                let keys = [("w_gate", experts + id), ("w_up", 2 * experts + id)];
                let inner = keys.into_iter().zip(inner).map(|((name, key), (_, slope))| {
                    (Matrix::new(of(name, id), h, block), slope, key)
                });
                let down = Matrix::new(of("w_down", id), f, block).scaled(*share);
                let inner = inner.collect();
                let inside = Block { inner, activation, hidden, down, key: id };
                all.feed_forward(token * h, x, &inside, g, &mut shared);
                blocks.push(inside);
                for (i, y) in y.iter().enumerate() {
                    total[i] += share * y;
                    let steps = [(*share, *y), (*y, *share), (1.0, share * y), (1.0, total[i])];
                    let cs = steps.map(|(slope, z)| moved(slope, z));
                    all.own(declared::ACTIVATION, token * h + i, g[i], &cs);
                }
            }
            all.through_all(token * h, x, &blocks, g);
        }
        let names = ["w_down", "w_gate", "w_up"];
        all.whole(declared::WEIGHTS, shared.gain(|key| of(names[key / experts], key % experts)));
        vec![all]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h, f, e, t] = dims(&question.dims, ["n", "h", "f", "e", "t"]);
        let w = question.type_of("w_gate");
        // At most n·t experts are read, and never more than there are.
        let expert = (3 * h * f / w.elements() * w.bytes()) as f64;
        let x = (n * h * (question.dtype.bytes() + question.result_type("y").bytes())) as f64;
        Cost {
            bytes: (n * t).min(e) as f64 * expert + x,
            operations: 6.0 * (n * t) as f64 * (h * f) as f64,
        }
    }
}
