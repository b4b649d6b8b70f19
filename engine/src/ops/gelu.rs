//! gelu: y = x · Φ(x) · scale, exactly by erf or by the tanh approximation.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::declared::moved;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Rule,
    Signature, Slack, Values, declared, elementwise, slack, traffic,
};

/// The op.
pub struct Gelu;

static SIGNATURE: Signature = Signature {
    name: "gelu",
    source: "Hendrycks & Gimpel 2016, \"Gaussian Error Linear Units\", section 2",
    operands: &[Operand::new("x", Class::D, &["..."])],
    attributes: &[
        Attribute {
            name: "approximate",
            rule: Rule::Choice { of: &["none", "tanh"], default: Some("none") },
        },
        Attribute::positive("scale", Some(1.0)),
    ],
    results: &[ResultSlot::sharing("y", Class::D, &["=x"], "x")],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "GeluArgs",
    fields: &[("x", Field::Ptr), ("y", Field::Ptr), ("count", Field::I64), ("scale", Field::F32)],
};

pub(crate) static PAGE: Page = Page {
    name: "gelu",
    text: include_str!("../../../cuda/gelu.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// The complementary error function, to about 1e-16 relative: the series of erf near zero, a
/// continued fraction (Lentz) beyond, where it does not cancel.
pub fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let front = 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp();
    if x < 2.5 {
        // erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)), all terms positive.
        let (mut term, mut sum) = (x, x);
        let mut n = 0.0;
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - front * sum;
    }
    // erfc(x) = e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 3⁄2/(x + …)))), evaluated from the inside out.
    let fraction = (1..=120).rev().fold(x, |inner, k| x + f64::from(k) / 2.0 / inner);
    front / 2.0 / fraction
}

/// x · Φ(x), with erfc on the negative side so that nothing cancels; NaN passes through.
pub fn gelu_erf(x: f64) -> f64 {
    if x.is_nan() { x } else { 0.5 * x * erfc(-x / std::f64::consts::SQRT_2) }
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), written as x / (1 + e^(−2u)).
pub fn gelu_tanh(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    x / (1.0 + (-2.0 * u).exp())
}

/// c of the numbers inside GELU: its argument (of tanh the cube, the product with it, the sum and
/// the product with √(2/π)), t = erf or tanh, 1 + t, and the product with x/2.
pub(crate) fn steps(approximate: &str) -> fn(f64) -> Vec<f64> {
    if approximate == "tanh" { steps_tanh } else { steps_erf }
}

fn steps_tanh(x: f64) -> Vec<f64> {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let cubic = root * 0.044715 * x * x * x;
    let u = root * x + cubic;
    let t = u.tanh();
    let slope = x / 2.0 * (1.0 - t * t);
    let inside = [cubic, cubic, u, u].map(|z| moved(slope, z));
    inside.into_iter().chain(outside(x, t)).collect()
}

fn steps_erf(x: f64) -> Vec<f64> {
    let u = x / std::f64::consts::SQRT_2;
    let slope = x / std::f64::consts::PI.sqrt() * (-u * u).exp();
    std::iter::once(moved(slope, u)).chain(outside(x, 1.0 - erfc(u))).collect()
}

fn outside(x: f64, t: f64) -> [f64; 3] {
    [moved(x / 2.0, t), moved(x / 2.0, 1.0 + t), moved(1.0, x / 2.0 * (1.0 + t))]
}

/// The activation that a name of `approximate` means.
pub(crate) fn activation(approximate: &str) -> fn(f64) -> f64 {
    if approximate == "tanh" { gelu_tanh } else { gelu_erf }
}

/// The launch over `count` elements, from one type to another.
pub(crate) fn launch(
    approximate: &str,
    x: (Arg, DType),
    y: (Arg, DType),
    count: usize,
    scale: f32,
) -> Launch {
    let form = if approximate == "tanh" { "tanh" } else { "erf" };
    let entry = format!("gelu_{form}_{}_{}", x.1, y.1);
    let bytes = x.1.bytes().min(y.1.bytes());
    let args = Args::new(
        &ARGS,
        [("x", x.0), ("y", y.0), ("count", Arg::I64(count as i64)), ("scale", Arg::F32(scale))],
    );
    elementwise::launch(&PAGE, entry, count, bytes, args)
}

impl Op for Gelu {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let f = activation(question.attributes.word("approximate"));
        let scale = question.attributes.real("scale");
        Ok(vec![Values::Real(inputs.real("x").iter().map(|&x| f(x) * scale).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let count = question.operand("x").and_then(|m| m.volume()).expect("checked");
        let d = question.dtype;
        let form = question.attributes.word("approximate");
        let scale = question.attributes.real("scale") as f32;
        let (x, y) = (Arg::Slot("x", 0), Arg::Slot("y", 0));
        Lowered::one(launch(form, (x, d), (y, d), count, scale))
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let scale = asked.question.attributes.real("scale");
        vec![Slack::of(slack::gelu(asked.inputs.real("x"), values[0].real(), scale))]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let (x, scale) = (asked.inputs.real("x"), asked.question.attributes.real("scale"));
        let steps = steps(asked.question.attributes.word("approximate"));
        let c = |i: usize| steps(x[i]).into_iter().map(|c| scale * c).collect();
        vec![declared::alone(declared::ACTIVATION, &values[0], c)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.operand("x").and_then(|m| m.volume()).unwrap_or(0);
        Cost { bytes: traffic(question), operations: 20.0 * count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn known_values() {
        assert_relative_eq!(gelu_erf(1.0), 0.841_344_746_068_542_9, max_relative = 1e-15);
        assert_relative_eq!(gelu_erf(-1.0), -0.158_655_253_931_457_05, max_relative = 1e-15);
        assert_relative_eq!(gelu_erf(-6.0), -5.919_525_888_024_5e-9, max_relative = 1e-12);
        assert_relative_eq!(gelu_tanh(1.0), 0.841_191_990_608_276, max_relative = 1e-14);
        assert_eq!(gelu_erf(0.0), 0.0);
    }

    #[test]
    fn the_two_branches_of_erfc_meet() {
        let (below, above) = (erfc(2.5 - 1e-9), erfc(2.5 + 1e-9));
        assert_relative_eq!(below, above, max_relative = 2e-8);
        assert_relative_eq!(erfc(3.0), 2.209_049_699_858_544e-5, max_relative = 1e-13);
    }
}
