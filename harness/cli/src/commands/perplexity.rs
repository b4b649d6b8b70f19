//! `goldgate perplexity`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::weights::Malformed;
use goldgate_harness::yaml::Problem;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};
use goldgate_tensor::{Code, Tensor};
use goldgate_wire::call::{Close, Extend, Open, Tokenize, Vocabulary, Want};
use goldgate_wire::words::{Logits, Phase};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::commands::model::{Asked, Loaded, ModelArgs};
use crate::commands::{Exit, Failure, bad_input, numbers, say, say_json};

mod figures;

use figures::{Compared, Figures, log_probabilities};

/// How well a model foretells a text. Example: goldgate perplexity --model m.gguf --file book.txt
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; nothing is added at its ends.
    #[arg(long, value_name = "TEXT")]
    file: PathBuf,
    /// Another model of the same vocabulary, to which this one is held: the divergence is that of
    /// its distributions from this other's.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// The first so many tokens of the text; without it all.
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Tokens of a window, each of which begins with an empty session; without it the context.
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// The figures as JSON.
    #[arg(long)]
    json: bool,
}

/// How many rows of full logits are requested at once.
// Whole rows are large: 4 bytes times the vocabulary each, for two models.
const ROWS: usize = 32;

/// Unwraps an answer, or ends the command with the exit code of a refusal.
macro_rules! wanted {
    ($asked:expr) => {
        match $asked? {
            Ok(found) => found,
            Err(exit) => return Ok(Err(exit)),
        }
    };
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let outcome = measured(args).map(|asked| asked.map_or_else(|exit| exit, |()| Exit::Yes));
    bad_input(outcome, args.json)
}

fn measured(args: &Args) -> Asked<()> {
    // Read before the model is loaded, which takes far longer.
    let bytes = read_foreign(&args.file, Bounds::of_user(LARGEST_WHOLE));
    let bytes = bytes.map_err(|e| no_text(args, "IO", &e.to_string()))?;
    let mut model = wanted!(args.model.load(args.model.options(), args.json));
    let mut ids = wanted!(tokens(&mut model, &args.model.model, &bytes, args.json));
    let mut other = match &args.against {
        None => None,
        Some(path) => {
            let mut other = wanted!(args.model.load_other(path, args.json));
            let same = wanted!(tokens(&mut other, path, &bytes, args.json));
            // Other ids are another text, so the models could not be compared token by token.
            if same != ids {
                let found = "other ids for this text";
                return Ok(Err(refused(args, path, Code::VocabDiff, found, "the same vocabulary")));
            }
            Some(other)
        }
    };
    // Cut after the comparison, so that the whole text is compared.
    ids.truncate(args.tokens.unwrap_or(usize::MAX));
    let window = window(args, &model)?;
    // A window of one token predicts nothing.
    let windows: Vec<&[i32]> = ids.chunks(window).filter(|ids| ids.len() > 1).collect();
    if windows.is_empty() {
        return Err(no_text(args, "TEXT", &format!("{} tokens", ids.len())));
    }
    let bar = bar(windows.iter().map(|ids| ids.len() as u64).sum());
    let (mut own, mut compared) = (Vec::new(), Compared::default());
    for ids in &windows {
        match &mut other {
            None => own.extend(wanted!(predicted(&mut model, ids, args))),
            Some(other) => wanted!(both(&mut model, other, ids, &mut compared, args)),
        }
        bar.inc(ids.len() as u64);
    }
    bar.finish_and_clear();
    let facts = model.facts.clone();
    model.finish();
    let counts = json!({"tokens": ids.len(), "windows": windows.len(), "window": window});
    match other {
        None => tell(args, &counts, &Figures::from_log_probabilities(&own), None, &facts)?,
        Some(other) => {
            let other_facts = other.facts.clone();
            other.finish();
            let figures = Figures::from_log_probabilities(&compared.own);
            tell(args, &counts, &figures, Some((&compared, &other_facts)), &facts)?;
        }
    }
    Ok(Ok(()))
}

fn no_text(args: &Args, code: &'static str, found: &str) -> Failure {
    let file = args.file.display().to_string();
    let expected = "a file that can be read, of two tokens at least";
    Failure::Problems(vec![Problem::of_file(code, &file, found, expected)])
}

/// Reports that a model file does not go with the other.
fn refused(args: &Args, path: &Path, code: Code, found: &str, expected: &str) -> Exit {
    let malformed = Malformed::new(code, path, "tokens", found, expected);
    match args.json {
        // If stdout is closed, the exit code still tells.
        true => drop(say_json(&goldgate_worker::inspect::refusal(&malformed))),
        false => eprintln!("{malformed}"),
    }
    Exit::BadInput
}

/// The ids of the text: by the subject, or by our own tokenizer of the same file if the subject
/// offers none.
fn tokens(loaded: &mut Loaded, path: &Path, bytes: &[u8], json_out: bool) -> Asked<Vec<i32>> {
    // By the subject itself where it can, because that is how the model would be used.
    if loaded.offers::<Tokenize>() {
        let path = std::path::absolute(path)?.display().to_string();
        let ask = Tokenize {
            vocabulary: Vocabulary::Path(path),
            add_special: false,
            parse_special: false,
            text: bytes.to_vec(),
        };
        return Ok(loaded.ask(&ask, json_out)?.map(|answer| answer.ids));
    }
    let tokenizer = Tokenizer::open(path).map_err(|e| Failure::Malformed(Box::new(e)))?;
    let ids = tokenizer.encode(bytes, false, false);
    let ids = ids.map_err(|e| Failure::Usage(format!("--file: {e}")))?;
    Ok(Ok(ids.into_iter().map(|id| i32::try_from(id).unwrap_or(i32::MAX)).collect()))
}

