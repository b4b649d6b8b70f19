//! The rules: which faults an op has, by its signature. Nobody chooses among them.

use std::collections::BTreeSet;

use goldgate_engine::ops::signature::{Attribute, Class, Operand, ResultSlot, Rule, Signature};
use goldgate_tensor::DType;

use crate::mutants::generated::fault::{Axis, Change, Edge, Edit, Fault, Lost, Narrow, Nudge};
use crate::mutants::generated::values::has_scales;

/// 2^-8: as far as neighbours of bf16 are apart at most, and far beyond every legal error.
const STEP: f64 = 1.0 / 256.0;

/// Numbers of bits to which a narrow index type, or a table of fixed length, cuts ids.
const ID_BITS: [u32; 2] = [13, 17];

/// Ops that add many terms, which a signature does not say.
const SUMS: &[&str] = &[
    "attention_decode",
    "attention_prefill",
    "ffn_gelu",
    "ffn_swiglu",
    "layernorm",
    "layernorm_residual",
    "linear",
    "moe_ffn",
    "moe_router",
    "rmsnorm",
    "rmsnorm_residual",
    "sample",
    "softmax",
    "top_p",
];

/// Ops that compare a number with a threshold.
const COMPARISONS: &[&str] = &["min_p", "sample", "top_p"];

/// What the faults of a group depend on, apart from the signature.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The activation type; none is f32.
    pub dtype: Option<DType>,
    /// The stored type of the weights, if the op has any.
    pub weight: Option<DType>,
    /// Whether some case demands the bits of the golden, which tell the two zeros apart.
    pub exact: bool,
    /// Keys with numbers in attributes that are objects: attribute and key.
    pub keys: BTreeSet<(String, String)>,
}

/// All faults of an op, sorted by kind.
pub fn faults(signature: &'static Signature, scope: &Scope) -> Vec<Fault> {
    let mut list = List::default();
    for operand in signature.operands {
        operand_faults(&mut list, signature, operand, scope);
    }
    for result in signature.results {
        result_faults(&mut list, signature, result, scope);
    }
    for attribute in signature.attributes {
        attribute_faults(&mut list, attribute, scope);
    }
    if SUMS.contains(&signature.name) {
        for (name, rule) in [("f16", "sum.f16"), ("bf16", "sum.bf16"), ("last", "sum.last")] {
            list.add("sum", name, Change::Arithmetic(rule));
        }
    }
    if COMPARISONS.contains(&signature.name) {
        list.add("compare", "strict", Change::Arithmetic("compare.strict"));
    }
    list.0.sort_by(|a, b| a.name.cmp(&b.name));
    list.0
}

#[derive(Default)]
struct List(Vec<Fault>);

impl List {
    fn add(&mut self, kind: &str, what: &str, change: Change) {
        self.0.push(Fault { name: format!("{kind}.{what}"), change });
    }
}

fn operand_faults(
    list: &mut List,
    signature: &'static Signature,
    operand: &'static Operand,
    scope: &Scope,
) {
    let name = operand.name;
    if operand.optional {
        list.add("omit", name, Change::Omit(name));
    }
    let mut add = |kind: &str, what: &str, edit| list.add(kind, what, Change::Operand(name, edit));
    if let Some(stored) = stored(operand.class, scope) {
        for narrow in [Narrow::Bf16, Narrow::Tf32, Narrow::E4m3] {
            // Rounding to a type that holds as much changes no number.
            if narrow.changes(stored) {
                add("round", &format!("{name}.{narrow}"), Edit::Round(narrow));
            }
        }
        add("scale", &format!("{name}.up"), Edit::Scale(1.0 + STEP));
        add("scale", &format!("{name}.down"), Edit::Scale(1.0 - STEP));
        if stored.is_float() {
            add("flush", name, Edit::Flush);
        }
        if has_scales(stored) {
            add("flush-scales", name, Edit::FlushScales);
        }
    } else if !is_set(operand) {
        for bits in ID_BITS {
            add("wrap", &format!("{name}.{}", 1u32 << bits), Edit::Wrap(bits));
        }
        if let Some(symbol) = limit(signature) {
            add("last-id", name, Edit::LastId(symbol));
        }
    }
    for (symbol, axis) in axes(operand.shape) {
        add("exchange", &format!("{name}.{symbol}"), Edit::Exchange(axis));
        if axis != Axis::Flat && is_reduced(signature, operand, symbol) {
            for edge in edges(symbol, axis) {
                let what = format!("{name}.{symbol}.{edge}");
                add("cut", &what, Edit::Cut(axis, edge, Lost::Zero));
            }
        }
    }
}

