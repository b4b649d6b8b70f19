//! Plants faults: another text, another treatment of special tokens, another vocabulary, or another
//! way back. The case must detect them.

use std::fs;
use std::path::Path;

use goldgate_engine::weights::Gguf;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};

use crate::kinds::mutant::tokens::{BackEdit, TextEdit, TokensEdit, VocabularyEdit};
use crate::kinds::tokens::Texts;
use crate::kinds::tokens::judge::Answer;

/// The question with a fault planted. Faults on the way back are not part of a question;
/// [`returned`] plants them in the answer.
///
/// # Errors
/// The edit changes nothing, or the form does not allow it.
pub fn edited(edit: &TokensEdit, mut question: Texts) -> Result<Texts, String> {
    let (texts, flags) = (question.texts.clone(), (question.add_special, question.parse_special));
    if let Some(special) = edit.special {
        (question.add_special, question.parse_special) = special.flags();
    }
    if let Some(edit) = edit.text {
        question.texts.iter_mut().for_each(|text| *text = changed(edit, text));
    }
    // The texts of a case may lack what the edit changes, and then nothing would be planted.
    let same = texts == question.texts
        && flags == (question.add_special, question.parse_special)
        && edit.vocabulary.is_none()
        && edit.back.is_none();
    if same {
        return Err("the edit changes nothing".to_owned());
    }
    // Decoding each token on its own is a way of asking, not a change of the answer.
    question.token_by_token = edit.back == Some(BackEdit::Lossy);
    if let Some(edit) = edit.vocabulary {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = folder.path().join("edited.gguf");
        vocabulary_file(&question.path, &file, edit)?;
        (question.path, question.folder) = (file, Some(std::sync::Arc::new(folder)));
    }
    Ok(question)
}

/// Writes the vocabulary of the GGUF file at `original` to `file`, with an edit.
fn vocabulary_file(original: &Path, file: &Path, edit: VocabularyEdit) -> Result<(), String> {
    let gguf = Gguf::open(original).map_err(|_| "another vocabulary wants the GGUF form")?;
    // Bytes inserted into the header would move the tensors and break the file, which is another
    // fault.
    if !gguf.tensors().is_empty() {
        return Err("a file with tensors, whose places would move".to_owned());
    }
    let mut bytes =
        read_foreign(original, Bounds::of_user(LARGEST_WHOLE)).map_err(|e| e.to_string())?;
    let value = |key: &str| {
        let key = format!("tokenizer.ggml.{key}");
        let entry = gguf.metadata().entry(&key);
        entry.map(|entry| entry.offset as usize).ok_or_else(|| format!("no key {key}"))
    };
    match edit {
        VocabularyEdit::BosTwice => {
            // An end token that is the beginning token comes on the wrong side, and once too often.
            let (bos, eos) = (value("bos_token_id")?, value("eos_token_id")?);
            bytes.copy_within(bos..bos + 4, eos);
            match value("add_eos_token") {
                Ok(at) => bytes[at] = 1,
                Err(_) => insert_true(&mut bytes, "tokenizer.ggml.add_eos_token"),
            }
        }
        // The type and the number of an array's elements precede them.
        VocabularyEdit::MergesReversed => reverse_strings(&mut bytes, value("merges")?)?,
        VocabularyEdit::Pre(split) => {
            let at = value("pre")?;
            let length = number(&bytes, at)?;
            let name = split.name().as_bytes();
            let new = [&(name.len() as u64).to_le_bytes()[..], name].concat();
            bytes.splice(at..at + 8 + length, new);
        }
    }
    fs::write(file, &bytes).map_err(|e| e.to_string())
}

/// A count of eight bytes at an offset.
fn number(bytes: &[u8], at: usize) -> Result<usize, String> {
    let eight = bytes.get(at..at + 8).and_then(|b| b.first_chunk::<8>().copied());
    eight.map(|b| u64::from_le_bytes(b) as usize).ok_or_else(|| "cut short".to_owned())
}

/// Reverses the strings of the array whose value begins at `at`: type, count, strings.
fn reverse_strings(bytes: &mut [u8], at: usize) -> Result<(), String> {
    let count = number(bytes, at + 4)?;
    let first = at + 12;
    let mut ends = Vec::with_capacity(count);
    let mut end = first;
    for _ in 0..count {
        end += 8 + number(bytes, end)?;
        ends.push(end);
    }
    let mut reversed = Vec::with_capacity(end - first);
    for i in (0..count).rev() {
        let begin = if i == 0 { first } else { ends[i - 1] };
        reversed.extend_from_slice(&bytes[begin..ends[i]]);
    }
    bytes[first..end].copy_from_slice(&reversed);
    Ok(())
}

/// Inserts a new key with the value `true` before all others.
fn insert_true(bytes: &mut Vec<u8>, key: &str) {
    // The offset of the key count, the offset of the first key, and the type number of booleans.
    const COUNT: usize = 16;
    const FIRST: usize = 24;
    const BOOL: u32 = 7;
    let mut new = (key.len() as u64).to_le_bytes().to_vec();
    new.extend_from_slice(key.as_bytes());
    new.extend_from_slice(&BOOL.to_le_bytes());
    new.push(1);
    bytes.splice(FIRST..FIRST, new);
    // A reader stops after as many keys as the header counts, so the count must include the new
    // one.
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[COUNT..COUNT + 8]);
    let count = u64::from_le_bytes(eight) + 1;
    bytes[COUNT..COUNT + 8].copy_from_slice(&count.to_le_bytes());
}

fn changed(edit: TextEdit, bytes: &[u8]) -> Vec<u8> {
    match edit {
        TextEdit::LeadingSpace => [b" ", bytes].concat(),
        TextEdit::Lossy => String::from_utf8_lossy(bytes).into_owned().into_bytes(),
        TextEdit::Squeezed => squeezed(bytes),
        TextEdit::WithoutReturns => bytes.iter().copied().filter(|b| *b != b'\r').collect(),
    }
}

/// Changes the texts of an answer as a faulty way back would.
pub fn returned(edit: BackEdit, answers: &mut [Answer]) {
    for Answer { text, .. } in answers {
        match edit {
            // The question was asked token by token, so the answer already contains the fault.
            BackEdit::Lossy => {}
            BackEdit::Squeezed => *text = squeezed(text),
            BackEdit::WithoutControls => text.retain(|b| !b.is_ascii_control()),
        }
    }
}

fn squeezed(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = bytes.to_vec();
    out.dedup_by(|b, a| *a == b' ' && *b == b' ');
    out
}
