//! The call `generate` of our worker, for one prompt or for several at the same time.

use std::time::Instant;

use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::generate::{Request, Several, Stop, generate, generate_several};
use goldgate_engine::sample;
use goldgate_engine::session::Place;
use goldgate_wire::call::{Generate, Generated, Sampling};
use goldgate_wire::{Event, Observed, words};
use serde_json::json;

use crate::device::{NoAnswer, Tell, no_answer};
use crate::loaded::{Loaded, ids};
use crate::text_so_far::TextSoFar;

/// The most tokens of a text, if the question gives no number.
const MAX_TOKENS: u64 = 128;

/// Generates text for one prompt, or for several if there are lengths.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn answer(
    place: &mut Place<'_>,
    loaded: &Loaded,
    question: &Generate,
    tell: Tell<'_>,
) -> Result<Generated, NoAnswer> {
    // Entries recorded by earlier calls do not belong to this question.
    loaded.model.route();
    let mut generated = match &question.lengths {
        None => answer_one(place, loaded, question, tell)?,
        Some(lengths) => answer_several(place, loaded, question, lengths, tell)?,
    };
    generated.observed = Observed { route: loaded.model.route(), ..Observed::default() };
    Ok(generated)
}

fn answer_one(
    place: &mut Place<'_>,
    loaded: &Loaded,
    question: &Generate,
    tell: Tell<'_>,
) -> Result<Generated, NoAnswer> {
    let ids = ids(&question.ids);
    let context = loaded.model.settings().context;
    // Without a token there is no row of logits to choose the first one from.
    if ids.is_empty() || ids.len() > context {
        let message = format!("{} tokens, wants 1 to {context}", ids.len());
        return Err(Refusal::new(RefusalKind::CapacityExceeded, "ids", message).into());
    }
    let request = Request {
        ids: &ids,
        max_tokens: question.max_tokens.unwrap_or(MAX_TOKENS) as usize,
        sampling: sampling(&question.sampling)?,
        stop_ids: question.stop_ids.as_deref().unwrap_or_default(),
    };
    let mut text = TextSoFar::new(loaded.tokenizer.as_ref(), stops(loaded, question)?);
    let begin = Instant::now();
    let mut first_token_ms = None;
    let mut take = |id: u32| {
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        first_token_ms.get_or_insert(ms);
        let (index, token) = (text.count() as u64, id.into());
        tell(Event::Token { sequence: None, index, token, ms: Some(ms) });
        text.push(id)
    };
    let rows = loaded.config.vocabulary;
    let stop = generate(place, &loaded.model, rows, &request, &mut take).map_err(no_answer)?;
    let total_ms = Some(begin.elapsed().as_secs_f64() * 1e3);
    let (ids, text) = text.finish();
    let stop = Some(word(stop));
    Ok(Generated { ids, text, stop, first_token_ms, total_ms, ..Generated::default() })
}

fn answer_several(
    place: &mut Place<'_>,
    loaded: &Loaded,
    question: &Generate,
    lengths: &[i32],
    tell: Tell<'_>,
) -> Result<Generated, NoAnswer> {
    let (model, ids) = (&loaded.model, ids(&question.ids));
    let settings = model.settings();
    let prompts = prompts(&ids, lengths, settings.context, settings.sequences)?;
    let seeds = seeds(question, prompts.len())?;
    let stops = stops(loaded, question)?;
    let request = Several {
        prompts: &prompts,
        max_tokens: question.max_tokens.unwrap_or(MAX_TOKENS) as usize,
        sampling: sampling(&question.sampling)?,
        seeds: &seeds,
        stop_ids: question.stop_ids.as_deref().unwrap_or_default(),
    };
    let each = prompts.iter().map(|_| TextSoFar::new(loaded.tokenizer.as_ref(), stops));
    let mut texts: Vec<TextSoFar<'_>> = each.collect();
    let begin = Instant::now();
    let mut first_token_ms = None;
    let mut take = |sequence: usize, id: u32| {
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        first_token_ms.get_or_insert(ms);
        let text = &mut texts[sequence];
        let (index, token) = (text.count() as u64, id.into());
        tell(Event::Token { sequence: Some(sequence as u64), index, token, ms: Some(ms) });
        text.push(id)
    };
    let ends = generate_several(place, model, loaded.config.vocabulary, &request, &mut take)
        .map_err(no_answer)?;
    let total_ms = Some(begin.elapsed().as_secs_f64() * 1e3);
    let ids: Vec<Vec<i32>> = texts.into_iter().map(|text| text.finish().0).collect();
    Ok(Generated {
        lengths: Some(ids.iter().map(|ids| ids.len() as i32).collect()),
        ids: ids.concat(),
        stops: Some(ends.into_iter().map(word).collect()),
        first_token_ms,
        total_ms,
        ..Generated::default()
    })
}

