//! A JSON text under check, and how its values are refused.

use std::borrow::Cow;
use std::path::Path;

use crate::json::{Break, Field, Json, Node, line_and_column};
use crate::weights::refusal::{Code, JsonPlace, Malformed, begin};

/// A checked text and the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pub json: Json<'a>,
    bytes: &'a [u8],
    file: &'a Path,
}

impl<'a> Text<'a> {
    /// Checks the grammar. What is no object is most often the page of a server that had no file.
    pub fn read(bytes: &'a [u8], file: &'a Path) -> Result<Text<'a>, Malformed> {
        let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(bytes.len());
        if bytes.get(start) != Some(&b'{') {
            let found = excerpt(bytes, start);
            let hint = match &bytes[start..] {
                rest if rest.starts_with(b"version https://git-lfs") => {
                    "; a Git LFS pointer, run `git lfs pull`"
                }
                [b'<', ..] | [b'4' | b'5', _, _, b':' | b' ', ..] => "; the page of a server",
                _ => "",
            };
            let place = place(bytes, start, String::new());
            let expected = format!("an object: `{{`{hint}");
            let refused = Malformed::new(Code::Json, file, "-", found, expected);
            return Err(refused.at(start as u64).json(place));
        }
        let json = Json::read(bytes).map_err(|fault| {
            let code = match fault.what {
                Break::Syntax => Code::Json,
                Break::Depth => Code::JsonDepth,
                Break::Twice => Code::JsonDup,
                Break::Trailing => Code::JsonTrailing,
            };
            let found = excerpt(bytes, fault.at);
            let field = dotted(&fault.path);
            let place = place(bytes, fault.at, fault.path);
            Malformed::new(code, file, field, found, fault.expected).at(fault.at as u64).json(place)
        })?;
        Ok(Text { json, bytes, file })
    }

    /// Refuses a value as it stands.
    pub fn no<T>(&self, code: Code, node: Node<'a>, expected: &str) -> Result<T, Malformed> {
        self.no_as(code, node, node.raw(), expected)
    }

    /// Refuses a value and says what is wrong with it.
    pub fn no_as<T>(
        &self,
        code: Code,
        node: Node<'a>,
        found: &str,
        expected: &str,
    ) -> Result<T, Malformed> {
        let pointer = self.json.pointer(node.at);
        let field = dotted(&pointer);
        let refused = Malformed::new(code, self.file, field, begin(found), expected);
        let place = place(self.bytes, node.at, pointer.clone());
        Err(refused.at(node.at as u64).json(place))
    }

    /// The members of an object, all of them among `known`.
    pub fn object(&self, node: Node<'a>, known: &[&str]) -> Result<Vec<Field<'a>>, Malformed> {
        if !node.is_object() {
            return self.no(Code::JsonType, node, "an object");
        }
        let mut fields = Vec::new();
        for field in node.fields() {
            if !known.contains(&&*field.key) {
                let expected = format!("one of {}", known.join(", "));
                return self.no_as(Code::JsonUnknown, field.value, &field.key, &expected);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    /// A string.
    pub fn string(&self, node: Node<'a>) -> Result<Cow<'a, str>, Malformed> {
        node.string().map_or_else(|| self.no(Code::JsonType, node, "a string"), Ok)
    }

    /// A boolean; the default where there is none.
    pub fn flag(&self, node: Option<Node<'a>>, default: bool) -> Result<bool, Malformed> {
        let Some(node) = node.filter(|n| !n.is_null()) else { return Ok(default) };
        node.boolean().map_or_else(|| self.no(Code::JsonType, node, "true or false"), Ok)
    }

    /// Refuses what is no array.
    pub fn array(&self, node: Node<'a>) -> Result<(), Malformed> {
        match node.is_array() {
            true => Ok(()),
            false => self.no(Code::JsonType, node, "an array"),
        }
    }
}

/// A pointer as a field: `model.vocab`.
fn dotted(pointer: &str) -> String {
    match pointer.trim_start_matches('/') {
        "" => "-".to_owned(),
        inside => inside.replace('/', "."),
    }
}

/// The next bytes, or that there are none.
fn excerpt(bytes: &[u8], at: usize) -> String {
    match bytes.get(at..).unwrap_or_default() {
        [] => "the end of the file".to_owned(),
        rest => String::from_utf8_lossy(&rest[..rest.len().min(32)]).into_owned(),
    }
}

fn place(bytes: &[u8], at: usize, pointer: String) -> JsonPlace {
    let (line, column) = line_and_column(bytes, at);
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    JsonPlace { line: small(line), column: small(column), pointer }
}

/// The member of this name, if it is there and not null.
pub fn of<'a>(fields: &[Field<'a>], name: &str) -> Option<Node<'a>> {
    fields.iter().find(|f| f.key == name).map(|f| f.value).filter(|n| !n.is_null())
}
