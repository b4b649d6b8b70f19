//! The kind *tokenizer*: texts to ids and back, asked of a subject over the wire.

pub mod case;
pub mod edit;
pub mod judge;
pub mod spec;
#[cfg(test)]
mod tests;

pub use case::TokenCase;

use std::path::PathBuf;
use std::time::Duration;

use goldgate_wire::call::{BadField, Detokenize, Tokenize, Vocabulary};
use goldgate_wire::words::Texts as Words;

use crate::kinds::mutant::Mutant;
use crate::kinds::tokens::case::Check;
use crate::kinds::tokens::edit as mutants;
use crate::kinds::tokens::judge::{Answer, judge, self_check};
use crate::kinds::{Goldens, Kind, Plant, Twist, Withheld};
use crate::line::{
    BrokenKind, Caller, FailKind, Family, Head, Judgement, On, Sort, Stopped, Verdict, Whom,
};

/// The time limit of one text.
const LIMIT: Duration = Duration::from_secs(30);

/// The kind *tokenizer*.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer;

/// Texts to be encoded, and ids to be decoded.
///
/// The ids are the expected ones and not the subject's own, so that one fault does not count twice.
/// They are the only part of the answer that a question contains.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The file of the form.
    pub path: PathBuf,
    /// Whether special tokens are added.
    pub add_special: bool,
    /// Whether special tokens in a text are recognised as such.
    pub parse_special: bool,
    /// The bytes of each text.
    pub texts: Vec<Vec<u8>>,
    /// The ids that are decoded, one list per text.
    pub ids: Vec<Vec<i32>>,
    /// What is checked; nothing else is asked.
    pub checks: Vec<Check>,
    /// Whether a stream is decoded one token at a time, as a planted fault demands.
    pub token_by_token: bool,
    /// Keeps the folder of an edited vocabulary alive, where the question is about one.
    pub folder: Option<std::sync::Arc<tempfile::TempDir>>,
}

impl Texts {
    /// The texts of a case, to be asked with the file at `path`.
    pub fn from_case(case: &TokenCase, path: PathBuf) -> Texts {
        let (add_special, parse_special) = case.special.flags();
        Texts {
            path,
            add_special,
            parse_special,
            texts: case.vectors.iter().map(|v| v.bytes.clone()).collect(),
            ids: case.vectors.iter().map(|v| v.ids.iter().map(|id| *id as i32).collect()).collect(),
            checks: case.checks.clone(),
            token_by_token: false,
            folder: None,
        }
    }
}

impl Kind for Tokenizer {
    type Case = TokenCase;
    type Question = Texts;
    type Golden = ();
    type Got = Vec<Answer>;

    fn head(&self, case: &TokenCase) -> Head {
        Head {
            name: case.full_name(),
            kind: "tokenizer",
            sort: Sort::Case,
            gate: case.gate,
            stem: case.stem.clone(),
            case: case.name.clone(),
            variant: case.variant.clone(),
            why: case.why.clone(),
            source: case.source.clone(),
            place: Some(case.place.clone()),
            family: Family::Exact,
            dtype: None,
            // The ids are written in the spec, and gates count such a list as one golden.
            golden: Some(format!("written {}::{}", case.stem, case.name)),
            definition: false,
            slow: false,
            // Text is handled without a device, so a card would only repeat the answers of the CPU.
            on: On::Host,
            group: None,
        }
    }

    fn golden(&self, _: &TokenCase, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, case: &TokenCase, (): &()) -> Result<(u32, u32), String> {
        self_check(case)
    }

    fn question(&self, case: &TokenCase, (): &(), from: &dyn Goldens) -> Result<Texts, Withheld> {
        let file = from.folder().join(&case.path);
        // Vocabularies are shipped, so one that is absent is a broken checkout and no reason to
        // skip.
        if !file.is_file() {
            let message = format!("{}, which is shipped, is not below golden/", case.path);
            return Err(Withheld::Broken(BrokenKind::FileMissing, message));
        }
        Ok(Texts::from_case(case, file.canonicalize().unwrap_or(file)))
    }

