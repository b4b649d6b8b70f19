//! The golden of an op's case: an answer from an independent source, read from its file or from the
//! spec.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Tensor};

use crate::kinds::op::case::{Case, Expect, GoldenSource, Written};
use crate::kinds::op::oracle::{self, Asked};
use crate::kinds::op::strength;
use crate::line::Family;
use crate::store::{Label, Store, Witness, read_bytes};
use crate::yaml::Problem;

/// The golden of one case.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// The results by name.
    pub results: BTreeMap<String, GoldenResult>,
    /// Wrong formula → result → its values, for mutants; computed together with the golden.
    pub wrong: BTreeMap<String, BTreeMap<String, Numbers>>,
    /// Whether the oracle verified that every partial sum is exact.
    pub exact: bool,
    /// The programs that computed it.
    pub witnesses: Vec<Witness>,
}

/// One expected result.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenResult {
    /// The logical shape.
    pub shape: Vec<usize>,
    /// The expected numbers or ids.
    pub numbers: Numbers,
    /// The allowed error in units of 2^-24, one number per element; empty for ids and written
    /// goldens.
    pub slack: Vec<f32>,
    /// Kept value → 2^24 · 4 · Q, one number per element; the judge multiplies it by u of the type.
    pub keeps: BTreeMap<String, Vec<f32>>,
    /// Absolute allowance in addition to the slack, one number per element (written goldens); else
    /// empty.
    pub absolute: Vec<f64>,
    /// Whether an element is compared, one flag per element; empty for everywhere.
    pub decided: Vec<bool>,
    /// Place → what an engine that declares a rounding there may be off by.
    pub declared: BTreeMap<String, Sway>,
    /// Place → 2^24 over the u from which on a rounding there may change a choice, one number per
    /// element.
    pub shaky: BTreeMap<String, Vec<f32>>,
}

/// What rounding at one place adds, over the u of the type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sway {
    /// 2^24 · min(4Q, Σ|c|), one number per element.
    pub bound: Vec<f32>,
    /// G, of the result as a whole.
    pub gain: f64,
}

