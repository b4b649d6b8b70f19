//! ffn_swiglu: y = (silu(x w_gateᵀ) · x w_upᵀ) w_downᵀ (+ residual).
//!
//! A generated row: gate, up and activation in one launch, then linear with the residual. A prompt:
//! the pages of linear and the activation, one after the other. Products are f32, the activation is
//! kept in D.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::declared::moved;
use crate::ops::linear::{self, Product, WEIGHT_VARIANTS, few_rows, matmul, weight_variant};
use crate::ops::swiglu::{self, silu};
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Slack, Values, declared, dims, slack, traffic,
};

/// The op.
pub struct FfnSwiglu;

static SIGNATURE: Signature = Signature {
    name: "ffn_swiglu",
    source: "Shazeer 2020, \"GLU Variants Improve Transformer\", eq. 6",
    operands: &[
        Operand::new("x", Class::D, &["n", "h"]),
        Operand::new("w_gate", Class::W, &["f", "h"]),
        Operand::new("w_up", Class::W, &["f", "h"]),
        Operand::new("w_down", Class::W, &["h", "f"]),
        Operand::optional("residual", Class::R, &["n", "h"]),
    ],
    attributes: &[Attribute::TO],
    results: &[ResultSlot::new("y", Class::LikeOrTo("residual"), &["n", "h"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "FfnSwigluArgs",
    fields: &[
        ("x", Field::Ptr),
        ("w_gate", Field::Ptr),
        ("w_up", Field::Ptr),
        ("hidden", Field::Ptr),
        ("in", Field::I32),
        ("out", Field::I32),
        ("n", Field::I32),
        ("span", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "ffn_swiglu",
    text: include_str!("../../../cuda/ffn_swiglu.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// Whether one launch gives the activations: few rows, and two matrices of one type that are read
/// in whole units.
fn fits(question: &Question) -> bool {
    let [n, h] = dims(&question.dims, ["n", "h"]);
    let [gate, up] = ["w_gate", "w_up"].map(|w| question.type_of(w));
    gate == up && linear::is_wide(gate, h) && linear::is_few(question.phase, n)
}

/// The launch of gate, up and the activation of few rows.
fn inner(question: &Question) -> Launch {
    let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
    let w = question.type_of("w_gate");
    let (grid, block, span) = few_rows(w, h, f);
    let args = Args::new(
        &ARGS,
        [
            ("x", Arg::Slot("x", 0)),
            ("w_gate", Arg::Slot("w_gate", 0)),
            ("w_up", Arg::Slot("w_up", 0)),
            ("hidden", Arg::Slot("hidden", 0)),
            ("in", Arg::I32(h as i32)),
            ("out", Arg::I32(f as i32)),
            ("n", Arg::I32(n as i32)),
            ("span", Arg::I32(span)),
        ],
    );
    let rows = if n == 1 { 1 } else { linear::DECODE_ROWS };
    let entry = format!("ffn_swiglu_inner{rows}_{}", question.dtype);
    let mut launch = Launch::new(&PAGE, entry, grid, block, args);
    launch.variant = weight_variant(w);
    launch
}

impl Op for FfnSwiglu {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [h, f] = dims(&question.dims, ["h", "f"]);
        let x = inputs.real("x");
        let gate = matmul(x, inputs.real("w_gate"), h);
        let up = matmul(x, inputs.real("w_up"), h);
        let hidden: Vec<f64> = gate.iter().zip(&up).map(|(&g, u)| silu(g) * u).collect();
        let mut y = matmul(&hidden, inputs.real("w_down"), f);
        if let Some(residual) = inputs.find_real("residual") {
            y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
        }
        Ok(vec![Values::Real(y)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
        let d = question.dtype;
        let hidden = Arg::Slot("hidden", 0);
        let mut workspace = vec![("hidden", n * f * d.bytes())];
        let mut launches = Vec::new();
        if fits(question) {
            launches.push(inner(question));
        } else {
            let inner = |w: &'static str, y: &Arg| {
                linear::launch(&Product {
                    phase: question.phase,
                    n,
                    width: h,
                    outputs: f,
                    x: (Arg::Slot("x", 0), d),
                    w: (Arg::Slot(w, 0), question.type_of(w)),
                    bias: Arg::Null,
                    residual: Arg::Null,
                    y: (y.clone(), DType::F32),
                })
            };
            let (gate, up) = (Arg::Slot("gate", 0), Arg::Slot("up", 0));
            launches.extend([inner("w_gate", &gate), inner("w_up", &up)]);
            let (slots, types) = ([gate, up, hidden.clone()], [DType::F32, d]);
            launches.push(swiglu::launch(&swiglu::PAGE, slots, types, n * f, [1.0, 0.0]));
            workspace.extend([("gate", n * f * 4), ("up", n * f * 4)]);
        }
        let residual = if question.has("residual") { Arg::Slot("residual", 0) } else { Arg::Null };
        launches.push(linear::launch(&Product {
            phase: question.phase,
            n,
            width: f,
            outputs: h,
            x: (hidden, d),
            w: (Arg::Slot("w_down", 0), question.type_of("w_down")),
            bias: Arg::Null,
            residual,
            y: (Arg::Slot("y", 0), question.result_type("y")),
        }));
        Lowered { launches, workspace, ..Lowered::default() }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE, &linear::PAGE, &swiglu::PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [h, f] = dims(&asked.question.dims, ["h", "f"]);
        let names = ["w_gate", "w_up", "w_down"];
        let tensors = names.map(|name| &asked.tensors[name]);
        let parts = names.map(|n| slack::parts(&asked.tensors[n], asked.inputs.real(n)));
        let parts = [0, 1, 2].map(|i| slack::slice(&parts[i], 0..h * f));
        let (mut slack, mut kept, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for x in asked.inputs.real("x").chunks_exact(h) {
            let [gate, up] = ["w_gate", "w_up"].map(|w| matmul(x, asked.inputs.real(w), h));
            let hidden: Vec<f64> = (0..f).map(|i| silu(gate[i]) * up[i]).collect();
            let by_gate: Vec<f64> = (0..f).map(|i| slack::slope(silu, gate[i]) * up[i]).collect();
            let by_up: Vec<f64> = gate.iter().map(|g| silu(*g)).collect();
            let types = tensors.map(|t| t.meta.dtype);
            let [(a_gate, q_gate), (a_up, q_up)] =
                [0, 1].map(|i| slack::matmul(x, &parts[i], types[i], None, h, asked.sums));
            let [q_gate, q_up] =
                [slack::rounded(types[0], &q_gate), slack::rounded(types[1], &q_up)];
            let inner = [
                (0..f).map(|i| by_gate[i] * a_gate[i]).collect(),
                (0..f).map(|i| by_up[i] * a_up[i]).collect(),
                (0..f).map(|i| slack::swiglu(gate[i], up[i], hidden[i], None)).collect(),
            ];
            let (s, q) = slack::down(&hidden, &parts[2], types[2], None, &inner, asked.sums);
            let inner = [
                (0..f).map(|i| by_gate[i] * q_gate(i)).collect(),
                (0..f).map(|i| by_up[i] * q_up(i)).collect(),
            ];
            weights.extend(slack::kept_weights(&parts[2], types[2], &q, &inner));
            slack.extend(s);
            kept.extend(q);
        }
        let residual = asked.inputs.has("residual");
        if residual {
            slack.iter_mut().zip(values[0].real()).for_each(|(s, y)| *s += y.abs());
        }
        vec![Slack::of(slack).keep("hidden", &kept).keep("w", &weights)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], x: &[&str]) -> Vec<Declared> {
        let [h, f] = dims(&asked.question.dims, ["h", "f"]);
        let block = |x: &[f64]| {
            let [gate, up] = ["w_gate", "w_up"].map(|w| matmul(x, asked.inputs.real(w), h));
            let hidden: Vec<f64> = (0..f).map(|i| silu(gate[i]) * up[i]).collect();
            let by_gate: Vec<f64> = (0..f).map(|i| slack::slope(silu, gate[i]) * up[i]).collect();
            let by_up: Vec<f64> = gate.iter().map(|g| silu(*g)).collect();
            let unit = |i: usize| {
                let steps = swiglu::steps(gate[i], up[i]);
                let products = [moved(by_gate[i], gate[i]), moved(by_up[i], up[i])];
                products.into_iter().chain(steps).chain([moved(1.0, hidden[i])]).collect()
            };
            let activation = declared::by_step((0..f).map(unit));
            (vec![("w_gate", by_gate), ("w_up", by_up)], activation, hidden)
        };
        vec![declared::feed_forward(asked, &values[0], f, x, block)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
        let operations = 6.0 * (n * h) as f64 * f as f64;
        Cost { bytes: traffic(question), operations }
    }
}
