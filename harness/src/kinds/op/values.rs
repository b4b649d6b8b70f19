//! Reads the values that specs share: shapes, sizes, fills, expected numbers.

use crate::fill::read::number_or_not;
use crate::kinds::op::case::Written;
use crate::kinds::op::spec::Axis;
use crate::yaml::read::{At, Reader, Table};
use crate::yaml::tree::{Kind, Node};

/// The most axes of a tensor.
pub const MAX_RANK: usize = 8;

/// The most elements of a tensor.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// The most numbers that may be written for one result.
pub const MAX_WRITTEN: usize = 64;

/// A shape: names of sizes, or numbers.
pub fn shape(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Vec<Axis>>> {
    let axis = |r: &Reader<'_>, n: &Node, p: &str| match n.bare() {
        // What begins like a number must be one; otherwise a mistyped size would pass for a name.
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

/// The number for each symbol.
pub fn sizes(r: &Reader<'_>, node: &Node, path: &str) -> Option<Table<At<usize>>> {
    r.table(node, path, |r, n, p| match n.bare().map(|t| (t, t.parse::<usize>())) {
        Some((t, Ok(x))) if x <= MAX_ELEMENTS && t == x.to_string() => Some(At::new(n, x)),
        _ => {
            // The size is present though malformed, so it must not be reported as missing too.
            r.note(n, "SHAPE", p, "a size from 0 to 2^31");
            Some(At::new(n, 1))
        }
    })
}

/// Expected numbers, each with half a unit of its last written digit.
pub fn written(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Vec<Written>>> {
    let numbers = r.list(node, path, |r, n, p| {
        let value = number_or_not(r, n, p)?;
        // Infinity and NaN have no last digit.
        let half_unit = if value.is_finite() { half_unit(n.text().unwrap_or("0")) } else { 0.0 };
        Some(Written { value, half_unit })
    })?;
    // Written numbers are meant to be redone by hand; longer ones belong to the oracle.
    if numbers.is_empty() || numbers.len() > MAX_WRITTEN {
        return r.fail(node, "RANGE", path, "1 to 64 numbers; more is a golden by the oracle");
    }
    Some(At::new(node, numbers))
}

/// Half a unit of the last digit of a number as written. Whole numbers are exact.
pub fn half_unit(text: &str) -> f64 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let digits = mantissa.split_once('.').map_or(0, |(_, part)| part.len() as i32);
    if digits == 0 && exponent == "0" {
        return 0.0;
    }
    let power = exponent.parse::<i32>().unwrap_or(0) - digits;
    // Parsed from text, because computing a power of ten would round.
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
