//! The calls `tokenize` and `detokenize` of our worker.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::tokenizer::{Fault, Tokenizer};
use goldgate_wire::call::{Detokenize, Detokenized, Tokenize, Tokenized, Vocabulary};

use crate::device::{NoAnswer, Trouble};

/// The most recently used tokenizer, kept because reading a large vocabulary takes a second.
#[derive(Debug, Default)]
pub struct Tokenizers {
    open: Option<(Mark, Tokenizer)>,
}

/// The vocabulary of a loaded model, by the model's handle.
pub type OfModel<'t> = Result<&'t Tokenizer, NoAnswer>;

/// Identifies a file and its state when it was read, so that a changed file is read again.
type Mark = (PathBuf, Option<(u64, SystemTime)>);

impl Tokenizers {
    /// The ids of a text.
    ///
    /// # Errors
    /// The file is refused, or there is no such model, or none of its vocabulary.
    pub fn tokenize<'t>(
        &'t mut self,
        question: &Tokenize,
        of_model: impl FnOnce(u64) -> OfModel<'t>,
    ) -> Result<Tokenized, NoAnswer> {
        let Tokenize { vocabulary, add_special, parse_special, text } = question;
        let tokenizer = self.tokenizer_for(vocabulary, of_model)?;
        let ids = tokenizer.encode(text, *add_special, *parse_special);
        let ids = ids.map_err(|e| failed(e.to_string()))?;
        Ok(Tokenized { ids: ids.into_iter().map(|id| id as i32).collect() })
    }

    /// The text of ids.
    ///
    /// # Errors
    /// The file is refused, an id has no token, or there is no such model, or none of its
    /// vocabulary.
    pub fn detokenize<'t>(
        &'t mut self,
        question: &Detokenize,
        of_model: impl FnOnce(u64) -> OfModel<'t>,
    ) -> Result<Detokenized, NoAnswer> {
        let ids: Vec<u32> = question.ids.iter().map(|id| *id as u32).collect();
        decode(self.tokenizer_for(&question.vocabulary, of_model)?, &ids, question).map_err(|e| {
            NoAnswer::Refused(Refusal::new(RefusalKind::IdOutOfRange, "ids", e.to_string()))
        })
    }

    fn tokenizer_for<'t>(
        &'t mut self,
        vocabulary: &Vocabulary,
        of_model: impl FnOnce(u64) -> OfModel<'t>,
    ) -> Result<&'t Tokenizer, NoAnswer> {
        match vocabulary {
            Vocabulary::Path(path) => self.tokenizer(Path::new(path)),
            // Read when the model was loaded, so the file need not be there any more.
            Vocabulary::Model(handle) => of_model(*handle),
        }
    }

    fn tokenizer(&mut self, path: &Path) -> Result<&Tokenizer, NoAnswer> {
        let facts = std::fs::metadata(path).ok();
        let state = facts.and_then(|f| Some((f.len(), f.modified().ok()?)));
        let mark = (path.to_path_buf(), state);
        // Kept open, because a case asks for one vocabulary once per text. A rewritten file is read
        // again.
        let known = matches!(&self.open, Some((m, _)) if *m == mark && mark.1.is_some());
        if !known {
            let opened = Tokenizer::open(path);
            let tokenizer = opened.map_err(|e| NoAnswer::File(Box::new(e)))?;
            self.open = Some((mark, tokenizer));
        }
        match &self.open {
            Some((_, tokenizer)) => Ok(tokenizer),
            None => Err(failed("no tokenizer is open".to_owned())),
        }
    }
}

/// The text of ids; if streamed, with the number of bytes handed out after each.
fn decode(tokenizer: &Tokenizer, ids: &[u32], how: &Detokenize) -> Result<Detokenized, Fault> {
    if !how.stream {
        return Ok(Detokenized { text: tokenizer.decode(ids, how.skip_special)?, ends: None });
    }
    let (mut decoder, mut text) = (tokenizer.stream_of(how.skip_special), Vec::new());
    let mut ends = Vec::with_capacity(ids.len());
    for id in ids {
        text.extend(decoder.push(*id)?);
        ends.push(i32::try_from(text.len()).unwrap_or(i32::MAX));
    }
    // Bytes that waited for the rest of their character come after the last id.
    text.extend(decoder.finish());
    Ok(Detokenized { text, ends: Some(ends) })
}

fn failed(message: String) -> NoAnswer {
    NoAnswer::Failed(Trouble { class: "internal", sticky: false, message })
}

#[cfg(test)]
mod tests {
    use goldgate_engine::weights::Code;

    use super::*;

    #[test]
    fn a_file_or_a_model_that_is_missing_is_no_vocabulary() {
        let mut tokenizers = Tokenizers::default();
        let mut tokenize = |vocabulary| {
            let question = Tokenize {
                vocabulary,
                add_special: false,
                parse_special: false,
                text: b"a".to_vec(),
            };
            let unknown = |_| Err(NoAnswer::bad_request("there is no such model"));
            tokenizers.tokenize(&question, unknown).expect_err("no vocabulary")
        };
        let path = Vocabulary::Path("no/such/tokenizer.json".to_owned());
        let NoAnswer::File(refusal) = tokenize(path) else { panic!("it is no refusal of a file") };
        assert_eq!(refusal.code, Code::Io);
        let NoAnswer::Failed(trouble) = tokenize(Vocabulary::Model(1)) else {
            panic!("no failure")
        };
        assert_eq!((trouble.class, trouble.sticky), ("bad_request", false));
    }
}
