//! What is wrong with a file, and where: one line for scripts, a snippet for people.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

use crate::case::Place;

/// One thing that is wrong with a file that people write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Facts>);

/// What is known of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The code of the kind of mistake: `YAML_DUP`, `UNKNOWN_FIELD` …
    pub code: &'static str,
    /// Where it stands; line 0 is the file as a whole.
    pub place: Place,
    /// The dotted name of the field; empty for the file as a whole.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// The first of two places that contradict each other.
    pub also: Option<Place>,
    /// The lines around with a caret; empty where there is no line.
    pub snippet: String,
}

impl std::error::Error for Problem {}

impl Deref for Problem {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl Problem {
    /// A problem of a whole file.
    pub fn of_file(
        code: &'static str,
        file: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        Problem(Box::new(Facts {
            code,
            place: Place { file: file.to_owned(), line: 0, column: 0 },
            field: String::new(),
            found: found.into(),
            expected: expected.into(),
            also: None,
            snippet: String::new(),
        }))
    }

    /// The one line: `error[CODE] file=… line=… column=… field=… found=… expected=…`.
    pub fn line(&self) -> String {
        let mut line = format!("error[{}] file={}", self.code, word(&self.place.file));
        if self.place.line > 0 {
            line += &format!(" line={} column={}", self.place.line, self.place.column);
        }
        if !self.field.is_empty() {
            line += &format!(" field={}", word(&self.field));
        }
        line += &format!(" found={} expected={}", word(&self.found), word(&self.expected));
        if let Some(also) = &self.also {
            let place = format!("{}:{}:{}", also.file, also.line, also.column);
            line += &format!(" also={}", word(&place));
        }
        line
    }

    /// The same facts as JSON.
    pub fn to_json(&self) -> Value {
        let mut facts = json!({
            "code": self.code,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "pointer": self.field,
            "found": self.found,
            "expected": self.expected,
        });
        if let Some(also) = &self.also {
            facts["also"] = json!({"file": also.file, "line": also.line, "column": also.column});
        }
        facts
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())?;
        if !self.snippet.is_empty() {
            write!(f, "\n{}", self.snippet)?;
        }
        Ok(())
    }
}

/// Bare where it is one plain word, else quoted with every control character escaped.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && c != '"';
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

/// The line of `place` with one line before and after it, and a caret.
pub fn snippet(text: &str, line: u32, column: u32) -> String {
    if line == 0 {
        return String::new();
    }
    let at = line as usize;
    let width = (at + 1).to_string().len();
    let mut lines = Vec::new();
    for (i, content) in text.lines().enumerate().skip(at.saturating_sub(2)).take(3) {
        if i > at {
            break;
        }
        let shown: String = content.chars().take(96).map(visible).collect();
        lines.push(format!("{:width$} | {shown}", i + 1));
        if i + 1 == at {
            let indent = (column.saturating_sub(1) as usize).min(96);
            lines.push(format!("{:width$} | {:indent$}^", "", ""));
        }
    }
    lines.join("\n")
}

fn visible(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

/// The word of `known` that is nearest to `word`, if one is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|k| (distance(word, k), k))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, k)| k)
}

/// Insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_everything_and_escapes_the_terminal() {
        let mut p = Problem::of_file("TYPE", "ops/a b.yaml", "\u{1b}[31m", "a number");
        p.place.line = 3;
        p.place.column = 7;
        p.field = "cases[0].name".into();
        assert_eq!(
            p.line(),
            "error[TYPE] file=\"ops/a b.yaml\" line=3 column=7 field=cases[0].name \
             found=\"\\u{1b}[31m\" expected=\"a number\""
        );
        assert_eq!(p.to_json()["pointer"], "cases[0].name");
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        let text = "a: 1\nbb: 22\nc: 3\nd: 4\n";
        assert_eq!(snippet(text, 2, 5), "1 | a: 1\n2 | bb: 22\n  |     ^\n3 | c: 3");
        assert_eq!(snippet(text, 1, 1), "1 | a: 1\n  | ^\n2 | bb: 22");
        assert_eq!(snippet(text, 0, 0), "");
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["tolerance", "cases", "dtypes"];
        assert_eq!(nearest("tolerence", known), Some("tolerance"));
        assert_eq!(nearest("dtype", known), Some("dtypes"));
        assert_eq!(nearest("bench", known), None);
    }
}
