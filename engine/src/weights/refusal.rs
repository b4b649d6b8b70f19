//! Why a model file is refused: one line that names code, file, byte, field, and both values.

use std::fmt;
use std::path::{Path, PathBuf};

pub use goldgate_tensor::Code;

/// Where in a JSON text something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPlace {
    /// From 1.
    pub line: u32,
    /// In bytes, from 1.
    pub column: u32,
    /// RFC 6901; empty for the whole value.
    pub pointer: String,
}

/// A model file that is refused. Displayed as one line without control characters:
/// `error[CODE] file=… offset=… field=… found=… expected=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub code: Code,
    /// The file.
    pub file: Box<Path>,
    /// The byte where the field begins.
    pub offset: Option<u64>,
    /// The place in a JSON text.
    pub json: Option<Box<JsonPlace>>,
    /// The field, dotted.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What must stand there.
    pub expected: String,
}

impl Malformed {
    /// A refusal of `field` in `file`.
    pub fn new(
        code: Code,
        file: &Path,
        field: impl Into<String>,
        found: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Malformed {
        Malformed {
            code,
            file: file.into(),
            offset: None,
            json: None,
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The same, at a byte of the file.
    pub fn at(mut self, offset: u64) -> Malformed {
        self.offset = Some(offset);
        self
    }

    /// The same, at a place of a JSON text.
    pub fn json(mut self, place: JsonPlace) -> Malformed {
        self.json = Some(Box::new(place));
        self
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}] file={}", self.code, shown(&self.file.to_string_lossy()))?;
        if let Some(offset) = self.offset {
            write!(f, " offset={offset}")?;
        }
        if let Some(json) = &self.json {
            let pointer = shown(&json.pointer);
            write!(f, " line={} column={} pointer={pointer}", json.line, json.column)?;
        }
        let (field, found) = (shown(&self.field), shown(&self.found));
        write!(f, " field={field} found={found} expected={}", shown(&self.expected))
    }
}

/// Text of a file, fit for one line of a message: control characters escaped, nothing else.
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// The beginning of a text of a file: at most 64 characters, and that it goes on.
pub fn begin(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text.to_owned(),
    }
}

/// What is not an error and must not be silent: odd but legal files, defaults of a format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(Vec<String>);

impl Warnings {
    /// Adds one sentence.
    pub fn add(&mut self, sentence: impl Into<String>) {
        self.0.push(shown(&sentence.into()));
    }

    /// Adds what another reader noticed.
    pub fn join(&mut self, other: Warnings) {
        self.0.extend(other.0);
    }

    /// The sentences, in the order in which they came up.
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

/// The largest request for memory that a file of `length` bytes may cause: 64 KiB, or twice its
/// length. Counts that would need more are refused before anything is reserved.
pub fn budget(length: u64) -> u64 {
    length.saturating_mul(2).max(64 << 10)
}

/// The path of a file beside `other`.
pub fn beside(other: &Path, name: &str) -> PathBuf {
    other.parent().unwrap_or(Path::new("")).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        let at = Path::new("a\nb.gguf");
        let line = Malformed::new(Code::NameChars, at, "tensors[0].name", "x\0y", "text").at(70);
        assert_eq!(
            line.to_string(),
            "error[NAME_CHARS] file=a\\nb.gguf offset=70 field=tensors[0].name \
             found=x\\u{0}y expected=text"
        );
    }

    #[test]
    fn words_go_both_ways_in_order() {
        let words: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert!(words.is_sorted());
        for code in Code::ALL {
            assert_eq!(code.as_str().parse::<Code>().ok(), Some(*code));
        }
        assert!("NOPE".parse::<Code>().is_err());
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(begin("short"), "short");
        assert_eq!(begin(&"é".repeat(70)), format!("{}… (140 bytes)", "é".repeat(64)));
    }
}
