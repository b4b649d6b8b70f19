//! `goldgate op`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_harness::kinds::op;
use goldgate_harness::kinds::op::question::OpQuestion;
use goldgate_harness::line::caller::Kept;
use goldgate_harness::line::{Caller, Reply, Verdict};
use goldgate_harness::subject::pool::Slot;
use goldgate_harness::subject::{Launch, SubjectSpec};
use goldgate_harness::yaml::Problem;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};
use goldgate_tensor::{DType, Tensor};
use goldgate_wire::frame;
use serde_json::{Map, Value, json};

use crate::commands::{Exit, Failure, say, say_json};

/// Example: goldgate op gelu --in x.safetensors --dtype f16 --out y.safetensors
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The op.
    name: String,
    /// Operands, by their names.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Attributes, a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    attr: String,
    /// The activation type.
    #[arg(long, value_name = "D", default_value = "f32")]
    dtype: String,
    /// `cpu`, `cuda:0`, or a command.
    #[arg(long, value_name = "SUBJECT", default_value = "cpu")]
    on: String,
    /// RESULT=OPERAND: the result lies on the operand.
    #[arg(long, value_name = "Y=X")]
    alias: Vec<String>,
    /// Where results go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What came of it as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let question = question(args)?;
    let spec = SubjectSpec::parse(&args.on).map_err(|e| Failure::Usage(e.to_string()))?;
    let scratch = tempfile::tempdir()?;
    let launch = Launch::new(std::env::current_exe()?, spec, scratch.path().to_path_buf());
    let mut slot = Slot::open(launch).map_err(|absent| Failure::Absent(absent.message))?;
    let (mut kept, limit) = (Kept::default(), Some(Duration::from_secs(600)));
    let mut caller = Caller::new(&mut slot, &mut kept, scratch.path(), limit);
    let reply = op::put(&question, &mut caller);
    slot.finish();
    match reply {
        Ok(Reply::Ok(answered)) => {
            write(&args.out, &answered.results)?;
            let shape = |(n, t): (&String, &Tensor)| (n.clone(), t.meta.to_string().into());
            let shapes: Map<String, Value> = answered.results.iter().map(shape).collect();
            match args.json {
                true => {
                    let observed = answered.observed.json();
                    say_json(&json!({"results": shapes, "observed": observed}))?;
                }
                false => {
                    for (name, meta) in &shapes {
                        say(&format!("{name} {}", meta.as_str().unwrap_or_default()))?;
                    }
                }
            }
            Ok(Exit::Yes)
        }
        // A refusal says that the question is malformed, so the mistake is in the input.
        Ok(Reply::Refused(refused)) => {
            let (kind, operand, message) = (refused.word(), refused.field(), &refused.message);
            let file = args.input.display().to_string();
            let found = format!("{operand}: {message}");
            let problem =
                Problem::of_file("QUESTION", &file, &found, "a question that the op takes");
            match args.json {
                true => say_json(&json!({"refused": {
                    "kind": kind, "operand": operand, "message": message }}))?,
                false => eprintln!("{problem}"),
            }
            Ok(Exit::BadInput)
        }
        Err(stopped) => Err(Failure::Absent(match stopped.verdict() {
            Verdict::NotRun { message, .. } => format!("{}: {message}", args.on),
            Verdict::Fail { kind, message } => format!("{}: {}: {message}", args.on, kind.word()),
            other => format!("{}: {other:?}", args.on),
        })),
    }
}

fn question(args: &Args) -> Result<OpQuestion, Failure> {
    let file = args.input.display().to_string();
    let bad = |code, found: String, expected: &str| {
        Failure::Problems(vec![Problem::of_file(code, &file, &found, expected)])
    };
    let bytes = read_foreign(&args.input, Bounds::of_user(LARGEST_WHOLE))
        .map_err(|e| bad("IO", e.to_string(), "a safetensors file that can be read"))?;
    let (_, tensors) =
        frame::decode(&bytes).map_err(|e| bad("MALFORMED", e.to_string(), "a safetensors file"))?;
    let attributes = match serde_json::from_str(&args.attr) {
        Ok(Value::Object(map)) => map,
        _ => return Err(Failure::Usage(format!("--attr {}: wants a JSON object", args.attr))),
    };
    let dtype: DType = match args.dtype.parse() {
        Ok(t) if DType::ACTIVATIONS.contains(&t) => t,
        _ => return Err(Failure::Usage(format!("--dtype {}: wants f32, f16 or bf16", args.dtype))),
    };
    let mut alias = BTreeMap::new();
    for pair in &args.alias {
        let Some((y, x)) = pair.split_once('=') else {
            return Err(Failure::Usage(format!("--alias {pair}: wants RESULT=OPERAND")));
        };
        alias.insert(y.to_owned(), x.to_owned());
    }
    Ok(OpQuestion { op: args.name.clone(), dtype, attributes, tensors, alias })
}

/// Writes results through a temporary file and rename, so that no reader sees half of them.
fn write(path: &Path, results: &BTreeMap<String, Tensor>) -> Result<(), Failure> {
    let bytes = frame::encode(&BTreeMap::new(), results);
    goldgate_harness::report::writer::replace(path, &bytes)?;
    Ok(())
}
