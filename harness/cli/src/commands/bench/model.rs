//! `goldgate bench --model`: measures how fast a subject runs a model. The times come from calls
//! that any subject can answer, and the parts of a decode step from subjects that report them.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use comfy_table::{Table, presets};
use goldgate_engine::batch::MOST;
use goldgate_engine::exec::bench::median;
use goldgate_wire::Call;
use goldgate_wire::call::{
    BenchCopy, BenchModel, BenchOp, Close, Extend, Generate, LoadOptions, Open, Sampling, Want,
};
use goldgate_wire::words::Phase;
use serde_json::{Value, json};

use crate::commands::model::{Asked, How, Loaded};
use crate::commands::{Exit, Failure, say, say_json};

/// What is measured of a model.
#[derive(Debug, clap::Args)]
pub struct Speed {
    #[command(flatten)]
    how: How,
    /// Tokens of a prompt.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "model")]
    prefill: u64,
    /// Tokens that are generated.
    #[arg(long, value_name = "N", default_value_t = 128, requires = "model")]
    decode: u64,
    /// Tokens that stand before both.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "model")]
    depth: u64,
    /// Sequences that generate side by side, 1 to 8, where the subject offers that.
    #[arg(long, value_name = "B", default_value_t = 1, requires = "model",
          value_parser = clap::value_parser!(u64).range(1..=MOST as u64))]
    batch: u64,
    /// Runs of each of which the middle one counts, after one that does not.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "model")]
    repeat: usize,
}

impl Speed {
    /// Whether options are given that describe how to load a model.
    pub fn loads(&self) -> bool {
        self.how.is_given()
    }
}

/// How many bytes are copied and read to measure the card.
const LIMITS: u64 = 1 << 30;

