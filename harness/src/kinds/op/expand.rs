//! Expands what was written into cases: each over its dtypes and weight types, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_engine::ops::signature::{Class, Rule as AttributeRule, Signature};
use goldgate_tensor::DType;
use goldgate_tensor::shape::{Meta, volume};
use serde_json::{Map, Number, Value};

use crate::fill::{Fill, Grid, Input};
use crate::kinds::op::case::{Case, Expect, OpAsk, SameBits};
use crate::kinds::op::expect as expectation;
use crate::kinds::op::spec::{Against, Axis, BenchSpec, CaseSpec, InputSpec, OpFile, TypeWord};
use crate::kinds::op::values::MAX_ELEMENTS;
use crate::line::{Family, Part, Place};
use crate::yaml::read::{At, Reader};

/// The most bytes that the operands of one case may have together.
pub const MAX_CASE_BYTES: u128 = 6 << 30;

/// The most bytes that one case may move over all its repetitions.
pub const MAX_REPEATED_BYTES: u128 = 64 << 30;

/// The time limit of a case that sets none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A question that is timed, with the limit that its time is compared with.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The question; its expected answer is the definition.
    pub case: Case,
    /// The limit that the time is compared with.
    pub against: Against,
}

/// Everything that one file asks.
#[derive(Clone, Debug, Default)]
pub struct Expanded {
    /// Cases, in the order of the file.
    pub cases: Vec<Case>,
    /// Benches, in the order of the file.
    pub benches: Vec<Bench>,
}

/// Expands a file by the signature of its op, and notes every error of meaning.
pub fn expand(r: &Reader<'_>, file: &OpFile, signature: &'static Signature) -> Expanded {
    let mut expanded = Expanded::default();
    let scope = Scope { r, file, signature };
    let mut seen: BTreeMap<&str, &At<String>> = BTreeMap::new();
    // Cases and benches share their names, because a trial's name does not say which of the two it
    // is.
    let names = file.cases.iter().map(|c| &c.name).chain(file.bench.iter().map(|b| &b.name));
    for name in names {
        if let Some(first) = seen.insert(&name.value, name) {
            let mut problem = r.source.problem(
                "ID_DUP",
                name.line,
                name.column,
                "cases.name",
                &name.value,
                "each name once in a file",
            );
            problem.also = Some(place(r, first));
            r.push(problem);
        }
    }
    for case in &file.cases {
        scope.case(case, &mut expanded.cases);
    }
    for bench in &file.bench {
        scope.bench(bench, &mut expanded.benches);
    }
    expanded
}

fn place<T>(r: &Reader<'_>, at: &At<T>) -> Place {
    Place { file: r.source.file.clone(), line: at.line, column: at.column }
}

/// Shape, fill and type of an operand in a case.
type WrittenInput<'w> = (&'w At<Vec<Axis>>, &'w At<Fill>, Option<TypeWord>);

/// One variant of a case.
#[derive(Clone, Copy)]
struct Variant {
    dtype: DType,
    weight: Option<DType>,
}

impl Variant {
    fn label(self) -> String {
        match self.weight {
            Some(weight) => format!("{}-{weight}", self.dtype),
            None => self.dtype.to_string(),
        }
    }
}

pub(super) struct Scope<'a, 's> {
    pub r: &'a Reader<'s>,
    pub file: &'a OpFile,
    pub signature: &'static Signature,
}

impl Scope<'_, '_> {
    fn case(&self, spec: &CaseSpec, cases: &mut Vec<Case>) {
        if !spec.is_whole {
            return; // what seems missing may just be malformed
        }
        let before = self.r.count();
        expectation::check(self, spec);
        if self.r.count() > before {
            return;
        }
        let dtypes = spec.dtypes.as_ref().unwrap_or(&self.file.dtypes);
        let weights = spec.weights.as_ref().or(self.file.weights.as_ref());
        for variant in variants(dtypes, weights) {
            let Some(operands) = self.operands(spec, variant) else { return };
            cases.push(self.expanded(spec, variant, operands));
            if self.r.count() > before {
                return; // the same mistake in another type is no news
            }
        }
    }