/// The reason why a generation ended, in the form of the wire.
fn word(stop: Stop) -> words::Stop {
    match stop {
        Stop::Token => words::Stop::Eos,
        Stop::Caller => words::Stop::Stop,
        Stop::Length => words::Stop::Length,
        Stop::Context => words::Stop::Context,
    }
}

/// The texts that end a text.
fn stops<'q>(loaded: &Loaded, question: &'q Generate) -> Result<&'q [String], NoAnswer> {
    let stops = question.stop.as_deref().unwrap_or_default();
    // Every text contains the empty one, so it would end before it begins.
    if stops.iter().any(String::is_empty) {
        return Err(NoAnswer::bad_request("stop has an empty text"));
    }
    if !stops.is_empty() && loaded.tokenizer.is_none() {
        return Err(NoAnswer::Unsupported("stop texts without a vocabulary".to_owned()));
    }
    Ok(stops)
}

fn sampling(given: &Sampling) -> Result<sample::Sampling, NoAnswer> {
    let usual = sample::Sampling::default();
    let real = |key: &str, given: Option<f64>, usual: f64, low: f64, high: f64| match given {
        None => Ok(usual),
        Some(x) if (low..=high).contains(&x) => Ok(x),
        Some(x) => {
            let message = format!("is {}, wants {low} to {high}", json!(x));
            Err(NoAnswer::from(Refusal::new(RefusalKind::AttributeOutOfRange, key, message)))
        }
    };
    let penalty = given.repetition_penalty;
    Ok(sample::Sampling {
        temperature: match given.temperature {
            // Logits are divided by it in f32, where a subnormal has lost its digits.
            Some(x) if x > 0.0 && x < f64::from(f32::MIN_POSITIVE) => {
                real("temperature", Some(x), 0.0, f64::from(f32::MIN_POSITIVE), 2.0)?
            }
            given => real("temperature", given, usual.temperature, 0.0, 2.0)?,
        },
        top_k: given.top_k.unwrap_or(0) as usize,
        top_p: real("top_p", given.top_p, usual.top_p, 0.0, 1.0)?,
        min_p: real("min_p", given.min_p, usual.min_p, 0.0, 1.0)?,
        repetition_penalty: real("repetition_penalty", penalty, 1.0, f64::MIN_POSITIVE, 2.0)?,
        seed: given.seed.unwrap_or(0),
    })
}

/// Splits `ids` into prompts by their lengths.
fn prompts<'a>(
    ids: &'a [u32],
    lengths: &[i32],
    context: usize,
    most: usize,
) -> Result<Vec<&'a [u32]>, NoAnswer> {
    let refuse = |kind, operand: &str, message: String| {
        Err(NoAnswer::from(Refusal::new(kind, operand, message)))
    };
    if lengths.is_empty() || lengths.len() > most {
        let message = format!("{} prompts, the model was loaded for {most}", lengths.len());
        return refuse(RefusalKind::CapacityExceeded, "lengths", message);
    }
    let fits = |n: &&i32| **n >= 1 && **n as usize <= context;
    if let Some(wrong) = lengths.iter().find(|n| !fits(n)) {
        let message = format!("{wrong} tokens, wants 1 to {context}");
        return refuse(RefusalKind::CapacityExceeded, "lengths", message);
    }
    let sum: usize = lengths.iter().map(|n| *n as usize).sum();
    // Ids that no prompt claims would otherwise be ignored silently.
    if sum != ids.len() {
        let message = format!("are {sum} tokens, but there are {} ids", ids.len());
        return refuse(RefusalKind::ShapeMismatch, "lengths", message);
    }
    let mut rest = ids;
    Ok(lengths
        .iter()
        .map(|n| {
            let (prompt, after) = rest.split_at(*n as usize);
            rest = after;
            prompt
        })
        .collect())
}

/// One seed per prompt: those of the question, or its single seed counting up.
fn seeds(question: &Generate, count: usize) -> Result<Vec<u64>, NoAnswer> {
    let first = question.sampling.seed.unwrap_or(0);
    match &question.seeds {
        None => Ok((0..count as u64).map(|i| first + i).collect()),
        Some(seeds) if seeds.len() == count => Ok(seeds.clone()),
        Some(_) => {
            Err(NoAnswer::bad_request(format!("seeds wants {count} numbers, one per prompt")))
        }
    }
}
