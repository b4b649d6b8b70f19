//! Reads the file of an op into its types.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, RefusalKind};

use crate::fill::Grid;
use crate::fill::read::fill;
use crate::kinds::op::case::Accumulate;
use crate::kinds::op::spec::{
    Against, BenchSpec, CaseSpec, InputSpec, Kept, Needs, OpFile, Refuses, Rule, SameBitsSpec, Sum,
    ToleranceSpec, TypeWord, Without,
};
use crate::kinds::op::values;
use crate::yaml::fields::{attributes, dtypes, gate, type_list, words};
use crate::yaml::read::{At, Reader};
use crate::yaml::tree::Node;

/// Reads a whole file. Returns nothing if a required field is wrong.
pub fn op_file(r: &Reader<'_>, node: &Node) -> Option<OpFile> {
    let mut f = r.fields(node, "")?;
    // A later format may give the same fields another meaning, so none of them is guessed.
    let format = f.need("format", |r, n, p| match r.int(n, p, 0, i64::MAX)? {
        1 => Some(1),
        _ => r.fail(n, "SCHEMA_VERSION", p, "1, the one version that this program reads"),
    });
    let op = f.need("op", Reader::id);
    let gate = f.need("gate", gate);
    let source = f.need("source", Reader::text);
    let inputs = f.need("inputs", |r, n, p| r.table(n, p, input));
    let attributes = f.may("attributes", attributes);
    let dtypes = f.need("dtypes", dtypes);
    let weights = f.may("weights", weights);
    let tolerance = f.may("tolerance", tolerance);
    let accumulate = f.may("accumulate", accumulate);
    let keeps = f.may("keeps", keeps);
    let without = f.may("without", without);
    let cases = f.may("cases", |r, n, p| r.list(n, p, case));
    let bench = f.may("bench", |r, n, p| r.list(n, p, bench));
    f.done();
    Some(OpFile {
        format: format?,
        op: op?,
        gate: gate?,
        source: source?,
        inputs: inputs?,
        attributes: attributes.unwrap_or_default(),
        dtypes: dtypes?,
        weights,
        tolerance,
        accumulate,
        keeps,
        without: without.unwrap_or_default(),
        cases: cases.unwrap_or_default(),
        bench: bench.unwrap_or_default(),
    })
}

fn input(r: &Reader<'_>, node: &Node, path: &str) -> Option<InputSpec> {
    let mut f = r.fields(node, path)?;
    let shape = f.need("shape", values::shape);
    let fill = f.need("fill", fill);
    let dtype = f.may("type", type_word);
    f.done();
    Some(InputSpec { shape: shape?, fill: fill?, dtype })
}

fn weights(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<DType>> {
    type_list(r, node, path, &DType::WEIGHTS)
}

fn type_word(r: &Reader<'_>, node: &Node, path: &str) -> Option<TypeWord> {
    let plain = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U8, DType::F64];
    let mut all = vec![("D", TypeWord::D)];
    all.extend(plain.map(|t| (t.name(), TypeWord::Is(t))));
    r.word(node, path, &all)
}

fn kept(r: &Reader<'_>, node: &Node, path: &str) -> Option<Kept> {
    let mut all = vec![("D", TypeWord::D)];
    all.extend(DType::ACTIVATIONS.map(|t| (t.name(), TypeWord::Is(t))));
    r.word(node, path, &all)
}

fn keeps(r: &Reader<'_>, node: &Node, path: &str) -> Option<BTreeMap<String, Kept>> {
    let table = r.table(node, path, kept)?;
    Some(table.into_iter().map(|(key, value)| (key.value, value)).collect())
}

fn without(r: &Reader<'_>, node: &Node, path: &str) -> Option<Without> {
    let mut f = r.fields(node, path)?;
    let reason = |r: &Reader<'_>, n: &Node, p: &str| Some(At::new(n, r.text(n, p)?));
    let exact = f.may("exact", reason);
    let rough = f.may("rough", reason);
    let refused = f.may("refused", reason);
    f.done();
    Some(Without { exact, rough, refused })
}