    fn expanded(&self, spec: &CaseSpec, variant: Variant, operands: Vec<Input>) -> Case {
        let file = self.file;
        let expect = expectation::expect(self, spec, variant.dtype, variant.weight);
        let family = match &expect {
            Expect::Refusal { .. } => Family::Refused,
            // Written numbers end after a few digits, so only under the exact rule do they show
            // that nothing rounds.
            Expect::Answer { .. }
                if spec.expect.is_some() && !expectation::is_exact(self, spec) =>
            {
                Family::Rough
            }
            Expect::Answer { .. } => family(&operands),
        };
        Case {
            gate: spec.gate.unwrap_or(file.gate),
            stem: file.op.value.clone(),
            name: spec.name.value.clone(),
            variant: variant.label(),
            why: spec.why.clone(),
            source: spec.source.clone().unwrap_or_else(|| file.source.clone()),
            place: place(self.r, &spec.name),
            ask: OpAsk {
                op: file.op.value.clone(),
                dtype: variant.dtype,
                attributes: merge(self.signature, &file.attributes, &spec.attributes),
                operands,
                alias: alias(spec),
            },
            expect,
            family,
            repeat: spec.repeat.as_ref().map_or(1, |x| x.value),
            same_bits: spec.same_bits.as_ref().and_then(|_| self.same_bits(spec)),
            timeout: spec.timeout_s.map_or(DEFAULT_TIMEOUT, |s| Duration::from_secs(s.into())),
            memory_mib: spec.needs.as_ref().map_or(0, |n| n.memory_mib),
            slow: spec.slow,
            part: Part::default(),
            control: None,
            constant_golden: spec.constant_golden.clone(),
        }
    }

    fn bench(&self, spec: &BenchSpec, benches: &mut Vec<Bench>) {
        let case = CaseSpec {
            name: spec.name.clone(),
            why: spec.why.clone(),
            gate: spec.gate,
            sizes: spec.sizes.clone(),
            fill: spec.fill.clone(),
            attributes: spec.attributes.clone(),
            omit: spec.omit.clone(),
            dtypes: spec.dtypes.clone(),
            weights: spec.weights.clone(),
            // A bench is timed and not compared, so it needs no golden.
            judge: Some(()),
            slow: true,
            is_whole: spec.is_whole,
            ..empty_case(&spec.name)
        };
        let mut cases = Vec::new();
        self.case(&case, &mut cases);
        benches.extend(cases.into_iter().map(|case| Bench { case, against: spec.against }));
    }

