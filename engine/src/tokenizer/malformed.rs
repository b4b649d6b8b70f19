//! What a refusal of a vocabulary says: which rule, where, what stands there and what may.

use std::fmt;
use std::path::Path;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal),* $(,)?) => {
        /// The rule that a file breaks; the list is closed and part of the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            /// Every code, in the order of their names.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// As it is printed.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }
        }
    };
}

codes! {
    /// An added token without text, or with an id that another token has.
    Added "ADDED",
    /// A beginning of text is promised that nothing adds.
    BosPolicy "BOS_POLICY",
    /// A byte without its letter among the tokens.
    ByteAlphabet "BYTE_ALPHABET",
    /// Fallback to bytes without the tokens `<0x00>` to `<0xFF>`.
    ByteFallback "BYTE_FALLBACK",
    /// A compiled table of characters that is broken.
    Charsmap "CHARSMAP",
    /// A decoder that the tokens do not have.
    Decoder "DECODER",
    /// Merges that are left out at random.
    Dropout "DROPOUT",
    /// A step that makes a text much longer.
    Expansion "EXPANSION",
    /// A file that the system does not hand out.
    Io "IO",
    /// No JSON.
    Json "JSON",
    /// Too many levels.
    JsonDepth "JSON_DEPTH",
    /// A key twice in its object.
    JsonDup "JSON_DUP",
    /// Something after the value.
    JsonTrailing "JSON_TRAILING",
    /// A value of another sort than the field has.
    JsonType "JSON_TYPE",
    /// A field that the format does not have.
    JsonUnknown "JSON_UNKNOWN",
    /// A merge of tokens, or into a token, that is not there.
    Merge "MERGE",
    /// A prefix or suffix of pieces.
    MergePrefix "MERGE_PREFIX",
    /// A model of tokens that is not offered.
    Model "MODEL",
    /// A normaliser that is not offered.
    Normalizer "NORMALIZER",
    /// Filling up to a length that cannot be.
    Padding "PADDING",
    /// A pattern that matches nothing.
    Pattern "PATTERN",
    /// A split of texts into pieces that is not offered.
    Pretok "PRETOK",
    /// No regular expression.
    Regex "REGEX",
    /// A regular expression that nobody published for a model.
    RegexUnsafe "REGEX_UNSAFE",
    /// More bytes than such a file has.
    Size "SIZE",
    /// A template that names tokens which are not there.
    Template "TEMPLATE",
    /// Cutting to a length that cannot be.
    Truncation "TRUNCATION",
    /// A broken table of pieces with scores.
    Unigram "UNIGRAM",
    /// An unknown token that is not there.
    Unk "UNK",
    /// A version that is not offered.
    Version "VERSION",
    /// A token for a byte that is none, or that is missing.
    VocabByte "VOCAB_BYTE",
    /// Two vocabularies of one model that disagree.
    VocabDiff "VOCAB_DIFF",
    /// A token twice.
    VocabDup "VOCAB_DUP",
    /// No token at all.
    VocabEmpty "VOCAB_EMPTY",
    /// An id outside the vocabulary.
    VocabId "VOCAB_ID",
    /// Two tokens with one id.
    VocabIdDup "VOCAB_ID_DUP",
    /// Lists about the same tokens with different lengths.
    VocabLen "VOCAB_LEN",
    /// More tokens than the model has rows.
    VocabSize "VOCAB_SIZE",
    /// A token without text.
    VocabToken "VOCAB_TOKEN",
    /// A list of another type.
    VocabType "VOCAB_TYPE",
}

/// Where in a JSON text something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPlace {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
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
        write!(f, "error[{}] file={}", self.code.as_str(), shown(&self.file.to_string_lossy()))?;
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

/// Text of a file, fit for one line of a message.
pub fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// The beginning of a text of a file.
pub fn begin(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
        None => text.to_owned(),
    }
}
