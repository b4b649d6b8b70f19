//! Tests the judge before a row is judged: the row's golden shows what the judge can detect.
//!
//! The rounded golden must pass. A NaN, an element moved beyond its allowance, a last row of zeros,
//! a different id and a missing result must not. Then twelve faults are planted in the answer and
//! those that are detected are counted, so that every row states how much its golden can reveal.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, RefusalKind, Tensor};
use goldgate_wire::Observed;

use crate::kinds::op::case::Expect;
use crate::kinds::op::distance::{Ruler, exceeds};
use crate::kinds::op::judge::judge;
use crate::kinds::op::outcome::Outcome;
use crate::line::{Verdict, Whom};

/// The smallest step next to a number that is certain to survive a sum in `f64`, as a fraction of
/// it.
const VISIBLE: f64 = 1.0 / (1u64 << 45) as f64;

/// A fault in the answer; the same faults are used for every op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All elements are 1 % too large.
    Gain,
    /// One element is off by half an ulp and twice its allowance (ids: by one).
    OneElement,
    /// The last row is zero.
    LastRow,
    /// The last column is zero, as if a tail were left out.
    LastColumn,
    /// The last element is NaN.
    NotANumber,
    /// All signs are inverted.
    Sign,
    /// First and last row are swapped.
    RowsSwapped,
    /// Every row is the first one.
    RowsRepeated,
    /// Rows and columns are swapped, under the same shape.
    Transposed,
    /// Every element is that of its left neighbour.
    Shifted,
    /// All elements are zero.
    Zeros,
    /// All elements are rounded to bf16 in between.
    RoundedToBf16,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 12] = [
        Fault::Gain,
        Fault::OneElement,
        Fault::LastRow,
        Fault::LastColumn,
        Fault::NotANumber,
        Fault::Sign,
        Fault::RowsSwapped,
        Fault::RowsRepeated,
        Fault::Transposed,
        Fault::Shifted,
        Fault::Zeros,
        Fault::RoundedToBf16,
    ];

    /// Element `i` of the perfect answer with this fault.
    pub fn plant(self, ruler: &Ruler, i: usize) -> f64 {
        let (want, n, width) = (&ruler.want, ruler.len(), ruler.width());
        let round = |x: f64| ruler.meta.dtype.round(x);
        let rows = n / width;
        let (row, column) = (i / width, i % width);
        match self {
            Fault::Gain => round(want[i] * 1.01),
            Fault::OneElement if moved(ruler) == Some(i) => beyond(ruler, i, 2.0),
            Fault::LastRow if row + 1 == rows => 0.0,
            Fault::LastColumn if column + 1 == width => 0.0,
            Fault::NotANumber if last_asked(ruler) == Some(i) => f64::NAN,
            Fault::Sign => -want[i],
            Fault::RowsSwapped if row == 0 => want[(rows - 1) * width + column],
            Fault::RowsSwapped if row + 1 == rows => want[column],
            Fault::RowsRepeated => want[column],
            Fault::Transposed => want[i % rows * width + i / rows],
            Fault::Shifted => want[(i + n - 1) % n],
            Fault::Zeros => 0.0,
            Fault::RoundedToBf16 => round(DType::BF16.round(want[i])),
            _ => want[i],
        }
    }

    /// Whether the result's type can express the fault at all.
    fn fits(self, ruler: &Ruler) -> bool {
        // Ids are whole numbers, so these faults cannot be expressed in them.
        let real_only = [Fault::Gain, Fault::NotANumber, Fault::Sign, Fault::RoundedToBf16];
        ruler.meta.dtype != DType::I32 || !real_only.contains(&self)
    }
}

/// The element that [`Fault::OneElement`] moves: the last finite one that is compared.
fn moved(ruler: &Ruler) -> Option<usize> {
    (0..ruler.len()).rev().find(|&i| ruler.asks(i) && ruler.want[i].is_finite())
}

fn last_asked(ruler: &Ruler) -> Option<usize> {
    (0..ruler.len()).rev().find(|&i| ruler.asks(i))
}