pub fn run(speed: &Speed, path: &Path, on: &str, json_out: bool) -> Result<Exit, Failure> {
    let usage = |message: String| Err(Failure::Usage(message));
    // A time per token is the difference of two times.
    if speed.prefill == 0 || speed.decode < 2 || speed.repeat == 0 {
        return usage("--prefill and --repeat want 1 at least, --decode 2".to_owned());
    }
    // One position more, because decode times are taken from one token more than is asked for.
    let positions = speed.depth.max(1) + speed.prefill.max(speed.decode) + 1;
    // Subjects that know nothing of batches can still be timed with one sequence.
    let sequences = (speed.batch > 1).then_some(speed.batch);
    let options = LoadOptions { sequences, ..speed.how.sizing.at_least(positions) };
    let mut loaded = match speed.how.load(path, on, options, json_out)? {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let offered = loaded.hello().sequences();
    if speed.batch > offered {
        loaded.finish();
        let message = format!("the subject's hello offers sequences: {offered}");
        return usage(format!("--batch {}: {message}", speed.batch));
    }
    let outcome = measure(speed, &mut loaded, json_out);
    let load = loaded.facts.clone();
    loaded.finish();
    let mut facts = match outcome? {
        Ok(facts) => facts,
        Err(exit) => return Ok(exit),
    };
    facts["load"] = load;
    match json_out {
        true => say_json(&facts)?,
        false => say(text(&facts).trim_end())?,
    }
    Ok(Exit::Yes)
}

/// Unwraps an answer, or ends the measurement with the exit code of a refusal.
macro_rules! answered {
    ($asked:expr) => {
        match $asked? {
            Ok(value) => value,
            Err(exit) => return Ok(Err(exit)),
        }
    };
}

fn measure(speed: &Speed, loaded: &mut Loaded, json_out: bool) -> Asked<Value> {
    let prompts = answered!(prefill(speed, loaded, json_out));
    // A generation needs at least one token of prompt.
    let (after, behind) = (speed.depth + speed.prefill, speed.depth.max(1));
    let first = answered!(generated(speed, loaded, (after, 1), 1, json_out));
    let batch = (behind, speed.batch);
    let steps = answered!(generated(speed, loaded, batch, speed.decode + 1, json_out));
    let rate = |tokens: u64, ms: f64| tokens as f64 / ms * 1e3;
    let (prompt_ms, first_ms) = (middle(&prompts), middle(&first.first_ms));
    let step_ms = middle(&steps.token_ms);
    let mut facts = json!({
        "batch": speed.batch,
        "depth": speed.depth,
        "prefill": {"tokens": speed.prefill, "ms": prompts, "median_ms": prompt_ms,
                    "tokens_s": rate(speed.prefill, prompt_ms)},
        "first_token": {"tokens": speed.depth + speed.prefill, "ms": first.first_ms,
                        "median_ms": first_ms},
        "decode": {"tokens": speed.decode, "ms_a_token": steps.token_ms, "median_ms": step_ms,
                   "tokens_s": rate(speed.batch, step_ms),
                   "tokens_s_a_sequence": rate(1, step_ms)},
    });
    let hello = loaded.hello();
    let (limits, parts) = (hello.offers(BenchOp::NAME), hello.times_models());
    // A subject that measures no limits of its card still has its times.
    if limits {
        let limits = answered!(loaded.ask(&BenchCopy { bytes: LIMITS }, json_out));
        facts["limits"] = BenchCopy::write_answer(limits).0;
    }
    if parts {
        let ask = BenchModel {
            model: loaded.model.model,
            depth: speed.depth,
            sequences: (speed.batch > 1).then_some(speed.batch),
        };
        let step = answered!(loaded.ask(&ask, json_out));
        facts["step"] = BenchModel::write_answer(step).0;
        bound(&mut facts, step_ms);
    }
    Ok(Ok(facts))
}

fn middle(figures: &[f64]) -> f64 {
    // The median, because a single slow run says nothing about the subject.
    median(&mut figures.to_vec())
}

/// The question with prompts of `count` tokens each, generated together. A single prompt is not
/// asked as a batch.
fn prompted(ask: Generate, count: u64, sequences: u64) -> Generate {
    match sequences {
        1 => Generate { ids: ids(count), ..ask },
        _ => {
            let all = ids(count * sequences);
            let each: Vec<Vec<i32>> = all.chunks(count as usize).map(<[i32]>::to_vec).collect();
            ask.several(&each)
        }
    }
}

/// Tokens that exist in every vocabulary.
fn ids(count: u64) -> Vec<i32> {
    // A prime modulus gives a long cycle of ids below 256, which every vocabulary has.
    (0..count).map(|i| (i * 7919 % 251) as i32).collect()
}

/// The time in ms that prompts take in fresh sessions after `depth` tokens, by our own clock. No
/// logits are requested, because the head counts as part of the first token.
fn prefill(speed: &Speed, loaded: &mut Loaded, json_out: bool) -> Asked<Vec<f64>> {
    let mut ms = Vec::new();
    for run in 0..=speed.repeat {
        let session = answered!(loaded.ask(&Open { model: loaded.model.model }, json_out)).session;
        let ask = |count| Extend {
            session,
            want: Want::default(),
            phase: Some(Phase::Prefill),
            ids: ids(count),
        };
        if speed.depth > 0 {
            answered!(loaded.ask(&ask(speed.depth), json_out));
        }
        let (_, time) = answered!(loaded.timed(&ask(speed.prefill), json_out));
        answered!(loaded.ask(&Close { session }, json_out));
        // The first run is not counted: it compiles kernels and fills caches.
        if run > 0 {
            ms.push(millis(time));
        }
    }
    Ok(Ok(ms))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The times of generations, by the subject's clock.
struct Generated {
    /// From the question until every sequence has its first token.
    first_ms: Vec<f64>,
    /// From one token of a sequence to the next, on average; empty if there is only one token.
    token_ms: Vec<f64>,
}

fn generated(
    speed: &Speed,
    loaded: &mut Loaded,
    (prompt, sequences): (u64, u64),
    tokens: u64,
    json_out: bool,
) -> Asked<Generated> {
    let ask = Generate {
        model: loaded.model.model,
        max_tokens: Some(tokens),
        // Every run must generate all of its tokens, or their times could not be compared.
        ignore_eos: Some(true),
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        stop_ids: Some(Vec::new()),
        ..Generate::default()
    };
    let ask = prompted(ask, prompt, sequences);
    let mut generated = Generated { first_ms: Vec::new(), token_ms: Vec::new() };
    for run in 0..=speed.repeat {
        let (events, heard) = mpsc::channel();
        loaded.tell(events);
        let answer = answered!(loaded.ask(&ask, json_out));
        // Not counted either: the first run compiles kernels and fills caches.
        if run == 0 {
            continue;
        }
        let heard: Vec<Value> = heard.try_iter().collect();
        let times: Vec<f64> = heard.iter().filter_map(|e| e["ms"].as_f64()).collect();
        // Decode steps begin when the last of the prompts has been read.
        let firsts = heard.iter().filter(|e| e["index"] == 0).filter_map(|e| e["ms"].as_f64());
        let first = match sequences {
            1 => answer.first_token_ms.or(times.first().copied()),
            _ => firsts.reduce(f64::max),
        };
        // A subject without events still reports its total time.
        let last = times.last().copied().filter(|_| times.len() > 1);
        let last = last.or(answer.total_ms);
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Failure::Absent("the subject tells no times of tokens".to_owned()));
        };
        generated.first_ms.push(first);
        if tokens > 1 {
            generated.token_ms.push((last - first) / (tokens - 1) as f64);
        }
    }
    Ok(Ok(generated))
}

/// Adds the lower bound of a step: the bytes that it must read, at the speed at which the same run
/// read memory.
fn bound(facts: &mut Value, step_ms: f64) {
    // Without the speed of this card's memory there is no bound to state.
    let Some(read) = facts["limits"]["read_gb_s"].as_f64() else { return };
    let bytes = |key: &str| facts["step"][key].as_f64().unwrap_or(0.0);
    let (weights, kv) = (bytes("bytes_weights"), bytes("bytes_kv"));
    let floor_ms = (weights + kv) / read / 1e6;
    let batch = facts["batch"].as_f64().unwrap_or(1.0);
    facts["bound"] = json!({
        "bytes_weights": weights, "bytes_kv": kv, "read_gb_s": read, "ms": floor_ms,
        "tokens_s": batch * 1e3 / floor_ms, "share": floor_ms / step_ms,
    });
    for part in facts["step"]["parts"].as_array_mut().into_iter().flatten() {
        if let (Some(bytes), Some(us)) = (part["bytes"].as_f64(), part["us"].as_f64()) {
            part["gb_s"] = (bytes / us / 1e3).into();
            part["share"] = (bytes / us / 1e3 / read).into();
        }
    }
}

