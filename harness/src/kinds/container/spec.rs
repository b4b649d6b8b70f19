//! The spec of files as it was written: `specs/containers/<stem>.yaml`.

use goldgate_tensor::Code;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::fill::read::fill;
use crate::kinds::container::bytes::{Base, Entry, Tensor, types};
use crate::kinds::container::case::{ContainerCase, FileExpectation};
use crate::kinds::container::edit::{Change, Edit};
use crate::line::Place;
use crate::yaml::fields::{gate, version};
use crate::yaml::forms;
use crate::yaml::read::{At, Fields, Reader};
use crate::yaml::tree::{Kind, Node};

mod value;

/// The most files that one case may stand for.
const MAX_VARIANTS: usize = 512;

/// The largest file in bytes that edits may make.
const MAX_BYTES: usize = 16 << 20;

/// The file of one theme: what the files are before the edits, and the cases.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ContainerFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The stem of the file.
    #[schemars(with = "String")]
    pub container: At<String>,
    /// The gate that its cases belong to, unless a case names a later one.
    pub gate: u8,
    /// What says what is well formed.
    pub source: String,
    /// What a file is before the edits.
    #[schemars(with = "BaseForm")]
    pub base: Base,
    /// A file that must open, where the base is too small to be a whole model: refusals count
    /// beside it.
    #[schemars(with = "Option<BaseForm>")]
    pub control: Option<Base>,
    /// The cases.
    #[schemars(with = "Vec<ContainerCaseForm>")]
    pub cases: Vec<ContainerCase>,
}

/// A good file: GGUF by `metadata`, a folder of the hub by `config`, one JSON file by `json`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BaseForm {
    /// Records of GGUF.
    pub metadata: Option<Vec<EntryForm>>,
    /// Tensors, of GGUF or of safetensors.
    pub tensors: Option<Vec<TensorForm>>,
    /// The text of config.json.
    pub config: Option<Map<String, Value>>,
    /// Into how many files the tensors go; with an index above one.
    pub shards: Option<u8>,
    /// The value of a JSON file.
    pub json: Option<Value>,
    /// The name of that file.
    pub file: Option<String>,
    /// Other JSON files in the folder, by name.
    pub beside: Option<Map<String, Value>>,
}

/// A metadata record: a key, and exactly one value under the name of its type, one of `u8 i8 u16
/// i16 u32 i32 f32 bool string u64 i64 f64`, or `array` with one of these; the schema's rules have
/// the types.
#[derive(Debug, JsonSchema)]
pub struct EntryForm {
    /// The key.
    pub key: String,
}

/// A tensor.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TensorForm {
    /// The name.
    pub name: String,
    /// The stored type.
    #[schemars(rename = "type")]
    pub dtype: String,
    /// Row-major.
    pub shape: Vec<u64>,
    /// How it is filled; zeros where nothing is said.
    pub fill: Option<forms::FillForm>,
}

/// One case: a file or several, all awaited alike.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ContainerCaseForm {
    /// Its name, once in the file.
    pub name: forms::Id,
    /// Why it exists; printed on failure.
    pub why: String,
    /// What says so, if not what the file names.
    pub source: Option<String>,
    /// A later gate than the file's.
    pub gate: Option<u8>,
    /// What is done to the base, in order.
    pub edits: Option<Vec<EditForm>>,
    /// The refusal that is awaited.
    pub refuses: Option<RefusesFileForm>,
    /// `true`: the file opens.
    pub accepts: Option<bool>,
    /// A part of a warning that an accepted file gives.
    pub warns: Option<String>,
}

/// The refusal of a file.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RefusesFileForm {
    /// The code.
    pub code: String,
    /// The byte.
    pub offset: Option<u64>,
    /// The field.
    pub field: Option<String>,
}