/// Numbers or ids.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Unrounded, in f64.
    Real(Vec<f64>),
    /// Ids.
    Ids(Vec<i32>),
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Real(x) => x.len(),
            Numbers::Ids(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether the case needs a golden that has not been made.
pub fn is_pending(store: &Store, case: &Case) -> bool {
    oracle::path(case).is_some_and(|path| !store.has(path))
}

/// The golden of a case: read from its file, or made of the numbers in its spec.
///
/// # Errors
/// `GOLDEN_MISSING` if none has been made or the definition answers; anything wrong with the file,
/// its provenance, or its agreement with the case.
pub fn of_case(store: &Store, case: &Case, asked: &Asked) -> Result<Golden, Problem> {
    let golden = match &case.expect {
        Expect::Answer { golden: GoldenSource::Written(written), .. } => {
            self::written(case, written)?
        }
        Expect::Answer { golden: GoldenSource::File(path), .. } => {
            let (golden, label) = read(store, path)?;
            agree(path, case, asked, &label)?;
            golden
        }
        _ => {
            let found = "the definition or a refusal";
            let name = case.full_name();
            return Err(Problem::of_file("GOLDEN_MISSING", &name, found, "a golden"));
        }
    };
    // After all else: a golden that belongs to the case may still be too weak to judge by.
    strength::check(case, asked, &golden)?;
    Ok(golden)
}

/// Reads one golden: checks its size and hash, then parses the same bytes.
///
/// # Errors
/// `GOLDEN_MISSING`, `GOLDEN_SIZE`, `GOLDEN_HASH`, `GOLDEN_FORM`, `PROVENANCE`.
pub fn read(store: &Store, path: &str) -> Result<(Golden, Label), Problem> {
    decode(path, &store.bytes(path)?)
}

/// Checks that the file belongs to this case and was made for these inputs.
fn agree(path: &str, case: &Case, asked: &Asked, label: &Label) -> Result<(), Problem> {
    let differ = |code, field: &str, found: &str, expected: &str| {
        let mut problem = Problem::of_file(code, path, found, expected);
        problem.field = field.to_owned();
        Err(problem)
    };
    // Without this check a file copied from another case could judge this one.
    let own = path.trim_end_matches(".safetensors");
    if label.case != own {
        return differ("GOLDEN_CASE", "case", &label.case, own);
    }
    // Inputs before the question, because their names tell what has changed.
    for (name, hash) in &asked.inputs {
        let field = format!("inputs.{name}");
        match label.inputs.get(name) {
            Some(have) if have == hash => {}
            Some(have) => return differ("INPUTS_HASH", &field, have, hash),
            None => return differ("INPUTS_HASH", &field, "nothing", hash),
        }
    }
    if label.question != asked.hash {
        let place = format!("{} as {} asks", asked.hash, case.full_name());
        return differ("GOLDEN_QUESTION", "question", &label.question, &place);
    }
    Ok(())
}

/// Parses golden and label in the bytes of a file.
///
/// # Errors
/// `GOLDEN_FORM`, `GOLDEN_PRECISION`, `GOLDEN_SHAPE`, `PROVENANCE`, `PROVENANCE_SELF`.
pub fn decode(path: &str, bytes: &[u8]) -> Result<(Golden, Label), Problem> {
    let (label, tensors) = read_bytes(path, bytes)?;
    let mut golden = golden_of(tensors).map_err(|(code, field, found)| {
        let mut p = Problem::of_file(code, path, found, "what `golden make` writes");
        p.field = field;
        p
    })?;
    golden.exact = label.exact;
    golden.witnesses = label.witnesses.clone();
    Ok((golden, label))
}

type Bad = (&'static str, String, String);

/// The results and wrong answers in a golden's tensors.
///
/// # Errors
/// The code, the tensor, and what is wrong with it.
pub fn golden_of(tensors: BTreeMap<String, Tensor>) -> Result<Golden, Bad> {
    let mut golden = Golden::default();
    for (name, tensor) in &tensors {
        if !name.contains('.') {
            golden.results.insert(name.clone(), result(name, tensor, &tensors)?);
        }
    }
    for (name, tensor) in &tensors {
        let mut parts = name.splitn(3, '.');
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        let known = match (first, second, third) {
            (Some(_), None, None) => true,
            (Some("wrong"), Some(formula), Some(result)) => {
                let numbers = numbers(name, tensor)?;
                let right = golden.results.get(result).map(|r| r.numbers.len());
                if right != Some(numbers.len()) {
                    let found = format!("{} elements", numbers.len());
                    return Err(("GOLDEN_SHAPE", name.clone(), found));
                }
                let formulas = golden.wrong.entry(formula.to_owned()).or_default();
                formulas.insert(result.to_owned(), numbers);
                true
            }
            (Some(result), Some("slack" | "decided"), None)
            | (Some(result), Some("keeps" | "declared" | "gain" | "shaky"), Some(_)) => {
                golden.results.contains_key(result)
            }
            _ => false,
        };
        // A misspelt name would be ignored silently, and with it the slack or the wrong answer in
        // the tensor.
        if !known {
            return Err(("GOLDEN_FORM", name.clone(), "a tensor of no meaning".into()));
        }
    }
    Ok(golden)
}

fn result(
    name: &str,
    tensor: &Tensor,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<GoldenResult, Bad> {
    let numbers = numbers(name, tensor)?;
    let count = numbers.len();
    let floats = |key: &str| -> Result<Vec<f32>, Bad> {
        let Some(t) = tensors.get(key) else { return Ok(Vec::new()) };
        if t.meta.dtype != DType::F32 || t.meta.volume() != Some(count) {
            return Err(("GOLDEN_SHAPE", key.to_owned(), t.meta.to_string()));
        }
        let values: Vec<f32> = t.to_f64().iter().map(|&x| x as f32).collect();
        // An infinite allowance would let every answer pass, and NaN none.
        match values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            None => Ok(values),
            Some(i) => Err(("GOLDEN_NONFINITE", key.to_owned(), format!("{} at {i}", values[i]))),
        }
    };
    let of = |part: &str| -> Result<BTreeMap<String, Vec<f32>>, Bad> {
        let prefix = format!("{name}.{part}.");
        let keys = tensors.keys().filter_map(|key| Some((key, key.strip_prefix(&prefix)?)));
        keys.map(|(key, last)| Ok((last.to_owned(), floats(key)?))).collect()
    };
    let (keeps, shaky) = (of("keeps")?, of("shaky")?);
    let mut declared = BTreeMap::new();
    for (place, bound) in of("declared")? {
        let gain = whole(&format!("{name}.gain.{place}"), tensors)?;
        declared.insert(place, Sway { bound, gain });
    }
    let slack = floats(&format!("{name}.slack"))?;
    // Without slack the derived rule would allow nothing, and fail every correct kernel.
    if slack.is_empty() && matches!(numbers, Numbers::Real(_)) && count > 0 {
        return Err(("GOLDEN_FORM", format!("{name}.slack"), "nothing".into()));
    }
    let decided = match tensors.get(&format!("{name}.decided")) {
        None => Vec::new(),
        Some(t) if t.meta.dtype == DType::U8 && t.meta.volume() == Some(count) => {
            t.bytes.iter().map(|&b| b == 1).collect()
        }
        Some(t) => return Err(("GOLDEN_SHAPE", format!("{name}.decided"), t.meta.to_string())),
    };
    let shape = tensor.meta.shape.clone();
    let absolute = Vec::new();
    Ok(GoldenResult { shape, numbers, slack, keeps, absolute, decided, declared, shaky })
}

/// The single number in a tensor: without it the answer as a whole would be allowed nothing.
fn whole(key: &str, tensors: &BTreeMap<String, Tensor>) -> Result<f64, Bad> {
    let bad = |found: String| ("GOLDEN_FORM", key.to_owned(), found);
    let tensor = tensors.get(key).ok_or_else(|| bad("nothing".to_owned()))?;
    match tensor.to_f64()[..] {
        [gain] if gain.is_finite() && gain >= 0.0 => Ok(gain),
        _ => Err(bad(tensor.meta.to_string())),
    }
}

fn numbers(name: &str, tensor: &Tensor) -> Result<Numbers, Bad> {
    match tensor.meta.dtype {
        DType::F64 => Ok(Numbers::Real(tensor.to_f64())),
        DType::I32 => Ok(Numbers::Ids(tensor.to_i32())),
        // A golden of lower precision would add its own rounding error to every comparison.
        other => Err(("GOLDEN_PRECISION", name.to_owned(), other.to_string())),
    }
}

/// The golden made of numbers in the spec.
///
/// # Errors
/// `GOLDEN_SHAPE` if their number is not the result's, or the refusal of the op itself.
pub fn written(case: &Case, written: &BTreeMap<String, Vec<Written>>) -> Result<Golden, Problem> {
    let at = |code, found: String, expected: String| {
        let mut p = Problem::of_file(code, &case.place.file, found, expected);
        p.place = case.place.clone();
        p.field = format!("{}.expect", case.name);
        p
    };
    let metas = oracle::results(case)
        .map_err(|e| at("QUESTION", e.to_string(), "a question that the op takes".into()))?;
    let mut golden = Golden::default();
    for (name, meta) in metas {
        // A result without written numbers would be compared with nothing.
        let Some(numbers) = written.get(name) else {
            return Err(at("GOLDEN_SHAPE", "nothing".into(), format!("numbers of {name}")));
        };
        if meta.volume() != Some(numbers.len()) {
            let found = format!("{} numbers", numbers.len());
            return Err(at("GOLDEN_SHAPE", found, format!("{name} is {meta}")));
        }
        let ids = meta.dtype == DType::I32;
        let values = numbers.iter().map(|w| w.value);
        golden.results.insert(
            name.to_owned(),
            GoldenResult {
                shape: meta.shape,
                numbers: if ids {
                    Numbers::Ids(values.map(|x| x as i32).collect())
                } else {
                    Numbers::Real(values.collect())
                },
                slack: Vec::new(),
                keeps: BTreeMap::new(),
                absolute: numbers.iter().map(|w| w.half_unit).collect(),
                decided: Vec::new(),
                declared: BTreeMap::new(),
                shaky: BTreeMap::new(),
            },
        );
    }
    golden.witnesses.push(Witness {
        name: "written".into(),
        version: case.source.clone(),
        script: String::new(),
        date: String::new(),
    });
    Ok(golden)
}

/// The family that counts: exact only if the oracle has verified it.
pub fn family(case: &Case, golden: &Golden) -> Family {
    let from_file = oracle::path(case).is_some();
    match case.family {
        Family::Exact if from_file && !golden.exact => Family::Rough,
        family => family,
    }
}
