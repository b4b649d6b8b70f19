//! Reads fills as specs write them.

use crate::fill::Fill;
use crate::yaml::read::{At, Reader};
use crate::yaml::tree::{Kind, Node};

/// A fill: a mapping from exactly one kind to its numbers.
pub fn fill(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Fill>> {
    const KINDS: &[&str] = &[
        "uniform", "normal", "integers", "powers", "outliers", "ramp", "constant", "one_hot",
        "values", "ids", "blocks",
    ];
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a mapping of one kind of fill");
    };
    // With two kinds it would be unclear which of them fills the tensor.
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
            // Signs are drawn apart from magnitudes, so a negative scale would mean nothing.
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
    // The limits keep every value exact: integers in f32, powers of two within its range.
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
        // An end that could not be read has been noted, and that one is missing follows from it.
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

/// A finite number, or one of `nan`, `inf`, `-inf`, with or without YAML's dot.
pub fn number_or_not(r: &Reader<'_>, node: &Node, path: &str) -> Option<f64> {
    match node.text() {
        Some("nan" | ".nan") => Some(f64::NAN),
        Some("inf" | ".inf") => Some(f64::INFINITY),
        Some("-inf" | "-.inf") => Some(f64::NEG_INFINITY),
        _ => r.number(node, path),
    }
}
