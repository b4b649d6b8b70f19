//! Reads the file of a tokenizer (`specs/tokenizers/<stem>.yaml`).

use std::collections::BTreeMap;

use goldgate_wire::Special;
use schemars::JsonSchema;

use crate::kinds::tokens::case::{Check, TokenCase, Vector};
use crate::line::Place;
use crate::yaml::fields::{gate, version};
use crate::yaml::read::{At, Reader};
use crate::yaml::tree::{Kind, Node};

/// A tokenizer's forms and what they must do.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TokenizerFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The name: the stem of the file.
    #[schemars(with = "String")]
    pub tokenizer: At<String>,
    /// The gate that its cases belong to.
    pub gate: u8,
    /// Where vocabulary, pattern and ids come from.
    pub source: String,
    /// Label → file.
    pub forms: BTreeMap<String, FormSpec>,
    /// Lists of texts.
    pub cases: Vec<TokenCaseSpec>,
}

/// One form of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FormSpec {
    /// A tokenizer.json or a GGUF file, below golden/.
    pub path: String,
}

/// A list of texts with one reason.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TokenCaseSpec {
    /// Its name, once in the file.
    #[schemars(with = "String")]
    pub name: At<String>,
    /// Why the list exists.
    pub why: String,
    /// `none` (the default), `add` or `parse`.
    #[schemars(with = "Option<String>")]
    pub special: Option<Special>,
    /// Of `encode`, `decode`, `stream`; all of them where it is absent.
    #[schemars(with = "Option<Vec<String>>")]
    pub checks: Option<Vec<Check>>,
    /// The texts.
    #[schemars(with = "Vec<VectorSpec>")]
    pub vectors: Vec<Vector>,
}

/// A text, or bytes that need be none, with their ids.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct VectorSpec {
    /// Quoted text.
    pub text: Option<String>,
    /// Bytes in hex.
    pub bytes: Option<String>,
    /// The ids.
    pub ids: Vec<u32>,
}

/// Reads a whole file.
pub fn tokenizer_file(r: &Reader<'_>, node: &Node) -> Option<TokenizerFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let tokenizer = f.need("tokenizer", Reader::id);
    let gate = f.need("gate", gate);
    let source = f.need("source", Reader::text);
    let forms = f.need("forms", |r, n, p| r.table(n, p, form));
    let cases = f.need("cases", |r, n, p| r.list(n, p, case));
    f.done();
    let (tokenizer, forms, cases) = (tokenizer?, forms?, cases?);
    for (i, case) in cases.iter().enumerate() {
        if cases[..i].iter().any(|earlier| earlier.name.value == case.name.value) {
            r.note_value(&case.name, "ID_DUP", "cases.name", &case.name.value, "each name once");
        }
    }
    if forms.is_empty() || cases.is_empty() {
        let expected = "one form and one case at least";
        r.note_value(&tokenizer, "GATE_EMPTY", "cases", "none", expected);
    }
    let forms = forms.into_iter().map(|(label, form)| (label.value, form)).collect();
    Some(TokenizerFile { format: format?, tokenizer, gate: gate?, source: source?, forms, cases })
}

fn form(r: &Reader<'_>, node: &Node, path: &str) -> Option<FormSpec> {
    let mut f = r.fields(node, path)?;
    let file = f.need("path", |r, n, p| {
        let text = r.text(n, p)?;
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        match text.split('/').all(plain) && !text.contains('\\') {
            true => Some(text),
            false => r.fail(n, "PATH", p, "a path below golden/"),
        }
    });
    f.done();
    Some(FormSpec { path: file? })
}

fn case(r: &Reader<'_>, node: &Node, path: &str) -> Option<TokenCaseSpec> {
    let special = Special::ALL.map(|s| (s.name(), s));
    let mut f = r.fields(node, path)?;
    let name = f.need("name", Reader::id);
    let why = f.need("why", Reader::text);
    let special = f.may("special", |r, n, p| r.word(n, p, &special));
    let checks = f.may("checks", |r, n, p| {
        let list = r.list(n, p, |r, n, p| r.word(n, p, &Check::ALL))?;
        match list.is_empty() {
            true => r.fail(n, "RANGE", p, "one check at least"),
            false => Some(list),
        }
    });
    let vectors = f.need("vectors", |r, n, p| {
        let list = r.list(n, p, vector)?;
        match list.is_empty() {
            true => r.fail(n, "RANGE", p, "one text at least"),
            false => Some(list),
        }
    });
    f.done();
    Some(TokenCaseSpec { name: name?, why: why?, special, checks, vectors: vectors? })
}

fn vector(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vector> {
    let mut f = r.fields(node, path)?;
    let text = f.may("text", |r, n, p| match &n.kind {
        // The empty text is allowed; quotes are required, because an unquoted text could mean
        // something else to another reader.
        Kind::Scalar { text, plain: false } => Some(text.clone().into_bytes()),
        _ => r.fail(n, "TYPE", p, "a quoted text"),
    });
    let bytes = f.may("bytes", |r, n, p| {
        let text = r.text(n, p)?;
        match hex(&text) {
            Some(bytes) => Some(bytes),
            None => r.fail(n, "TYPE", p, "bytes in hex, as \"ff fe 41\""),
        }
    });
    // Ids are i32 on the wire.
    let ids = f.need("ids", |r, n, p| {
        r.list(n, p, |r, n, p| u32::try_from(r.int(n, p, 0, i64::from(i32::MAX))?).ok())
    });
    f.done();
    let has = |name: &str| match &node.kind {
        Kind::Map(entries) => entries.iter().any(|(key, _)| key.text() == Some(name)),
        _ => false,
    };
    if has("text") == has("bytes") {
        return r.fail(node, "MISSING_FIELD", path, "exactly one of `text` and `bytes`");
    }
    Some(Vector { bytes: text.or(bytes)?, ids: ids? })
}

/// Bytes from pairs of digits, with or without spaces between them.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    let whole = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    whole.then(|| digits.chunks(2).map(pair).collect::<Option<_>>()).flatten()
}

/// Expands every case over its forms.
pub fn expand(file: &TokenizerFile, name: &str) -> Vec<TokenCase> {
    let each = |case: &TokenCaseSpec, label: &String, form: &FormSpec| TokenCase {
        gate: file.gate,
        stem: file.tokenizer.value.clone(),
        name: case.name.value.clone(),
        variant: label.clone(),
        why: case.why.clone(),
        source: file.source.clone(),
        place: Place { file: name.to_owned(), line: case.name.line, column: case.name.column },
        path: form.path.clone(),
        special: case.special.unwrap_or_default(),
        checks: case.checks.clone().unwrap_or_else(|| Check::ALL.map(|(_, c)| c).to_vec()),
        vectors: case.vectors.clone(),
    };
    let forms = |case| file.forms.iter().map(move |(label, form)| each(case, label, form));
    file.cases.iter().flat_map(forms).collect()
}