/// Element `i` moved by half an ulp and `times` its allowance, or to the next value if there is
/// none.
fn beyond(ruler: &Ruler, i: usize, times: f64) -> f64 {
    let (r, half, allow) = (ruler.golden[i], ruler.half[i], ruler.allow[i]);
    if ruler.meta.dtype == DType::I32 {
        return ruler.want[i] + 1.0;
    }
    // Without an allowance the nearest wrong answer is the next value of the type.
    if allow == 0.0 || ruler.exact {
        return ruler.want[i] + 2.0 * half;
    }
    // A very small allowance would vanish in this sum and leave the right answer.
    r + half + (times * allow).max((r.abs() + half) * VISIBLE)
}

/// Whether an answer passes by load and gain. Stops at the first element that fails.
fn passes(ruler: &Ruler, answer: impl Fn(usize) -> f64) -> bool {
    (0..ruler.len()).filter(|&i| ruler.asks(i)).all(|i| ruler.load(i, answer(i)) <= 1.0)
        && ruler.gain(answer).is_none_or(|gain| gain.holds())
}

/// Plants every fault in every result. Returns how many were planted, and how many of them were
/// detected. A fault that changes no compared element of this golden is not planted.
pub fn faults(rulers: &[Ruler]) -> (u32, u32) {
    let (mut asked, mut noticed) = (0, 0);
    for ruler in rulers.iter().filter(|r| last_asked(r).is_some()) {
        let at = moved(ruler);
        let last = last_asked(ruler);
        for fault in Fault::ALL.into_iter().filter(|f| f.fits(ruler)) {
            // Faults of a single element are checked only there, the others until one element
            // differs.
            let seen = match fault {
                Fault::OneElement => at.map(|i| exceeds(ruler.load(i, fault.plant(ruler, i)), 1.0)),
                // Where NaN is expected it is the right answer, so nothing is planted.
                Fault::NotANumber => last
                    .filter(|&i| !ruler.want[i].is_nan())
                    .map(|i| exceeds(ruler.load(i, f64::NAN), 1.0)),
                _ if differs(ruler, fault) => Some(!passes(ruler, |i| fault.plant(ruler, i))),
                _ => None,
            };
            asked += u32::from(seen.is_some());
            noticed += u32::from(seen == Some(true));
        }
    }
    (asked, noticed)
}

fn differs(ruler: &Ruler, fault: Fault) -> bool {
    let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
    (0..ruler.len()).any(|i| ruler.asks(i) && !same(fault.plant(ruler, i), ruler.want[i]))
}

/// Tests the judge on this row's golden.
///
/// # Errors
/// A fault that it accepted, or a right answer that it refused.
pub fn self_check(expect: &Expect, rulers: &[Ruler]) -> Result<(), String> {
    match expect {
        Expect::Refusal { kind, operand } => check_refusal(expect, *kind, operand),
        Expect::Answer { .. } => {
            rulers.iter().filter(|r| last_asked(r).is_some()).try_for_each(check_result)?;
            check_set(expect, rulers)
        }
    }
}