fn accumulate(r: &Reader<'_>, node: &Node, path: &str) -> Option<Accumulate> {
    r.word(node, path, &[("tensor", Accumulate::Tensor), ("f32", Accumulate::F32)])
}

fn tolerance(r: &Reader<'_>, node: &Node, path: &str) -> Option<ToleranceSpec> {
    let mut f = r.fields(node, path)?;
    let rule = f.need("rule", |r, n, p| {
        let all = [("derived", Rule::Derived), ("exact", Rule::Exact), ("number", Rule::Number)];
        Some(At::new(n, r.word(n, p, &all)?))
    });
    let sum = f.may("sum", |r, n, p| r.word(n, p, &[("tree", Sum::Tree), ("linear", Sum::Linear)]));
    // Numbers that could not be read are already noted, and must not count as absent as well.
    let before = r.count();
    let range = |r: &Reader<'_>, n: &Node, p: &str| r.number_in(n, p, (0.0, false, 1e6));
    let (absolute, relative, ulp) =
        (f.may("absolute", range), f.may("relative", range), f.may("ulp", range));
    let because = f.may("because", Reader::text);
    let evidence = f.may("evidence", Reader::text);
    let path_because = f.path("because");
    f.done();
    let rule = rule?;
    let numbers = absolute.is_some() || relative.is_some() || ulp.is_some();
    // Numbers under another rule would look as if they allowed something, although nothing reads
    // them.
    if (rule.value == Rule::Number) != numbers && r.count() == before {
        let found = if numbers { "numbers" } else { "no number" };
        let expected = "absolute, relative or ulp with `rule: number`, and only there";
        r.note_value(&rule, "RANGE", path, found, expected);
    }
    // What is allowed by hand follows from no formula, so a reviewer needs the reason and the
    // evidence.
    if (rule.value == Rule::Number || sum == Some(Sum::Linear)) && because.is_none() {
        r.note_value(&rule, "MISSING_FIELD", &path_because, "nothing", "why an error is allowed");
    }
    if rule.value == Rule::Number && evidence.is_none() {
        let path = path_because.replace("because", "evidence");
        r.note_value(&rule, "MISSING_FIELD", &path, "nothing", "what shows that it must be");
    }
    Some(ToleranceSpec { rule, sum, absolute, relative, ulp, because, evidence })
}

fn case(r: &Reader<'_>, node: &Node, path: &str) -> Option<CaseSpec> {
    let before = r.count();
    let mut f = r.fields(node, path)?;
    let (name, why) = (f.need("name", Reader::id), f.need("why", Reader::text));
    let (source, gate) = (f.may("source", Reader::text), f.may("gate", gate));
    let sizes = f.may("sizes", values::sizes);
    let fill = f.may("fill", |r, n, p| r.table(n, p, fill));
    let attributes = f.may("attributes", attributes);
    let omit = f.may("omit", |r, n, p| r.list(n, p, Reader::id));
    let shape = f.may("shape", |r, n, p| r.table(n, p, values::shape));
    let types = f.may("type", |r, n, p| r.table(n, p, type_word));
    let (dtypes, weights) = (f.may("dtypes", dtypes), f.may("weights", weights));
    let grid =
        f.may("grid", |r, n, p| r.word(n, p, &[("common", Grid::Common), ("full", Grid::Full)]));
    let tolerance = f.may("tolerance", tolerance);
    let (accumulate, keeps) = (f.may("accumulate", accumulate), f.may("keeps", keeps));
    let alias = f.may("alias", |r, n, p| r.table(n, p, Reader::id));
    // Read with a wide limit, because the check of costs gives the better message.
    let repeat = f.may("repeat", |r, n, p| Some(At::new(n, r.int(n, p, 1, 1_000_000_000)? as u32)));
    let timeout_s = f.may("timeout_s", |r, n, p| Some(r.int(n, p, 1, 3600)? as u32));
    let needs = f.may("needs", needs);
    let slow = f.may("slow", Reader::flag);
    let judge = f.may("judge", |r, n, p| r.word(n, p, &[("definition", ())]));
    let expect = f.may("expect", |r, n, p| r.table(n, p, values::written));
    let refuses = f.may("refuses", refuses);
    let same_bits = f.may("same_bits", same_bits);
    let constant_golden = f.may("constant_golden", Reader::text);
    f.done();
    Some(CaseSpec {
        name: name?,
        why: why?,
        source,
        gate,
        sizes: sizes.unwrap_or_default(),
        fill: fill.unwrap_or_default(),
        attributes: attributes.unwrap_or_default(),
        omit: omit.unwrap_or_default(),
        shape: shape.unwrap_or_default(),
        types: types.unwrap_or_default(),
        dtypes,
        weights,
        grid,
        tolerance,
        accumulate,
        keeps,
        alias: alias.unwrap_or_default(),
        repeat,
        timeout_s,
        needs,
        slow: slow.unwrap_or_default(),
        judge,
        expect,
        refuses,
        same_bits,
        constant_golden,
        is_whole: r.count() == before,
    })
}