/// One edit: exactly one of `set tensor drop pointer text replace field at cut append`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EditForm {
    /// Which file of a folder; the first where it is absent.
    pub file: Option<String>,
    /// A metadata record in place of that of its key, or after the others.
    pub set: Option<EntryForm>,
    /// A tensor in place of that of its name, or after the others.
    pub tensor: Option<TensorForm>,
    /// A key or tensor that goes away.
    pub drop: Option<String>,
    /// A place in JSON; with `json` or `remove`.
    pub pointer: Option<String>,
    /// What stands at the pointer.
    pub json: Option<Value>,
    /// `true`: nothing stands at the pointer any more.
    pub remove: Option<bool>,
    /// Another JSON text.
    pub text: Option<String>,
    /// A part of the JSON text that occurs once; with `by`.
    pub replace: Option<String>,
    /// What stands there instead.
    pub by: Option<String>,
    /// How often what is appended or put in place is repeated.
    pub times: Option<u32>,
    /// A named field, overwritten by one of `u8 u16 u32 u64 f32 string hex`; a list makes one file
    /// each.
    pub field: Option<String>,
    /// A place, overwritten by `hex`.
    pub at: Option<u64>,
    /// The length that is left, a range of lengths with both ends, or below zero what goes away.
    pub cut: Option<Value>,
    /// Bytes after the end, as hex.
    pub append: Option<String>,
}

/// Reads a whole file, and makes every file that it describes once, so that an edit that does not
/// fit is reported here and not during a run.
pub fn container_file(r: &Reader<'_>, node: &Node) -> Option<ContainerFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let container = f.need("container", Reader::id);
    let number = f.need("gate", gate);
    let source = f.need("source", Reader::text);
    let control = f.may("control", base);
    let base = f.need("base", base);
    // Cases are read after the head, because each is built on the base at once.
    let cases = f.find("cases");
    f.done();
    let head =
        Head { stem: container.clone()?, gate: number?, source: source?, base: base?, control };
    let path = "cases";
    let cases = match cases {
        Some(list) => r.list(list, path, |r, n, p| case(r, n, p, &head))?,
        None => r.fail(node, "MISSING_FIELD", path, "a value")?,
    };
    for (i, case) in cases.iter().enumerate() {
        if cases[..i].iter().any(|earlier| earlier.name == case.name) {
            let Place { line, column, .. } = case.place;
            let expected = "each name once in a file";
            r.note_at(line, column, "ID_DUP", "cases.name", &case.name, expected);
        }
    }
    let Head { gate, source, base, control, .. } = head;
    let (format, container) = (format?, container?);
    Some(ContainerFile { format, container, gate, source, base, control, cases })
}

struct Head {
    stem: At<String>,
    gate: u8,
    source: String,
    base: Base,
    control: Option<Base>,
}

fn base(r: &Reader<'_>, node: &Node, path: &str) -> Option<Base> {
    let mut f = r.fields(node, path)?;
    let metadata = f.may("metadata", |r, n, p| r.list(n, p, entry));
    let tensors = f.may("tensors", |r, n, p| r.list(n, p, tensor));
    let config = f.may("config", value::json);
    let shards = f.may("shards", |r, n, p| r.int(n, p, 1, 9));
    let json = f.may("json", value::json);
    let file = f.may("file", plain_name);
    let others = f.may("beside", other_files);
    f.done();
    let tensors = tensors.unwrap_or_default();
    let base = match (metadata, config, json, file) {
        (Some(metadata), None, None, None) => Base::Gguf { metadata, tensors },
        (None, Some(config), None, None) => {
            Base::Hub { config, tensors, shards: shards.unwrap_or(1) as usize }
        }
        (None, None, Some(json), Some(file)) => Base::Json { file, json },
        _ => {
            let expected = "`metadata`, or `config`, or `json` with `file`";
            return r.fail(node, "MISSING_FIELD", path, expected);
        }
    };
    let base = match others {
        Some(others) => Base::WithFiles { base: Box::new(base), others },
        None => base,
    };
    // Written once on reading, so that a base that cannot be built is reported at its own place.
    match crate::kinds::container::bytes::Files::from_base(&base).map(|files| files.bytes().len()) {
        Ok(_) => Some(base),
        Err(why) => {
            r.note_at(node.line, node.column, "SHAPE", path, &why, "files that can be written");
            None
        }
    }
}

/// Further JSON files: plain names with arbitrary values.
fn other_files(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<(String, Value)>> {
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "JSON values under names of files");
    };
    let each = |(name, value): &(Node, Node)| {
        Some((plain_name(r, name, path)?, value::json(r, value, path)?))
    };
    entries.iter().map(each).collect()
}

