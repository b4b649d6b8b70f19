//! rope: rotates pairs of each head by position · frequency.

use std::f64::consts::TAU;

use serde_json::Value;

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind as Kind};
use crate::ops::declared::moved;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Rule,
    Signature, Slack, Values, declared, dims, traffic,
};

/// The op.
pub struct Rope;

static SIGNATURE: Signature = Signature {
    name: "rope",
    source: "Su et al. 2021, \"RoFormer\", eq. 34; YaRN: Peng et al. 2023; llama3: transformers",
    operands: &[
        Operand::new("x", Class::D, &["n", "heads", "d"]),
        Operand::new("positions", Class::Ids, &["n"]),
        Operand::optional("divisors", Class::P, &["half"]),
    ],
    attributes: &[
        Attribute {
            name: "style",
            rule: Rule::Choice { of: &["half", "interleaved"], default: None },
        },
        Attribute::positive("theta", None),
        Attribute::whole("rotary_dim", 2, i32::MAX as i64, Some(i64::MIN)),
        Attribute { name: "scaling", rule: Rule::Object },
    ],
    results: &[ResultSlot::new("y", Class::D, &["n", "heads", "d"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "RopeArgs",
    fields: &[
        ("x", Field::Ptr),
        ("positions", Field::Ptr),
        ("frequencies", Field::Ptr),
        ("divisors", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("heads", Field::I32),
        ("d", Field::I32),
        ("rotary", Field::I32),
        ("interleaved", Field::I32),
        ("factor", Field::F32),
    ],
};

static PAGE: Page = Page {
    name: "rope",
    text: include_str!("../../../cuda/rope.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// How frequencies are stretched beyond the context that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaling {
    None,
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    Yarn {
        factor: f64,
        fast: f64,
        slow: f64,
        original: f64,
        truncate: bool,
        attention: Option<f64>,
    },
}

fn refuse(kind: Kind, message: impl Into<String>) -> Refusal {
    Refusal::new(kind, "scaling", message)
}

/// Reads `scaling`: null, or one of `llama3` and `yarn` with all of its numbers.
fn read_scaling(given: Option<&Value>) -> Result<Scaling, Refusal> {
    let Some(given) = given else { return Ok(Scaling::None) };
    let (name, inner) = match given.as_object().map(|o| o.iter().collect::<Vec<_>>()).as_deref() {
        Some([(name, Value::Object(inner))]) => ((*name).clone(), inner),
        _ => return Err(refuse(Kind::AttributeOutOfRange, format!("{given} is no scaling"))),
    };
    let known: &[&str] = match name.as_str() {
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_context"],
        "yarn" => &[
            "factor",
            "beta_fast",
            "beta_slow",
            "original_context",
            "truncate",
            "attention_factor",
        ],
        other => return Err(refuse(Kind::NotSupported, format!("{other}: only llama3 and yarn"))),
    };
    if let Some(key) = inner.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(Refusal::new(Kind::AttributeUnknown, key, format!("{name} does not know it")));
    }
    let number = |key: &str, default: Option<f64>| match inner.get(key) {
        None => default
            .ok_or_else(|| Refusal::new(Kind::AttributeMissing, key, format!("{name} needs it"))),
        Some(v) => match v.as_f64().map(|x| f64::from(x as f32)) {
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            _ => {
                let message = format!("is {v}, wants above 0");
                Err(Refusal::new(Kind::AttributeOutOfRange, key, message))
            }
        },
    };
    if name == "llama3" {
        return Ok(Scaling::Llama3 {
            factor: number("factor", None)?,
            low: number("low_freq_factor", None)?,
            high: number("high_freq_factor", None)?,
            original: number("original_context", None)?,
        });
    }
    let attention = match inner.get("attention_factor") {
        None | Some(Value::Null) => None,
        Some(_) => Some(number("attention_factor", None)?),
    };
    let truncate = match inner.get("truncate") {
        None => true,
        Some(Value::Bool(b)) => *b,
        Some(v) => {
            let message = format!("is {v}, wants true or false");
            return Err(Refusal::new(Kind::AttributeOutOfRange, "truncate", message));
        }
    };
    Ok(Scaling::Yarn {
        factor: number("factor", None)?,
        fast: number("beta_fast", Some(32.0))?,
        slow: number("beta_slow", Some(1.0))?,
        original: number("original_context", None)?,
        truncate,
        attention,
    })
}

/// Inverse frequencies [rotary / 2] and the factor of sines and cosines.
fn frequencies(theta: f64, rotary: usize, scaling: Scaling) -> (Vec<f64>, f64) {
    let plain = (0..rotary / 2).map(|i| theta.powf(-2.0 * i as f64 / rotary as f64));
    match scaling {
        Scaling::None => (plain.collect(), 1.0),
        Scaling::Llama3 { factor, low, high, original } => {
            let stretch = |f: f64| {
                let wave = TAU / f;
                if wave > original / low {
                    f / factor
                } else if wave < original / high {
                    f
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            };
            (plain.map(stretch).collect(), 1.0)
        }
        Scaling::Yarn { factor, fast, slow, original, truncate, attention } => {
            let dim = rotary as f64;
            // The pair that turns `beta` times over the original context.
            let pair = |beta: f64| dim * (original / (beta * TAU)).ln() / (2.0 * theta.ln());
            let (mut low, mut high) = (pair(fast), pair(slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(dim - 1.0));
            if low == high {
                high += 0.001;
            }
            let blend = |(i, f): (usize, f64)| {
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                f / factor * ramp + f * (1.0 - ramp)
            };
            let magnitude =
                attention.unwrap_or(if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 });
            (plain.enumerate().map(blend).collect(), magnitude)
        }
    }
}

/// The rotated size: given, or the whole head.
fn rotary(question: &Question) -> usize {
    let whole = question.dims.get("d");
    question.attributes.find_int("rotary_dim").map_or(whole, |r| r as usize)
}

fn table(question: &Question) -> (Vec<f64>, f64) {
    let scaling = read_scaling(question.attributes.object("scaling")).expect("checked");
    frequencies(question.attributes.real("theta"), rotary(question), scaling)
}

/// Threads of a block, each of which turns a pair or more.
const THREADS: u32 = 128;

/// Where both members of pair `i` lie in a head that begins at `head`.
fn pair(question: &Question, head: usize, i: usize) -> (usize, usize) {
    match question.attributes.word("style") {
        "half" => (head + i, head + i + rotary(question) / 2),
        _ => (head + 2 * i, head + 2 * i + 1),
    }
}

impl Op for Rope {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let (d, rotary) = (question.dims.get("d"), rotary(question));
        if question.attributes.find_int("rotary_dim").is_none() && d % 2 == 1 {
            return Err(Refusal::new(
                Kind::ShapeMismatch,
                "x",
                format!("a head of {d} has no pairs"),
            ));
        }
        if rotary % 2 == 1 || rotary > d {
            let message = format!("is {rotary}, wants even and at most {d}");
            return Err(Refusal::new(Kind::AttributeOutOfRange, "rotary_dim", message));
        }
        if let Some(half) = question.dims.find("half") {
            if half != rotary / 2 {
                let message = format!("has {half}, wants {}", rotary / 2);
                return Err(Refusal::new(Kind::ShapeMismatch, "divisors", message));
            }
            if question.attributes.object("scaling").is_some() {
                return Err(refuse(Kind::AttributeOutOfRange, "divisors already say it"));
            }
        }
        read_scaling(question.attributes.object("scaling")).map(drop)
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [heads, d] = dims(&question.dims, ["heads", "d"]);
        let rotary = rotary(question);
        let (mut frequencies, factor) = table(question);
        if let Some(divisors) = inputs.find_real("divisors") {
            frequencies.iter_mut().zip(divisors).for_each(|(f, by)| *f /= by);
        }
        let mut y = inputs.real("x").to_vec();
        for (token, &position) in inputs.ids("positions").iter().enumerate() {
            if position < 0 {
                let message = format!("element {token} is {position}");
                return Err(Refusal::new(Kind::PositionOutOfRange, "positions", message));
            }
            for head in y[token * heads * d..(token + 1) * heads * d].chunks_exact_mut(d) {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let angle = f64::from(position) * frequency;
                    let (sin, cos) = (factor * angle.sin(), factor * angle.cos());
                    let (a, b) = match question.attributes.word("style") {
                        "half" => (i, i + rotary / 2),
                        _ => (2 * i, 2 * i + 1),
                    };
                    let (x1, x2) = (head[a], head[b]);
                    (head[a], head[b]) = (x1 * cos - x2 * sin, x2 * cos + x1 * sin);
                }
            }
        }
        Ok(vec![Values::Real(y)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, heads, d] = dims(&question.dims, ["n", "heads", "d"]);
        let (frequencies, factor) = table(question);
        let divisors = if question.has("divisors") { Arg::Slot("divisors", 0) } else { Arg::Null };
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("positions", Arg::Slot("positions", 0)),
                ("frequencies", Arg::Slot("frequencies", 0)),
                ("divisors", divisors),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("heads", Arg::I32(heads as i32)),
                ("d", Arg::I32(d as i32)),
                ("rotary", Arg::I32(rotary(question) as i32)),
                ("interleaved", Arg::I32((question.attributes.word("style") != "half").into())),
                ("factor", Arg::F32(factor as f32)),
            ],
        );
        let entry = format!("rope_{}", question.dtype);
        let bytes = frequencies.iter().flat_map(|f| f.to_le_bytes()).collect();
        let mut launch = Launch::new(&PAGE, entry, n as u32, THREADS, args);
        launch.grid[1] = ((heads * d / 2).max(1) as u32).div_ceil(THREADS);
        Lowered {
            constants: vec![("frequencies", bytes)],
            faults: vec![(Kind::PositionOutOfRange, "positions")],
            ..Lowered::one(launch)
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, _values: &[Values]) -> Vec<Slack> {
        // (|x1| + |x2|)·(4 + 4·|angle|), the angle not reduced; copied elements allow nothing.
        let question = asked.question;
        let [heads, d] = dims(&question.dims, ["heads", "d"]);
        let (mut frequencies, factor) = table(question);
        if let Some(divisors) = asked.inputs.find_real("divisors") {
            frequencies.iter_mut().zip(divisors).for_each(|(f, by)| *f /= by);
        }
        let x = asked.inputs.real("x");
        let mut slack = vec![0.0; x.len()];
        for (token, position) in asked.inputs.ids("positions").iter().enumerate() {
            for head in (0..heads).map(|h| (token * heads + h) * d) {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let angle = (f64::from(*position) * frequency).abs();
                    let (a, b) = pair(question, head, i);
                    let size = factor * (x[a].abs() + x[b].abs()) * (4.0 + 4.0 * angle);
                    (slack[a], slack[b]) = (size, size);
                }
            }
        }
        vec![Slack::of(slack)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let question = asked.question;
        let [heads, d] = dims(&question.dims, ["heads", "d"]);
        let (mut frequencies, factor) = table(question);
        if let Some(divisors) = asked.inputs.find_real("divisors") {
            frequencies.iter_mut().zip(divisors).for_each(|(f, by)| *f /= by);
        }
        let (x, g) = (asked.inputs.real("x"), declared::direction(&values[0]));
        let mut all = Declared::of(x.len());
        all.whole(declared::ROPE, 0.0);
        for (token, position) in asked.inputs.ids("positions").iter().enumerate() {
            for (i, frequency) in frequencies.iter().enumerate() {
                let angle = f64::from(*position) * frequency;
                let (cos, sin) = (factor * angle.cos(), factor * angle.sin());
                // All heads of a token share cosine and sine.
                let (mut by_cos, mut by_sin) = (0.0, 0.0);
                for head in (0..heads).map(|h| (token * heads + h) * d) {
                    let (a, b) = pair(question, head, i);
                    for (at, first, second) in [(a, x[a], x[b]), (b, x[b], x[a])] {
                        let shared = [moved(first, cos), moved(second, sin)];
                        let products = [moved(1.0, first * cos), moved(1.0, second * sin)];
                        all.own(declared::ROPE, at, 0.0, &shared);
                        all.own(declared::ROPE, at, g[at], &products);
                    }
                    by_cos += moved(g[a] * x[a] + g[b] * x[b], cos);
                    by_sin += moved(g[b] * x[a] - g[a] * x[b], sin);
                }
                all.whole(declared::ROPE, by_cos * by_cos + by_sin * by_sin);
            }
        }
        vec![all]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, heads, d] = dims(&question.dims, ["n", "heads", "d"]);
        Cost { bytes: traffic(question), operations: 3.0 * (n * heads * d) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn yarn_of_gpt_oss_without_and_with_rounding() {
        let yarn = |truncate| Scaling::Yarn {
            factor: 32.0,
            fast: 32.0,
            slow: 1.0,
            original: 4096.0,
            truncate,
            attention: None,
        };
        let (exact, magnitude) = frequencies(150_000.0, 64, yarn(false));
        assert_relative_eq!(exact[17], 1.293_187_012e-4, max_relative = 1e-8);
        assert_relative_eq!(magnitude, 1.346_573_590_3, max_relative = 1e-10);
        let (rounded, _) = frequencies(150_000.0, 64, yarn(true));
        assert_relative_eq!(rounded[17], 2.279_477_958e-4, max_relative = 1e-8);
    }
}