    /// The operands of one variant in the order of the signature, unknown ones last.
    fn operands(&self, spec: &CaseSpec, variant: Variant) -> Option<Vec<Input>> {
        let before = self.r.count();
        let mut written: Vec<(&At<String>, WrittenInput<'_>)> = Vec::new();
        for (name, InputSpec { shape, fill, dtype }) in &self.file.inputs {
            if spec.omit.iter().any(|o| o.value == name.value) {
                continue;
            }
            let shape = find(&spec.shape, name).unwrap_or(shape);
            let fill = find(&spec.fill, name).unwrap_or(fill);
            written.push((name, (shape, fill, *dtype)));
        }
        // A refusal may be about an operand that the op does not have, which then needs a fill of
        // its own.
        for (name, shape) in &spec.shape {
            if find(&self.file.inputs, name).is_none() {
                match find(&spec.fill, name) {
                    Some(fill) => written.push((name, (shape, fill, None))),
                    None => self.note_name(name, "shape", "an input, or one with a fill"),
                }
            }
        }
        let order = |name: &str| self.signature.operands.iter().position(|o| o.name == name);
        written.sort_by_key(|(name, ..)| order(&name.value).unwrap_or(usize::MAX));
        let inputs: Vec<Input> = written
            .into_iter()
            .filter_map(|(name, (shape, fill, dtype))| {
                let dtype = find(&spec.types, name).copied().or(dtype);
                self.operand(spec, variant, &name.value, (shape, fill, dtype))
            })
            .collect();
        self.cost(spec, &inputs);
        (self.r.count() == before).then_some(inputs)
    }

    fn note_name(&self, name: &At<String>, field: &str, expected: &str) {
        let field = format!("cases.{field}.{}", name.value);
        self.r.note_value(name, "ENUM", &field, &name.value, expected);
    }

    fn operand(
        &self,
        spec: &CaseSpec,
        variant: Variant,
        name: &str,
        (shape, fill, dtype): WrittenInput<'_>,
    ) -> Option<Input> {
        let dtype = match dtype {
            Some(TypeWord::D) => variant.dtype,
            Some(TypeWord::Is(dtype)) => dtype,
            None => self.default_type(name, variant),
        };
        let shape_numbers = self.shape(spec, name, shape)?;
        let meta = Meta { dtype, shape: shape_numbers };
        let whole = matches!(fill.value, Fill::Ids(..));
        let blocks = matches!(fill.value, Fill::Blocks(..) | Fill::EveryCode);
        let field = format!("{}.fill.{name}", spec.name.value);
        let integer_values = matches!(fill.value, Fill::Values(_) | Fill::Constant(_));
        if dtype.is_block() != blocks {
            let expected = if blocks { "a block type for it" } else { "`blocks` for a block type" };
            self.r.note_value(fill, "TYPE", &field, dtype.name(), expected);
            return None;
        }
        // Other fills give fractions, which storing as i32 would cut off silently.
        if (dtype == DType::I32) != whole && !(dtype == DType::I32 && integer_values) {
            self.r.note_value(fill, "TYPE", &field, dtype.name(), "`ids` for i32, and only there");
            return None;
        }
        // A block is the smallest unit that can be stored, so a row must consist of whole ones.
        if meta.bytes().is_none() {
            let expected = format!("a last axis of whole {dtype} blocks");
            self.r.note_value(shape, "SHAPE", &field, &format!("{:?}", meta.shape), &expected);
            return None;
        }
        if let (Fill::Values(v), Some(n)) = (&fill.value, meta.volume())
            && v.len() != n
        {
            let expected = format!("{n} numbers for {meta}");
            self.r.note_value(fill, "SHAPE", &field, &format!("{} numbers", v.len()), &expected);
            return None;
        }
        Some(Input {
            name: name.to_owned(),
            meta,
            fill: fill.value.clone(),
            grid: spec.grid.unwrap_or(Grid::Common),
            // The type is no part of the key: one golden serves all types only if they get the same
            // values.
            key: [self.file.op.value.clone(), spec.name.value.clone(), name.to_owned()],
        })
    }

    fn default_type(&self, name: &str, variant: Variant) -> DType {
        match self.signature.operand(name).map(|o| o.class) {
            Some(Class::P | Class::F32) => DType::F32,
            Some(Class::Ids) => DType::I32,
            Some(Class::W) => variant.weight.unwrap_or(variant.dtype),
            _ => variant.dtype,
        }
    }

    fn shape(&self, spec: &CaseSpec, name: &str, shape: &At<Vec<Axis>>) -> Option<Vec<usize>> {
        let mut numbers = Vec::with_capacity(shape.value.len());
        for axis in &shape.value {
            match axis {
                Axis::Number(n) => numbers.push(*n),
                Axis::Symbol(symbol) => {
                    let size = spec.sizes.iter().find(|(name, _)| name.value == *symbol);
                    let Some((_, size)) = size else {
                        let field = format!("{}.sizes.{symbol}", spec.name.value);
                        let expected = format!("a size: it is an axis of {name}");
                        let at = &spec.name;
                        self.r.note_value(at, "MISSING_FIELD", &field, "nothing", &expected);
                        return None;
                    };
                    numbers.push(size.value);
                }
            }
        }
        let field = format!("{}.shape.{name}", spec.name.value);
        let found = format!("{numbers:?}");
        // A result without elements would pass with nothing compared.
        if numbers.contains(&0) && spec.refuses.is_none() {
            let expected = "sizes from 1; an empty axis only where the case refuses";
            self.r.note_value(&spec.name, "SHAPE", &field, &found, expected);
            return None;
        }
        if volume(&numbers).is_none_or(|v| v > MAX_ELEMENTS) {
            self.r.note_value(&spec.name, "SHAPE", &field, &found, "at most 2^31 elements");
            return None;
        }
        Some(numbers)
    }

    /// YM-36: checks what a case would cost before anything is allocated.
    fn cost(&self, spec: &CaseSpec, inputs: &[Input]) {
        let bytes = |i: &Input| i.meta.bytes().unwrap_or(0) as u128;
        let total: u128 = inputs.iter().map(bytes).sum();
        let repeat = spec.repeat.as_ref().map_or(1, |x| u128::from(x.value));
        // In 128 bits and before allocation, so that a spec cannot exhaust the machine that checks
        // it.
        if total > MAX_CASE_BYTES || repeat > 1000 || total * repeat > MAX_REPEATED_BYTES {
            let field = format!("{}.sizes", spec.name.value);
            let found = format!("{total} bytes, {repeat} times");
            let expected = "at most 6 GiB, 1000 times, 64 GiB over all times";
            self.r.note_value(&spec.name, "COST", &field, &found, expected);
        }
    }

    fn same_bits(&self, spec: &CaseSpec) -> Option<SameBits> {
        let same = &spec.same_bits.as_ref()?.value;
        let mut cut = Vec::new();
        let mut symbols = Vec::new();
        for (name, input) in &self.file.inputs {
            let shape = find(&spec.shape, name).unwrap_or(&input.shape);
            let omitted = spec.omit.iter().any(|o| o.value == name.value);
            let first = shape.value.first() == Some(&Axis::Symbol(same.axis.clone()));
            if omitted || !first {
                continue;
            }
            cut.push(name.value.clone());
            let axes = self.signature.operand(&name.value).map_or(&[][..], |o| o.shape);
            // The signature may begin with an optional axis that this shape leaves out.
            let skip = usize::from(axes.len() > shape.value.len());
            symbols.extend(axes.get(skip).map(|a| a.trim_end_matches('?')));
        }
        // `=x` in a signature is the shape of x. A result is cut where its rows are those of a cut
        // operand.
        let follows = |axes: &[&str]| match axes {
            [one] if one.starts_with('=') => cut.iter().any(|c| c == &one[1..]),
            [first, ..] => symbols.contains(&first.trim_end_matches('?')),
            [] => false,
        };
        let results = self.signature.results.iter().filter(|r| follows(r.shape));
        let results: Vec<String> = results.map(|r| r.name.to_owned()).collect();
        Some(SameBits {
            cut,
            results,
            chunks: same.chunks.clone(),
            advance: same.advance.clone(),
            moved: same.moved,
        })
    }
}

fn empty_case(name: &At<String>) -> CaseSpec {
    CaseSpec {
        name: name.clone(),
        why: String::new(),
        source: None,
        gate: None,
        sizes: Vec::new(),
        fill: Vec::new(),
        attributes: Map::new(),
        omit: Vec::new(),
        shape: Vec::new(),
        types: Vec::new(),
        dtypes: None,
        weights: None,
        grid: None,
        tolerance: None,
        accumulate: None,
        keeps: None,
        alias: Vec::new(),
        repeat: None,
        timeout_s: None,
        needs: None,
        slow: false,
        judge: None,
        expect: None,
        refuses: None,
        same_bits: None,
        constant_golden: None,
        is_whole: true,
    }
}

fn variants(dtypes: &[DType], weights: Option<&Vec<DType>>) -> Vec<Variant> {
    let variants = |dtype: &DType| -> Vec<Variant> {
        match weights {
            None => vec![Variant { dtype: *dtype, weight: None }],
            Some(all) => all.iter().map(|w| Variant { dtype: *dtype, weight: Some(*w) }).collect(),
        }
    };
    dtypes.iter().flat_map(variants).collect()
}

fn find<'t, T>(table: &'t [(At<String>, T)], name: &At<String>) -> Option<&'t T> {
    table.iter().find(|(key, _)| key.value == name.value).map(|(_, value)| value)
}

