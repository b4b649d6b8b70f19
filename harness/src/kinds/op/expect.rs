//! What a case expects: a golden, written numbers, the definition, or a refusal.

use goldgate_engine::ops::signature::Class;
use goldgate_tensor::DType;

use crate::fill::Grid;
use crate::kinds::op::case::{Accumulate, Expect, GoldenSource, Tolerance, ToleranceRule};
use crate::kinds::op::expand::Scope;
use crate::kinds::op::spec::{CaseSpec, Rule, Sum, ToleranceSpec, TypeWord};
use crate::yaml::read::At;

/// Notes errors of meaning in what a case expects and in the names that it uses.
pub(super) fn check(scope: &Scope<'_, '_>, spec: &CaseSpec) {
    let r = scope.r;
    // Two ways to an answer could disagree, and the file would not say which of them judges.
    let ways = [spec.expect.is_some(), spec.refuses.is_some(), spec.judge.is_some()];
    if ways.iter().filter(|x| **x).count() > 1 {
        let expected = "at most one of `expect`, `refuses`, `judge`";
        r.note_value(&spec.name, "ENUM", "cases", "several ways to an answer", expected);
    }
    // A case may be harder than its file's gate, but the file's gate must not wait for it.
    if let Some(gate) = spec.gate.filter(|g| *g < scope.file.gate) {
        let expected = format!("{} or later", scope.file.gate);
        r.note_value(&spec.name, "RANGE", "cases.gate", &gate.to_string(), &expected);
    }
    check_names(scope, spec);
    if let Some(expect) = &spec.expect {
        for (result, _) in expect {
            result_name(scope, result, "expect");
        }
        // Numbers without an origin could have been copied from the engine that they are to judge.
        if spec.source.is_none() && scope.file.source.is_empty() {
            let field = "cases.source";
            r.note_value(&spec.name, "MISSING_FIELD", field, "nothing", "where it comes from");
        }
    }
    for (result, operand) in &spec.alias {
        result_name(scope, result, "alias");
        if scope.signature.operand(&operand.value).is_none() {
            let field = format!("cases.alias.{}", result.value);
            r.note_value(operand, "ENUM", &field, &operand.value, "an operand of the op");
        }
    }
    if let Some(same) = &spec.same_bits {
        // An axis that is no size would cut no operand, and the check would compare nothing.
        let known = spec.sizes.iter().any(|(name, _)| name.value == same.value.axis);
        if !known {
            r.note_value(same, "ENUM", "cases.same_bits.axis", &same.value.axis, "a size");
        }
    }
    for operand in scope.signature.operands.iter().filter(|o| !o.optional) {
        let given = scope.file.inputs.iter().any(|(name, _)| name.value == operand.name)
            || spec.shape.iter().any(|(name, _)| name.value == operand.name);
        let omitted = spec.omit.iter().any(|o| o.value == operand.name);
        // A case that refuses may leave out anything: the gap may be what must be refused.
        if (!given || omitted) && spec.refuses.is_none() {
            let field = format!("inputs.{}", operand.name);
            r.note_value(&spec.name, "MISSING_FIELD", &field, "nothing", "a required operand");
        }
    }
}

fn result_name(scope: &Scope<'_, '_>, name: &At<String>, field: &str) {
    let results = scope.signature.results;
    if !results.iter().any(|r| r.name == name.value) {
        let known: Vec<_> = results.iter().map(|r| r.name).collect();
        let expected = format!("a result of {}: {}", scope.signature.name, known.join(", "));
        let field = format!("cases.{field}.{}", name.value);
        scope.r.note_value(name, "ENUM", &field, &name.value, &expected);
    }
}

/// Notes sizes, fills and operands that nothing uses, because they are mistakes.
fn check_names(scope: &Scope<'_, '_>, spec: &CaseSpec) {
    let r = scope.r;
    let inputs = &scope.file.inputs;
    let is_input = |name: &str| inputs.iter().any(|(key, _)| key.value == name);
    let is_shape = |name: &str| spec.shape.iter().any(|(key, _)| key.value == name);
    let uses = |symbol: &str| {
        let shapes = inputs.iter().map(|(_, i)| &i.shape).chain(spec.shape.iter().map(|(_, s)| s));
        let symbol = crate::kinds::op::spec::Axis::Symbol(symbol.to_owned());
        shapes.into_iter().any(|s| s.value.contains(&symbol))
    };
    for (name, _) in &spec.sizes {
        if !uses(&name.value) {
            let field = format!("cases.sizes.{}", name.value);
            r.note_value(name, "ENUM", &field, &name.value, "an axis of some input");
        }
    }
    let others = spec.omit.iter().map(|name| (name, "omit"));
    let types = spec.types.iter().map(|(name, _)| (name, "type"));
    let fills = spec.fill.iter().map(|(name, _)| (name, "fill"));
    for (name, field) in others.chain(types).chain(fills) {
        if !is_input(&name.value) && !is_shape(&name.value) {
            let known: Vec<_> = inputs.iter().map(|(key, _)| key.value.as_str()).collect();
            let field = format!("cases.{field}.{}", name.value);
            let expected = format!("an input: {}", known.join(", "));
            r.note_value(name, "ENUM", &field, &name.value, &expected);
        }
    }
}