fn needs(r: &Reader<'_>, node: &Node, path: &str) -> Option<Needs> {
    let mut f = r.fields(node, path)?;
    let memory_mib = f.need("memory_mib", |r, n, p| r.int(n, p, 1, 1 << 20));
    f.done();
    Some(Needs { memory_mib: memory_mib? as u64 })
}

fn refuses(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Refuses>> {
    let mut f = r.fields(node, path)?;
    let kind = f.need("kind", |r, n, p| r.word(n, p, &words(RefusalKind::ALL, RefusalKind::name)));
    let operand = f.need("operand", Reader::text);
    f.done();
    Some(At::new(node, Refuses { kind: kind?, operand: operand? }))
}

fn same_bits(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<SameBitsSpec>> {
    let mut f = r.fields(node, path)?;
    let axis = f.need("axis", Reader::text);
    let chunks =
        f.need("chunks", |r, n, p| r.list(n, p, |r, n, p| Some(r.int(n, p, 1, 1 << 20)? as usize)));
    let advance = f.may("advance", Reader::text);
    let moved = f.may("moved", Reader::flag).unwrap_or_default();
    f.done();
    let spec = SameBitsSpec { axis: axis?, chunks: chunks?, advance, moved };
    // With neither, no other form would be asked and the check would pass on nothing.
    if spec.chunks.is_empty() && !spec.moved {
        r.note(node, "RANGE", path, "a chunk, or `moved: true`");
    }
    Some(At::new(node, spec))
}

fn bench(r: &Reader<'_>, node: &Node, path: &str) -> Option<BenchSpec> {
    let before = r.count();
    let mut f = r.fields(node, path)?;
    let (name, why) = (f.need("name", Reader::id), f.need("why", Reader::text));
    let gate = f.may("gate", gate);
    let sizes = f.may("sizes", values::sizes);
    let fill = f.may("fill", |r, n, p| r.table(n, p, fill));
    let attributes = f.may("attributes", attributes);
    let omit = f.may("omit", |r, n, p| r.list(n, p, Reader::id));
    let (dtypes, weights) = (f.may("dtypes", dtypes), f.may("weights", weights));
    let against = f.need("against", |r, n, p| {
        let all = [("copy", Against::Copy), ("read", Against::Read), ("matmul", Against::Matmul)];
        r.word(n, p, &all)
    });
    f.done();
    Some(BenchSpec {
        name: name?,
        why: why?,
        gate,
        sizes: sizes.unwrap_or_default(),
        fill: fill.unwrap_or_default(),
        attributes: attributes.unwrap_or_default(),
        omit: omit.unwrap_or_default(),
        dtypes,
        weights,
        against: against?,
        is_whole: r.count() == before,
    })
}
