//! advance: a sampled id becomes the next call's token, at the next position.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::{Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values};

/// The op.
pub struct Advance;

static SIGNATURE: Signature = Signature {
    name: "advance",
    source: "the end of a decode step: the id is the token at position length; counters go up",
    operands: &[
        Operand::new("id", Class::Ids, &["1"]),
        Operand::new("token", Class::Ids, &["1"]),
        Operand::new("position", Class::Ids, &["1"]),
        Operand::new("length", Class::Ids, &["1"]),
        Operand::new("draws", Class::Ids, &["1"]),
        Operand::new("seen", Class::Ids, &["words"]),
    ],
    attributes: &[],
    results: &[
        ResultSlot::sharing("token", Class::Ids, &["=token"], "token"),
        ResultSlot::sharing("position", Class::Ids, &["=position"], "position"),
        ResultSlot::sharing("length", Class::Ids, &["=length"], "length"),
        ResultSlot::sharing("draws", Class::Ids, &["=draws"], "draws"),
        ResultSlot::sharing("seen", Class::Ids, &["=seen"], "seen"),
    ],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "AdvanceArgs",
    fields: &[
        ("id", Field::Ptr),
        ("token", Field::Ptr),
        ("position", Field::Ptr),
        ("length", Field::Ptr),
        ("draws", Field::Ptr),
        ("seen", Field::Ptr),
        ("fault", Field::Ptr),
        ("words", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "advance",
    text: include_str!("../../../cuda/advance.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

impl Op for Advance {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let words = question.dims.get("words");
        let id = inputs.ids("id")[0];
        if id < 0 || id as usize >= 32 * words {
            let message = format!("is {id}, wants 0 to {}", 32 * words - 1);
            return Err(Refusal::new(RefusalKind::IdOutOfRange, "id", message));
        }
        let one = |x: i32| Values::Ids(vec![x]);
        let next = |name: &str| one(inputs.ids(name)[0].wrapping_add(1));
        let mut seen = inputs.ids("seen").to_vec();
        seen[id as usize / 32] |= 1 << (id % 32);
        let length = inputs.ids("length")[0];
        Ok(vec![one(id), one(length), next("length"), next("draws"), Values::Ids(seen)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let args = Args::new(
            &ARGS,
            [
                ("id", Arg::Slot("id", 0)),
                ("token", Arg::Slot("token", 0)),
                ("position", Arg::Slot("position", 0)),
                ("length", Arg::Slot("length", 0)),
                ("draws", Arg::Slot("draws", 0)),
                ("seen", Arg::Slot("seen", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("words", Arg::I32(question.dims.get("words") as i32)),
            ],
        );
        Lowered {
            faults: vec![(RefusalKind::IdOutOfRange, "id")],
            ..Lowered::one(Launch::new(&PAGE, "advance_i32".into(), 1, 32, args))
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, _question: &Question) -> Cost {
        // Five words read, five written, and the word of the seen id both.
        Cost { bytes: 44.0, operations: 3.0 }
    }
}
