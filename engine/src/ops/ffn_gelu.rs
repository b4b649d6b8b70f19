//! ffn_gelu: y = gelu(x w_upᵀ + b_up) w_downᵀ + b_down (+ residual).
//!
//! No page of its own: the pages of linear, the activation and residual, one after the other. The
//! products are f32, the activation is kept in D.

use crate::cuda::{Arg, Card, Lowered, Page};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::gelu::{self, activation};
use crate::ops::linear::{self, Product};
use crate::ops::{
    Asked, Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Rule, Signature,
    Slack, Values, dims, residual, slack, traffic,
};

/// The op.
pub struct FfnGelu;

static SIGNATURE: Signature = Signature {
    name: "ffn_gelu",
    source: "Radford et al. 2019, GPT-2's feed-forward block",
    operands: &[
        Operand::new("x", Class::D, &["n", "h"]),
        Operand::new("w_up", Class::W, &["f", "h"]),
        Operand::new("b_up", Class::P, &["f"]),
        Operand::new("w_down", Class::W, &["h", "f"]),
        Operand::new("b_down", Class::P, &["h"]),
        Operand::optional("residual", Class::R, &["n", "h"]),
    ],
    attributes: &[
        Attribute {
            name: "approximate",
            rule: Rule::Choice { of: &["none", "tanh"], default: Some("none") },
        },
        Attribute::TO,
    ],
    results: &[ResultSlot::new("y", Class::LikeOrTo("residual"), &["n", "h"])],
    rounds_inside: false,
};

impl Op for FfnGelu {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [h, f] = dims(&question.dims, ["h", "f"]);
        let activate = activation(question.attributes.word("approximate"));
        let up = linear::linear(inputs.real("x"), inputs.real("w_up"), inputs.find_real("b_up"), h);
        let hidden: Vec<f64> = up.into_iter().map(activate).collect();
        let mut y = linear::linear(&hidden, inputs.real("w_down"), inputs.find_real("b_down"), f);
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
        let up = Arg::Slot("up", 0);
        let mut launches = vec![inner("w_up", Arg::Slot("b_up", 0), up.clone())];
        let form = question.attributes.word("approximate");
        let hidden = (Arg::Slot("hidden", 0), d);
        launches.push(gelu::launch(form, (up, DType::F32), hidden, n * f, 1.0));
        let mut workspace = vec![("up", n * f * 4), ("hidden", n * f * d.bytes())];
        let added = question.has("residual");
        let down = if added { ("down", DType::F32) } else { ("y", question.result_type("y")) };
        launches.push(linear::launch(&Product {
            phase: question.phase,
            n,
            width: f,
            outputs: h,
            x: (Arg::Slot("hidden", 0), d),
            w: (Arg::Slot("w_down", 0), question.type_of("w_down")),
            bias: Arg::Slot("b_down", 0),
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
        const { &[&linear::PAGE, &gelu::PAGE, &residual::PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [h, f] = dims(&asked.question.dims, ["h", "f"]);
        let activate = activation(asked.question.attributes.word("approximate"));
        let [up, down] = ["w_up", "w_down"].map(|name| &asked.tensors[name]);
        let parts = [("w_up", up), ("w_down", down)]
            .map(|(name, w)| slack::parts(w, asked.inputs.real(name)));
        let [up_parts, down_parts] = [0, 1].map(|i| slack::slice(&parts[i], 0..h * f));
        let (b_up, b_down) = (asked.inputs.find_real("b_up"), asked.inputs.find_real("b_down"));
        let (mut slack, mut kept) = (Vec::new(), Vec::new());
        for x in asked.inputs.real("x").chunks_exact(h) {
            let product = linear::linear(x, asked.inputs.real("w_up"), b_up, h);
            let hidden: Vec<f64> = product.iter().map(|u| activate(*u)).collect();
            let a_up = slack::matmul(x, &up_parts, up.meta.dtype, b_up, h, asked.sums).0;
            let by_up = (0..f).map(|i| slack::slope(activate, product[i]) * a_up[i]).collect();
            let inner = [by_up, slack::gelu(&product, &hidden, 1.0)];
            let (s, q) =
                slack::down(&hidden, &down_parts, down.meta.dtype, b_down, &inner, asked.sums);
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
        let operations = 4.0 * (n * h) as f64 * f as f64;
        Cost { bytes: traffic(question), operations }
    }
}
