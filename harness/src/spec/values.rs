//! Reads the values that specs share: shapes, sizes, fills, awaited numbers.

use crate::case::{Fill, Written};
use crate::spec::op::Axis;
use crate::spec::read::{At, Reader, Table};
use crate::spec::yaml::{Kind, Node};

/// The most axes of a tensor.
pub const MAX_RANK: usize = 8;

/// The most elements of a tensor.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// The most numbers that are written down for one result.
pub const MAX_WRITTEN: usize = 64;

/// A shape: names of sizes, or numbers.
pub fn shape(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Vec<Axis>>> {
    let axis = |r: &Reader<'_>, n: &Node, p: &str| match n.bare() {
        Some(t) if t.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') => {
            match t.parse::<usize>() {
                Ok(x) if x <= MAX_ELEMENTS && t == x.to_string() => Some(Axis::Number(x)),
                _ => r.fail(n, "SHAPE", p, "a size from 0 to 2^31"),
            }
        }
        _ => r.id(n, p).map(|id| Axis::Symbol(id.value)),
    };
    let axes = r.list(node, path, axis)?;
    if matches!(&node.kind, Kind::List(items) if items.len() > MAX_RANK) {
        return r.fail(node, "SHAPE", path, "at most 8 axes");
    }
    Some(At::new(node, axes))
}

/// The number of each symbol.
pub fn sizes(r: &Reader<'_>, node: &Node, path: &str) -> Option<Table<At<usize>>> {
    r.table(node, path, |r, n, p| match n.bare().map(|t| (t, t.parse::<usize>())) {
        Some((t, Ok(x))) if x <= MAX_ELEMENTS && t == x.to_string() => Some(At::new(n, x)),
        _ => {
            // The name is there, so nobody is told that it is missing.
            r.note(n, "SHAPE", p, "a size from 0 to 2^31");
            Some(At::new(n, 1))
        }
    })
}

/// A fill: a mapping of exactly one kind to its numbers.
pub fn fill(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Fill>> {
    const KINDS: &[&str] = &[
        "uniform", "normal", "integers", "powers", "outliers", "ramp", "constant", "one_hot",
        "values", "ids", "blocks",
    ];
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a mapping of one kind of fill");
    };
    let [(key, value)] = entries.as_slice() else {
        return r.fail(node, "TYPE", path, "exactly one kind of fill");
    };
    let all: Vec<(&str, &str)> = KINDS.iter().map(|k| (*k, *k)).collect();
    let kind = r.word(key, path, &all)?;
    let path = format!("{path}.{kind}");
    let fill = match kind {
        "outliers" => outliers(r, value, &path)?,
        "constant" => Fill::Constant(r.number(value, &path)?),
        "one_hot" => r
            .word(value, &path, &[("last", Fill::OneHotLast)].map(|(w, _)| (w, ())))
            .map(|()| Fill::OneHotLast)?,
        "values" => Fill::Values(r.list(value, &path, number_or_not)?),
        "blocks" if value.text() == Some("every_code") => Fill::EveryCode,
        "blocks" => {
            let mut f = r.fields(value, &path)?;
            let scale = f.need("scale", pair);
            f.done();
            let (low, high) = scale?;
            if low < 0.0 {
                return r.fail(value, "RANGE", &path, "magnitudes of scales, from 0");
            }
            Fill::Blocks(low, high)
        }
        "integers" | "powers" | "ids" => whole(r, value, &path, kind)?,
        "uniform" => pair(r, value, &path).map(|(a, b)| Fill::Uniform(a, b))?,
        "ramp" => {
            let [from, to] = two(r, value, &path)?;
            Fill::Ramp(from, to)
        }
        _ => {
            let [mean, std] = two(r, value, &path)?;
            if std < 0.0 {
                return r.fail(value, "RANGE", &path, "a standard deviation from 0");
            }
            Fill::Normal(mean, std)
        }
    };
    Some(At::new(node, fill))
}

fn whole(r: &Reader<'_>, node: &Node, path: &str, kind: &str) -> Option<Fill> {
    let limit = match kind {
        "integers" => 1 << 24,
        "powers" => 120,
        _ => i64::from(i32::MAX),
    };
    let ends = r.list(node, path, |r, n, p| r.int(n, p, -limit, limit))?;
    match ends.as_slice() {
        &[low, high] if low <= high => Some(match kind {
            "integers" => Fill::Integers(low, high),
            "powers" => Fill::Powers(low, high),
            _ => Fill::Ids(low as i32, high as i32),
        }),
        [] | [_] if r.count() > 0 => None,
        _ => r.fail(node, "RANGE", path, "two ends, the lower one first"),
    }
}

fn outliers(r: &Reader<'_>, node: &Node, path: &str) -> Option<Fill> {
    let mut f = r.fields(node, path)?;
    let std = f.need("std", |r, n, p| r.number_in(n, p, (0.0, false, 1e30)));
    let every = f.need("every", |r, n, p| r.int(n, p, 1, 1 << 31));
    let times = f.need("times", |r, n, p| r.number(n, p));
    f.done();
    Some(Fill::Outliers { std: std?, every: every? as u64, times: times? })
}

fn two(r: &Reader<'_>, node: &Node, path: &str) -> Option<[f64; 2]> {
    let before = r.count();
    let numbers = r.list(node, path, |r, n, p| r.number(n, p))?;
    match <[f64; 2]>::try_from(numbers) {
        Ok(two) => Some(two),
        Err(_) if r.count() > before => None,
        Err(_) => r.fail(node, "RANGE", path, "two numbers"),
    }
}

fn pair(r: &Reader<'_>, node: &Node, path: &str) -> Option<(f64, f64)> {
    let [low, high] = two(r, node, path)?;
    if low <= high { Some((low, high)) } else { r.fail(node, "RANGE", path, "the lower end first") }
}

/// A finite number, or one of `nan`, `inf`, `-inf`, with or without the dot of YAML.
fn number_or_not(r: &Reader<'_>, node: &Node, path: &str) -> Option<f64> {
    match node.text() {
        Some("nan" | ".nan") => Some(f64::NAN),
        Some("inf" | ".inf") => Some(f64::INFINITY),
        Some("-inf" | "-.inf") => Some(f64::NEG_INFINITY),
        _ => r.number(node, path),
    }
}

/// Awaited numbers, each with half a unit of its last written digit.
pub fn written(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Vec<Written>>> {
    let numbers = r.list(node, path, |r, n, p| {
        let value = number_or_not(r, n, p)?;
        let half_unit = if value.is_finite() { half_unit(n.text().unwrap_or("0")) } else { 0.0 };
        Some(Written { value, half_unit })
    })?;
    if numbers.is_empty() || numbers.len() > MAX_WRITTEN {
        return r.fail(node, "RANGE", path, "1 to 64 numbers; more is a golden by the oracle");
    }
    Some(At::new(node, numbers))
}

/// Half a unit of the last digit of a number as it was written; whole numbers are exact.
pub fn half_unit(text: &str) -> f64 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let digits = mantissa.split_once('.').map_or(0, |(_, part)| part.len() as i32);
    if digits == 0 && exponent == "0" {
        return 0.0;
    }
    let power = exponent.parse::<i32>().unwrap_or(0) - digits;
    format!("5e{}", power - 1).parse().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_unit_of_the_last_digit() {
        for (text, half) in [
            ("-1.341635", 5e-7),
            ("0.5", 0.05),
            ("3", 0.0),
            ("1.0e-5", 5e-7),
            ("2e3", 500.0),
            ("-0.0", 0.05),
        ] {
            assert_eq!(half_unit(text), half, "{text}");
        }
    }
}
