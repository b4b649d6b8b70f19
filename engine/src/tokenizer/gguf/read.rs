//! The vocabulary out of the metadata of an open file.

use super::Vocabulary;
use crate::tokenizer::texts::Texts;
use crate::weights::Gguf;
use crate::weights::gguf::{Array, Element, Value};
use crate::weights::refusal::{Code, Malformed};

/// Ids by name: `tokenizer.ggml.<name>_token_id`.
const SPECIAL: &[&str] = &["bos", "eos", "eot", "eom", "unknown", "padding"];

impl Vocabulary {
    /// Reads `tokenizer.ggml.*` and the chat template.
    ///
    /// # Errors
    /// A field of another type than the format gives it.
    pub fn of_gguf(gguf: &Gguf) -> Result<Vocabulary, Malformed> {
        let fields = Fields(gguf);
        let list = |name| -> Result<Texts, Malformed> {
            let array = fields.array(name, "an array of strings")?;
            match array.map(|a| a.strings().map(|s| gathered(a, s)).ok_or(a)) {
                None => Ok(Texts::default()),
                Some(Ok(texts)) => Ok(texts),
                Some(Err(other)) => Err(fields.no(name, &other, "an array of strings")),
            }
        };
        let tokens = list("tokens")?;
        let types = fields.array("token_type", "an array of whole numbers")?;
        if let Some(types) = types.filter(|types| types.len() != tokens.len()) {
            // Before they are read: eight bytes each may be more than the file.
            return Err(Malformed::new(
                Code::VocabLen,
                gguf.file().path(),
                "tokenizer.ggml.token_type",
                types.len().to_string(),
                format!("{}, as many as tokens", tokens.len()),
            ));
        }
        let types = match types.map(|a| (a, a.integers())) {
            None => None,
            Some((_, Some(types))) => Some(types),
            Some((other, None)) => {
                return Err(fields.no("token_type", other, "an array of whole numbers"));
            }
        };
        let scores = match fields.array("scores", "an array of float32")? {
            Some(scores) if scores.element() != Element::F32 => {
                return Err(fields.no("scores", scores, "an array of float32"));
            }
            scores => scores.map(Array::len),
        };
        let mut special = Vec::new();
        for name in SPECIAL {
            let key = format!("{name}_token_id");
            if let Some(value) = fields.get(&key) {
                let id = value.as_u64();
                let id = id.ok_or_else(|| fields.no(&key, &value.kind(), "a whole number"))?;
                special.push(((*name).to_owned(), id));
            }
        }
        let template = gguf.metadata().get("tokenizer.chat_template").and_then(Value::as_str);
        Ok(Vocabulary {
            file: gguf.file().path().to_path_buf(),
            model: fields.text("model")?.unwrap_or_else(|| "none".to_owned()),
            pre: fields.text("pre")?,
            tokens,
            token_types: types,
            scores,
            merges: list("merges")?,
            special,
            add_bos: fields.flag("add_bos_token")?,
            add_eos: fields.flag("add_eos_token")?,
            chat_template: template.map(str::to_owned),
        })
    }
}

fn gathered<'t>(array: &Array, strings: impl Iterator<Item = &'t str>) -> Texts {
    let mut texts = Texts::with_capacity(array.len());
    strings.for_each(|s| texts.push(s.as_bytes()));
    texts
}

/// The keys below `tokenizer.ggml.`.
struct Fields<'g>(&'g Gguf);

impl<'g> Fields<'g> {
    fn get(&self, name: &str) -> Option<&'g Value> {
        self.0.metadata().get(&format!("tokenizer.ggml.{name}"))
    }

    fn no(&self, name: &str, found: &dyn std::fmt::Debug, expected: &str) -> Malformed {
        let field = format!("tokenizer.ggml.{name}");
        let found = format!("{found:?}");
        Malformed::new(Code::VocabType, self.0.file().path(), field, found, expected)
    }

    fn array(&self, name: &str, expected: &str) -> Result<Option<&'g Array>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_array().map(Some).ok_or_else(|| self.no(name, &value.kind(), expected))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().map(|t| Some(t.to_owned()));
        text.ok_or_else(|| self.no(name, &value.kind(), "a string"))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.no(name, &value.kind(), "a boolean"))
    }
}
