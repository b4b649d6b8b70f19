//! Reads a tree into values. A mistake is noted with its place and reading goes on, so that one
//! check lists all of them.

use std::cell::RefCell;

use serde_json::{Map, Number, Value};

use crate::yaml::Problem;
use crate::yaml::cause::causes;
use crate::yaml::near::{nearest, one_of};
use crate::yaml::tree::{Kind, Node, Source};

/// A value with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
}

/// A mapping with arbitrary keys, in the order of the file.
pub type Table<T> = Vec<(At<String>, T)>;

impl<T> At<T> {
    /// `value` at the place of `node`.
    pub fn new(node: &Node, value: T) -> At<T> {
        At { value, line: node.line, column: node.column }
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub struct Reader<'s> {
    /// The file.
    pub source: &'s Source,
    problems: RefCell<Vec<Problem>>,
}

impl<'s> Reader<'s> {
    /// A reader of `source` that has noted nothing yet.
    pub fn new(source: &'s Source) -> Reader<'s> {
        Reader { source, problems: RefCell::default() }
    }

    /// All problems in the order of the file, with each cause listed once.
    pub fn finish(self) -> Vec<Problem> {
        causes(self.problems.into_inner())
    }

    /// Notes a problem at `node`.
    pub fn note(&self, node: &Node, code: &'static str, field: &str, expected: &str) {
        self.note_at(node.line, node.column, code, field, &node.describe(), expected);
    }

    /// Notes a problem at a place.
    pub fn note_at(
        &self,
        line: u32,
        column: u32,
        code: &'static str,
        field: &str,
        found: &str,
        expected: &str,
    ) {
        let problem = self.source.problem(code, line, column, field, found, expected);
        self.problems.borrow_mut().push(problem);
    }

    /// Notes a problem at a value that was read earlier.
    pub fn note_value<T>(
        &self,
        at: &At<T>,
        code: &'static str,
        field: &str,
        found: &str,
        expected: &str,
    ) {
        self.note_at(at.line, at.column, code, field, found, expected);
    }

    /// Adds a problem that was created elsewhere.
    pub fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The number of problems so far.
    pub fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Whether all problems lie inside the lists with these names.
    pub fn is_clean_outside(&self, lists: &[&str]) -> bool {
        let inside = |p: &Problem| {
            lists.iter().any(|l| p.field.strip_prefix(l).is_some_and(|rest| rest.starts_with('[')))
        };
        self.problems.borrow().iter().all(inside)
    }

    /// A mapping with fields of known names.
    pub fn fields<'n>(&'n self, node: &'n Node, path: &str) -> Option<Fields<'n, 's>> {
        match &node.kind {
            Kind::Map(entries) => Some(Fields {
                reader: self,
                node,
                entries,
                path: path.to_owned(),
                known: Vec::new(),
            }),
            _ => self.fail(node, "TYPE", path, "a mapping"),
        }
    }

    /// A mapping with arbitrary keys, whose values are read by `read`.
    pub fn table<T>(
        &self,
        node: &Node,
        path: &str,
        read: impl Fn(&Reader<'s>, &Node, &str) -> Option<T>,
    ) -> Option<Table<T>> {
        let Kind::Map(entries) = &node.kind else {
            return self.fail(node, "TYPE", path, "a mapping");
        };
        let mut table = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            // Reading goes on with a malformed key, so that mistakes in its value are listed too.
            let name = key.text().unwrap_or_default().to_owned();
            let path = join(path, &name);
            if !is_id(&name) {
                self.note(key, "ID_FORM", &path, ID_RULE);
            }
            if let Some(value) = read(self, value, &path) {
                table.push((At::new(key, name), value));
            }
        }
        Some(table)
    }

    /// A list whose items are read by `read`. A malformed item is noted and left out.
    pub fn list<T>(
        &self,
        node: &Node,
        path: &str,
        read: impl Fn(&Reader<'s>, &Node, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Kind::List(items) = &node.kind else {
            return self.fail(node, "TYPE", path, "a list");
        };
        // An item that cannot be read is left out, and its note tells why.
        let read = |(i, item)| read(self, item, &format!("{path}[{i}]"));
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    /// Text. Text that YAML could take for something else must be quoted.
    pub fn text(&self, node: &Node, path: &str) -> Option<String> {
        match node.bare() {
            // Otherwise another YAML reader could see a number or a flag here.
            Some(bare) if looks_otherwise(bare) => {
                self.fail(node, "TYPE", path, "text; what looks like something else is quoted")
            }
            _ => match node.text() {
                Some("") => self.fail(node, "TYPE", path, "text that is not empty"),
                Some(text) => Some(text.to_owned()),
                None => self.fail(node, "TYPE", path, "text"),
            },
        }
    }

    /// A name that may become part of a trial's name.
    pub fn id(&self, node: &Node, path: &str) -> Option<At<String>> {
        let text = self.text(node, path)?;
        if is_id(&text) {
            return Some(At::new(node, text));
        }
        self.fail(node, "ID_FORM", path, ID_RULE)
    }

    /// A whole number in decimal digits, in `[low, high]`.
    pub fn int(&self, node: &Node, path: &str, low: i64, high: i64) -> Option<i64> {
        let Some(text) = node.bare().filter(|t| is_int(t)) else {
            return self.fail(node, "TYPE", path, "a whole number in decimal digits");
        };
        match text.parse::<i64>() {
            Ok(x) if (low..=high).contains(&x) => Some(x),
            _ => self.fail(node, "RANGE", path, &format!("{low} to {high}")),
        }
    }

    /// A finite number in decimal notation.
    pub fn number(&self, node: &Node, path: &str) -> Option<f64> {
        let Some(text) = node.bare() else {
            return self.fail(node, "TYPE", path, "a number");
        };
        // YAML can write these, so the mistake is the value and not its type.
        if matches!(text.trim_start_matches(['-', '+']), ".nan" | ".inf" | ".NaN" | ".Inf") {
            return self.fail(node, "RANGE", path, "a finite number");
        }
        if !is_number(text) {
            return self.fail(node, "TYPE", path, "a number as 1.0e-5");
        }
        match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Some(x),
            _ => self.fail(node, "RANGE", path, "a finite number"),
        }
    }

