//! sample: draws an id by the softmax of the logits, with Philox4x32-10.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::sampling::{LOGITS, no_nan};
use crate::ops::softmax::softmax;
use crate::ops::{
    Asked, Attribute, Class, Cost, Inputs, Op, Question, ResultSlot, Signature, Values, traffic,
};

/// The op.
pub struct Sample;

static SIGNATURE: Signature = Signature {
    name: "sample",
    source: "Salmon et al. 2011, \"Parallel random numbers: as easy as 1, 2, 3\" (Philox4x32-10)",
    operands: &[LOGITS],
    attributes: &[
        Attribute::whole("seed", 0, (1 << 53) - 1, None),
        Attribute::whole("index", 0, (1 << 53) - 1, None),
    ],
    results: &[ResultSlot::new("id", Class::Ids, &["1"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "SampleArgs",
    fields: &[
        ("logits", Field::Ptr),
        ("seed", Field::Ptr),
        ("index", Field::Ptr),
        ("id", Field::Ptr),
        ("fault", Field::Ptr),
        ("count", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "sample",
    text: include_str!("../../../cuda/sample.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// How near to a boundary of two ids a draw may fall to either side, as a part of the whole.
const NEAR: f64 = 1e-6;

/// One block of Philox4x32-10: four words of a counter under a key of two.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// Draw `index` of the stream of `seed`: 24 bits, a number in [0, 1).
pub fn uniform(seed: u64, index: u64) -> f64 {
    let words = |x: u64| [x as u32, (x >> 32) as u32];
    let [low, high] = words(index);
    f64::from(philox([low, high, 0, 0], words(seed))[0] >> 8) / f64::from(1 << 24)
}

impl Op for Sample {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let logits = inputs.real("logits");
        no_nan(logits)?;
        let [seed, index] = ["seed", "index"].map(|name| question.attributes.int(name) as u64);
        let shares = softmax(logits, 1.0);
        let aim = uniform(seed, index) * shares.iter().sum::<f64>();
        let mut sum = 0.0;
        let crossed = shares.iter().position(|p| {
            sum += p;
            sum > aim
        });
        match crossed {
            Some(id) => Ok(vec![Values::Ids(vec![id as i32])]),
            None => {
                let message = "no logit is above minus infinity";
                Err(Refusal::new(RefusalKind::NotANumber, "logits", message))
            }
        }
    }

    fn decided(&self, asked: &Asked) -> Option<Vec<bool>> {
        let [seed, index] =
            ["seed", "index"].map(|name| asked.question.attributes.int(name) as u64);
        let shares = softmax(asked.inputs.real("logits"), 1.0);
        let total: f64 = shares.iter().sum();
        let aim = uniform(seed, index) * total;
        let inner = shares.len().saturating_sub(1);
        let mut sum = 0.0;
        let near = shares[..inner].iter().any(|p| {
            sum += p;
            (sum - aim).abs() <= NEAR * total
        });
        Some(vec![!near])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let args = Args::new(
            &ARGS,
            [
                ("logits", Arg::Slot("logits", 0)),
                ("seed", Arg::Slot("seed", 0)),
                ("index", Arg::Slot("index", 0)),
                ("id", Arg::Slot("id", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("count", Arg::I32(question.dims.get("v") as i32)),
            ],
        );
        let number = |name: &str| question.attributes.int(name).to_le_bytes().to_vec();
        Lowered {
            constants: vec![("seed", number("seed")), ("index", number("index"))],
            faults: vec![(RefusalKind::NotANumber, "logits")],
            ..Lowered::one(Launch::new(&PAGE, "sample_f32".into(), 1, 1024, args))
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 12.0 * count }
    }
}

#[cfg(test)]
mod tests {
    use super::philox;

    #[test]
    fn known_answers_of_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }
}