fn text(facts: &Value) -> String {
    let number = |pointer: &str| facts.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let mut lines = vec![
        format!(
            "prefill   {} tokens behind {}: {:.2} ms, {:.0} tokens a second",
            facts["prefill"]["tokens"],
            facts["depth"],
            number("/prefill/median_ms"),
            number("/prefill/tokens_s")
        ),
        format!(
            "first     token after {}: {:.2} ms",
            facts["first_token"]["tokens"],
            number("/first_token/median_ms")
        ),
        format!(
            "decode    {} tokens behind {}: {:.3} ms a token, {:.1} tokens a second",
            facts["decode"]["tokens"],
            facts["depth"],
            number("/decode/median_ms"),
            number("/decode/tokens_s_a_sequence")
        ),
    ];
    if number("/batch") > 1.0 {
        lines.push(format!(
            "batch     {} sequences side by side, each as above: {:.1} tokens a second",
            facts["batch"],
            number("/decode/tokens_s")
        ));
    }
    if facts["bound"].is_object() {
        lines.push(format!(
            "bound     {:.1} MB of weights and {:.1} MB of cache at {:.0} GB/s: {:.0} tokens a \
             second; reached {:.0} %",
            number("/bound/bytes_weights") / 1e6,
            number("/bound/bytes_kv") / 1e6,
            number("/bound/read_gb_s"),
            number("/bound/tokens_s"),
            100.0 * number("/bound/share")
        ));
    }
    if facts["step"].is_object() {
        lines.push(format!("step      {:.1} µs by the card's clock", number("/step/step_us")));
        lines.push(table(facts).to_string());
    }
    lines.join("\n")
}

fn table(facts: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["step", "op", "launches", "µs", "MB", "GB/s", "of read"]);
    for part in facts["step"]["parts"].as_array().into_iter().flatten() {
        let word = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| part[key].as_f64();
        let shown = |x: Option<f64>, digits: usize| {
            x.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"))
        };
        let cached = if part["cached"] == true { " (fits the cache)" } else { "" };
        table.add_row([
            word("step"),
            word("op"),
            part["launches"].to_string(),
            shown(number("us"), 1),
            shown(number("bytes").map(|b| b / 1e6), 2),
            shown(number("gb_s"), 0),
            shown(number("share").map(|s| 100.0 * s), 0) + " %" + cached,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_what_must_be_read_at_the_measured_speed() {
        let mut facts = json!({
            "depth": 0, "prefill": {"tokens": 8}, "first_token": {"tokens": 8},
            "decode": {"tokens": 4, "median_ms": 0.5},
            "limits": {"read_gb_s": 4000.0},
            "step": {"step_us": 480.0, "bytes_weights": 900_000_000, "bytes_kv": 100_000_000,
                     "parts": [{"step": "logits", "op": "linear", "launches": 1, "us": 100.0,
                                "bytes": 2e8, "cached": false}]},
        });
        bound(&mut facts, 0.5);
        assert_eq!(facts["bound"]["ms"], 0.25);
        assert_eq!(facts["bound"]["tokens_s"], 4000.0);
        assert_eq!(facts["bound"]["share"], 0.5);
        assert_eq!(facts["step"]["parts"][0]["gb_s"], 2000.0);
        assert_eq!(facts["step"]["parts"][0]["share"], 0.5);
        let page = text(&facts);
        assert!(page.contains("reached 50 %") && page.contains("logits"), "{page}");
        assert!(!page.contains("side by side"), "{page}");
    }

    #[test]
    fn a_batch_has_the_bound_of_all_its_tokens() {
        let mut facts = json!({
            "batch": 8, "depth": 0, "prefill": {"tokens": 8}, "first_token": {"tokens": 8},
            "decode": {"tokens": 4, "median_ms": 0.5, "tokens_s": 16000.0},
            "limits": {"read_gb_s": 4000.0},
            "step": {"step_us": 480.0, "bytes_weights": 900_000_000, "bytes_kv": 100_000_000},
        });
        bound(&mut facts, 0.5);
        assert_eq!(facts["bound"]["tokens_s"], 32000.0);
        assert_eq!(facts["bound"]["share"], 0.5);
        assert!(text(&facts).contains("8 sequences side by side, each as above: 16000.0 tokens"));
        let asked = prompted(Generate::default(), 3, 2);
        assert_eq!((asked.ids.len(), asked.lengths), (6, Some(vec![3, 3])));
        assert_eq!(prompted(Generate::default(), 3, 1).lengths, None);
    }
}
