//! What a subject says of itself before anything is asked, for questions about ops.

pub use goldgate_wire::hello::{BENCH_MODEL, FIRST_FRAME, Hello, MAX_FRAME, OpNeeds, SEQUENCES};

use crate::subject::OpQuestion;

impl<'q> From<&'q OpQuestion> for OpNeeds<'q> {
    fn from(question: &'q OpQuestion) -> OpNeeds<'q> {
        OpNeeds { op: &question.op, dtype: question.dtype, weight: question.weight() }
    }
}