/// The name of a file in a folder of its own, which must not lead out of that folder.
fn plain_name(r: &Reader<'_>, node: &Node, path: &str) -> Option<String> {
    let name = r.text(node, path)?;
    // A plain name keeps every file of a case inside its scratch folder.
    match name.starts_with('.') || name.contains(['/', '\\']) {
        true => r.fail(node, "PATH", path, "a plain file name"),
        false => Some(name),
    }
}

fn entry(r: &Reader<'_>, node: &Node, path: &str) -> Option<Entry> {
    let mut f = r.fields(node, path)?;
    let key = f.need("key", Reader::text);
    let mut found = Vec::new();
    for (id, name) in value::METADATA {
        if let Some(bytes) = f.may(name, |r, n, p| value::metadata(r, n, p, *id)) {
            found.push((*id, bytes));
        }
    }
    if let Some(bytes) = f.may("array", value::array) {
        found.push((9, bytes));
    }
    f.done();
    match <[_; 1]>::try_from(found) {
        Ok([(id, value)]) => Some(Entry { key: key?, id, value }),
        Err(_) => r.fail(node, "MISSING_FIELD", path, "exactly one value, under its type"),
    }
}

fn tensor(r: &Reader<'_>, node: &Node, path: &str) -> Option<Tensor> {
    let words: Vec<(&str, &str)> = types().into_iter().map(|t| (t, t)).collect();
    let mut f = r.fields(node, path)?;
    let name = f.need("name", Reader::text);
    let dtype = f.need("type", |r, n, p| r.word(n, p, &words));
    let shape = f
        .need("shape", |r, n, p| r.list(n, p, |r, n, p| r.int(n, p, 0, 1 << 20).map(|d| d as u64)));
    let fill = f.may("fill", fill).map(|at| at.value);
    f.done();
    Some(Tensor { name: name?, dtype: dtype?.to_owned(), shape: shape?, fill })
}

fn case(r: &Reader<'_>, node: &Node, path: &str, head: &Head) -> Option<ContainerCase> {
    let mut f = r.fields(node, path)?;
    let name = f.need("name", Reader::id);
    let why = f.need("why", Reader::text);
    let source = f.may("source", Reader::text);
    let number = f.may("gate", gate);
    let edits = f.may("edits", |r, n, p| r.list(n, p, edit)).unwrap_or_default();
    let refuses = f.may("refuses", refuses);
    let accepts = f.may("accepts", Reader::flag);
    let warns = f.may("warns", Reader::text);
    f.done();
    let name = name?;
    let expected = match (refuses, accepts, warns) {
        (Some(refused), None, None) => refused,
        (None, Some(true), warns) => FileExpectation::Opened { warns },
        _ => {
            let expected = "`refuses`, or `accepts: true` with or without `warns`";
            return r.fail(node, "MISSING_FIELD", path, expected);
        }
    };
    let place = Place { file: r.source.file.clone(), line: name.line, column: name.column };
    let case = ContainerCase {
        gate: number.unwrap_or(head.gate),
        stem: head.stem.value.clone(),
        name: name.value.clone(),
        why: why?,
        source: source.unwrap_or_else(|| head.source.clone()),
        place,
        base: head.base.clone(),
        control: head.control.clone(),
        edits,
        expected,
    };
    // All files are made once here, so that an impossible edit is an error of the spec and not of a
    // run.
    if let Err(why) = makes(&case) {
        r.note_value(&name, "EDIT", path, &why, "edits that fit the base");
        return None;
    }
    Some(case)
}

/// Makes every file once.
fn makes(case: &ContainerCase) -> Result<(), String> {
    // Counted before any of them is made, because making them is what the limit is for.
    if case.variants() > MAX_VARIANTS {
        return Err(format!("{} files, at most {MAX_VARIANTS}", case.variants()));
    }
    for index in 0..case.variants() {
        let files = case.make(index)?;
        let length: usize = files.bytes().iter().map(|(_, bytes)| bytes.len()).sum();
        if length > MAX_BYTES {
            return Err(format!("{length} bytes, at most {MAX_BYTES}"));
        }
    }
    Ok(())
}

