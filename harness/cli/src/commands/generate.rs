//! `goldgate generate`

use std::io::Write;
use std::sync::mpsc;

use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::tokenizer::chat::{NoChat, Template};
use goldgate_engine::weights::Malformed;
use goldgate_engine::weights::refusal::begin;
use goldgate_tensor::Code;
use goldgate_wire::call::{Generate, Generated, Sampling};
use goldgate_wire::words::Stop;
use serde_json::{Value, json};

use crate::commands::model::{Asked, Loaded, ModelArgs};
use crate::commands::{Exit, Failure, bad_input, numbers, say_json};

/// Example: goldgate generate --model tiny.gguf --prompt 'Once upon a time' --max-tokens 50
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text that goes on.
    #[arg(long, value_name = "T", group = "what")]
    prompt: Option<String>,
    /// The prompt is a message of a user, laid out by the model's own chat template, if that is a
    /// published one. What the message holds stays text, whatever it looks like.
    #[arg(long, requires = "prompt")]
    chat: bool,
    /// The same as ids.
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', group = "what")]
    ids: Option<Vec<u32>>,
    /// The most tokens.
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: u64,
    /// 0 is greedy; up to 2.
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = numbers::temperature)]
    temperature: f64,
    /// The most likely tokens that stay; 0: all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u64,
    /// The least mass that stays.
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = numbers::probability)]
    top_p: f64,
    /// The least share of the most likely token's mass that stays.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = numbers::probability)]
    min_p: f64,
    /// What seen tokens' logits are divided by.
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = numbers::penalty)]
    repetition_penalty: f64,
    /// Key of the generator.
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = numbers::seed)]
    seed: u64,
    /// Text that ends it, at most four.
    #[arg(long, value_name = "T")]
    stop: Vec<String>,
    /// Go on behind the end of a text.
    #[arg(long)]
    ignore_eos: bool,
    /// Ids, text, why it ended and times as JSON.
    #[arg(long)]
    json: bool,
}

/// The most texts that may end a generation.
const STOPS: usize = 4;

pub fn run(args: &Args) -> Result<Exit, Failure> {
    bad_input(run_generate(args), args.json)
}

/// The input of the model, and what ends the text.
struct Prompt {
    ids: Vec<u32>,
    ends: Vec<u32>,
    chat: Option<&'static str>,
}

