//! Streaming: bytes come in as tokens give them, and go out without ever cutting a code point.
//!
//! Bytes that can no longer become a code point are handed out at once and unchanged, so that the
//! pieces put together are always the bytes of the whole.

use crate::tokenizer::{Fault, Tokenizer};

/// Holds back the first bytes of a code point until its last one is there.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    held: Vec<u8>,
}

impl Whole {
    /// Takes bytes and gives those that no later byte can change.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let keep = unfinished(&self.held);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What is still held back: the beginning of a code point that did not come.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }
}

/// How many of the last bytes are the beginning of a code point that has not ended.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .rev()
        .find(|n| {
            let tail = &bytes[bytes.len() - n..];
            tail[0] >= 0xc2
                && matches!(std::str::from_utf8(tail),
                    Err(e) if e.valid_up_to() == 0 && e.error_len().is_none())
        })
        .unwrap_or(0)
}

/// Turns ids into text as they come.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    whole: Whole,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Decoder<'a> {
        Decoder { tokenizer, skip_special, whole: Whole::default() }
    }

    /// Takes one id and gives the bytes that are ready; it never ends inside a code point.
    ///
    /// # Errors
    /// An id without a token.
    pub fn push(&mut self, id: u32) -> Result<Vec<u8>, Fault> {
        Ok(self.whole.push(self.tokenizer.bytes(id, self.skip_special)?))
    }

    /// The bytes that were held back.
    pub fn finish(self) -> Vec<u8> {
        self.whole.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(parts: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut whole = Whole::default();
        let out = parts.iter().map(|p| whole.push(p)).collect();
        (out, whole.finish())
    }

    #[test]
    fn a_code_point_waits_for_its_last_byte() {
        for text in ["é", "€", "😀", "𝕏"] {
            let bytes = text.as_bytes();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let (out, left) = pieces(&single);
            let (last, before) = out.split_last().expect("bytes");
            assert!(before.iter().all(Vec::is_empty), "{text}: {out:?}");
            assert_eq!(*last, bytes);
            assert_eq!(left, b"");
        }
    }

    #[test]
    fn text_before_it_goes_out_at_once() {
        let (out, left) = pieces(&[b"caf\xc3", b"\xa9 \xf0\x9f", b"\x98", b"\x80!"]);
        assert_eq!(out, [&b"caf"[..], "é ".as_bytes(), b"", "😀!".as_bytes()]);
        assert_eq!(left, b"");
    }

    #[test]
    fn what_cannot_become_text_is_not_held_back() {
        // A stray continuation, an overlong form, a surrogate, a byte that UTF-8 never has.
        for bad in [&b"\x80"[..], b"\xc0\x80", b"\xed\xa0", b"\xff", b"\xf5\x80"] {
            let (out, left) = pieces(&[bad]);
            assert_eq!((out[0].as_slice(), left.as_slice()), (bad, &b""[..]));
        }
        let (out, left) = pieces(&[b"\xe2\x82", b"A"]);
        assert_eq!(out, [&b""[..], b"\xe2\x82A"]);
        assert_eq!(left, b"");
    }

    #[test]
    fn the_end_hands_out_what_is_left() {
        assert_eq!(pieces(&[b"a\xf0\x9f\x98"]), (vec![b"a".to_vec()], b"\xf0\x9f\x98".to_vec()));
    }

    #[test]
    fn every_cut_of_a_text_gives_the_text() {
        let text = "a\u{301}नमस्ते 👩‍👩‍👧 ไทย".as_bytes();
        for cut in 1..5 {
            let parts: Vec<&[u8]> = text.chunks(cut).collect();
            let (out, left) = pieces(&parts);
            assert!(out.iter().all(|p| std::str::from_utf8(p).is_ok()), "cut {cut}");
            assert_eq!([out.concat(), left].concat(), text);
        }
    }
}
