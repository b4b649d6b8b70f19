//! The call `generate`: continues one prompt or several with generated text.

use goldgate_tensor::DType;
use serde_json::Value;

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields, i32s, may_result, operand, result, u8s};
use crate::observed::Observed;
use crate::words::Stop;

/// Asks for text that continues prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generate {
    /// The handle of the model.
    pub model: u64,
    /// The most tokens of each text.
    pub max_tokens: Option<u64>,
    /// Whether to ignore the model's own end tokens.
    pub ignore_eos: Option<bool>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end a text.
    pub stop: Option<Vec<String>>,
    /// Ids that end a text.
    pub stop_ids: Option<Vec<u32>>,
    /// One seed per prompt, in place of counting up from `sampling.seed`.
    pub seeds: Option<Vec<u64>>,
    /// The tokens of the prompt; of several prompts, one after the other.
    pub ids: Vec<i32>,
    /// The length of each of several prompts; absent if there is only one.
    pub lengths: Option<Vec<i32>>,
}

/// How a token is chosen. Absent settings have no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// The divisor of the logits; 0 chooses the largest.
    pub temperature: Option<f64>,
    /// How many of the most likely tokens are kept; 0 keeps all.
    pub top_k: Option<u64>,
    /// The fraction of the probability mass that is kept.
    pub top_p: Option<f64>,
    /// The least probability that is kept, as a fraction of the largest.
    pub min_p: Option<f64>,
    /// By how much logits of tokens that occurred before are lowered.
    pub repetition_penalty: Option<f64>,
    /// The key of the generator.
    pub seed: Option<u64>,
}

impl Sampling {
    fn write(&self, body: &mut Body) {
        body.may_real("temperature", self.temperature);
        body.may_real("top_p", self.top_p);
        body.may_real("min_p", self.min_p);
        body.may_real("repetition_penalty", self.repetition_penalty);
        body.may("top_k", self.top_k);
        body.may("seed", self.seed);
    }

    fn read(fields: Fields<'_>) -> Result<Sampling, BadField> {
        Ok(Sampling {
            temperature: fields.may_real("temperature")?,
            top_k: fields.may_number("top_k")?,
            top_p: fields.may_real("top_p")?,
            min_p: fields.may_real("min_p")?,
            repetition_penalty: fields.may_real("repetition_penalty")?,
            seed: fields.may_number("seed")?,
        })
    }
}

/// Generated text, for one prompt or for several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The ids that were handed out; for several prompts, one text after the other.
    pub ids: Vec<i32>,
    /// The number of ids of each of several texts.
    pub lengths: Option<Vec<i32>>,
    /// The text for one prompt, without control tokens; absent if there is no vocabulary.
    pub text: Option<Vec<u8>>,
    /// Why the text for one prompt ended.
    pub stop: Option<Stop>,
    /// Why each of several texts ended.
    pub stops: Option<Vec<Stop>>,
    /// The time in ms from the question to the first token.
    pub first_token_ms: Option<f64>,
    /// The time in ms from the question to the last token.
    pub total_ms: Option<f64>,
    /// What the subject observed.
    pub observed: Observed,
}

impl Generated {
    /// The ids of each of `count` texts.
    ///
    /// # Errors
    /// Lengths are missing, or do not fit the ids of that many texts.
    pub fn texts(&self, count: usize) -> Result<Vec<Vec<i32>>, BadField> {
        let lengths = self.lengths.as_ref().ok_or_else(|| BadField::no_tensor("lengths"))?;
        let mut rest = &self.ids[..];
        let mut texts = Vec::with_capacity(lengths.len());
        for length in lengths {
            // A negative or excessive length must not reach the split, which would panic.
            let length = usize::try_from(*length).ok().filter(|n| *n <= rest.len());
            let Some((text, after)) = length.map(|n| rest.split_at(n)) else { break };
            texts.push(text.to_vec());
            rest = after;
        }
        // Ids that belong to no text would be compared as those of a neighbour.
        if texts.len() != count || lengths.len() != count || !rest.is_empty() {
            let found = lengths.len();
            let message = format!("{found} lengths that are not those of the ids of {count}");
            return Err(BadField::Count(message));
        }
        Ok(texts)
    }
}

impl Generate {
    /// The question for several prompts, with their lengths.
    pub fn several(self, prompts: &[Vec<i32>]) -> Generate {
        // A length beyond i32 cannot be sent; the largest one is refused by every context.
        let lengths = prompts.iter().map(|p| i32::try_from(p.len()).unwrap_or(i32::MAX));
        Generate { ids: prompts.concat(), lengths: Some(lengths.collect()), ..self }
    }
}

impl Call for Generate {
    const NAME: &'static str = "generate";

