//! The grammar of JSON (RFC 8259), checked in one pass with a stack of its own.

use super::{DEPTH, Text, escape, word};
use crate::weights::refusal::{Code, Malformed, begin};

/// Holds `text` to the grammar and to the depth.
pub(super) fn check(text: Text<'_>) -> Result<(), Malformed> {
    Grammar { text, at: 0, open: Vec::new() }.check()
}

/// A place in the text and the containers that are open there.
struct Grammar<'a> {
    text: Text<'a>,
    at: usize,
    /// Whether each open container is an object.
    open: Vec<bool>,
}

impl Grammar<'_> {
    fn fault(&self, code: Code, expected: &str) -> Malformed {
        let found = match self.text.text[self.at..].chars().next() {
            Some(c) => format!("`{c}`"),
            None => "the end".to_owned(),
        };
        self.text.refuse(code, self.at, "", found, expected)
    }

    fn peek(&self) -> Option<u8> {
        self.text.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        self.at += space(&self.text.text.as_bytes()[self.at..]);
    }

    fn check(mut self) -> Result<(), Malformed> {
        loop {
            self.space();
            let opened = self.value()?;
            // After a value, close containers until one goes on.
            let mut fresh = opened;
            loop {
                self.space();
                let Some(&object) = self.open.last() else {
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err(self.fault(Code::JsonTrailing, "the end")),
                    };
                };
                let close = if object { b'}' } else { b']' };
                match self.peek() {
                    Some(byte) if byte == close => {
                        self.at += 1;
                        self.open.pop();
                        fresh = false;
                        continue;
                    }
                    Some(b',') if !fresh => self.at += 1,
                    _ if fresh => {}
                    _ => return Err(self.fault(Code::Json, "a comma or the closing bracket")),
                }
                if object {
                    self.key()?;
                }
                break;
            }
        }
    }

    /// One scalar, or the opening of a container: whether it was the latter.
    fn value(&mut self) -> Result<bool, Malformed> {
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                if self.open.len() == DEPTH {
                    return Err(self.fault(Code::JsonDepth, "at most 128 levels"));
                }
                self.open.push(open == b'{');
                self.at += 1;
                return Ok(true);
            }
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => {
                let rest = &self.text.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|w| rest.starts_with(w));
                match word {
                    Some(word) => self.at += word.len(),
                    None => return Err(self.fault(Code::Json, "a value")),
                }
            }
        }
        Ok(false)
    }

    fn key(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.fault(Code::Json, "a key in quotes"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault(Code::Json, "a colon"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let Some((_, length)) = escape(&self.text.text[self.at..]) else {
                        return Err(self.fault(Code::Json, "an escape of JSON"));
                    };
                    self.at += length;
                }
                Some(0..0x20) | None => return Err(self.fault(Code::Json, "a string's end")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A number; a word that only begins like one is none (`0x10`, `016`, `1.`).
    fn number(&mut self) -> Result<(), Malformed> {
        let raw = word(&self.text.text[self.at..]);
        if !is_number(raw) {
            let (at, found) = (self.at, begin(raw));
            return Err(self.text.refuse(Code::JsonType, at, "", found, "a number of JSON"));
        }
        self.at += raw.len();
        Ok(())
    }
}

fn space(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count()
}

fn is_number(raw: &str) -> bool {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let rest = raw.strip_prefix('-').unwrap_or(raw);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        if digits(fraction) == 0 {
            return false;
        }
        rest = &fraction[digits(fraction)..];
    }
    if let Some(power) = rest.strip_prefix(['e', 'E']) {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        return digits(power) > 0 && digits(power) == power.len();
    }
    rest.is_empty()
}
