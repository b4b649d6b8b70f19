//! The calls about tokenizers: texts to ids and back.

use goldgate_tensor::DType;
use serde_json::Value;

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields, i32s, may_result, nothing, operand, result, u8s};

/// The vocabulary to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// That of a file: a tokenizer.json, or a model that contains one.
    Path(String),
    /// That of a loaded model, by its handle.
    Model(u64),
}

impl Vocabulary {
    fn write(&self, body: &mut Body) {
        match self {
            Vocabulary::Path(path) => body.put("path", path.as_str()),
            Vocabulary::Model(model) => body.put("model", *model),
        }
    }

    fn read(fields: Fields<'_>) -> Result<Vocabulary, BadField> {
        match fields.may_text("path")? {
            Some(path) => Ok(Vocabulary::Path(path)),
            None => Ok(Vocabulary::Model(fields.number("model")?)),
        }
    }
}

/// Asks for the ids of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenize {
    /// The vocabulary to be used.
    pub vocabulary: Vocabulary,
    /// Whether the model's policy adds tokens at the ends.
    pub add_special: bool,
    /// Whether control tokens written in the text are recognised as such.
    pub parse_special: bool,
    /// The text, which may be any bytes.
    pub text: Vec<u8>,
}

/// The ids of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// The ids, in the order of the text.
    pub ids: Vec<i32>,
}

impl Call for Tokenize {
    const NAME: &'static str = "tokenize";

    type Answer = Tokenized;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        self.vocabulary.write(&mut body);
        body.put("add_special", self.add_special);
        body.put("parse_special", self.parse_special);
        // As a tensor, because a JSON text can hold neither invalid UTF-8 nor more than its limit.
        (body.json(), Tensors::from([("text".to_owned(), u8s(self.text.clone()))]))
    }

    fn read(question: &Value, mut tensors: Tensors) -> Result<Tokenize, BadQuestion> {
        let fields = Fields(question);
        Ok(Tokenize {
            vocabulary: Vocabulary::read(fields)?,
            add_special: fields.flag("add_special")?,
            parse_special: fields.flag("parse_special")?,
            text: operand(&mut tensors, "text", DType::U8)?.bytes,
        })
    }

    fn write_answer(answer: Tokenized) -> (Value, Tensors) {
        (nothing(), Tensors::from([("ids".to_owned(), i32s(&answer.ids))]))
    }

    fn read_answer(_: Value, mut tensors: Tensors) -> Result<Tokenized, BadField> {
        Ok(Tokenized { ids: result(&mut tensors, "ids", DType::I32)?.to_i32() })
    }
}

/// Asks for the text of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detokenize {
    /// The vocabulary to be used.
    pub vocabulary: Vocabulary,
    /// Whether control tokens are left out.
    pub skip_special: bool,
    /// Whether the answer should report how many bytes can be handed out after each id.
    pub stream: bool,
    /// The ids.
    pub ids: Vec<i32>,
}

/// The text of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detokenized {
    /// The text, which is not always valid UTF-8.
    pub text: Vec<u8>,
    /// The number of bytes of the text that are handed out after each id, if asked for.
    pub ends: Option<Vec<i32>>,
}

impl Call for Detokenize {
    const NAME: &'static str = "detokenize";

    type Answer = Detokenized;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        self.vocabulary.write(&mut body);
        body.put("skip_special", self.skip_special);
        // Left out where it is not asked for, because not every subject offers it.
        body.may("stream", self.stream.then_some(true));
        (body.json(), Tensors::from([("ids".to_owned(), i32s(&self.ids))]))
    }

    fn read(question: &Value, mut tensors: Tensors) -> Result<Detokenize, BadQuestion> {
        let fields = Fields(question);
        Ok(Detokenize {
            vocabulary: Vocabulary::read(fields)?,
            skip_special: fields.flag("skip_special")?,
            stream: fields.flag("stream")?,
            ids: operand(&mut tensors, "ids", DType::I32)?.to_i32(),
        })
    }

    fn write_answer(answer: Detokenized) -> (Value, Tensors) {
        let mut tensors = Tensors::from([("text".to_owned(), u8s(answer.text))]);
        tensors.extend(answer.ends.map(|ends| ("ends".to_owned(), i32s(&ends))));
        (nothing(), tensors)
    }

    fn read_answer(_: Value, mut tensors: Tensors) -> Result<Detokenized, BadField> {
        // Kept as bytes, because ids may end inside a code point.
        let text = result(&mut tensors, "text", DType::U8)?.bytes;
        let ends = may_result(&mut tensors, "ends", DType::I32)?.map(|ends| ends.to_i32());
        Ok(Detokenized { text, ends })
    }
}
