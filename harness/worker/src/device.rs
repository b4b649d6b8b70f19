//! What answers behind a worker's wire, and the reasons why it may not.

use goldgate_engine::cuda::Card;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::program::ProgramError;
use goldgate_engine::weights::{Code, Malformed};
use goldgate_wire::answer::{Answer as Reply, Failed, FilePlace, Refused};
use goldgate_wire::call::{
    BadQuestion, BenchCopy, BenchOp, Check, Checked, Detokenize, Detokenized, Limits, MemoryAnswer,
    Op, OpAnswer, OpTimes, Tokenize, Tokenized,
};
use goldgate_wire::{Call, Event, Tensors};
use serde_json::{Map, Value};

/// Sends events before the answer.
pub type Tell<'a> = &'a mut dyn FnMut(Event);

/// Answers the questions of a worker.
pub trait Device {
    /// The `ok` of hello.
    ///
    /// # Errors
    /// Why the subject is not available: class and message.
    fn hello(&self) -> Result<Value, Trouble>;

    /// Answers one question about an op.
    ///
    /// # Errors
    /// Why there is no answer.
    fn op(&mut self, question: &Op) -> Result<OpAnswer, NoAnswer>;

    /// Times one question about an op.
    ///
    /// # Errors
    /// Why there is no answer.
    fn bench(&mut self, _question: &BenchOp) -> Result<OpTimes, NoAnswer> {
        Err(NoAnswer::Unsupported("bench".to_owned()))
    }

    /// Measures the limits of the card.
    ///
    /// # Errors
    /// Why there is no answer.
    fn limits(&mut self, _question: &BenchCopy) -> Result<Limits, NoAnswer> {
        Err(NoAnswer::Unsupported("bench".to_owned()))
    }

    /// Performs a check of the subject as a whole (`layer::…`, `fault::…`, `streams::…`).
    ///
    /// # Errors
    /// The check is not offered.
    fn check(&mut self, check: &Check) -> Result<Checked, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("check {}::{}", check.stem, check.case)))
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// Why there is no answer.
    fn tokenize(&mut self, _question: &Tokenize) -> Result<Tokenized, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("call {}", Tokenize::NAME)))
    }

    /// The text of ids.
    ///
    /// # Errors
    /// Why there is no answer.
    fn detokenize(&mut self, _question: &Detokenize) -> Result<Detokenized, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("call {}", Detokenize::NAME)))
    }

    /// Answers a call about a model: one of [`crate::models::CALLS`], or `bench` of a model. Events
    /// before the answer go to `tell`.
    ///
    /// # Errors
    /// Why there is no answer.
    fn model(
        &mut self,
        question: &Value,
        _: &Tensors,
        _tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("call {}", question["call"])))
    }

    /// The memory in use, if it can tell.
    fn memory(&self) -> Option<MemoryAnswer> {
        None
    }

    /// The card whose properties decide what `load` will take; the H200's if the device has none of
    /// its own.
    fn card(&self) -> Card {
        Card::h200()
    }
}

/// The `ok` of a call, in the form of the wire.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The tensors, by name.
    pub results: Tensors,
    /// The fields of `ok`.
    pub fields: Map<String, Value>,
}

/// Reads a question as the call `C` and answers it.
///
/// # Errors
/// The question cannot be read, or `answer` fails.
pub fn typed<C: Call>(
    question: &Value,
    tensors: Tensors,
    answer: impl FnOnce(&C) -> Result<C::Answer, NoAnswer>,
) -> Result<Answer, NoAnswer> {
    let (body, results) = C::write_answer(answer(&C::read(question, tensors)?)?);
    let fields = match body {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Ok(Answer { results, fields })
}

/// The subject tried and could not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `oom device io cancelled bad_request internal nondeterministic`.
    pub class: &'static str,
    /// Whether all later questions in this process would fail as well.
    pub sticky: bool,
    /// The reason, in words.
    pub message: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The question is malformed.
    Refused(Refusal),
    /// A file is malformed.
    File(Box<Malformed>),
    /// A valid question that is not supported.
    Unsupported(String),
    /// The subject tried and could not answer.
    Failed(Trouble),
}

impl NoAnswer {
    /// A question that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> NoAnswer {
        let message = message.into();
        NoAnswer::Failed(Trouble { class: "bad_request", sticky: false, message })
    }
}

impl From<Malformed> for NoAnswer {
    fn from(malformed: Malformed) -> NoAnswer {
        NoAnswer::File(Box::new(malformed))
    }
}

impl From<Refusal> for NoAnswer {
    fn from(refusal: Refusal) -> NoAnswer {
        NoAnswer::Refused(refusal)
    }
}

impl From<BadQuestion> for NoAnswer {
    fn from(bad: BadQuestion) -> NoAnswer {
        match bad {
            BadQuestion::Field(message) => NoAnswer::bad_request(message),
            BadQuestion::Refused(refusal) => NoAnswer::Refused(refusal),
        }
    }
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Reply {
        let Trouble { class, sticky, message } = trouble;
        Reply::Failed(Failed { class: class.to_owned(), sticky, message })
    }
}

impl From<NoAnswer> for Reply {
    fn from(why: NoAnswer) -> Reply {
        match why {
            NoAnswer::Refused(refusal) => Reply::Refused(Box::new(refusal.into())),
            NoAnswer::File(malformed) => Reply::Refused(Box::new(refused(&malformed))),
            NoAnswer::Unsupported(what) => Reply::Unsupported(what),
            NoAnswer::Failed(trouble) => trouble.into(),
        }
    }
}

impl From<Answer> for Reply {
    fn from(Answer { results, fields }: Answer) -> Reply {
        Reply::Ok(Value::Object(fields), results)
    }
}

/// A malformed file in the form of the wire.
pub fn refused(m: &Malformed) -> Refused {
    let place = FilePlace {
        code: m.code.as_str().to_owned(),
        file: m.file.to_string_lossy().into_owned(),
        offset: m.offset,
        field: m.field.clone(),
        found: m.found.clone(),
        expected: m.expected.clone(),
        json: m.json.as_ref().map(|j| (j.line.into(), j.column.into(), j.pointer.clone())),
    };
    Refused {
        kind: RefusalKind::Malformed.name().to_owned(),
        operand: m.field.clone(),
        message: m.to_string(),
        file: Some(place),
        observed: None,
    }
}

/// The failure of a call about a model, in the form of the wire.
pub fn no_answer(error: CallError) -> NoAnswer {
    match error {
        CallError::Refused { step, source } => {
            let Refusal { kind, operand, message } = source;
            NoAnswer::Refused(Refusal::new(kind, &operand, format!("step {step}: {message}")))
        }
        // The file is well formed and asks for something that this engine does not have.
        CallError::Program(ProgramError::Config { field, found, wanted }) => {
            let message = format!("is {found}, wants {wanted}");
            NoAnswer::Refused(Refusal::new(RefusalKind::NotSupported, field, message))
        }
        CallError::Program(error) => {
            NoAnswer::Refused(Refusal::new(RefusalKind::Malformed, "tensors", error.to_string()))
        }
        // A file that changed while it was read is no longer the one that was checked.
        CallError::Changed { file, field, found, expected } => {
            Malformed::new(Code::Hash, &file, field, found, expected).into()
        }
        CallError::NotFinite { tensor } => {
            let message = "holds a number that is not finite";
            NoAnswer::Refused(Refusal::new(RefusalKind::Malformed, &tensor, message))
        }
        CallError::Device(e) => NoAnswer::Failed(Trouble {
            class: e.class(),
            sticky: e.is_sticky(),
            message: e.to_string(),
        }),
    }
}