fn check_result(ruler: &Ruler) -> Result<(), String> {
    let name = &ruler.name;
    if !passes(ruler, |i| ruler.want[i]) {
        return Err(format!("the golden of {name}, rounded, does not pass"));
    }
    let Some(last) = last_asked(ruler) else { return Ok(()) };
    let nan = |i: usize| if i == last { f64::NAN } else { ruler.want[i] };
    if !ruler.want[last].is_nan() && passes(ruler, nan) {
        return Err(format!("{name} passes with a NaN"));
    }
    if let Some(at) = moved(ruler) {
        let with = |x: f64| move |i: usize| if i == at { x } else { ruler.want[i] };
        if passes(ruler, with(beyond(ruler, at, 2.0))) {
            return Err(format!("{name} passes with an element moved beyond its allowance"));
        }
        // The other direction: a judge that is too strict would fail correct subjects.
        let half = 0.5 * ruler.allow[at];
        let visible = (ruler.golden[at].abs() + ruler.half[at]) * VISIBLE;
        if !ruler.exact && half > visible {
            let inside = ruler.golden[at] + ruler.half[at] + half;
            if inside.is_finite() && exceeds(ruler.load(at, inside), 1.0) {
                return Err(format!("{name} fails with an element moved within its allowance"));
            }
        }
    }
    let row = ruler.len() - ruler.width()..ruler.len();
    let was_zero = row.clone().all(|i| ruler.want[i] == 0.0 || !ruler.asks(i));
    // A row that is zero anyway, or not compared, cannot show that it was left out.
    if !was_zero && passes(ruler, |i| if row.contains(&i) { 0.0 } else { ruler.want[i] }) {
        return Err(format!("{name} passes with its last row zero"));
    }
    Ok(())
}

/// Tests the judge on a missing result, and on a refusal in place of the answer.
fn check_set(expect: &Expect, rulers: &[Ruler]) -> Result<(), String> {
    let missing = Outcome::Answered { results: BTreeMap::new(), observed: Observed::default() };
    if judge(expect, rulers, &missing, &Whom::Cpu).verdict == Verdict::Pass {
        return Err("an answer without results passes".into());
    }
    let refused = refused(RefusalKind::NotSupported, "x");
    if judge(expect, rulers, &refused, &Whom::Cpu).verdict == Verdict::Pass {
        return Err("a refusal in place of an answer passes".into());
    }
    Ok(())
}

fn check_refusal(expect: &Expect, kind: RefusalKind, operand: &str) -> Result<(), String> {
    let verdict = |outcome: &Outcome| judge(expect, &[], outcome, &Whom::Cpu).verdict;
    if verdict(&refused(kind, operand)) != Verdict::Pass {
        return Err(format!("the awaited refusal, {kind} of {operand}, does not pass"));
    }
    let other = RefusalKind::ALL.iter().copied().find(|k| *k != kind);
    if other.is_some_and(|k| verdict(&refused(k, operand)) == Verdict::Pass) {
        return Err("a refusal of another kind passes".into());
    }
    let answer = Outcome::Answered {
        results: BTreeMap::from([("y".to_owned(), Tensor::from_f64(DType::F32, &[1], &[0.0]))]),
        observed: Observed::default(),
    };
    if verdict(&answer) == Verdict::Pass {
        return Err("an answer passes where a refusal is awaited".into());
    }
    Ok(())
}

