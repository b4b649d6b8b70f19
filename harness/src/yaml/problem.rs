//! A mistake in a file and its place: one line that tools can open, and a snippet for people.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::line::Place;

/// A mistake in a file that people write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Facts>);

/// The facts of a [`Problem`], boxed because results carry it by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The code of this kind of mistake, such as `YAML_DUP` or `UNKNOWN_FIELD`.
    pub code: &'static str,
    /// Where it was written; line 0 means the file as a whole.
    pub place: Place,
    /// The folder that contains the file, as seen from the current one; empty if it is unknown.
    pub folder: PathBuf,
    /// The dotted name of the field; empty for the file as a whole.
    pub field: String,
    /// The value that was found.
    pub found: String,
    /// The values that are allowed.
    pub expected: String,
    /// The first of two places that contradict each other.
    pub also: Option<Place>,
    /// Line and column of the same mistake further down in the file.
    pub again: Vec<(u32, u32)>,
    /// The surrounding lines with a caret; empty if there is no line.
    pub snippet: String,
}

/// How many further places are listed; the rest are counted.
const NAMED: usize = 5;

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
    /// A problem of a file as a whole.
    pub fn of_file(
        code: &'static str,
        file: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        Problem(Box::new(Facts {
            code,
            place: Place { file: file.to_owned(), line: 0, column: 0 },
            folder: PathBuf::new(),
            field: String::new(),
            found: found.into(),
            expected: expected.into(),
            also: None,
            again: Vec::new(),
            snippet: String::new(),
        }))
    }

    /// The path of the file as a terminal can open it from the current folder.
    pub fn path(&self) -> String {
        clean(&self.folder.join(&self.place.file).to_string_lossy())
    }

    /// One line that editors and terminals can open at the place: `specs/ops/x.yaml:12:5:
    /// error[CODE]: field: found …, expected …`.
    pub fn line(&self) -> String {
        let mut place = self.path();
        if self.place.line > 0 {
            place += &format!(":{}:{}", self.place.line, self.place.column);
        }
        format!("{place}: error[{}]: {}", self.code, self.message())
    }

    /// The same as a GitHub annotation: `::error file=…,line=…,col=…,title=CODE::…`.
    pub fn annotation(&self) -> String {
        let text = |s: &str| s.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        // These two characters separate the parts of a GitHub annotation.
        let value = |s: &str| text(s).replace(':', "%3A").replace(',', "%2C");
        let mut place = format!("file={}", value(&self.path()));
        if self.place.line > 0 {
            place += &format!(",line={},col={}", self.place.line, self.place.column);
        }
        format!("::error {place},title={}::{}", self.code, text(&self.message()))
    }

    /// The mistake in words.
    fn message(&self) -> String {
        let mut text = String::new();
        if !self.field.is_empty() {
            text += &format!("{}: ", clean(&self.field));
        }
        text += &format!("found {}, expected {}", clean(&self.found), clean(&self.expected));
        if let Some(also) = &self.also {
            let file = clean(&self.folder.join(&also.file).to_string_lossy());
            text += &format!("; first at {file}:{}:{}", also.line, also.column);
        }
        if !self.again.is_empty() {
            let lines = self.again.iter().take(NAMED).map(|(line, _)| line.to_string());
            let lines = lines.collect::<Vec<_>>().join(", ");
            let more = if self.again.len() > NAMED { " …" } else { "" };
            text += &format!("; {} more of it: line {lines}{more}", self.again.len());
        }
        text
    }

    /// The same facts as JSON.
    pub fn to_json(&self) -> Value {
        let mut facts = json!({
            "code": self.code,
            "file": self.place.file,
            "path": self.path(),
            "line": self.place.line,
            "column": self.place.column,
            "pointer": self.field,
            "found": self.found,
            "expected": self.expected,
        });
        if let Some(also) = &self.also {
            facts["also"] = json!({"file": also.file, "line": also.line, "column": also.column});
        }
        if !self.again.is_empty() {
            let place = |(line, column): &(u32, u32)| json!({"line": line, "column": column});
            facts["again"] = self.again.iter().map(place).collect();
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

/// Text that is safe for a terminal: unprintable characters are escaped, quotes and backslashes
/// stay.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The text may come from a file, whose control characters could change what a terminal shows.
    for c in text.chars() {
        match c {
            // Harmless and frequent, so they stay readable.
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// The line of `place` with a caret, and one line before and after it.
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
        // A longer line would wrap, and the caret would point at nothing.
        let shown: String = content.chars().take(96).map(visible).collect();
        lines.push(format!("{:width$} | {shown}", i + 1));
        if i + 1 == at {
            // The caret must not go beyond the part of the line that is shown.
            let indent = (column.saturating_sub(1) as usize).min(96);
            lines.push(format!("{:width$} | {:indent$}^", "", ""));
        }
    }
    lines.join("\n")
}

fn visible(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
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
        let message = "error[TYPE]: cases[0].name: found \\u{1b}[31m, expected a number";
        assert_eq!(p.line(), format!("ops/a b.yaml:3:7: {message}"));
        p.folder = "../specs".into();
        p.again = (4..12).map(|line| (line, 7)).collect();
        let more = "; 8 more of it: line 4, 5, 6, 7, 8 …";
        assert_eq!(p.line(), format!("../specs/ops/a b.yaml:3:7: {message}{more}"));
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
    fn an_annotation_escapes_what_github_reads() {
        let mut p = Problem::of_file("TYPE", "ops/a,b.yaml", "50%\n", "a: b");
        assert_eq!(
            p.annotation(),
            "::error file=ops/a%2Cb.yaml,title=TYPE::found 50%25\\n, expected a: b"
        );
        (p.place.line, p.place.column) = (3, 7);
        assert!(p.annotation().starts_with("::error file=ops/a%2Cb.yaml,line=3,col=7,title="));
    }
}