    /// A number above `low` and at most `high`; `closed` includes `low` itself.
    pub fn number_in(
        &self,
        node: &Node,
        path: &str,
        (low, closed, high): (f64, bool, f64),
    ) -> Option<f64> {
        let x = self.number(node, path)?;
        if x <= high && (x > low || closed && x == low) {
            return Some(x);
        }
        let bracket = if closed { '[' } else { '(' };
        self.fail(node, "RANGE", path, &format!("a number in {bracket}{low}, {high}]"))
    }

    /// `true` or `false`.
    pub fn flag(&self, node: &Node, path: &str) -> Option<bool> {
        match node.bare() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => self.fail(node, "TYPE", path, "true or false"),
        }
    }

    /// The value of one of `words`.
    pub fn word<T: Copy>(&self, node: &Node, path: &str, words: &[(&str, T)]) -> Option<T> {
        // A word is the same word in quotes.
        let text = node.text().unwrap_or_default();
        if let Some((_, value)) = words.iter().find(|(w, _)| *w == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        self.fail(node, "ENUM", path, &one_of(text, &known))
    }

    /// Any value, as JSON: numbers, flags and null are unquoted, everything else is text.
    pub fn json(&self, node: &Node, path: &str) -> Option<Value> {
        match &node.kind {
            Kind::Scalar { text, plain: false } => Some(text.as_str().into()),
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "null" | "~" | "" => Some(Value::Null),
                "true" => Some(true.into()),
                "false" => Some(false.into()),
                _ if is_int(text) => match text.parse::<i64>() {
                    // Beyond 2^53 a reader that holds numbers as f64 would change them without
                    // notice.
                    Ok(x) if x.unsigned_abs() < 1 << 53 => Some(x.into()),
                    _ => self.fail(node, "RANGE", path, "below 2^53, or quoted hex"),
                },
                _ if is_number(text) => {
                    let x = self.number(node, path)?;
                    Some(Value::Number(Number::from_f64(x)?))
                }
                _ => self.text(node, path).map(Value::String),
            },
            Kind::List(_) => self.list(node, path, Reader::json).map(Value::Array),
            Kind::Map(_) => {
                let table = self.table(node, path, Reader::json)?;
                let entries = table.into_iter().map(|(key, value)| (key.value, value));
                Some(Value::Object(entries.collect::<Map<_, _>>()))
            }
        }
    }

    /// Notes a problem and returns nothing.
    pub fn fail<T>(
        &self,
        node: &Node,
        code: &'static str,
        path: &str,
        expected: &str,
    ) -> Option<T> {
        self.note(node, code, path, expected);
        None
    }
}

/// A mapping whose fields are read by name; fields that were never read are unknown.
#[derive(Debug)]
pub struct Fields<'n, 's> {
    reader: &'n Reader<'s>,
    node: &'n Node,
    entries: &'n [(Node, Node)],
    path: String,
    known: Vec<&'static str>,
}

impl<'n, 's> Fields<'n, 's> {
    /// The value of a field, if it is present. The field counts as known from now on.
    pub fn find(&mut self, name: &'static str) -> Option<&'n Node> {
        // Whatever is looked up here is a key that `done` accepts and suggests.
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// Reads an optional field.
    pub fn may<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Reader<'s>, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        let node = self.find(name)?;
        read(self.reader, node, &join(&self.path, name))
    }

    /// Reads a required field.
    pub fn need<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Reader<'s>, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        match self.find(name) {
            Some(node) => read(self.reader, node, &join(&self.path, name)),
            None => {
                let (line, column) = (self.node.line, self.node.column);
                let path = join(&self.path, name);
                self.reader.note_at(line, column, "MISSING_FIELD", &path, "nothing", "a value");
                None
            }
        }
    }

    /// The dotted name of a field.
    pub fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Notes every field that was never read.
    pub fn done(self) {
        // A misspelt key would otherwise be ignored, and a default used in its place.
        for (key, _) in self.entries {
            let name = key.text().unwrap_or_default();
            if self.known.contains(&name) {
                continue;
            }
            let expected = match nearest(name, self.known.iter().copied()) {
                Some(guess) => format!("another key; did you mean {guess}?"),
                None => format!("one of {}", self.known.join(", ")),
            };
            self.reader.note(key, "UNKNOWN_FIELD", &join(&self.path, name), &expected);
        }
    }
}

