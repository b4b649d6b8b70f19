//! ffn_gelu: y = gelu(x w_upᵀ + b_up) w_downᵀ + b_down (+ residual).
//!
//! A generated row: up and activation in one launch, then linear with the residual. A prompt: the
//! pages of linear and the activation, one after the other. The products are f32, the activation is
//! kept in D.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::declared::moved;
use crate::ops::gelu::{self, activation};
use crate::ops::linear::{self, Product, WEIGHT_VARIANTS, few_rows, weight_variant};
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Rule,
    Signature, Slack, Values, declared, dims, slack, traffic,
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

static ARGS: Layout = Layout {
    name: "FfnGeluArgs",
    fields: &[
        ("x", Field::Ptr),
        ("w_up", Field::Ptr),
        ("b_up", Field::Ptr),
        ("hidden", Field::Ptr),
        ("in", Field::I32),
        ("out", Field::I32),
        ("n", Field::I32),
        ("span", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "ffn_gelu",
    text: include_str!("../../../cuda/ffn_gelu.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// The launch of up and the activation of few rows.
fn inner(question: &Question) -> Launch {
    let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
    let w = question.type_of("w_up");
    let (grid, block, span) = few_rows(w, h, f);
    let args = Args::new(
        &ARGS,
        [
            ("x", Arg::Slot("x", 0)),
            ("w_up", Arg::Slot("w_up", 0)),
            ("b_up", Arg::Slot("b_up", 0)),
            ("hidden", Arg::Slot("hidden", 0)),
            ("in", Arg::I32(h as i32)),
            ("out", Arg::I32(f as i32)),
            ("n", Arg::I32(n as i32)),
            ("span", Arg::I32(span)),
        ],
    );
    let form = if question.attributes.word("approximate") == "tanh" { "tanh" } else { "erf" };
    let rows = if n == 1 { 1 } else { linear::DECODE_ROWS };
    let entry = format!("ffn_gelu_inner{rows}_{form}_{}", question.dtype);
    let mut launch = Launch::new(&PAGE, entry, grid, block, args);
    launch.variant = weight_variant(w);
    launch
}

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
        let hidden = Arg::Slot("hidden", 0);
        let mut workspace = vec![("hidden", n * f * d.bytes())];
        let mut launches = Vec::new();
        let w_up = question.type_of("w_up");
        if linear::is_wide(w_up, h) && linear::is_few(question.phase, n) {
            launches.push(inner(question));
        } else {
            let up = (Arg::Slot("up", 0), DType::F32);
            launches.push(linear::launch(&Product {
                phase: question.phase,
                n,
                width: h,
                outputs: f,
                x: (Arg::Slot("x", 0), d),
                w: (Arg::Slot("w_up", 0), w_up),
                bias: Arg::Slot("b_up", 0),
                residual: Arg::Null,
                y: up.clone(),
            }));
            let form = question.attributes.word("approximate");
            launches.push(gelu::launch(form, up, (hidden.clone(), d), n * f, 1.0));
            workspace.push(("up", n * f * 4));
        }
        let residual = if question.has("residual") { Arg::Slot("residual", 0) } else { Arg::Null };
        launches.push(linear::launch(&Product {
            phase: question.phase,
            n,
            width: f,
            outputs: h,
            x: (hidden, d),
            w: (Arg::Slot("w_down", 0), question.type_of("w_down")),
            bias: Arg::Slot("b_down", 0),
            residual,
            y: (Arg::Slot("y", 0), question.result_type("y")),
        }));
        Lowered { launches, workspace, ..Lowered::default() }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE, &linear::PAGE, &gelu::PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [h, f] = dims(&asked.question.dims, ["h", "f"]);
        let activate = activation(asked.question.attributes.word("approximate"));
        let [up, down] = ["w_up", "w_down"].map(|name| &asked.tensors[name]);
        let parts = [("w_up", up), ("w_down", down)]
            .map(|(name, w)| slack::parts(w, asked.inputs.real(name)));
        let [up_parts, down_parts] = [0, 1].map(|i| slack::slice(&parts[i], 0..h * f));
        let (b_up, b_down) = (asked.inputs.find_real("b_up"), asked.inputs.find_real("b_down"));
        let (mut slack, mut kept, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let types = [up, down].map(|w| w.meta.dtype);
        for x in asked.inputs.real("x").chunks_exact(h) {
            let product = linear::linear(x, asked.inputs.real("w_up"), b_up, h);
            let hidden: Vec<f64> = product.iter().map(|u| activate(*u)).collect();
            let by_up: Vec<f64> = product.iter().map(|u| slack::slope(activate, *u)).collect();
            let (a_up, q_up) = slack::matmul(x, &up_parts, types[0], b_up, h, asked.sums);
            let q_up = slack::rounded(types[0], &q_up);
            let inner =
                [(0..f).map(|i| by_up[i] * a_up[i]).collect(), slack::gelu(&product, &hidden, 1.0)];
            let (s, q) = slack::down(&hidden, &down_parts, types[1], b_down, &inner, asked.sums);
            let inner = [(0..f).map(|i| by_up[i] * q_up(i)).collect()];
            weights.extend(slack::kept_weights(&down_parts, types[1], &q, &inner));
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
        let approximate = asked.question.attributes.word("approximate");
        let (activate, steps) = (activation(approximate), gelu::steps(approximate));
        let block = |x: &[f64]| {
            let b_up = asked.inputs.find_real("b_up");
            let product = linear::linear(x, asked.inputs.real("w_up"), b_up, h);
            let hidden: Vec<f64> = product.iter().map(|u| activate(*u)).collect();
            let by_up: Vec<f64> = product.iter().map(|u| slack::slope(activate, *u)).collect();
            let unit = |i: usize| {
                let own = moved(by_up[i], product[i]);
                std::iter::once(own).chain(steps(product[i])).collect()
            };
            let activation = declared::by_step((0..f).map(unit));
            (vec![("w_up", by_up)], activation, hidden)
        };
        vec![declared::feed_forward(asked, &values[0], f, x, block)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h, f] = dims(&question.dims, ["n", "h", "f"]);
        let operations = 4.0 * (n * h) as f64 * f as f64;
        Cost { bytes: traffic(question), operations }
    }
}