fn alias(spec: &CaseSpec) -> BTreeMap<String, String> {
    spec.alias.iter().map(|(y, x)| (y.value.clone(), x.value.clone())).collect()
}

/// The family by the fills: exact if every input consists of whole numbers, powers or written
/// numbers. The oracle has the last word when it makes the golden.
fn family(operands: &[Input]) -> Family {
    let exact = |i: &Input| {
        let constants = matches!(i.fill, Fill::Constant(_) | Fill::Ids(..));
        let numbers = matches!(
            i.fill,
            Fill::Integers(..) | Fill::Powers(..) | Fill::Values(_) | Fill::OneHotLast
        );
        constants || numbers
    };
    if operands.iter().all(exact) { Family::Exact } else { Family::Rough }
}

/// The attributes of the file, overridden by those of the case; null removes one, and real ones
/// become f32 values.
pub fn merge(
    signature: &Signature,
    file: &Map<String, Value>,
    case: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = file.clone();
    for (name, value) in case {
        if value.is_null() {
            merged.shift_remove(name);
        } else {
            merged.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in &mut merged {
        let rule = signature.attributes.iter().find(|a| a.name == name).map(|a| a.rule);
        round_reals(value, matches!(rule, Some(AttributeRule::Real { .. })));
    }
    merged
}

/// Rounds every real number to the nearest f32, so that every subject and the oracle get the same
/// question.
fn round_reals(value: &mut Value, real: bool) {
    match value {
        Value::Number(n) if n.is_f64() || real => {
            let x = n.as_f64().map(|x| f64::from(x as f32));
            if let Some(rounded) = x.and_then(Number::from_f64) {
                *value = Value::Number(rounded);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| round_reals(v, real)),
        Value::Object(map) => map.values_mut().for_each(|v| round_reals(v, real)),
        _ => {}
    }
}
