//! The kind *bench*: times one question, and reports the time alongside the limits of the card that
//! answered.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_wire::call::{BenchCopy, BenchOp, Limits, OpTimes};

use crate::fill::fill;
use crate::kinds::op::expand::Bench;
use crate::kinds::op::question::OpQuestion;
use crate::kinds::op::spec::Against;
use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Caller, FailKind, Family, Head, Judgement, On, Sort, Stopped, Verdict, Whom};

/// The time limit of a bench.
const LIMIT: Duration = Duration::from_secs(120);

/// How many medians a bench has: their median is its speed, and their spread its noise.
const MEDIANS: u64 = 5;

/// How many replays each of them is the median of.
const REPLAYS: u64 = 5;

/// How many bytes are copied to measure the card's own bandwidth.
const COPIED: u64 = 1 << 30;

/// The kind *bench*.
#[derive(Clone, Copy, Debug)]
pub struct Timed;

/// What a subject measured.
#[derive(Clone, Debug)]
pub struct Times {
    /// The time of each replay, and the bytes and operations that the question cannot do without.
    op: OpTimes,
    /// The limits of the card, measured once per run.
    limits: Limits,
    against: Against,
}

impl Kind for Timed {
    type Case = Bench;
    type Question = (OpQuestion, Against);
    type Golden = ();
    type Got = Times;

    fn head(&self, bench: &Bench) -> Head {
        let case = &bench.case;
        Head {
            name: case.full_name(),
            kind: "bench",
            sort: Sort::Bench,
            gate: case.gate,
            stem: case.stem.clone(),
            case: case.name.clone(),
            variant: case.variant.clone(),
            why: case.why.clone(),
            source: String::new(),
            place: Some(case.place.clone()),
            family: Family::Rough,
            dtype: Some(case.ask.dtype),
            golden: None,
            definition: false,
            slow: false,
            // A time is compared with limits that are measured on a card.
            on: On::Cards,
            group: None,
        }
    }

    fn golden(&self, _: &Bench, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, bench: &Bench, (): &()) -> Result<(u32, u32), String> {
        let times = |us: &[f64]| Times {
            op: OpTimes { us: us.to_vec(), ..OpTimes::default() },
            limits: Limits::default(),
            against: bench.against,
        };
        let passes = |us: &[f64]| self.judge(bench, &(), &times(us), &Whom::Cuda).passed();
        // Times have no golden, so the judge is tested only on what no subject may report.
        if !passes(&[1.0, 2.0]) {
            return Err("two times do not pass".to_owned());
        }
        for (what, us) in
            [("no time", &[][..]), ("a time of zero", &[1.0, 0.0]), ("NaN", &[f64::NAN])]
        {
            if passes(us) {
                return Err(format!("{what} passes"));
            }
        }
        Ok((0, 0))
    }

    fn question(
        &self,
        bench: &Bench,
        (): &(),
        _: &dyn Goldens,
    ) -> Result<(OpQuestion, Against), Withheld> {
        Ok((OpQuestion::from_case(&bench.case, fill), bench.against))
    }

    fn ask(
        &self,
        (question, against): &(OpQuestion, Against),
        to: &mut Caller<'_>,
    ) -> Result<Times, Stopped> {
        to.set_limit(LIMIT);
        // Before the limits of the card, which would be measured for nothing otherwise.
        to.need::<BenchOp>()?;
        // The limits hold for the card, not for the question, so they are measured once.
        let limits = to.once(&BenchCopy { bytes: COPIED })?.unwrap_or_default();
        let op = to.call(&BenchOp {
            op: question.call(to.limit()),
            warmup: None,
            iterations: Some(MEDIANS * REPLAYS),
            flush_l2: None,
        })?;
        Ok(Times { op, limits, against: *against })
    }

    fn judge(&self, _: &Bench, (): &(), got: &Times, _: &Whom) -> Judgement {
        let us = &got.op.us;
        // A time of zero or below cannot be measured, and would make any rate infinite.
        if us.is_empty() || us.iter().any(|t| !(t.is_finite() && *t > 0.0)) {
            return Judgement::fail(FailKind::Shape, "a time is missing or no number");
        }
        Judgement { figures: figures(got), ..Judgement::unmeasured(Verdict::Pass) }
    }
}

/// The median, because a single slow replay says nothing about the kernel.
fn median(us: &[f64]) -> f64 {
    let mut us = us.to_vec();
    us.sort_by(f64::total_cmp);
    us[us.len() / 2]
}

/// Median, noise, rates, and the fraction of the limit that the same run measured on the same card.
fn figures(got: &Times) -> BTreeMap<String, f64> {
    // A subject may replay less often than it was asked to.
    let each = (got.op.us.len() / MEDIANS as usize).max(1);
    let medians: Vec<f64> = got.op.us.chunks_exact(each).map(self::median).collect();
    let median = self::median(&medians);
    let most = medians.iter().copied().fold(median, f64::max);
    let least = medians.iter().copied().fold(median, f64::min);
    let mut figures = BTreeMap::from([
        ("median_us".to_owned(), median),
        ("least_median_us".to_owned(), least),
        ("most_median_us".to_owned(), most),
    ]);
    let Limits { copy_gb_s, read_gb_s, mma_tflop_s, gap_us } = got.limits;
    let limits = [
        ("copy_gb_s", copy_gb_s),
        ("read_gb_s", read_gb_s),
        ("mma_tflop_s", mma_tflop_s),
        ("gap_us", gap_us),
    ];
    figures.extend(limits.into_iter().filter_map(|(key, x)| Some((key.to_owned(), x?))));
    let (bytes, flops) = (got.op.bytes, got.op.flops);
    let (rate, limit) = match got.against {
        Against::Copy => (bytes.map(|b| b / median / 1e3), "copy_gb_s"),
        Against::Read => (bytes.map(|b| b / median / 1e3), "read_gb_s"),
        Against::Matmul => (flops.map(|f| f / median / 1e6), "mma_tflop_s"),
    };
    // The unit follows the limit, so that rate and limit can be compared.
    let unit = if limit == "mma_tflop_s" { "tflop_s" } else { "gb_s" };
    if let Some(rate) = rate {
        figures.insert(unit.to_owned(), rate);
        if let Some(limit) = figures.get(limit).copied().filter(|l| *l > 0.0) {
            figures.insert("share".to_owned(), rate / limit);
        }
    }
    figures
}