/// Whether the case's own tolerance, or else the file's, demands equality bit for bit.
pub(super) fn is_exact(scope: &Scope<'_, '_>, spec: &CaseSpec) -> bool {
    let tolerance = spec.tolerance.as_ref().or(scope.file.tolerance.as_ref());
    tolerance.is_some_and(|t| t.rule.value == Rule::Exact)
}

/// What one variant of a case expects.
pub(super) fn expect(
    scope: &Scope<'_, '_>,
    spec: &CaseSpec,
    dtype: DType,
    weight: Option<DType>,
) -> Expect {
    if let Some(refuses) = &spec.refuses {
        let refuses = &refuses.value;
        return Expect::Refusal { kind: refuses.kind, operand: refuses.operand.clone() };
    }
    let golden = match &spec.expect {
        Some(expect) => {
            let pairs = expect.iter().map(|(name, at)| (name.value.clone(), at.value.clone()));
            GoldenSource::Written(pairs.collect())
        }
        None if spec.judge.is_some() => GoldenSource::Definition,
        None => GoldenSource::File(golden_path(scope, spec, dtype, weight)),
    };
    Expect::Answer { golden, tolerance: tolerance(scope, spec, dtype) }
}

/// `ops/<op>/<case>[.<variant>].safetensors` below golden/: one file for all dtypes on the common
/// grid; one per dtype if inputs or formula depend on it; one per block type.
fn golden_path(
    scope: &Scope<'_, '_>,
    spec: &CaseSpec,
    dtype: DType,
    weight: Option<DType>,
) -> String {
    // If inputs or formula depend on the type, so does the golden.
    let full = spec.grid == Some(Grid::Full) || scope.signature.rounds_inside;
    // Float weights on the common grid hold the same numbers in every type.
    let weight = weight.filter(|w| w.is_block() || full);
    let variant = match (full, weight) {
        (false, None) => String::new(),
        (false, Some(weight)) => format!(".{weight}"),
        (true, None) => format!(".{dtype}"),
        (true, Some(weight)) => format!(".{dtype}-{weight}"),
    };
    format!("ops/{}/{}{variant}.safetensors", scope.file.op.value, spec.name.value)
}

fn tolerance(scope: &Scope<'_, '_>, spec: &CaseSpec, dtype: DType) -> Tolerance {
    let file = scope.file;
    let written: Option<&ToleranceSpec> = spec.tolerance.as_ref().or(file.tolerance.as_ref());
    let rule = match written.map(|t| t.rule.value) {
        None | Some(Rule::Derived) => ToleranceRule::Derived,
        Some(Rule::Exact) => ToleranceRule::Exact,
        Some(Rule::Number) => ToleranceRule::Number {
            absolute: written.and_then(|t| t.absolute).unwrap_or(0.0),
            relative: written.and_then(|t| t.relative).unwrap_or(0.0),
            ulp: written.and_then(|t| t.ulp).unwrap_or(0.0),
        },
    };
    let keeps = spec.keeps.as_ref().or(file.keeps.as_ref());
    let kept = |word: &TypeWord| match word {
        TypeWord::D => dtype,
        TypeWord::Is(dtype) => *dtype,
    };
    let keeps = keeps.into_iter().flatten().map(|(name, word)| (name.clone(), kept(word)));
    Tolerance {
        rule,
        accumulate: spec
            .accumulate
            .or(file.accumulate)
            .unwrap_or_else(|| default_accumulate(scope)),
        linear_sum: written.and_then(|t| t.sum) == Some(Sum::Linear),
        keeps: keeps.collect(),
        because: written.and_then(|t| t.because.clone()),
    }
}

/// The default accumulator: products may go through a tensor core; norms, softmax and sums may not.
fn default_accumulate(scope: &Scope<'_, '_>) -> Accumulate {
    let name = scope.signature.name;
    let product = ["linear", "ffn_", "moe_", "attention_"].iter().any(|p| name.starts_with(p));
    let weighted = scope.signature.operands.iter().any(|o| o.class == Class::W);
    if product || weighted && name.ends_with("_linear") {
        Accumulate::Tensor
    } else {
        Accumulate::F32
    }
}
