//! Rulers for engines that declare where they round: what each place adds to what is allowed.
//!
//! With u of the declared type, one element may be off by u·min(4Q, Σ|c|) more, and the result as
//! a whole by 4u·G: `golden/oracle/declared.py` says what these are. For int8 the error of a number
//! depends on its block and is part of Q and G, so u is 1.

use std::borrow::Cow;
use std::collections::BTreeMap;

use goldgate_engine::ops::{self, Inputs, Values};
use goldgate_tensor::DType;
use goldgate_wire::arithmetic::{Arithmetic, Place, Rounding};

use crate::fill::fill;
use crate::kinds::op::Expected;
use crate::kinds::op::case::{Case, Expect, GoldenSource, Tolerance};
use crate::kinds::op::distance::{Ruler, UNIT};
use crate::kinds::op::golden::{Golden, GoldenResult, Numbers, Sway};
use crate::kinds::op::question::{self, OpQuestion};
use crate::kinds::op::recompute::sums;
use crate::line::Whom;

/// The rulers for one subject: those of the case, and wider by what it declares.
pub fn rulers<'e>(case: &Case, expected: &'e Expected, whom: &Whom) -> Cow<'e, [Ruler]> {
    let (Some(arithmetic), Expect::Answer { golden, tolerance }) = (whom.declared(), &case.expect)
    else {
        return Cow::Borrowed(&expected.rulers);
    };
    let results = &expected.golden.results;
    // Only goldens in files carry their terms: the others are made of numbers in the spec, or by
    // the definition for engines most of which declare nothing.
    let results = match golden {
        GoldenSource::File(_) => Cow::Borrowed(results),
        _ => Cow::Owned(with_terms(case, &expected.golden, tolerance, arithmetic)),
    };
    let dtype = case.ask.dtype;
    let wider = |ruler: &Ruler| match results.get(&ruler.name) {
        Some(result) => widened(ruler, result, arithmetic, dtype),
        None => ruler.clone(),
    };
    Cow::Owned(expected.rulers.iter().map(wider).collect())
}

/// A ruler that allows for the roundings declared by `arithmetic`.
fn widened(ruler: &Ruler, result: &GoldenResult, arithmetic: &Arithmetic, dtype: DType) -> Ruler {
    let mut ruler = ruler.clone();
    let mut shaky = vec![0.0; ruler.len()];
    ruler.swayed = vec![0.0; ruler.len()];
    for (place, rounding) in arithmetic.places() {
        let Some(u) = unit(rounding, dtype) else { continue };
        if let Some(of) = result.shaky.get(key(place, rounding, &result.shaky)) {
            shaky.iter_mut().zip(of).for_each(|(sum, x)| *sum += u * UNIT * f64::from(*x));
        }
        let Some(sway) = result.declared.get(key(place, rounding, &result.declared)) else {
            continue;
        };
        // Without this a number that is copied, such as one of an embedding, would have to keep
        // digits that the type does not have near zero.
        let least = rounding.smallest(dtype).unwrap_or(0.0);
        for (sum, bound) in ruler.swayed.iter_mut().zip(&sway.bound).filter(|(_, b)| **b > 0.0) {
            *sum += u * (UNIT * f64::from(*bound)).max(least);
        }
        ruler.sway += 4.0 * u * sway.gain;
    }
    // Where a declared rounding reaches an element, its bits are no longer those of the golden.
    ruler.exact &= ruler.swayed.iter().all(|x| *x == 0.0);
    ruler.allow.iter_mut().zip(&ruler.swayed).for_each(|(allow, swayed)| *allow += swayed);
    if shaky.iter().any(|x| *x > 1.0) {
        ruler.decided = (0..ruler.len()).map(|i| ruler.asks(i) && shaky[i] <= 1.0).collect();
    }
    ruler
}

/// By what the terms of a rounding are multiplied; none where they do not apply.
fn unit(rounding: Rounding, dtype: DType) -> Option<f64> {
    match rounding {
        Rounding::Int8(_) => Some(1.0),
        _ => rounding.unit(dtype),
    }
}

/// The name of a place's terms. Blocks of 256 need rows that long; shorter ones are of 32.
fn key<T>(place: Place, rounding: Rounding, terms: &BTreeMap<String, T>) -> &'static str {
    match rounding {
        Rounding::Int8(256) if terms.contains_key("x_int8_256") => "x_int8_256",
        Rounding::Int8(_) => "x_int8_32",
        _ => place.name(),
    }
}

/// The results of a golden with their terms, by the op's own formula.
fn with_terms(
    case: &Case,
    golden: &Golden,
    tolerance: &Tolerance,
    arithmetic: &Arithmetic,
) -> BTreeMap<String, GoldenResult> {
    let mut results = golden.results.clone();
    // What enters products is the costly part, and most engines take it as it is.
    let x: &[&str] = match arithmetic.at(Place::X) {
        None => &[],
        Some(Rounding::Int8(256)) => &["x_int8_256", "x_int8_32"],
        Some(Rounding::Int8(_)) => &["x_int8_32"],
        Some(_) => &["x"],
    };
    for (name, terms) in terms(case, &results, tolerance, x) {
        if let Some(result) = results.get_mut(&name) {
            (result.declared, result.shaky) = terms;
        }
    }
    results
}

/// The terms of one result: by place those of its elements and of the whole, and those that may
/// change a choice.
pub type Terms = (BTreeMap<String, Sway>, BTreeMap<String, Vec<f32>>);

/// The terms of all results of a case by the op's own formula, from the values in its golden. None
/// where the op refuses the question: the definition has been asked before.
pub fn terms(
    case: &Case,
    results: &BTreeMap<String, GoldenResult>,
    tolerance: &Tolerance,
    x: &[&str],
) -> Vec<(String, Terms)> {
    let asked = OpQuestion::from_case(case, fill);
    let Some(op) = ops::find(&asked.op) else { return Vec::new() };
    let Ok(checked) = question::check(&asked, op) else { return Vec::new() };
    let inputs = Inputs::of(asked.tensors.iter().map(|(name, t)| (name.as_str(), t)));
    let names: Vec<String> =
        checked.results().into_iter().map(|(name, _)| name.to_owned()).collect();
    let values = names.iter().filter_map(|name| Some(values(&results.get(name)?.numbers)));
    let values: Vec<Values> = values.collect();
    if values.len() != names.len() {
        return Vec::new();
    }
    let sums = sums(tolerance);
    let asked = ops::Asked { question: &checked, inputs: &inputs, tensors: &asked.tensors, sums };
    // As golden files store them, where no allowance is infinite.
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x.min(3.4e38) as f32).collect::<Vec<f32>>();
    let of = |declared: ops::Declared| -> Terms {
        let sways = declared.terms.iter().map(|(place, term)| {
            (place.to_string(), Sway { bound: narrow(term.bound()), gain: term.gain() })
        });
        let sways = sways.collect();
        let shaky = declared.shaky.into_iter().map(|(place, x)| (place.to_owned(), narrow(x)));
        (sways, shaky.collect())
    };
    names.into_iter().zip(op.declared(&asked, &values, x).into_iter().map(of)).collect()
}

/// A golden's numbers as the op's formulas take them.
fn values(numbers: &Numbers) -> Values {
    match numbers {
        Numbers::Real(x) => Values::Real(x.clone()),
        Numbers::Ids(x) => Values::Ids(x.clone()),
    }
}
