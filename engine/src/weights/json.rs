//! JSON of model files, strict and without recursion: grammar and depth first, then values with the
//! byte where each stands.

mod grammar;
mod tree;

use std::borrow::Cow;
use std::path::Path;

pub use tree::tree;

use super::refusal::{Code, JsonPlace, Malformed, begin};

/// Deepest nesting.
const DEPTH: usize = 128;

/// A JSON text inside a file.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where the text begins in the file.
    base: u64,
}

/// What a value is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or a minus sign.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`
    Null,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "a boolean",
            Kind::Null => "null",
        }
    }
}

impl<'a> Text<'a> {
    /// The text of `bytes`, which begin at byte `base` of the file.
    ///
    /// # Errors
    /// `UTF8` at the first byte that is none; `JSON`, `JSON_TYPE`, `JSON_DEPTH` and `JSON_TRAILING`
    /// for what is not one JSON value.
    pub fn new(path: &'a Path, bytes: &'a [u8], base: u64) -> Result<Text<'a>, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let at = e.valid_up_to();
            let found = format!("byte 0x{:02x}", bytes[at]);
            Malformed::new(Code::Utf8, path, "json", found, "UTF-8").at(base + at as u64)
        })?;
        let text = Text { path, text, base };
        grammar::check(text)?;
        Ok(text)
    }

    /// A refusal of what stands at byte `at` of the text.
    pub fn refuse(
        &self,
        code: Code,
        at: usize,
        pointer: impl Into<String>,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Malformed {
        let pointer = pointer.into();
        let before = &self.text.as_bytes()[..at];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        let field = if pointer.is_empty() { "json".to_owned() } else { pointer.clone() };
        let json = JsonPlace { line: line as u32, column: column as u32, pointer };
        let refusal = Malformed::new(code, self.path, field, found, expected);
        refusal.at(self.base + at as u64).json(json)
    }

    /// How long it is, bytes.
    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// A reader at the beginning of the value.
    pub fn reader(self) -> Reader<'a> {
        Reader { text: self, at: 0 }
    }
}

/// The characters that may stand in a number or a word.
fn word(text: &str) -> &str {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || b"+-._".contains(b);
    &text[..text.bytes().take_while(|b| inside(b)).count()]
}

/// The character of an escape sequence, and the sequence's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 4).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(hex, 16).ok()
    };
    let short = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = unit(2)?;
            if let Some(c) = char::from_u32(high) {
                return Some((c, 6));
            }
            // A pair of surrogates; a lone one is no character.
            let low = text.get(6..8).filter(|u| *u == "\\u").and_then(|_| unit(8))?;
            let pair = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
            let c = 0x10000 + ((high.checked_sub(0xd800)?) << 10) + low.checked_sub(0xdc00)?;
            return pair.then(|| char::from_u32(c)).flatten().map(|c| (c, 12));
        }
        _ => return None,
    };
    Some((short, 2))
}

/// Walks a text that [`Text::new`] found to be JSON: the punctuation needs no second look.
pub struct Reader<'a> {
    text: Text<'a>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The text, for refusals.
    pub fn text(&self) -> Text<'a> {
        self.text
    }

    /// The byte of the text where the next value or bracket begins.
    pub fn at(&mut self) -> usize {
        let bytes = self.text.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':') = bytes.get(self.at) {
            self.at += 1;
        }
        self.at
    }

    fn peek(&mut self) -> u8 {
        let at = self.at();
        self.text.text.as_bytes().get(at).copied().unwrap_or_default()
    }

    /// What the next value is.
    pub fn kind(&mut self) -> Kind {
        match self.peek() {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// `JSON_TYPE`, if the next value is none of `kind`.
    fn await_kind(&mut self, kind: Kind, pointer: &dyn Fn() -> String) -> Result<(), Malformed> {
        let found = self.kind();
        if found == kind {
            return Ok(());
        }
        let at = self.at();
        Err(self.text.refuse(Code::JsonType, at, pointer(), found.word(), kind.word()))
    }

    /// Steps into an object.
    ///
    /// # Errors
    /// `JSON_TYPE` at `pointer`.
    pub fn object(&mut self, pointer: &dyn Fn() -> String) -> Result<(), Malformed> {
        self.await_kind(Kind::Object, pointer)?;
        self.at += 1;
        Ok(())
    }

    /// Steps into an array.
    ///
    /// # Errors
    /// `JSON_TYPE` at `pointer`.
    pub fn array(&mut self, pointer: &dyn Fn() -> String) -> Result<(), Malformed> {
        self.await_kind(Kind::Array, pointer)?;
        self.at += 1;
        Ok(())
    }

    /// The next key of the object, with its byte; `None` steps out.
    pub fn key(&mut self) -> Option<(usize, Cow<'a, str>)> {
        let at = self.at();
        if self.end() { None } else { Some((at, self.unquote())) }
    }

    /// Whether the array or object ends here; if so, steps out.
    pub fn end(&mut self) -> bool {
        let ends = matches!(self.peek(), b']' | b'}');
        self.at += usize::from(ends);
        ends
    }

    /// A string.
    ///
    /// # Errors
    /// `JSON_TYPE` at `pointer`.
    pub fn string(&mut self, pointer: &dyn Fn() -> String) -> Result<Cow<'a, str>, Malformed> {
        self.await_kind(Kind::String, pointer)?;
        Ok(self.unquote())
    }

    /// A whole number in digits; `None` above 2^64 - 1.
    ///
    /// # Errors
    /// `JSON_TYPE` at `pointer` for anything else: a sign, a fraction, an exponent, a string.
    pub fn integer(&mut self, pointer: &dyn Fn() -> String) -> Result<Option<u64>, Malformed> {
        self.await_kind(Kind::Number, pointer)?;
        let (at, raw) = (self.at, self.scalar());
        if !raw.bytes().all(|b| b.is_ascii_digit()) {
            let found = begin(raw);
            return Err(self.text.refuse(Code::JsonType, at, pointer(), found, "digits"));
        }
        Ok(raw.parse().ok())
    }

    /// Steps over one value of any kind.
    pub fn skip(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                b'"' => drop(self.unquote()),
                _ => drop(self.scalar()),
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn scalar(&mut self) -> &'a str {
        let raw = word(&self.text.text[self.at()..]);
        self.at += raw.len();
        raw
    }

    fn unquote(&mut self) -> Cow<'a, str> {
        let start = self.at() + 1;
        let rest = &self.text.text[start..];
        let plain = rest.bytes().take_while(|b| !matches!(b, b'"' | b'\\')).count();
        if rest.as_bytes().get(plain) == Some(&b'"') {
            self.at = start + plain + 1;
            return Cow::Borrowed(&rest[..plain]);
        }
        // The grammar was checked: every escape is one, and a quote ends the string.
        let mut decoded = String::from(&rest[..plain]);
        let mut rest = &rest[plain..];
        while let Some(c) = rest.chars().next().filter(|c| *c != '"') {
            let (c, length) = escape(rest).filter(|_| c == '\\').unwrap_or((c, c.len_utf8()));
            decoded.push(c);
            rest = &rest[length..];
        }
        self.at = self.text.text.len() - rest.len() + 1;
        Cow::Owned(decoded)
    }
}

/// A pointer one level further down (RFC 6901).
pub fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