fn prompt(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<Prompt, Failure> {
    let mut ends = tokenizer.map(|t| t.eos().to_vec()).unwrap_or_default();
    let usage = |e: &dyn std::fmt::Display| Failure::Usage(format!("--prompt: {e}"));
    match (&args.prompt, &args.ids, tokenizer) {
        (Some(prompt), _, Some(tokenizer)) if args.chat => {
            // Encoded by the template, so that control tokens in the message itself stay plain
            // text.
            let template = template(args, tokenizer)?;
            let laid_out = || Ok((template.ids(tokenizer, prompt)?, template.end_id(tokenizer)?));
            let (ids, end) = laid_out().map_err(|e: NoChat| match e {
                NoChat::Marker(mark) => {
                    let found = format!("a vocabulary without {mark}");
                    unsupported(args, &found, "the control tokens of its own template")
                }
                NoChat::Fault(fault) => usage(&fault),
            })?;
            // A turn ends with this token, which need not be among the ends of the vocabulary.
            ends.push(end);
            Ok(Prompt { ids, ends, chat: Some(template.name()) })
        }
        (Some(prompt), _, Some(tokenizer)) => {
            // With the beginning that the model expects. Control tokens in the prompt stay plain
            // text.
            let ids = tokenizer.encode(prompt.as_bytes(), true, false).map_err(|e| usage(&e))?;
            Ok(Prompt { ids, ends, chat: None })
        }
        (_, Some(ids), _) => Ok(Prompt { ids: ids.clone(), ends, chat: None }),
        _ => Err(Failure::Usage("a prompt, or ids".to_owned())),
    }
}

fn run_generate(args: &Args) -> Result<Exit, Failure> {
    if args.stop.len() > STOPS || args.stop.iter().any(String::is_empty) {
        let message = format!("--stop: {} texts, at most {STOPS}, none empty", args.stop.len());
        return Err(Failure::Usage(message));
    }
    let tokenizer = match (Tokenizer::open(&args.model.model), &args.prompt) {
        (Ok(tokenizer), _) => Some(tokenizer),
        // Ids need no vocabulary.
        (Err(_), None) => None,
        (Err(malformed), Some(_)) => return Err(Failure::Malformed(Box::new(malformed))),
    };
    let Prompt { ids, ends, chat } = prompt(args, tokenizer.as_ref())?;
    let mut loaded = match args.model.load(args.model.options(), args.json)? {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let (events, heard) = mpsc::channel();
    loaded.tell(events);
    let (outcome, (load_ms, facts), (text, stopped)) = std::thread::scope(|scope| {
        // In a thread of its own, so that text is shown while it is generated.
        let reader = scope.spawn(|| read(heard, tokenizer.as_ref(), &args.stop, !args.json));
        let outcome = ask(&mut loaded, args, &ids, &ends);
        let facts = (loaded.model.load_ms, loaded.facts.clone());
        // The end of the worker closes the channel, which ends the reader's loop.
        loaded.finish();
        (outcome, facts, reader.join().unwrap_or_default())
    });
    let Generated { ids, stop, first_token_ms, total_ms, .. } = match outcome? {
        Ok(generated) => generated,
        Err(exit) => return Ok(exit),
    };
    if args.json {
        // The stop text was seen in the output, whatever reason the subject names.
        let stop = if stopped { Some(Stop::Stop) } else { stop };
        let per_token = total_ms.map(|ms| ms / ids.len().max(1) as f64);
        say_json(&json!({
            "ids": ids, "text": text, "stop": stop.map(Stop::name), "chat": chat,
            "times": {
                "load_ms": load_ms, "first_token_ms": first_token_ms,
                "total_ms": total_ms, "per_token_ms": per_token,
            },
            "load": facts,
        }))?;
    }
    Ok(Exit::Yes)
}

/// The model's chat template, if it is a published one.
fn template(args: &Args, tokenizer: &Tokenizer) -> Result<Template, Failure> {
    let names = Template::ALL.map(Template::name).join(", ");
    let expected = format!("the published template of {names}");
    match tokenizer.chat_template() {
        None => Err(unsupported(args, "no chat template", &expected)),
        Some(text) => {
            Template::known(text).ok_or_else(|| unsupported(args, &begin(text), &expected))
        }
    }
}

fn unsupported(args: &Args, found: &str, expected: &str) -> Failure {
    let (code, file) = (Code::TemplateUnsupported, &args.model.model);
    Failure::Malformed(Box::new(Malformed::new(code, file, "chat_template", found, expected)))
}

fn ask(loaded: &mut Loaded, args: &Args, ids: &[u32], ends: &[u32]) -> Asked<Generated> {
    let ask = Generate {
        model: loaded.model.model,
        max_tokens: Some(args.max_tokens),
        ignore_eos: Some(args.ignore_eos),
        sampling: Sampling {
            temperature: Some(args.temperature),
            top_k: Some(args.top_k),
            top_p: Some(args.top_p),
            min_p: Some(args.min_p),
            repetition_penalty: Some(args.repetition_penalty),
            seed: Some(args.seed),
        },
        stop: Some(args.stop.clone()),
        stop_ids: Some(if args.ignore_eos { Vec::new() } else { ends.to_vec() }),
        seeds: None,
        ids: ids.iter().map(|id| i32::try_from(*id).unwrap_or(-1)).collect(),
        lengths: None,
    };
    loaded.ask(&ask, args.json)
}

/// Reads tokens as they arrive, and prints text if it streams. Returns the text cut at the first
/// stop, and whether there was one.
fn read(
    events: mpsc::Receiver<Value>,
    tokenizer: Option<&Tokenizer>,
    stops: &[String],
    stream: bool,
) -> (String, bool) {
    let mut decoder = tokenizer.map(Tokenizer::stream);
    let (mut bytes, mut shown) = (Vec::new(), 0);
    let mut end = None;
    let show = |bytes: &[u8], from: usize, to: usize| {
        if stream && from < to {
            let mut out = std::io::stdout();
            // A closed stdout is no reason to stop.
            let _ = out.write_all(&bytes[from..to]).and_then(|()| out.flush());
        }
        to.max(from)
    };
    // Text that may still become part of a stop is held back.
    let longest = stops.iter().map(String::len).max().unwrap_or(1) - 1;
    for event in events {
        let Some(token) = event["token"].as_u64() else { continue };
        match &mut decoder {
            Some(decoder) => bytes.extend(decoder.push(token as u32).unwrap_or_default()),
            None => bytes.extend(format!("{token} ").into_bytes()),
        }
        if end.is_none() {
            end = stops.iter().filter_map(|s| find(&bytes, s.as_bytes())).min();
            shown = show(&bytes, shown, end.unwrap_or(bytes.len().saturating_sub(longest)));
        }
    }
    if let Some(decoder) = decoder {
        bytes.extend(decoder.finish());
    }
    let to = end.unwrap_or(bytes.len());
    show(&bytes, shown, to);
    if stream {
        println!();
    }
    (String::from_utf8_lossy(&bytes[..to]).into_owned(), end.is_some())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|w| w == part)
}
