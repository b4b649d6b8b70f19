//! Judges an answer about a model by every rule of its kind, and names the first that fails.

mod draws;
mod evidence;
pub(crate) mod generation;
mod logits;
pub(crate) mod stage;

use std::collections::BTreeMap;

use goldgate_wire::arithmetic::{Place, Rounding};

use crate::kinds::model::ask::{Answer, Content, Route, prompt};
use crate::kinds::model::case::{Ask, Load, ModelCase, Prompt};
use crate::kinds::model::class::{Class, mean_and_p99};
use crate::kinds::model::golden::ModelGolden;
use crate::line::{FailKind, NotRun, Part, Verdict, Whom};

/// The name of the comparison between `inspect` and `load`.
const PREDICTED: &str = "foretold memory";

/// The results of judging.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The first rule that failed; none if all hold.
    pub failed: Option<(FailKind, String)>,
    /// The first slot that diverges (*stage*).
    pub first: Option<String>,
    /// Why too little could be decided, if so.
    pub inconclusive: Option<String>,
    /// The largest distance as a fraction of its limit.
    pub load: f64,
    /// How many numbers, ids and bytes were compared.
    pub compared: u64,
    /// Measurements; each name contains the unit.
    pub figures: BTreeMap<String, f64>,
    /// Lines for the failure page.
    pub lines: Vec<String>,
    /// What the case examines but the subject did not report.
    pub unseen: Vec<&'static str>,
    /// Further remarks for readers of the row.
    pub notes: Vec<String>,
}

impl Findings {
    /// The verdict of the row.
    pub fn verdict(&self) -> Verdict {
        match (&self.failed, &self.inconclusive) {
            (Some((kind, message)), _) => Verdict::Fail { kind: *kind, message: message.clone() },
            // A failure outweighs too little evidence: what was compared was wrong.
            (None, Some(message)) => {
                Verdict::NotRun { kind: NotRun::Inconclusive, message: message.clone() }
            }
            (None, None) => Verdict::Pass,
        }
    }

    /// The remarks that accompany the verdict.
    pub fn notes(&self) -> Vec<String> {
        let unseen =
            (!self.unseen.is_empty()).then(|| format!("not observed: {}", self.unseen.join(", ")));
        self.notes.iter().cloned().chain(unseen).collect()
    }

    /// Checks the reported kernels against the subject's device: every answer of our own engine on
    /// a card must name some, and a foreign subject on a card must not report an empty list.
    pub fn routed(&mut self, whom: &Whom, route: &Route) {
        let on_device = match whom {
            Whom::Cpu => false,
            Whom::Cuda => true,
            Whom::Foreign { card, .. } => *card,
        };
        if on_device && route.empty > 0 || *whom == Whom::Cuda && route.silent > 0 {
            let message = format!(
                "{} answers say of no kernel that it ran: something else did the work",
                route.empty + route.silent
            );
            self.fail(FailKind::Route, message);
        }
        // A foreign subject may be silent, but the reader must know that nothing was observed.
        if matches!(whom, Whom::Foreign { .. }) && route.silent > 0 {
            self.unseen.push("route");
        }
    }

    /// Our own engine must report what it takes and what it predicts; a foreign one need not.
    pub fn require_prediction(&mut self, whom: &Whom) {
        if !matches!(whom, Whom::Foreign { .. }) && self.unseen.contains(&PREDICTED) {
            self.fail(FailKind::Shape, "neither foretold nor told what load takes".to_owned());
        }
    }

    fn fail(&mut self, kind: FailKind, message: String) {
        self.failed.get_or_insert((kind, message));
    }

