//! swiglu: y = silu(gate) · up, with silu(g) = g / (1 + e^(−g)).

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::ops::declared::moved;
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, declared, elementwise, slack, traffic,
};

/// The op.
pub struct Swiglu;

/// Gate and up, of one shape and one type.
pub(crate) const GATE_AND_UP: &[Operand] = &[
    Operand::new("gate", Class::DOrF32, &["n", "f"]),
    Operand::new("up", Class::DOrF32, &["n", "f"]),
];

static SIGNATURE: Signature = Signature {
    name: "swiglu",
    source: "Shazeer 2020, \"GLU Variants Improve Transformer\", eq. 5",
    operands: GATE_AND_UP,
    attributes: &[],
    results: &[ResultSlot::new("y", Class::D, &["n", "f"])],
    rounds_inside: false,
};

pub(crate) static ARGS: Layout = Layout {
    name: "SwigluArgs",
    fields: &[
        ("gate", Field::Ptr),
        ("up", Field::Ptr),
        ("y", Field::Ptr),
        ("count", Field::I64),
        ("alpha", Field::F32),
        ("limit", Field::F32),
    ],
};

pub(crate) static PAGE: Page = Page {
    name: "swiglu",
    text: include_str!("../../../cuda/swiglu.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// g / (1 + e^(−g)); −0 for large negative g, never NaN for a finite one.
pub fn silu(g: f64) -> f64 {
    g / (1.0 + (-g).exp())
}

/// Gate and up must be of one type.
/// c inside SwiGLU: of the sigmoid, and of the gate times that.
pub(crate) fn steps(gate: f64, up: f64) -> Vec<f64> {
    let s = 1.0 / (1.0 + (-gate).exp());
    vec![moved(gate * up, s), moved(up, gate * s)]
}

pub(crate) fn check_types(question: &Question) -> Result<(), Refusal> {
    let (gate, up) = (question.type_of("gate"), question.type_of("up"));
    if gate == up {
        return Ok(());
    }
    let message = format!("is {up}, gate is {gate}");
    Err(Refusal::new(RefusalKind::DtypeMismatch, "up", message))
}

/// The launch of either swiglu, from the type of `gate` and `up` to that of `y`.
pub(crate) fn launch(
    page: &'static Page,
    [gate, up, y]: [Arg; 3],
    [x_type, y_type]: [DType; 2],
    count: usize,
    [alpha, limit]: [f32; 2],
) -> Launch {
    let args = Args::new(
        &ARGS,
        [
            ("gate", gate),
            ("up", up),
            ("y", y),
            ("count", Arg::I64(count as i64)),
            ("alpha", Arg::F32(alpha)),
            ("limit", Arg::F32(limit)),
        ],
    );
    let entry = format!("{}_{x_type}_{y_type}", page.name);
    elementwise::launch(page, entry, count, x_type.bytes().min(y_type.bytes()), args)
}

/// The one launch of a question about either swiglu.
pub(crate) fn lower(page: &'static Page, question: &Question, settings: [f32; 2]) -> Lowered {
    let count = question.operand("gate").and_then(|m| m.volume()).expect("checked");
    let slots = ["gate", "up", "y"].map(|name| Arg::Slot(name, 0));
    let types = [question.type_of("gate"), question.dtype];
    Lowered::one(launch(page, slots, types, count, settings))
}

impl Op for Swiglu {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        check_types(question)
    }

    fn define(&self, _question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let (gate, up) = (inputs.real("gate"), inputs.real("up"));
        Ok(vec![Values::Real(gate.iter().zip(up).map(|(&g, u)| silu(g) * u).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        lower(&PAGE, question, [1.0, 0.0])
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let pairs = asked.inputs.real("gate").iter().zip(asked.inputs.real("up"));
        let y = pairs.zip(values[0].real());
        vec![Slack::of(y.map(|((g, u), y)| slack::swiglu(*g, *u, *y, None)).collect())]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let (gate, up) = (asked.inputs.real("gate"), asked.inputs.real("up"));
        let c = |i: usize| steps(gate[i], up[i]);
        vec![declared::alone(declared::ACTIVATION, &values[0], c)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.operand("gate").and_then(|m| m.volume()).unwrap_or(0);
        Cost { bytes: traffic(question), operations: 12.0 * count as f64 }
    }
}
