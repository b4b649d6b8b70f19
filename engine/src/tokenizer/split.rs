//! Pre-tokenizers: how a text is cut into pieces before any merge, by the models' published
//! patterns.
//!
//! A pattern ends in `\s+(?!\S)|\s+`: white space, but for its last character if more text follows.
//! That look ahead is done here by hand, so that the rest is a regular language and every text is
//! cut in linear time.

use std::sync::LazyLock;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};

/// The letters and contractions of Llama 3, which Qwen2 shares.
const LLAMA_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+";

/// The words of o200k: upper case first, or all of it, with a contraction at the end.
const O200K_WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
);

/// The end of every pattern but for GPT-2's.
const TAIL: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";

/// The look ahead that every pattern ends in.
pub const AHEAD: &str = r"|\s+(?!\S)|\s+";

/// A published way to cut a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// GPT-2 (openai/gpt-2, src/encoder.py).
    Gpt2,
    /// gpt-4o and gpt-oss (openai/tiktoken, o200k_base).
    Gpt4o,
    /// Llama 3 (meta-llama/llama3, llama/tokenizer.py).
    LlamaBpe,
    /// Qwen2 (tokenizer.json of Qwen/Qwen2.5-0.5B): digits one by one.
    Qwen2,
}

impl Split {
    /// All of them, in the order of their names.
    pub const ALL: [Split; 4] = [Split::Gpt2, Split::Gpt4o, Split::LlamaBpe, Split::Qwen2];

    /// The value of `tokenizer.ggml.pre`.
    pub const fn name(self) -> &'static str {
        match self {
            Split::Gpt2 => "gpt-2",
            Split::Gpt4o => "gpt-4o",
            Split::LlamaBpe => "llama-bpe",
            Split::Qwen2 => "qwen2",
        }
    }

    /// The pattern without its look ahead.
    fn regular(self) -> String {
        match self {
            Split::Gpt2 => {
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+".to_owned()
            }
            Split::Gpt4o => {
                let tail = TAIL.replacen(r"[\r\n]*", r"[\r\n/]*", 1);
                format!(r"{O200K_WORDS}|\p{{N}}{{1,3}}{tail}")
            }
            Split::LlamaBpe => format!(r"{LLAMA_WORDS}|\p{{N}}{{1,3}}{TAIL}"),
            Split::Qwen2 => format!(r"{LLAMA_WORDS}|\p{{N}}{TAIL}"),
        }
    }

    /// The pattern as its publisher wrote it.
    pub fn pattern(self) -> String {
        self.regular() + AHEAD
    }

    fn regex(self) -> &'static Regex {
        static COMPILED: LazyLock<[Option<Regex>; 4]> =
            LazyLock::new(|| Split::ALL.map(|split| compile(&split.regular())));
        let place = Split::ALL.iter().position(|s| *s == self).unwrap_or_default();
        COMPILED[place].as_ref().expect("a test compiles all four")
    }

    /// Cuts a text: the ends of its pieces, which cover it.
    pub fn ends(self, text: &str) -> Vec<usize> {
        let (regex, mut ends, mut at) = (self.regex(), Vec::new(), 0);
        while at < text.len() {
            // Every character is of some class, so the match begins where the search does.
            let Some(found) = regex.search(&Input::new(text).range(at..)) else {
                ends.push(text.len());
                break;
            };
            let mut end = found.end();
            let more = end < text.len();
            if found.pattern().as_usize() == SPACE && more {
                let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
                end = if end - last > at { end - last } else { end };
            }
            ends.push(end);
            at = end;
        }
        ends
    }
}

/// The place of `\s+` among the two patterns that are compiled together.
const SPACE: usize = 1;

fn compile(regular: &str) -> Option<Regex> {
    let config = Regex::config().match_kind(MatchKind::LeftmostFirst);
    let syntax = syntax::Config::new();
    Regex::builder().configure(config).syntax(syntax).build_many(&[regular, r"\s+"]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(split: Split, text: &str) -> Vec<&str> {
        let mut start = 0;
        let ends = split.ends(text);
        ends.into_iter().map(|end| &text[std::mem::replace(&mut start, end)..end]).collect()
    }

    #[test]
    fn all_patterns_compile_and_cover_their_text() {
        let text = "Don't 12345 \u{a0}\t\r\n\n  stop!!! ÀÉ नमस्ते 日本語\u{85}  ";
        for split in Split::ALL {
            assert_eq!(pieces(split, text).concat(), text, "{}", split.name());
        }
    }

    #[test]
    fn gpt2_keeps_one_space_with_the_word() {
        assert_eq!(pieces(Split::Gpt2, "a   b\n\n c"), ["a", "  ", " b", "\n\n", " c"]);
        assert_eq!(pieces(Split::Gpt2, "it's 2024!  "), ["it", "'s", " 2024", "!", "  "]);
        assert_eq!(pieces(Split::Gpt2, "IT'S"), ["IT", "'", "S"]);
    }

    #[test]
    fn digits_are_cut_from_the_left() {
        assert_eq!(pieces(Split::LlamaBpe, "1234567"), ["123", "456", "7"]);
        assert_eq!(pieces(Split::Gpt4o, "1234567"), ["123", "456", "7"]);
        assert_eq!(pieces(Split::Qwen2, "1234"), ["1", "2", "3", "4"]);
        assert_eq!(pieces(Split::Gpt2, "1234567"), ["1234567"]);
    }

    #[test]
    fn line_ends_stay_together() {
        assert_eq!(pieces(Split::LlamaBpe, "a \r\n\r\n  b"), ["a", " \r\n\r\n", " ", " b"]);
        assert_eq!(pieces(Split::LlamaBpe, "x!\n\ny"), ["x", "!\n\n", "y"]);
    }

    #[test]
    fn o200k_sees_case_and_marks() {
        assert_eq!(pieces(Split::Gpt4o, "HelloWorld"), ["Hello", "World"]);
        assert_eq!(pieces(Split::Gpt4o, "HTTPServer don'T"), ["HTTPServer", " don'T"]);
        assert_eq!(pieces(Split::Gpt4o, "नमस्ते"), ["नमस्ते"]);
        assert_eq!(pieces(Split::Gpt4o, "a/\n/b"), ["a", "/\n/", "b"]);
    }
}