    /// Checks a figure against its limit. NaN exceeds every limit.
    fn hold(&mut self, name: &str, measured: f64, limit: f64) {
        // Rows report the worst value of a figure, which is the one that meets the limit.
        let largest = self.figures.entry(name.to_owned()).or_insert(0.0);
        *largest = largest.max(measured);
        let load = measured / limit;
        self.load = self.load.max(if load.is_nan() { f64::INFINITY } else { load });
        if measured.is_nan() || measured > limit {
            self.fail(FailKind::Load, format!("{name} is {measured:.3e}, at most {limit:.0e}"));
        }
    }
}

/// The class of an answer: of its activations, and of int8 where the subject declares it and the
/// form has weights of block types.
pub fn class(case: &ModelCase, answer: &Answer, whom: &Whom) -> Class {
    let class = Class::for_activations(answer.activations);
    let x = whom.declared().and_then(|declared| declared.at(Place::X));
    match x {
        Some(Rounding::Int8(_)) if case.form.has_blocks() => class.with_int8(),
        _ => class,
    }
}

/// Judges an answer within the limits of a class.
pub fn judge(case: &ModelCase, golden: &ModelGolden, answer: &Answer, class: Class) -> Findings {
    let mut j = Findings {
        figures: answer.figures.clone(),
        notes: answer.unasked.clone(),
        ..Findings::default()
    };
    // Other activations would be judged by another class, and perhaps a looser one.
    if let Some(asked) = case.activations
        && answer.activations != Some(asked)
        && !matches!(answer.content, Content::Load { refused: Some(_), .. })
    {
        let is = answer.activations.map_or("unsaid".to_owned(), |t| t.to_string());
        j.fail(FailKind::Shape, format!("activations are {is}, {asked} was asked for"));
    }
    if let (Some(Prompt::Text(text)), Some(ids)) = (prompt(&case.ask), &answer.ids) {
        j.compared += ids.len() as u64;
        // Other ids are other input, so nothing after them could be compared.
        if *ids != golden.ids && !golden.ids.is_empty() {
            let message = format!("{text:?} becomes {ids:?}, awaited {:?}", golden.ids);
            j.fail(FailKind::Bits, message);
        }
    }
    match (&case.ask, &answer.content) {
        (Ask::Load(load), Content::Load { refused, used, predicted: need }) => {
            loaded(&mut j, load, refused.as_ref(), used);
            if load.foretold {
                predicted(&mut j, *need);
            }
        }
        (Ask::Stage { .. }, Content::Stage { slots, local }) => {
            stage::judge(&mut j, class, golden, slots, local);
        }
        (Ask::Logits { .. }, Content::Logits(ways)) => match case.part {
            Part::Numbers => logits::numbers(&mut j, class, golden, ways),
            Part::Bits => logits::bits(&mut j, golden, ways),
        },
        (Ask::Generation(g), Content::Generation(written)) => match case.part {
            Part::Numbers => generation::judge(&mut j, class, golden, g, written),
            Part::Bits => {
                generation::repeated(&mut j, g, written);
                generation::together(&mut j, g, written);
            }
        },
        (Ask::Draws(draws), Content::Draws(drawn)) => match case.part {
            Part::Numbers => draws::judge(&mut j, class, golden, draws, drawn),
            Part::Bits => draws::repeated(&mut j, draws, drawn),
        },
        (Ask::Perplexity { relative, window, .. }, Content::Perplexity(logprobs)) => {
            perplexity(&mut j, class, golden, *relative, (*window, logprobs));
        }
        _ => j.fail(FailKind::Shape, "an answer to another question".to_owned()),
    }
    // An answer that compares nothing must not pass.
    if j.failed.is_none() && j.inconclusive.is_none() && j.compared == 0 {
        j.fail(FailKind::Shape, "nothing was compared".to_owned());
    }
    j
}

