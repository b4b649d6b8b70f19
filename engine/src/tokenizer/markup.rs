//! Tokens that a text may hold as they are written: special tokens and the model's own additions.

use aho_corasick::{AhoCorasick, MatchKind};

/// How such a token is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its id.
    pub id: u32,
    /// What is written.
    pub text: Vec<u8>,
    /// White space before it belongs to it.
    pub takes_left: bool,
    /// White space after it belongs to it.
    pub takes_right: bool,
    /// Whether it steers the model: then only text that may do so is searched for it.
    pub control: bool,
}

/// Finds the tokens of a list, the leftmost and longest first.
#[derive(Clone, Debug)]
pub struct Finder {
    automaton: Option<AhoCorasick>,
    marks: Vec<Mark>,
}

/// A token that was found: its id, and the bytes that it takes.
pub type Found = (u32, std::ops::Range<usize>);

impl Finder {
    /// A finder of these tokens, none of which is empty.
    pub fn new(marks: Vec<Mark>) -> Finder {
        // An automaton over short texts can only fail by size, beyond what a file can hold.
        let automaton = (!marks.is_empty())
            .then(|| {
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(marks.iter().map(|m| &m.text))
                    .ok()
            })
            .flatten();
        Finder { automaton, marks }
    }

    /// Every token in a text, from left to right.
    pub fn all(&self, text: &[u8]) -> Vec<Found> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<Found> = Vec::new();
        for hit in automaton.find_iter(text) {
            let mark = &self.marks[hit.pattern().as_usize()];
            let free = found.last().map_or(0, |(_, range)| range.end);
            let (mut start, mut end) = (hit.start().max(free), hit.end());
            if mark.takes_left {
                start = free + trimmed_end(&text[free..start]);
            }
            if mark.takes_right {
                end += leading_space(&text[end..]);
            }
            // White space that the token before has taken cannot begin one.
            if end > free {
                found.push((mark.id, start..end));
            }
        }
        found
    }
}

/// Length without the white space at the end.
fn trimmed_end(bytes: &[u8]) -> usize {
    let tail = bytes.utf8_chunks().last();
    match tail {
        Some(chunk) if chunk.invalid().is_empty() => {
            bytes.len() - (chunk.valid().len() - chunk.valid().trim_end().len())
        }
        _ => bytes.len(),
    }
}

/// Bytes of white space at the beginning.
fn leading_space(bytes: &[u8]) -> usize {
    let head = bytes.utf8_chunks().next().map_or("", |c| c.valid());
    head.len() - head.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: u32, text: &str) -> Mark {
        let (takes_left, takes_right) = (text.contains('l'), text.contains('r'));
        Mark { id, text: text.into(), takes_left, takes_right, control: true }
    }

    #[test]
    fn the_longest_wins_and_bytes_around_may_be_anything() {
        let finder = Finder::new(vec![mark(1, "<a>"), mark(2, "<a><b>"), mark(3, "<b>")]);
        assert_eq!(finder.all(b"\xff<a><b><b>\xf0"), [(2, 1..7), (3, 7..10)]);
        assert!(Finder::new(Vec::new()).all(b"<a>").is_empty());
    }

    #[test]
    fn white_space_goes_with_a_token_that_takes_it() {
        let finder = Finder::new(vec![mark(1, "<l>"), mark(2, "<r>")]);
        assert_eq!(finder.all("a \u{a0}<l> b".as_bytes()), [(1, 1..7)]);
        assert_eq!(finder.all(b"<r> \n<l>\n"), [(2, 0..5), (1, 5..8)]);
    }
}