fn refused(kind: RefusalKind, operand: &str) -> Outcome {
    Outcome::Refused { kind: kind.name().into(), operand: operand.into(), message: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::op::case::{Accumulate, GoldenSource, Tolerance, ToleranceRule};
    use crate::kinds::op::golden::{GoldenResult, Numbers};

    fn tolerance(rule: ToleranceRule) -> Tolerance {
        let keeps = BTreeMap::new();
        Tolerance { rule, accumulate: Accumulate::F32, linear_sum: false, keeps, because: None }
    }

    fn ruler(dtype: DType, shape: &[usize], numbers: Numbers, rule: ToleranceRule) -> Ruler {
        let slack = vec![8.0; numbers.len()];
        let shape = shape.to_vec();
        let (keeps, absolute, decided) = Default::default();
        let result = GoldenResult {
            shape,
            numbers,
            slack,
            keeps,
            absolute,
            decided,
            declared: BTreeMap::new(),
            shaky: BTreeMap::new(),
        };
        Ruler::new("y", dtype, &result, &tolerance(rule))
    }

    fn wave(n: usize) -> Numbers {
        Numbers::Real((0..n).map(|i| (i as f64 * 0.7).sin() * 3.0 + 0.01).collect())
    }

    fn any_answer() -> Expect {
        let golden = GoldenSource::File("g".into());
        Expect::Answer { golden, tolerance: tolerance(ToleranceRule::Derived) }
    }

    #[test]
    fn an_honest_golden_stands_and_shows_all_twelve() {
        let r = ruler(DType::F32, &[7, 11], wave(77), ToleranceRule::Derived);
        assert_eq!(self_check(&any_answer(), std::slice::from_ref(&r)), Ok(()));
        assert_eq!(faults(&[r]), (12, 12));
    }

    #[test]
    fn every_type_and_ids_stand() {
        for dtype in DType::ACTIVATIONS {
            for rule in [ToleranceRule::Derived, ToleranceRule::Exact] {
                let r = ruler(dtype, &[5, 3], wave(15), rule);
                assert_eq!(self_check(&any_answer(), &[r]), Ok(()), "{dtype}");
            }
        }
        let ids = Numbers::Ids(vec![4, 2, 9, 0, 1, 7]);
        let r = ruler(DType::I32, &[3, 2], ids, ToleranceRule::Derived);
        assert_eq!(self_check(&any_answer(), std::slice::from_ref(&r)), Ok(()));
        assert_eq!(faults(&[r]), (8, 8));
    }

    #[test]
    fn infinities_and_nan_in_the_golden_are_no_trouble() {
        let numbers = Numbers::Real(vec![1.0, f64::NAN, f64::NEG_INFINITY, 2.0, 1e6, f64::NAN]);
        let r = ruler(DType::F16, &[2, 3], numbers, ToleranceRule::Derived);
        assert_eq!(self_check(&any_answer(), std::slice::from_ref(&r)), Ok(()));
        let (asked, noticed) = faults(&[r]);
        assert_eq!(asked, noticed);
    }

    #[test]
    fn a_golden_far_below_the_smallest_number_stands() {
        let tiny = Numbers::Real(vec![-3.7e-42, 1e-44, -2e-43, 5e-40]);
        let slack = vec![1e-36; 4];
        let (keeps, absolute, decided) = Default::default();
        let shape = vec![2, 2];
        let result = GoldenResult {
            shape,
            numbers: tiny,
            slack,
            keeps,
            absolute,
            decided,
            declared: BTreeMap::new(),
            shaky: BTreeMap::new(),
        };
        let r = Ruler::new("y", DType::F16, &result, &tolerance(ToleranceRule::Derived));
        assert_eq!(self_check(&any_answer(), &[r]), Ok(()));
    }

    #[test]
    fn a_judge_that_is_too_mild_is_found_out() {
        let mild = ToleranceRule::Number { absolute: 10.0, relative: 0.0, ulp: 0.0 };
        let r = ruler(DType::F32, &[7, 11], wave(77), mild);
        let outcome = self_check(&any_answer(), std::slice::from_ref(&r));
        assert_eq!(outcome, Err("y passes with its last row zero".into()));
        let (asked, noticed) = faults(&[r]);
        assert!(asked == 12 && noticed < 12, "{noticed} of {asked}");
    }

    #[test]
    fn equivalent_faults_are_not_asked() {
        let r = ruler(DType::BF16, &[1, 2], Numbers::Real(vec![2.0, 2.0]), ToleranceRule::Derived);
        // Rows, columns, neighbours are equal, and bf16 is its own type.
        assert_eq!(faults(&[r]), (7, 7));
    }

    #[test]
    fn refusals_are_on_trial_too() {
        for kind in RefusalKind::ALL {
            let expect = Expect::Refusal { kind: *kind, operand: "x".into() };
            assert_eq!(self_check(&expect, &[]), Ok(()));
        }
    }

    #[test]
    fn it_is_fast_enough_for_every_row() {
        let r = [ruler(DType::F32, &[29, 1000], wave(29_000), ToleranceRule::Derived)];
        let start = std::time::Instant::now();
        assert_eq!(self_check(&any_answer(), &r), Ok(()));
        assert_eq!(faults(&r).0, 12);
        // Ten times what it takes optimised, so that a busy machine does not fail it.
        assert!(start.elapsed().as_millis() < 50, "{:?}", start.elapsed());
    }
}