/// Checks that the model loads in time and without a leak, or is refused as expected.
fn loaded(j: &mut Findings, load: &Load, refused: Option<&(String, String, String)>, used: &[f64]) {
    j.compared += 1;
    match (&load.refuses, refused) {
        (None, None) => {}
        (None, Some((kind, operand, message))) => {
            j.fail(FailKind::WrongRefusal, format!("{kind} {operand}: {message}"));
        }
        (Some(expected), None) => {
            let message = format!("it loads; awaited {} of {}", expected.kind, expected.operand);
            j.fail(FailKind::NotRefused, message);
        }
        (Some(expected), Some((kind, operand, message))) => {
            if (&expected.kind, &expected.operand) != (kind, operand) {
                let message = format!(
                    "refused as {kind} of {operand}, awaited {} of {}: {message}",
                    expected.kind, expected.operand
                );
                j.fail(FailKind::WrongRefusal, message);
            }
        }
    }
    if let Some(limit) = load.within_s {
        // An absent time becomes NaN, which exceeds the limit: silence must not pass.
        let seconds = j.figures.get("load_ms").copied().unwrap_or(f64::NAN) / 1e3;
        j.hold("load_s", seconds, limit);
    }
    match used {
        _ if !load.memory => {}
        [first, .., last] => {
            j.compared += 1;
            j.figures.insert("device_used_bytes".to_owned(), *last);
            if last > first {
                let message = format!("{first} bytes in use after one round, {last} after two");
                j.fail(FailKind::Leak, message);
            }
        }
        _ => j.unseen.push("memory"),
    }
}

/// Checks to the byte that `inspect` predicted what `load` reports and what was actually taken.
fn predicted(j: &mut Findings, need: Option<f64>) {
    let figure = |j: &Findings, name: &str| j.figures.get(name).copied();
    let (Some(need), Some(arena)) = (need, figure(j, "bytes_arena")) else {
        return j.unseen.push(PREDICTED);
    };
    j.compared += 1;
    j.figures.insert("bytes_foretold".to_owned(), need);
    if arena != need {
        j.fail(FailKind::Load, format!("load takes {arena} bytes, {need} were foretold"));
    }
    let parts = (figure(j, "bytes_weights"), figure(j, "bytes_session"));
    // `load` could merely repeat the prediction, so the parts that were taken are added up as well.
    if let (Some(weights), Some(session)) = parts {
        j.compared += 1;
        if weights + session != need {
            let message = format!("took {weights} and {session} bytes, {need} were foretold");
            j.fail(FailKind::Load, message);
        }
    }
}

/// Checks every token's log-probability by the class, and the perplexity by its own limit.
fn perplexity(
    j: &mut Findings,
    class: Class,
    golden: &ModelGolden,
    relative: f64,
    (window, got): (usize, &[f64]),
) {
    let want = &golden.logprob;
    if got.len() != want.len() {
        let message = format!("{} log-probabilities for {} tokens", got.len(), want.len());
        return j.fail(FailKind::Shape, message);
    }
    // The first token of a window is given, not predicted.
    let predicted: Vec<usize> = (0..want.len()).filter(|i| i % window != 0).collect();
    j.compared += predicted.len() as u64;
    // Checked first, because one infinity would make every mean below infinite and hide its place.
    if let Some(i) = predicted.iter().find(|i| !got[**i].is_finite()) {
        return j.fail(FailKind::Nonfinite, format!("token {i}: {}", got[*i]));
    }
    let nll = |x: &[f64]| -predicted.iter().map(|i| x[*i]).sum::<f64>() / predicted.len() as f64;
    let (is, expected) = (nll(got).exp(), nll(want).exp());
    j.figures.insert("perplexity".to_owned(), is);
    j.figures.insert("perplexity_awaited".to_owned(), expected);
    j.lines.push(format!("perplexity {is:.6}, awaited {expected:.6}"));
    let (mean, p99) = mean_and_p99(predicted.iter().map(|i| (got[*i] - want[*i]).abs()).collect());
    j.hold("mean_dlogp", mean, class.mean);
    j.hold("p99_dlogp", p99, class.p99);
    j.hold("perplexity_off", (is / expected - 1.0).abs(), relative);
}