    fn ask(&self, question: &Texts, to: &mut Caller<'_>) -> Result<Vec<Answer>, Stopped> {
        to.set_limit(LIMIT);
        for (check, word) in [
            (Check::Encode, Words::Encode),
            (Check::Decode, Words::Decode),
            (Check::Stream, Words::Stream),
        ] {
            if question.checks.contains(&check) && !to.hello().treats(word) {
                return Err(to.unsupported(&format!("does not offer to {}", word.name())));
            }
        }
        let asked = |check| question.checks.contains(&check);
        let vocabulary = Vocabulary::Path(question.path.display().to_string());
        let mut answers = Vec::with_capacity(question.texts.len());
        for (text, ids) in question.texts.iter().zip(&question.ids) {
            let mut answer = Answer::default();
            if asked(Check::Encode) {
                let encoded = to.call(&Tokenize {
                    vocabulary: vocabulary.clone(),
                    add_special: question.add_special,
                    parse_special: question.parse_special,
                    text: text.clone(),
                })?;
                answer.ids = numbers(&encoded.ids);
            }
            let whole = Detokenize {
                vocabulary: vocabulary.clone(),
                skip_special: false,
                stream: false,
                ids: ids.clone(),
            };
            // A stream is compared with the whole, so both are asked for it.
            if asked(Check::Decode) || asked(Check::Stream) {
                answer.text = to.call(&whole)?.text;
            }
            if asked(Check::Stream) {
                answer.stream = match question.token_by_token {
                    true => one_by_one(&whole, to)?,
                    false => {
                        let parts = to.call(&Detokenize { stream: true, ..whole })?;
                        // A stream without ends would pass as a single piece.
                        let ends = parts.ends.ok_or_else(|| BadField::no_tensor("ends"))?;
                        (parts.text, numbers(&ends))
                    }
                };
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    fn judge(&self, case: &TokenCase, (): &(), got: &Vec<Answer>, _: &Whom) -> Judgement {
        // A text without ids counts too: there must be none.
        let compared = case.vectors.iter().map(|v| v.ids.len().max(1) as u64).sum();
        let Some(difference) = judge(case, got) else {
            return Judgement { compared, ..Judgement::unmeasured(Verdict::Pass) };
        };
        let (at, total, differ) = (difference.at + 1, case.vectors.len(), difference.of);
        let text = format!("{at} of {total} in the list; {differ} differ");
        let mut judgement = Judgement::fail(FailKind::Bits, difference.message);
        judgement.compared = compared;
        judgement.detail = vec![("text", text), ("diff", difference.diff)];
        judgement
    }

    fn detail(&self, case: &TokenCase, _: Option<&()>) -> Vec<(&'static str, String)> {
        vec![("form", case.path.clone())]
    }

    fn plant(
        &self,
        case: &TokenCase,
        (): &(),
        mutant: &Mutant,
        from: &dyn Goldens,
    ) -> Result<Plant<Texts, Vec<Answer>>, String> {
        let edit = mutant.ask.as_ref().and_then(|ask| ask.tokens.as_ref());
        let edit = edit.ok_or("it is no edit of a text")?;
        let question = self.question(case, &(), from).map_err(Withheld::message)?;
        let question = mutants::edited(edit, question)?;
        let twist: Option<Twist<Vec<Answer>>> = edit.back.map(|back| {
            let twist: Twist<Vec<Answer>> = Box::new(move |got| mutants::returned(back, got));
            twist
        });
        Ok(Plant::Asked(question, twist))
    }
}

/// A stream in which each token is decoded on its own, and bytes that are not text by themselves
/// become U+FFFD.
fn one_by_one(whole: &Detokenize, to: &mut Caller<'_>) -> Result<(Vec<u8>, Vec<i64>), Stopped> {
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    for id in &whole.ids {
        let piece = to.call(&Detokenize { ids: vec![*id], ..whole.clone() })?.text;
        text.extend(String::from_utf8_lossy(&piece).into_owned().into_bytes());
        ends.push(i64::try_from(text.len()).unwrap_or(i64::MAX));
    }
    Ok((text, ends))
}

fn numbers(list: &[i32]) -> Vec<i64> {
    list.iter().map(|x| i64::from(*x)).collect()
}