fn window(args: &Args, model: &Loaded) -> Result<usize, Failure> {
    let context = model.model.context.map(|n| n as usize);
    match (args.window, context) {
        (Some(window), context) if window < 2 || context.is_some_and(|c| window > c) => {
            let most = context.map_or_else(String::new, |c| format!(" to {c}, the context"));
            Err(Failure::Usage(format!("--window {window}: 2{most}")))
        }
        (Some(window), _) | (None, Some(window)) => Ok(window),
        // Without a window the whole text would be a single call.
        (None, None) => Err(Failure::Usage("--window: the subject names no context".to_owned())),
    }
}

fn bar(length: u64) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} tokens, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Opens a fresh session.
fn open(loaded: &mut Loaded, json_out: bool) -> Asked<u64> {
    let ask = Open { model: loaded.model.model };
    Ok(loaded.ask(&ask, json_out)?.map(|opened| opened.session))
}

/// One tensor of a session's answer to ids.
fn extend(
    loaded: &mut Loaded,
    session: u64,
    ids: &[i32],
    (logits, name): (Logits, &str),
    json_out: bool,
) -> Asked<Tensor> {
    let want = Want { logits, ..Want::default() };
    // Requested, because a last piece of one token would otherwise run as a decode step.
    let phase = Some(Phase::Prefill);
    let answer = wanted!(loaded.ask(&Extend { session, want, phase, ids: ids.to_vec() }, json_out));
    let tensor = answer.result(name).map_err(|bad| Failure::Absent(bad.to_string()))?;
    Ok(Ok(tensor.clone()))
}

/// The log-probabilities of all ids of a window except the first.
fn predicted(loaded: &mut Loaded, ids: &[i32], args: &Args) -> Asked<Vec<f64>> {
    let json_out = args.json;
    let session = wanted!(open(loaded, json_out));
    let next = wanted!(extend(loaded, session, ids, (Logits::Compact, "next_logprob"), json_out));
    wanted!(loaded.ask(&Close { session }, json_out));
    let mut next = next.to_f64();
    // Nothing follows the last id.
    next.truncate(ids.len() - 1);
    numbers::all_finite(&args.model.model, "next_logprob", &next)?;
    Ok(Ok(next))
}

/// The full distributions of both models after every id of a window except the last.
fn both(
    model: &mut Loaded,
    other: &mut Loaded,
    ids: &[i32],
    compared: &mut Compared,
    args: &Args,
) -> Asked<()> {
    let sessions = (wanted!(open(model, args.json)), wanted!(open(other, args.json)));
    // The last id is predicted and never fed.
    let asked = &ids[..ids.len() - 1];
    for (piece, start) in asked.chunks(ROWS).zip((0..).step_by(ROWS)) {
        let whole = (Logits::All, "logits");
        let own = wanted!(extend(model, sessions.0, piece, whole, args.json));
        let theirs = wanted!(extend(other, sessions.1, piece, whole, args.json));
        let (rows, width) = (own.meta.shape[0], own.meta.shape[1]);
        // Distributions over different vocabularies have no divergence.
        if theirs.meta.shape != own.meta.shape {
            let found = format!("{} rows", theirs.meta.shape[1]);
            let path = args.against.as_deref().unwrap_or(Path::new(""));
            let expected = format!("{width} rows");
            return Ok(Err(refused(args, path, Code::VocabSize, &found, &expected)));
        }
        let (own, theirs) = (own.to_f64(), theirs.to_f64());
        numbers::all_finite(&args.model.model, "logits", &own)?;
        let against = args.against.as_deref().unwrap_or(Path::new(""));
        numbers::all_finite(against, "logits", &theirs)?;
        for row in 0..rows {
            let of = |all: &[f64]| log_probabilities(&all[row * width..(row + 1) * width]);
            compared.add(&of(&own), &of(&theirs), ids[start + row + 1] as usize);
        }
    }
    wanted!(model.ask(&Close { session: sessions.0 }, args.json));
    wanted!(other.ask(&Close { session: sessions.1 }, args.json));
    Ok(Ok(()))
}

fn tell(
    args: &Args,
    counts: &Value,
    figures: &Figures,
    compared: Option<(&Compared, &Value)>,
    facts: &Value,
) -> Result<(), Failure> {
    if args.json {
        let mut output = json!({"load": facts});
        for (key, value) in
            [counts, &figures.json()].into_iter().filter_map(Value::as_object).flatten()
        {
            output[key] = value.clone();
        }
        if let Some((compared, facts)) = compared {
            output["against"] = compared.json();
            output["against"]["load"] = facts.clone();
        }
        return Ok(say_json(&output)?);
    }
    let (tokens, windows) = (&counts["tokens"], &counts["windows"]);
    say(&format!("tokens              {tokens}, {} foretold", figures.count))?;
    say(&format!("windows             {windows} of at most {} tokens", counts["window"]))?;
    figures.lines("").iter().try_for_each(|line| say(line))?;
    if let Some((compared, _)) = compared {
        compared.lines().iter().try_for_each(|line| say(line))?;
    }
    Ok(())
}
