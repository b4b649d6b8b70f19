//! ffn_swiglu: y = (silu(x w_gateᵀ) · x w_upᵀ) w_downᵀ (+ residual).
//!
//! No page of its own: the pages of linear, the activation and residual, one after the other. The
//! products are f32, the activation is kept in D.

use crate::cuda::{Arg, Card, Lowered, Page};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::linear::{self, Product, matmul};
use crate::ops::swiglu::{self, silu};
use crate::ops::{
    Asked, Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims, residual, slack, traffic,
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
        let inner = |w: &'static str, bias: Arg, y: Arg| {
            linear::launch(&Product {
                phase: question.phase,
                n,
                width: h,
                outputs: f,
                x: (Arg::Slot("x", 0), d),
                w: (Arg::Slot(w, 0), question.type_of(w)),
                bias,
                y: (y, DType::F32),
            })
        };
        let gate = ("gate", Arg::Slot("gate", 0));
        let up = ("up", Arg::Slot("up", 0));
        let mut launches = vec![
            inner("w_gate", Arg::Null, gate.1.clone()),
            inner("w_up", Arg::Null, up.1.clone()),
        ];
        let types = [DType::F32, d];
        let slots = [gate.1, up.1, Arg::Slot("hidden", 0)];
        launches.push(swiglu::launch(&swiglu::PAGE, slots, types, n * f, [1.0, 0.0]));
        let mut workspace =
            vec![("gate", n * f * 4), ("up", n * f * 4), ("hidden", n * f * d.bytes())];
        let added = question.has("residual");
        let down = if added { ("down", DType::F32) } else { ("y", question.result_type("y")) };
        launches.push(linear::launch(&Product {
            phase: question.phase,
            n,
            width: f,
            outputs: h,
            x: (Arg::Slot("hidden", 0), d),
            w: (Arg::Slot("w_down", 0), question.type_of("w_down")),
            bias: Arg::Null,
            y: (Arg::Slot(down.0, 0), down.1),
        }));
        if added {
            workspace.push(("down", n * h * 4));
            let stream = (Arg::Slot("residual", 0), question.type_of("residual"));
            let down = (Arg::Slot("down", 0), DType::F32);
            launches.push(residual::launch(stream, down, Arg::Slot("y", 0), n * h));
        }
        Lowered { launches, workspace, ..Lowered::default() }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&linear::PAGE, &swiglu::PAGE, &residual::PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [h, f] = dims(&asked.question.dims, ["h", "f"]);
        let names = ["w_gate", "w_up", "w_down"];
        let tensors = names.map(|name| &asked.tensors[name]);
        let parts = names.map(|n| slack::parts(&asked.tensors[n], asked.inputs.real(n)));
        let parts = [0, 1, 2].map(|i| slack::slice(&parts[i], 0..h * f));
        let (mut slack, mut kept) = (Vec::new(), Vec::new());
        for x in asked.inputs.real("x").chunks_exact(h) {
            let [gate, up] = ["w_gate", "w_up"].map(|w| matmul(x, asked.inputs.real(w), h));
            let hidden: Vec<f64> = (0..f).map(|i| silu(gate[i]) * up[i]).collect();
            let [a_gate, a_up] = [0, 1]
                .map(|i| slack::matmul(x, &parts[i], tensors[i].meta.dtype, None, h, asked.sums).0);
            let inner = [
                (0..f).map(|i| slack::slope(silu, gate[i]) * up[i] * a_gate[i]).collect(),
                (0..f).map(|i| silu(gate[i]) * a_up[i]).collect(),
                (0..f).map(|i| slack::swiglu(gate[i], up[i], hidden[i], None)).collect(),
            ];
            let dtype = tensors[2].meta.dtype;
            let (s, q) = slack::down(&hidden, &parts[2], dtype, None, &inner, asked.sums);
            slack.extend(s);
            kept.extend(q);
        }
        let residual = asked.inputs.has("residual");
        if residual {
            slack.iter_mut().zip(values[0].real()).for_each(|(s, y)| *s += y.abs());
        }
        vec![Slack::of(slack).keep("hidden", &kept)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
        let operations = 6.0 * (n * h) as f64 * f as f64;
        Cost { bytes: traffic(question), operations }
    }
}
