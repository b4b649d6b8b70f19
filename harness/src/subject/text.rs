//! The calls `tokenize` and `detokenize` of our worker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::tokenizer::Tokenizer;
use serde_json::Value;

use crate::subject::serve::{Answer, NoAnswer, Trouble};

/// The tokenizer that was asked last: reading a large vocabulary takes a second.
#[derive(Debug, Default)]
pub struct Shelf {
    open: Option<(Mark, Tokenizer)>,
}

/// A file as it was when it was read.
type Mark = (PathBuf, Option<(u64, SystemTime)>);

impl Shelf {
    /// Answers `tokenize` or `detokenize`.
    ///
    /// # Errors
    /// A file that is refused, ids without a token, a question that is none.
    pub fn answer(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Answer, NoAnswer> {
        let Some(path) = ask["path"].as_str() else {
            return Err(NoAnswer::Unsupported("a tokenizer without a path".to_owned()));
        };
        let flag = |key: &str| ask[key].as_bool().unwrap_or(false);
        let tokenizer = self.tokenizer(Path::new(path))?;
        if ask["call"] == "tokenize" {
            let text = operand(tensors, "text", DType::U8)?;
            let ids = tokenizer.encode(&text.bytes, flag("add_special"), flag("parse_special"));
            let ids = ids.map_err(|e| failed(e.to_string()))?;
            let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
            return Ok(results([("ids", Tensor::from_i32(&[ids.len()], &ids))]));
        }
        let ids = operand(tensors, "ids", DType::I32)?.to_f64();
        let ids: Vec<u32> = ids.into_iter().map(|id| id as i64 as u32).collect();
        let (skip, stream) = (flag("skip_special"), flag("stream"));
        decode(tokenizer, &ids, skip, stream).map_err(|e| {
            NoAnswer::Refused(Refusal::new(RefusalKind::IdOutOfRange, "ids", e.to_string()))
        })
    }

    fn tokenizer(&mut self, path: &Path) -> Result<&Tokenizer, NoAnswer> {
        let facts = std::fs::metadata(path).ok();
        let state = facts.and_then(|f| Some((f.len(), f.modified().ok()?)));
        let mark = (path.to_path_buf(), state);
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

/// The text of ids; streamed, with the number of bytes handed out after each.
fn decode(
    tokenizer: &Tokenizer,
    ids: &[u32],
    skip_special: bool,
    stream: bool,
) -> Result<Answer, goldgate_engine::tokenizer::Fault> {
    if !stream {
        let text = tokenizer.decode(ids, skip_special)?;
        return Ok(results([("text", bytes(text))]));
    }
    let (mut decoder, mut text) = (tokenizer.stream_of(skip_special), Vec::new());
    let mut ends = Vec::with_capacity(ids.len());
    for id in ids {
        text.extend(decoder.push(*id)?);
        ends.push(i32::try_from(text.len()).unwrap_or(i32::MAX));
    }
    text.extend(decoder.finish());
    Ok(results([("ends", Tensor::from_i32(&[ends.len()], &ends)), ("text", bytes(text))]))
}

/// Bytes as a tensor.
pub fn bytes(bytes: Vec<u8>) -> Tensor {
    let meta = goldgate_engine::shape::Meta::new(DType::U8, &[bytes.len()]);
    Tensor { meta, bytes }
}

fn results<const N: usize>(tensors: [(&str, Tensor); N]) -> Answer {
    let results = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    Answer { results, ..Answer::default() }
}

fn operand<'t>(
    tensors: &'t BTreeMap<String, Tensor>,
    name: &str,
    dtype: DType,
) -> Result<&'t Tensor, NoAnswer> {
    let refused = |kind, message: String| NoAnswer::Refused(Refusal::new(kind, name, message));
    let tensor = tensors
        .get(name)
        .ok_or_else(|| refused(RefusalKind::OperandMissing, "it is not there".to_owned()))?;
    let meta = &tensor.meta;
    match (meta.dtype == dtype, meta.shape.len()) {
        (true, 1) => Ok(tensor),
        (false, _) => {
            let message = format!("it is {}, wants {dtype}", meta.dtype);
            Err(refused(RefusalKind::DtypeMismatch, message))
        }
        (_, rank) => {
            Err(refused(RefusalKind::RankMismatch, format!("it has {rank} axes, wants 1")))
        }
    }
}

fn failed(message: String) -> NoAnswer {
    NoAnswer::Failed(Trouble { class: "internal", sticky: false, message })
}

#[cfg(test)]
mod tests {
    use goldgate_engine::weights::Code;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_that_is_none_is_refused_by_operand() {
        let mut shelf = Shelf::default();
        let ask = json!({"call": "tokenize", "path": "no/such/tokenizer.json"});
        let NoAnswer::File(refusal) = shelf.answer(&ask, &BTreeMap::new()).expect_err("none")
        else {
            panic!("it is no refusal of a file")
        };
        assert_eq!(refusal.code, Code::Io);
        let tensors = BTreeMap::from([("text".to_owned(), Tensor::from_i32(&[1], &[7]))]);
        let NoAnswer::Refused(refusal) = operand(&tensors, "text", DType::U8).expect_err("i32")
        else {
            panic!("it is no refusal")
        };
        assert_eq!(refusal.kind, RefusalKind::DtypeMismatch);
        assert!(matches!(
            shelf.answer(&json!({"call": "tokenize"}), &BTreeMap::new()),
            Err(NoAnswer::Unsupported(_))
        ));
    }
}