fn refuses(r: &Reader<'_>, node: &Node, path: &str) -> Option<FileExpectation> {
    let words: Vec<(&str, Code)> = Code::ALL.iter().map(|c| (c.as_str(), *c)).collect();
    let mut f = r.fields(node, path)?;
    let code = f.need("code", |r, n, p| r.word(n, p, &words));
    let offset = f.may("offset", |r, n, p| r.int(n, p, 0, 1 << 53).map(|x| x as u64));
    let field = f.may("field", Reader::text);
    f.done();
    Some(FileExpectation::Refused { code: code?, offset, field })
}

fn edit(r: &Reader<'_>, node: &Node, path: &str) -> Option<Edit> {
    let mut f = r.fields(node, path)?;
    let file = f.may("file", plain_name);
    // Bounded, because the repeated part is held in memory.
    let times = f.may("times", |r, n, p| r.int(n, p, 1, 1 << 20)).unwrap_or(1) as usize;
    let mut found: Vec<Change> = Vec::new();
    found.extend(f.may("set", entry).map(Change::Set));
    found.extend(f.may("tensor", tensor).map(Change::Tensor));
    found.extend(f.may("drop", Reader::text).map(Change::Drop));
    found.extend(f.may("text", any_text).map(Change::Text));
    found.extend(pointer(r, &mut f, node, path));
    let by = f.may("by", any_text);
    let replace = f.may("replace", any_text);
    found.extend(replace.zip(by).map(|(from, to)| Change::Replace(from, to, times)));
    found.extend(field(&mut f));
    found.extend(f.may("cut", value::lengths).map(Change::Cut));
    let append = f.may("append", value::hex);
    found.extend(append.map(|bytes| Change::Append(bytes, times)));
    f.done();
    match <[_; 1]>::try_from(found) {
        Ok([change]) => Some(Edit { file, change }),
        Err(_) => {
            let expected = "exactly one of set, tensor, drop, pointer, text, replace, field, at, \
                            cut, append, with what belongs to it";
            r.fail(node, "MISSING_FIELD", path, expected)
        }
    }
}

/// Any quoted text, including the empty one.
fn any_text(r: &Reader<'_>, node: &Node, path: &str) -> Option<String> {
    match node.text() {
        Some(text) => Some(text.to_owned()),
        None => r.fail(node, "TYPE", path, "text"),
    }
}

fn pointer(r: &Reader<'_>, f: &mut Fields<'_, '_>, node: &Node, path: &str) -> Option<Change> {
    let pointer = f.may("pointer", Reader::text);
    let json = f.may("json", value::json);
    let remove = f.may("remove", Reader::flag);
    let pointer = pointer?;
    match (json, remove) {
        (Some(json), None) => Some(Change::Pointer(pointer, Some(json))),
        (None, Some(true)) => Some(Change::Pointer(pointer, None)),
        _ => r.fail(node, "MISSING_FIELD", path, "`json` or `remove: true`"),
    }
}

/// A field or an offset, and the values that overwrite it.
fn field(f: &mut Fields<'_, '_>) -> Option<Change> {
    let name = f.may("field", Reader::text);
    let at = f.may("at", |r, n, p| r.int(n, p, 0, 1 << 24));
    let mut values = Vec::new();
    for (id, word) in value::METADATA {
        let read = |r: &Reader<'_>, n: &Node, p: &str| match (&n.kind, *word) {
            // A string overwrites the bytes of a string only: its length is a field of its own.
            (_, "string") => any_text(r, n, p).map(|text| vec![text.into_bytes()]),
            (Kind::List(_), _) => r.list(n, p, |r, n, p| value::metadata(r, n, p, *id)),
            _ => Some(vec![value::metadata(r, n, p, *id)?]),
        };
        values.extend(f.may(word, read));
    }
    let hex = f.may("hex", value::hex);
    values.extend(hex.map(|bytes| vec![bytes]));
    match (name, at, values.as_mut_slice()) {
        (Some(name), None, [values]) => Some(Change::Field(name, std::mem::take(values))),
        (None, Some(at), [values]) => match values.as_mut_slice() {
            [bytes] => Some(Change::At(at as usize, std::mem::take(bytes))),
            _ => None,
        },
        _ => None,
    }
}