fn result_faults(
    list: &mut List,
    signature: &'static Signature,
    result: &'static ResultSlot,
    scope: &Scope,
) {
    let name = result.name;
    list.add("stale", &format!("result.{name}"), Change::Stale(name));
    let mut add = |kind: &str, what: &str, edit| {
        list.add(kind, &format!("result.{name}{what}"), Change::Result(name, edit));
    };
    let like = |operand: &'static str| signature.operand(operand);
    let of_ids = match result.class {
        Class::Ids => true,
        Class::Like(operand) => like(operand).is_some_and(|o| o.class == Class::Ids),
        _ => false,
    };
    if of_ids {
        for bits in ID_BITS {
            add("wrap", &format!(".{}", 1u32 << bits), Edit::Wrap(bits));
        }
        if let Some(symbol) = limit(signature) {
            add("last-id", "", Edit::LastId(symbol));
        }
    } else {
        add("scale", ".up", Edit::Scale(1.0 + STEP));
        add("scale", ".down", Edit::Scale(1.0 - STEP));
        add("flush", "", Edit::Flush);
        if scope.exact {
            add("zero-sign", "", Edit::UnsignedZero);
        }
    }
    let shape = match result.shape {
        [same] if same.starts_with('=') => like(&same[1..]).map_or(&[][..], |o| o.shape),
        axes => axes,
    };
    for (symbol, axis) in axes(shape) {
        if axis != Axis::Flat {
            add("exchange", &format!(".{symbol}"), Edit::Exchange(axis));
        }
        for edge in edges(symbol, axis) {
            for lost in [Lost::Zero, Lost::First] {
                add("cut", &format!(".{symbol}.{edge}.{lost}"), Edit::Cut(axis, edge, lost));
            }
        }
    }
}

/// The type with the most digits that an operand may be stored in; none for ids.
fn stored(class: Class, scope: &Scope) -> Option<DType> {
    let dtype = scope.dtype.unwrap_or(DType::F32);
    match class {
        Class::Ids => None,
        Class::D => Some(dtype),
        Class::W => Some(scope.weight.unwrap_or(dtype)),
        _ => Some(DType::F32),
    }
}

/// Whether an operand of ids is a set of bits, 32 a word.
fn is_set(operand: &Operand) -> bool {
    operand.shape == ["words"]
}

/// The axis that counts the ids that there are.
fn limit(signature: &Signature) -> Option<&'static str> {
    let has = |symbol: &str| signature.operands.iter().any(|o| o.shape.contains(&symbol));
    ["v", "e"].into_iter().find(|symbol| has(symbol))
}

/// The axes of an operand or a result by symbol; an axis of fixed size is none.
fn axes(shape: &'static [&'static str]) -> Vec<(&'static str, Axis)> {
    if shape == ["..."] {
        return vec![("first", Axis::First), ("last", Axis::FromLast(0)), ("flat", Axis::Flat)];
    }
    let named = shape.iter().enumerate().filter(|(_, axis)| axis.parse::<usize>().is_err());
    let axis = |(at, symbol): (usize, &&'static str)| {
        (symbol.trim_end_matches('?'), Axis::FromLast(shape.len() - 1 - at))
    };
    named.map(axis).collect()
}