/// The form of each part of a trial's name.
pub const ID_RULE: &str = "[a-z0-9][a-z0-9_.-]{0,63}";

/// Whether `text` may be part of a trial's name.
pub fn is_id(text: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let rest = |b: u8| first(b) || matches!(b, b'_' | b'.' | b'-');
    let bytes = text.as_bytes();
    matches!(bytes, [head, tail @ ..] if first(*head) && tail.iter().all(|&b| rest(b)))
        && bytes.len() <= 64
}

/// The dotted name of a field below `path`.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        // A leading zero is refused: YAML 1.1 reads such a number as octal.
        && (digits == "0" || !digits.starts_with('0'))
}

fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e)),
        None => (text, None),
    };
    let whole_then_part = match mantissa.split_once('.') {
        Some((whole, part)) => {
            is_int(whole) && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
        }
        None => is_int(mantissa),
    };
    let digits = |e: &str| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit())
    };
    whole_then_part && exponent.is_none_or(digits)
}

/// Whether any version of YAML would take an unquoted word for something other than text.
fn looks_otherwise(text: &str) -> bool {
    // YAML 1.1 reads these words in any case.
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "~") {
        return true;
    }
    let unsigned = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    if matches!(unsigned, ".nan" | ".inf") {
        return true;
    }
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let decimal = starts && unsigned.replace('_', "").parse::<f64>().is_ok();
    let based = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0o"));
    decimal || based.is_some_and(|b| !b.is_empty() && b.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::tree::parse;

    fn first<T: std::fmt::Debug>(
        text: &str,
        read: impl Fn(&Reader<'_>, &Node) -> Option<T>,
    ) -> Result<T, &'static str> {
        let source = Source::new("x.yaml", format!("- {text}\n").as_bytes()).expect("text");
        let Kind::List(items) = parse(&source).expect("yaml").kind else { panic!("a list") };
        let reader = Reader::new(&source);
        let value = read(&reader, &items[0]);
        match reader.finish().first() {
            Some(problem) => Err(problem.code),
            None => Ok(value.expect("no problem, so a value")),
        }
    }

    /// YM-14, YM-15, YM-16: what becomes of a scalar in a field of each type.
    #[test]
    fn the_written_table_of_scalars() {
        let table = [
            // written, as text, as a whole number, as a number, as a flag
            ("abc", Ok("abc"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("no", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("\"no\"", Ok("no"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("~", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("1.10", Err("TYPE"), Err("TYPE"), Ok(1.1), Err("TYPE")),
            ("012", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("1_000", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("0x10", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("1e3", Err("TYPE"), Err("TYPE"), Ok(1000.0), Err("TYPE")),
            ("7", Err("TYPE"), Ok(7), Ok(7.0), Err("TYPE")),
            ("+7", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("\"7\"", Ok("7"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("\"1e-3\"", Ok("1e-3"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            (".nan", Err("TYPE"), Err("TYPE"), Err("RANGE"), Err("TYPE")),
            ("-.inf", Err("TYPE"), Err("TYPE"), Err("RANGE"), Err("TYPE")),
            ("1e400", Err("TYPE"), Err("TYPE"), Err("RANGE"), Err("TYPE")),
            ("18446744073709551616", Err("TYPE"), Err("RANGE"), Ok(2f64.powi(64)), Err("TYPE")),
            ("yes", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("on", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("y", Ok("y"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
            ("TRUE", Err("TYPE"), Err("TYPE"), Err("TYPE"), Err("TYPE")),
        ];
        for (text, as_text, as_int, as_number, as_flag) in table {
            let as_text = as_text.map(str::to_owned);
            assert_eq!(first(text, |r, n| r.text(n, "f")), as_text, "{text} as text");
            assert_eq!(first(text, |r, n| r.int(n, "f", -9, 9)), as_int, "{text} whole");
            assert_eq!(first(text, |r, n| r.number(n, "f")), as_number, "{text} as number");
            assert_eq!(first(text, |r, n| r.flag(n, "f")), as_flag, "{text} as flag");
        }
        assert_eq!(first("true", |r, n| r.flag(n, "f")), Ok(true));
        assert_eq!(first("a: 0\n", |r, n| r.json(n, "f")), Ok(serde_json::json!({"a": 0})));
    }

    #[test]
    fn ids_are_lower_case_and_short() {
        for good in ["a", "0", "tiny_rows", "gpt-oss-20b", "q4_k.x"] {
            assert!(is_id(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "A", "a/b", "..", ".a", "_a", "a\nb", "a\u{200b}b", "a\u{202e}", &long] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
