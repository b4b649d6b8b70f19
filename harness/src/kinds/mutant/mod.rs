//! Mutants: planted faults, and the case that must detect each (`specs/mutants/<op>.yaml`).

pub mod model;
pub mod tokens;

use std::collections::BTreeMap;

use goldgate_tensor::DType;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::kinds::mutant::model::{ModelEdit, model_edit};
use crate::kinds::mutant::tokens::{TokensEdit, tokens_edit};
use crate::yaml::fields::{attributes, version};
use crate::yaml::forms;
use crate::yaml::read::{At, Reader, Table, is_id};
use crate::yaml::tree::Node;

/// The mutants of one op.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MutantsFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The op: the stem of the file.
    #[schemars(with = "String")]
    pub mutants: At<String>,
    /// The mutants.
    pub list: Vec<Mutant>,
}

/// One planted fault.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mutant {
    /// Its name in requirements: `M-005`.
    #[schemars(with = "String")]
    pub id: At<String>,
    /// What is wrong, in words.
    pub fault: String,
    /// A perfect subject is asked another question.
    pub ask: Option<AskEdit>,
    /// The wrong formula that the oracle computes beside the golden.
    pub wrong: Option<String>,
    /// One line of kernel text.
    pub kernel: Option<KernelEdit>,
    /// Why nobody could tell it from the right answer: out of the score.
    pub equivalent: Option<String>,
    /// The case that must notice it.
    #[schemars(with = "Option<forms::Id>")]
    pub killed_by: Option<At<String>>,
}

/// Another question in place of the case's.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AskEdit {
    /// Attributes over the case's; null removes one.
    #[schemars(default)]
    pub attributes: Map<String, Value>,
    /// Two operands whose contents change places.
    pub swap: Option<[String; 2]>,
    /// A matrix whose memory is that of its transpose, under the same shape.
    #[schemars(default, with = "forms::OneOrMore")]
    pub transpose: Vec<String>,
    /// Operand → `by_rows`, each row in the place of the next one; or by how many elements each
    /// row is rolled.
    #[schemars(default, with = "BTreeMap<String, forms::RollForm>")]
    pub roll: BTreeMap<String, Roll>,
    /// Operands that become zero.
    #[schemars(default, with = "forms::OneOrMore")]
    pub zero: Vec<String>,
    /// Operands whose every row becomes the last one.
    #[schemars(default, with = "forms::OneOrMore")]
    pub last_row_only: Vec<String>,
    /// Operand → type that it is rounded to and back.
    #[schemars(default, with = "BTreeMap<String, forms::Activation>")]
    pub round: BTreeMap<String, DType>,
    /// Operand of ids → what is added to each.
    #[schemars(default)]
    pub shift: BTreeMap<String, i64>,
    /// Operands that are left out.
    #[schemars(default, with = "forms::OneOrMore")]
    pub omit: Vec<String>,
    /// Another op, asked with the same operands.
    pub op: Option<String>,
    /// Of a tokenizer: another text, rule or vocabulary.
    pub tokens: Option<TokensEdit>,
    /// Of a model: another weight or number in its file.
    pub model: Option<ModelEdit>,
}

/// How an operand is rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Each row takes the place of the next, and the last that of the first.
    ByRows,
    /// The elements of each row move by this many places.
    Elements(i64),
}

/// One line of a kernel page, compiled from an overlay.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KernelEdit {
    /// The page below cuda/; `<op>.cu` where it is absent.
    pub file: Option<String>,
    /// Text that occurs exactly once.
    pub replace: String,
    /// What stands there instead.
    pub by: String,
}

/// Reads a whole file.
pub fn mutants_file(r: &Reader<'_>, node: &Node) -> Option<MutantsFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let mutants = f.need("mutants", Reader::id);
    let list = f.need("list", |r, n, p| r.list(n, p, mutant));
    f.done();
    let list = list?;
    // Requirements name mutants by their id, so an id must mean one fault.
    for (i, m) in list.iter().enumerate() {
        if list[..i].iter().any(|earlier| earlier.id.value == m.id.value) {
            r.note_value(&m.id, "ID_DUP", "list.id", &m.id.value, "each id once");
        }
    }
    Some(MutantsFile { format: format?, mutants: mutants?, list })
}