/// Whether a formula sums over an axis of an operand, or chooses along it: no result has it, or it
/// is the last of two operands of different shape, as in a product.
fn is_reduced(signature: &Signature, operand: &Operand, symbol: &str) -> bool {
    let is = |axis: &str| axis.trim_end_matches('?') == symbol;
    let same = |result: &ResultSlot| match result.shape {
        [same] if same.starts_with('=') => signature.operand(&same[1..]).map(|o| o.shape),
        axes => Some(axes),
    };
    if operand.shape == ["..."] {
        return false;
    }
    let of_results =
        signature.results.iter().filter_map(same).any(|axes| axes.iter().any(|a| is(a)));
    if !of_results {
        return true;
    }
    let contracts = |other: &Operand| {
        other.shape != operand.shape
            && other.shape.len() > 1
            && other.shape.last().is_some_and(|a| is(a))
    };
    let last = operand.shape.len() > 1 && operand.shape.last().is_some_and(|a| is(a));
    last && operand.class != Class::Ids && signature.operands.iter().any(contracts)
}

/// Where an axis is cut: its last entry, and sizes at which kernels change what they do, such as
/// tiles, warps, splits, the reach of an index type.
fn edges(symbol: &str, axis: Axis) -> Vec<Edge> {
    let sizes: &[usize] = match (symbol, axis) {
        (_, Axis::Flat) => return vec![Edge::At(1 << 25)],
        ("v", _) => &[1 << 13, 1 << 17],
        // A word holds 32 ids.
        ("words", _) => &[1 << 8, 1 << 12],
        ("e", _) => &[32],
        ("c" | "p", _) => &[64, 512, 4096],
        ("d", _) => &[64, 96],
        ("half", _) => &[32],
        ("q" | "k" | "heads" | "s", _) => &[8],
        ("t" | "top_k", _) => &[4],
        ("h" | "in" | "out" | "f", _) | (_, Axis::FromLast(0)) => &[64, 128, 1024, 4096],
        _ => &[8, 32, 160],
    };
    [Edge::Last].into_iter().chain(sizes.iter().map(|at| Edge::At(*at))).collect()
}

fn attribute_faults(list: &mut List, attribute: &'static Attribute, scope: &Scope) {
    let name = attribute.name;
    let mut add = |kind: &str, what: &str, key: Option<&String>, nudge| {
        let at = key.map_or_else(|| name.to_owned(), |key| format!("{name}.{key}"));
        let change = Change::Attribute(name, key.cloned(), nudge);
        list.add(kind, &format!("{at}{what}"), change);
    };
    match attribute.rule {
        Rule::Int { high, .. } => {
            add("nudge", ".up", None, Nudge::Add(1));
            add("nudge", ".down", None, Nudge::Add(-1));
            // A seed has more bits than an id, and half of them is the likely mistake.
            let bits: &[u32] = if high > i64::from(i32::MAX) { &[16, 32] } else { &ID_BITS };
            for &bits in bits {
                add("wrap", &format!(".{}", 1u64 << bits), None, Nudge::Wrap(bits));
            }
        }
        // A share of a whole is a threshold: its neighbours decide other elements.
        Rule::Real { high, .. } if high <= 1.0 => {
            add("nudge", ".up", None, Nudge::Next(true));
            add("nudge", ".down", None, Nudge::Next(false));
        }
        Rule::Real { .. } => {
            add("nudge", ".up", None, Nudge::Times(1.0 + STEP));
            add("nudge", ".down", None, Nudge::Times(1.0 - STEP));
        }
        // The type of a result shows at once, as its shape would.
        Rule::Choice { .. } if name == Attribute::TO.name => {}
        Rule::Choice { of, .. } => {
            for word in of {
                add("choose", &format!(".{word}"), None, Nudge::Word(word));
            }
        }
        Rule::Flag { .. } => add("turn", "", None, Nudge::Turn),
        Rule::Object => {
            add("omit", "", None, Nudge::Remove);
            for (_, key) in scope.keys.iter().filter(|(of, _)| of == name) {
                add("nudge", ".up", Some(key), Nudge::Times(1.0 + STEP));
                add("nudge", ".down", Some(key), Nudge::Times(1.0 - STEP));
            }
        }
    }
}
