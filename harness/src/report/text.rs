//! Text from cases and subjects, made safe to print: it must not control a terminal, nor add markup
//! to a page.

use std::fmt::Write;

use crate::line::Verdict;
use crate::line::legible::harmful;

/// The word for a verdict, as all reports print it.
pub const fn status(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail { .. } => "FAIL",
        Verdict::Flaky { .. } => "FLAKY",
        Verdict::Known { .. } => "KNOWN",
        Verdict::Unexpected { .. } => "UNEXPECTED",
        Verdict::Broken { .. } => "BROKEN",
        Verdict::NotRun { .. } => "NOT RUN",
    }
}

/// The kind of a verdict and its message; both empty for a pass.
pub fn kind_and_message(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Pass => ("", ""),
        Verdict::Fail { kind, message } | Verdict::Flaky { kind, message } => {
            (kind.word(), message)
        }
        Verdict::Known { kind, message, .. } => (kind.word(), message),
        Verdict::Unexpected { message } => ("unexpected", message),
        Verdict::Broken { kind, message } => (kind.word(), message),
        Verdict::NotRun { kind, message } => (kind.word(), message),
    }
}

/// Text of several lines: line feeds and tabs stay, all other control characters are escaped.
pub fn lines(text: &str) -> String {
    escaped(text, |c| harmful(c) && c != '\n' && c != '\t')
}

/// Text of one line: all control characters are escaped, line feeds too.
pub fn line(text: &str) -> String {
    escaped(text, harmful)
}

fn escaped(text: &str, harmful: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// One line of Markdown that renders as exactly `text`.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in line(text).chars() {
        if c.is_ascii_punctuation() && !matches!(c, ',' | '/' | ':' | ';' | '%' | '\'' | '"') {
            // A dot or a dash is markup only at the start of a line, and escapes read badly
            // elsewhere.
            let plain = matches!(c, '.' | '-' | '(' | ')' | '=' | '?' | '^' | '$' | '@');
            if plain && !out.is_empty() {
                out.push(c);
                continue;
            }
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A span of Markdown code that is safe inside a table.
pub fn code(text: &str) -> String {
    // A bar ends the cell of a table even inside of code.
    let text = line(text).replace('|', "\\|");
    // The fence must be longer than any run of backticks in the text.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A space keeps a backtick of the text apart from the fence.
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A number for people to read, with four significant digits.
pub fn number(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "∞".to_owned() } else { "-∞".to_owned() };
    }
    // Zero is below the range of plain numbers, and would be printed as 0.000e0.
    if x == 0.0 {
        return "0".to_owned();
    }
    let size = x.abs();
    // Beyond these sizes a plain number is mostly zeros, which a reader has to count.
    if !(1e-3..1e6).contains(&size) {
        return format!("{x:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    // Without a point the last zeros are part of the number.
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A count with its digits in groups of three: `12 345 678`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            // A space that does not break, so that a number stays on one line.
            out.push('\u{a0}');
        }
        out.push(c);
    }
    out
}

/// The first twelve digits of a hash, marked if there are more.
pub fn short_hash(hash: &str) -> String {
    let mut out: String = hash.chars().take(12).collect();
    if hash.chars().count() > 12 {
        // Writing into a string cannot fail.
        let _ = write!(out, "…");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_spelled_out() {
        let evil = "a\u{1b}[31m\r\n::error::\u{202e}x\u{0}";
        assert_eq!(line(evil), "a\\u{1b}[31m\\r\\n::error::\\u{202e}x\\u{0}");
        assert_eq!(lines("a\n\tb\u{7}"), "a\n\tb\\u{7}");
    }

    #[test]
    fn markdown_is_escaped() {
        assert_eq!(markdown("a|b *c* <d> `e` [f](g) #1"), r"a\|b \*c\* \<d\> \`e\` \[f\](g) \#1");
        assert_eq!(markdown("- x"), r"\- x");
        assert_eq!(markdown("1.5e-3 (at 0.1 %)"), "1.5e-3 (at 0.1 %)");
        assert_eq!(code("a`b|c"), r"``a`b\|c``");
        assert_eq!(code("x"), "`x`");
    }

    #[test]
    fn numbers_are_short() {
        for (x, want) in [
            (0.0, "0"),
            (0.93123456, "0.9312"),
            (12.5, "12.5"),
            (4800.0, "4800"),
            (1e-7, "1.000e-7"),
            (f64::INFINITY, "∞"),
        ] {
            assert_eq!(number(x), want);
        }
        assert_eq!(count(12_345_678), "12\u{a0}345\u{a0}678");
        assert_eq!(count(12), "12");
    }
}