    type Answer = Generated;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("model", self.model);
        body.may("max_tokens", self.max_tokens);
        body.may("ignore_eos", self.ignore_eos);
        self.sampling.write(&mut body);
        body.may("stop", self.stop.clone());
        body.may("stop_ids", self.stop_ids.clone());
        body.may("seeds", self.seeds.clone());
        let mut tensors = Tensors::from([("ids".to_owned(), i32s(&self.ids))]);
        tensors.extend(self.lengths.iter().map(|list| ("lengths".to_owned(), i32s(list))));
        (body.json(), tensors)
    }

    fn read(question: &Value, mut tensors: Tensors) -> Result<Generate, BadQuestion> {
        let fields = Fields(question);
        let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        // Absent lengths mean one prompt, which is answered in a form of its own.
        let lengths = match tensors.contains_key("lengths") {
            true => Some(operand(&mut tensors, "lengths", DType::I32)?.to_i32()),
            false => None,
        };
        let text = |v: &Value| v.as_str().map(str::to_owned);
        Ok(Generate {
            model: fields.number("model")?,
            max_tokens: fields.may_number("max_tokens")?,
            ignore_eos: fields.may_flag("ignore_eos")?,
            sampling: Sampling::read(fields)?,
            stop: fields.may_list("stop", "a list of texts", text)?,
            stop_ids: fields.may_list("stop_ids", "a list of ids", id)?,
            seeds: fields.may_list("seeds", "a list of seeds", Value::as_u64)?,
            ids: operand(&mut tensors, "ids", DType::I32)?.to_i32(),
            lengths,
        })
    }

    fn write_answer(answer: Generated) -> (Value, Tensors) {
        let mut body = Body::default();
        body.may("stop", answer.stop.map(Stop::name));
        let names = |stops: Vec<Stop>| stops.into_iter().map(Stop::name).collect::<Vec<_>>();
        body.may("stops", answer.stops.map(names));
        body.put("first_token_ms", answer.first_token_ms);
        body.put("total_ms", answer.total_ms);
        // Left out if nothing was observed: absent means unknown.
        if answer.observed != Observed::default() {
            body.put("observed", answer.observed.json());
        }
        let mut tensors = Tensors::from([("ids".to_owned(), i32s(&answer.ids))]);
        tensors.extend(answer.lengths.map(|list| ("lengths".to_owned(), i32s(&list))));
        tensors.extend(answer.text.map(|text| ("text".to_owned(), u8s(text))));
        (body.json(), tensors)
    }

    fn read_answer(body: Value, mut tensors: Tensors) -> Result<Generated, BadField> {
        let fields = Fields(&body);
        let wants = "eos, stop, length or context";
        let word = |v: &Value| v.as_str().and_then(|word| word.parse().ok());
        Ok(Generated {
            ids: result(&mut tensors, "ids", DType::I32)?.to_i32(),
            lengths: may_result(&mut tensors, "lengths", DType::I32)?.map(|list| list.to_i32()),
            text: may_result(&mut tensors, "text", DType::U8)?.map(|text| text.bytes),
            stop: fields.may_word("stop", wants)?,
            stops: fields.may_list("stops", wants, word)?,
            first_token_ms: fields.may_real("first_token_ms")?,
            total_ms: fields.may_real("total_ms")?,
            observed: Observed::from_answer(&body).map_err(BadField::Mistyped)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_by_its_lengths() {
        let answer = |ids: &[i32], lengths: &[i32]| {
            let lengths = Some(lengths.to_vec());
            Generated { ids: ids.to_vec(), lengths, ..Generated::default() }
        };
        let each = answer(&[1, 2, 3], &[2, 0, 1]).texts(3).expect("whole");
        assert_eq!(each, [vec![1, 2], vec![], vec![3]]);
        for (ids, lengths) in
            [(&[1, 2][..], &[2, 1][..]), (&[1, 2], &[1]), (&[1, 2], &[1, 0]), (&[1], &[-1, 2])]
        {
            assert!(answer(ids, lengths).texts(2).is_err(), "{ids:?} {lengths:?}");
        }
    }

    /// JSON has no NaN: as null it would read as absent, and the text would be greedy.
    #[test]
    fn a_setting_that_is_no_number_is_refused_and_not_lost() {
        for x in [f64::NAN, f64::INFINITY] {
            let sampling = Sampling { temperature: Some(x), ..Sampling::default() };
            let ask = Generate { sampling, ids: vec![1], ..Generate::default() };
            let (question, tensors) = ask.question();
            let error = Generate::read(&question, tensors).expect_err("no number").to_string();
            assert!(error.contains("temperature"), "{error}");
        }
    }
}
