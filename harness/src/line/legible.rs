//! Text of somebody else, made legible where it is read: whatever a subject writes can then be
//! printed on a terminal and put into any report.

use serde_json::Value;

/// Whether a character does something else than to be seen: it moves the cursor, begins an escape
/// sequence, changes the direction of writing, or is none that XML 1.0 can hold.
pub fn harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The text with harmful characters written out, as `\u{1b}`; line feeds and tabs stay. Of more
/// than `most` bytes the rest is counted and dropped.
pub fn legible(text: &str, most: usize) -> String {
    // Slicing inside a character of several bytes would panic.
    let kept = &text[..text.floor_char_boundary(most)];
    let mut out = String::with_capacity(kept.len());
    for c in kept.chars() {
        match harmful(c) && c != '\n' && c != '\t' {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    // The rest is counted, so that a cut text cannot be taken for a whole one.
    if kept.len() < text.len() {
        out.push_str(&format!("… and {} bytes more", text.len() - kept.len()));
    }
    out
}

/// As [`legible`], line by line: a line has at most `most` bytes.
pub fn legible_lines(text: &str, most: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| legible(line, most)).collect();
    lines.join("\n")
}

/// As [`legible`], on one line: a message must not look like two.
pub fn legible_line(text: &str, most: usize) -> String {
    // Escaped after the cut, so that the limit counts the bytes that the subject sent.
    legible(text, most).replace('\n', "\\n").replace('\t', "\\t")
}

/// A JSON value whose texts and keys are legible.
pub fn legible_json(value: Value, most: usize) -> Value {
    match value {
        Value::String(text) => Value::String(short(text, most)),
        Value::Array(list) => list.into_iter().map(|item| legible_json(item, most)).collect(),
        // The keys come from the subject as well, and are quoted where a field is wrong.
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (short(key, most), legible_json(value, most)))
            .collect(),
        other => other,
    }
}

/// Almost every text is legible as it is, and is not copied then.
fn short(text: String, most: usize) -> String {
    match text.len() > most || text.contains(|c: char| harmful(c)) {
        true => legible(&text, most),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_text_to_read_is_written_out() {
        let evil = "a\u{1b}[2J\u{9b}31m\r\u{0}\u{7f}\u{202e}\u{200f}\u{2028}\u{fffe}\u{ffff}\tb\n";
        let plain = "a\\u{1b}[2J\\u{9b}31m\\r\\u{0}\\u{7f}\\u{202e}\\u{200f}\\u{2028}\\u{fffe}\
                     \\u{ffff}\tb\n";
        assert_eq!(legible(evil, 1000), plain);
        assert!(!legible(evil, 1000).chars().any(|c| harmful(c) && c != '\n' && c != '\t'));
        assert_eq!(legible_line("a\nb\tc", 9), "a\\nb\\tc");
        assert_eq!(legible_lines("one\r\ntwo\rthree\n", 99), "one\ntwo\\rthree");
        assert_eq!(legible("größe 字 ∑", 99), "größe 字 ∑");
    }

    #[test]
    fn what_is_long_is_cut_between_characters_and_says_so() {
        assert_eq!(legible("äöü", 3), "ä… and 4 bytes more");
        assert_eq!(legible_lines("abcdef\nab", 3), "abc… and 3 bytes more\nab");
    }

    #[test]
    fn json_is_legible_at_any_depth_and_in_its_keys() {
        let value = json!({"a\u{1b}": ["\u{fffe}", {"b": "long text"}], "n": 1.5, "t": true});
        let want = json!({"a\\u{1b}": ["\\u{fffe}", {"b": "long… and 5 bytes more"}], "n": 1.5,
                          "t": true});
        assert_eq!(legible_json(value, 4), want);
    }
}
