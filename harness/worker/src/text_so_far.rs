//! The result of a generation so far: ids and their text, cut where a stop text begins.

use goldgate_engine::tokenizer::{Decoder, Tokenizer};

/// The ids and the text so far.
#[derive(Debug)]
pub struct TextSoFar<'t> {
    /// Absent if there is no vocabulary; then there are only ids.
    decoder: Option<Decoder<'t>>,
    stops: &'t [String],
    ids: Vec<i32>,
    /// How many bytes of the text precede each id.
    begins: Vec<usize>,
    text: Vec<u8>,
    /// Where the first stop text begins.
    cut: Option<usize>,
}

impl<'t> TextSoFar<'t> {
    /// An empty text.
    pub fn new(tokenizer: Option<&'t Tokenizer>, stops: &'t [String]) -> TextSoFar<'t> {
        let (ids, begins, text) = (Vec::new(), Vec::new(), Vec::new());
        let decoder = tokenizer.map(Tokenizer::stream);
        TextSoFar { decoder, stops, ids, begins, text, cut: None }
    }

    /// The number of ids.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Adds an id. Returns false once a stop text is complete.
    pub fn push(&mut self, id: u32) -> bool {
        let before = self.text.len();
        self.ids.push(i32::try_from(id).unwrap_or(-1));
        self.begins.push(before);
        let new = self.decoder.as_mut().and_then(|decoder| decoder.push(id).ok());
        self.text.extend(new.unwrap_or_default());
        let found = self.stops.iter().filter_map(|stop| {
            // Text further back was searched before.
            let from = before.saturating_sub(stop.len().saturating_sub(1));
            let at =
                self.text[from..].windows(stop.len().max(1)).position(|w| w == stop.as_bytes());
            at.map(|at| from + at)
        });
        self.cut = found.min();
        self.cut.is_none()
    }

    /// The ids with text before the stop, and that text; no text without a vocabulary.
    pub fn finish(mut self) -> (Vec<i32>, Option<Vec<u8>>) {
        let Some(decoder) = self.decoder else { return (self.ids, None) };
        match self.cut {
            Some(cut) => {
                self.text.truncate(cut);
                // A token of which at least one byte is handed out is handed out itself.
                let kept = self.begins.iter().filter(|begin| **begin < cut).count();
                self.ids.truncate(kept);
            }
            // Half a character at the end of everything is handed out as it is.
            None => self.text.extend(decoder.finish()),
        }
        (self.ids, Some(self.text))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The ids that stay and the text, of a sentence of several tokens.
    fn handed(stops: &[&str]) -> (Vec<i32>, Vec<String>, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/gpt2-tiny/hf");
        let tokenizer = Tokenizer::open(&path).expect("a vocabulary");
        let ids = tokenizer.encode("So Alice was it é.".as_bytes(), false, false).expect("ids");
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut handed = TextSoFar::new(Some(&tokenizer), &stops);
        for id in &ids {
            if !handed.push(*id) {
                break;
            }
        }
        let words = ids.iter().map(|id| tokenizer.decode(&[*id], false).expect("bytes"));
        let words = words.map(|b| String::from_utf8_lossy(&b).into_owned()).collect();
        let (kept, text) = handed.finish();
        (kept, words, String::from_utf8(text.expect("text")).expect("whole letters"))
    }

    #[test]
    fn a_text_is_cut_before_its_first_stop() {
        let (all, words, text) = handed(&[]);
        assert_eq!((text.as_str(), all.len()), ("So Alice was it é.", words.len()));
        // Half a letter is held back, and is there in the end.
        assert!(words.iter().any(|w| w.contains('\u{fffd}')), "{words:?}");
        let whole = words.iter().position(|w| w == " Alice").expect("a token of its own");
        let (kept, _, text) = handed(&["lic"]);
        assert_eq!((kept.len(), text.as_str()), (whole + 1, "So A"));
        let (kept, _, text) = handed(&[" Alice"]);
        assert_eq!((kept.len(), text.as_str()), (whole, "So"));
        let (kept, _, text) = handed(&["e w", "ice w"]);
        assert_eq!((kept.len(), text.as_str()), (whole + 1, "So Al"));
        let (kept, _, text) = handed(&["never", "é"]);
        assert_eq!((&kept[..], text.as_str()), (&all[..kept.len()], "So Alice was it "));
    }
}