fn mutant(r: &Reader<'_>, node: &Node, path: &str) -> Option<Mutant> {
    let mut f = r.fields(node, path)?;
    let id = f.need("id", |r, n, p| {
        let text = r.text(n, p)?;
        let mut parts = text.splitn(2, '-');
        let family = parts.next().unwrap_or_default();
        let number = parts.next().unwrap_or_default();
        let upper = family.len() == 1 && family.bytes().all(|b| b.is_ascii_uppercase());
        if !upper || !number.starts_with(|c: char| c.is_ascii_digit()) || !is_id(number) {
            return r.fail(n, "ID_FORM", p, "a letter and a number, as M-005 or R-17a");
        }
        Some(At::new(n, text))
    });
    let fault = f.need("fault", Reader::text);
    let ask = f.may("ask", ask_edit);
    let wrong = f.may("wrong", Reader::id).map(|id| id.value);
    let kernel = f.may("kernel", kernel);
    let equivalent = f.may("equivalent", Reader::text);
    let killed_by = f.may("killed_by", Reader::id);
    f.done();
    let ways = [ask.is_some(), wrong.is_some(), kernel.is_some()];
    let planted = ways.iter().filter(|x| **x).count();
    // With two changes at once it would be unclear which of them a case detects.
    if planted > 1 || planted == 0 && equivalent.is_none() {
        r.note(node, "MISSING_FIELD", path, "exactly one of `ask`, `wrong`, `kernel`");
    }
    // Every mutant is either detected somewhere or declared undetectable, with the reason.
    if killed_by.is_none() == equivalent.is_none() {
        r.note(node, "MISSING_FIELD", path, "`killed_by`, or else `equivalent` with the reason");
    }
    Some(Mutant { id: id?, fault: fault?, ask, wrong, kernel, equivalent, killed_by })
}

fn ask_edit(r: &Reader<'_>, node: &Node, path: &str) -> Option<AskEdit> {
    let names = |r: &Reader<'_>, n: &Node, p: &str| match n.text() {
        // A single name may be written without a list.
        Some(_) => Some(vec![r.text(n, p)?]),
        None => r.list(n, p, Reader::text),
    };
    let shift = |r: &Reader<'_>, n: &Node, p: &str| r.int(n, p, -(1 << 31), 1 << 31);
    let roll = |r: &Reader<'_>, n: &Node, p: &str| match n.text() {
        Some("by_rows") => Some(Roll::ByRows),
        _ => shift(r, n, p).map(Roll::Elements),
    };
    let words = DType::ACTIVATIONS.map(|t| (t.name(), t));
    let mut f = r.fields(node, path)?;
    let edit = AskEdit {
        attributes: f.may("attributes", attributes).unwrap_or_default(),
        swap: f.may("swap", |r, n, p| match <[String; 2]>::try_from(names(r, n, p)?) {
            Ok(two) => Some(two),
            Err(_) => r.fail(n, "RANGE", p, "two operands"),
        }),
        transpose: f.may("transpose", names).unwrap_or_default(),
        roll: f.may("roll", |r, n, p| map(r.table(n, p, roll)?)).unwrap_or_default(),
        zero: f.may("zero", names).unwrap_or_default(),
        last_row_only: f.may("last_row_only", names).unwrap_or_default(),
        round: f
            .may("round", |r, n, p| map(r.table(n, p, |r, n, p| r.word(n, p, &words))?))
            .unwrap_or_default(),
        shift: f.may("shift", |r, n, p| map(r.table(n, p, shift)?)).unwrap_or_default(),
        omit: f.may("omit", names).unwrap_or_default(),
        op: f.may("op", Reader::id).map(|id| id.value),
        tokens: f.may("tokens", tokens_edit),
        model: f.may("model", model_edit),
    };
    f.done();
    // Without a change the case's own question is asked, and its right answer would count as a
    // survivor.
    if edit == AskEdit::default() {
        r.note(node, "MISSING_FIELD", path, "one change at least");
    }
    Some(edit)
}

fn map<T>(table: Table<T>) -> Option<BTreeMap<String, T>> {
    Some(table.into_iter().map(|(key, value)| (key.value, value)).collect())
}

fn kernel(r: &Reader<'_>, node: &Node, path: &str) -> Option<KernelEdit> {
    let mut f = r.fields(node, path)?;
    let file = f.may("file", |r, n, p| {
        let text = r.text(n, p)?;
        // A bare file name, because the edited page is written below the mutant's own folder.
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let stem = text.strip_suffix(".cu").or_else(|| text.strip_suffix(".cuh"));
        match stem {
            Some(stem) if !stem.is_empty() && (plain || !stem.contains(['/', '.', '\\'])) => {
                Some(text)
            }
            _ => r.fail(n, "PATH", p, "the name of a page in cuda/, as layernorm.cu"),
        }
    });
    let (replace, by) = (f.need("replace", code), f.need("by", code));
    f.done();
    Some(KernelEdit { file, replace: replace?, by: by? })
}

/// A line of kernel source: any quoted text, including the empty one.
fn code(r: &Reader<'_>, node: &Node, path: &str) -> Option<String> {
    match node.text() {
        // Empty text is legal, because a missing line is a fault too.
        Some(text) => Some(text.to_owned()),
        None => r.fail(node, "TYPE", path, "a line of text"),
    }
}
