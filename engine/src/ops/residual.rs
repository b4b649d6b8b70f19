//! residual: y = a + b, each element rounded once to the type of a.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::ops::{
    Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, elementwise, traffic,
};

/// The op.
pub struct Residual;

static SIGNATURE: Signature = Signature {
    name: "residual",
    source: "He et al. 2015, \"Deep Residual Learning for Image Recognition\", eq. 1",
    operands: &[Operand::new("a", Class::R, &["..."]), Operand::new("b", Class::DOrF32, &["..."])],
    attributes: &[],
    results: &[ResultSlot::sharing("y", Class::Like("a"), &["=a"], "a")],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "ResidualArgs",
    fields: &[("a", Field::Ptr), ("b", Field::Ptr), ("y", Field::Ptr), ("count", Field::I64)],
};

pub(crate) static PAGE: Page = Page {
    name: "residual",
    text: include_str!("../../../cuda/residual.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// The launch over `count` elements; the result has the type of `a`.
pub(crate) fn launch(a: (Arg, DType), b: (Arg, DType), y: Arg, count: usize) -> Launch {
    let entry = format!("residual_{}_{}", a.1, b.1);
    let bytes = a.1.bytes().min(b.1.bytes());
    let count64 = Arg::I64(count as i64);
    let args = Args::new(&ARGS, [("a", a.0), ("b", b.0), ("y", y), ("count", count64)]);
    elementwise::launch(&PAGE, entry, count, bytes, args)
}

impl Op for Residual {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let shape = |name| question.operand(name).map(|m| m.shape.clone()).unwrap_or_default();
        let (a, b) = (shape("a"), shape("b"));
        if a == b {
            return Ok(());
        }
        Err(Refusal::new(RefusalKind::ShapeMismatch, "b", format!("is {b:?}, a is {a:?}")))
    }

    fn define(&self, _question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let (a, b) = (inputs.real("a"), inputs.real("b"));
        Ok(vec![Values::Real(a.iter().zip(b).map(|(a, b)| a + b).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let count = question.operand("a").and_then(|m| m.volume()).expect("checked");
        let [a, b] = ["a", "b"].map(|name| (Arg::Slot(name, 0), question.type_of(name)));
        Lowered::one(launch(a, b, Arg::Slot("y", 0), count))
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.operand("a").and_then(|m| m.volume()).unwrap_or(0);
        Cost { bytes: traffic(question), operations: count as f64 }
    }
}
