//! From an answer about a model to a verdict: every rule of its kind, the first that fails named.

pub(crate) mod generation;
mod logits;
pub(crate) mod stage;

use std::collections::BTreeMap;

use crate::models::ask::{Answer, Content, prompt};
use crate::models::class::{Class, mean_and_p99};
use crate::models::golden::ModelGolden;
use crate::models::{Ask, Load, ModelCase, Prompt};
use crate::verdict::{FailKind, NotRun, Verdict};

/// What came of judging.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The first rule that failed; none: all hold.
    pub failed: Option<(FailKind, String)>,
    /// The first slot that diverges (*stage*).
    pub first: Option<String>,
    /// Too little could be decided.
    pub inconclusive: Option<String>,
    /// The largest distance as a share of its limit.
    pub load: f64,
    /// Numbers, ids and bytes that were compared.
    pub compared: u64,
    /// What was measured: unit in the name.
    pub figures: BTreeMap<String, f64>,
    /// Lines for the failure page.
    pub lines: Vec<String>,
}

impl Judgement {
    /// What the row is called.
    pub fn verdict(&self) -> Verdict {
        match (&self.failed, &self.inconclusive) {
            (Some((kind, message)), _) => Verdict::Fail { kind: *kind, message: message.clone() },
            (None, Some(message)) => {
                Verdict::NotRun { kind: NotRun::Inconclusive, message: message.clone() }
            }
            (None, None) => Verdict::Pass,
        }
    }

    fn fail(&mut self, kind: FailKind, message: String) {
        self.failed.get_or_insert((kind, message));
    }

    /// Holds a measured figure to its limit. What is no number is beyond every limit.
    fn hold(&mut self, name: &str, measured: f64, limit: f64) {
        let largest = self.figures.entry(name.to_owned()).or_insert(0.0);
        *largest = largest.max(measured);
        let load = measured / limit;
        self.load = self.load.max(if load.is_nan() { f64::INFINITY } else { load });
        if measured.is_nan() || measured > limit {
            self.fail(FailKind::Load, format!("{name} is {measured:.3e}, at most {limit:.0e}"));
        }
    }
}

/// Judges an answer.
pub fn judge(case: &ModelCase, golden: &ModelGolden, answer: &Answer) -> Judgement {
    let class = Class::of(answer.activations);
    let mut j = Judgement { figures: answer.figures.clone(), ..Judgement::default() };
    if let Some(asked) = case.activations
        && answer.activations != Some(asked)
        && !matches!(answer.content, Content::Load { refused: Some(_), .. })
    {
        let is = answer.activations.map_or("unsaid".to_owned(), |t| t.to_string());
        j.fail(FailKind::Shape, format!("activations are {is}, {asked} was asked for"));
    }
    if let (Some(Prompt::Text(text)), Some(ids)) = (prompt(&case.ask), &answer.ids) {
        j.compared += ids.len() as u64;
        if *ids != golden.ids && !golden.ids.is_empty() {
            let message = format!("{text:?} becomes {ids:?}, awaited {:?}", golden.ids);
            j.fail(FailKind::Bits, message);
        }
    }
    match (&case.ask, &answer.content) {
        (Ask::Load(load), Content::Load { refused, used }) => {
            loaded(&mut j, load, refused.as_ref(), used);
        }
        (Ask::Stage { .. }, Content::Stage { slots, local }) => {
            stage::judge(&mut j, class, golden, slots, local);
        }
        (Ask::Logits { .. }, Content::Logits(ways)) => logits::judge(&mut j, class, golden, ways),
        (Ask::Generation(g), Content::Generation { runs, text, forced, used, beside }) => {
            let answer =
                generation::Text { runs, text: text.as_deref(), forced: forced.as_ref(), used };
            generation::judge(&mut j, class, golden, g, &answer);
            generation::together(&mut j, g, runs, beside);
        }
        (Ask::Perplexity { relative, window, .. }, Content::Perplexity(logprobs)) => {
            perplexity(&mut j, class, golden, *relative, (*window, logprobs));
        }
        _ => j.fail(FailKind::Shape, "an answer to another question".to_owned()),
    }
    if j.failed.is_none() && j.inconclusive.is_none() && j.compared == 0 {
        j.fail(FailKind::Shape, "nothing was compared".to_owned());
    }
    j
}

/// Loaded in time, without a leak; or refused as awaited.
fn loaded(
    j: &mut Judgement,
    load: &Load,
    refused: Option<&(String, String, String)>,
    used: &[f64],
) {
    j.compared += 1;
    match (&load.refuses, refused) {
        (None, None) => {}
        (None, Some((kind, operand, message))) => {
            j.fail(FailKind::WrongRefusal, format!("{kind} {operand}: {message}"));
        }
        (Some(awaited), None) => {
            let message = format!("it loads; awaited {} of {}", awaited.kind, awaited.operand);
            j.fail(FailKind::NotRefused, message);
        }
        (Some(awaited), Some((kind, operand, message))) => {
            if (&awaited.kind, &awaited.operand) != (kind, operand) {
                let message = format!(
                    "refused as {kind} of {operand}, awaited {} of {}: {message}",
                    awaited.kind, awaited.operand
                );
                j.fail(FailKind::WrongRefusal, message);
            }
        }
    }
    if let Some(limit) = load.within_s {
        let seconds = j.figures.get("load_ms").copied().unwrap_or(f64::NAN) / 1e3;
        j.hold("load_s", seconds, limit);
    }
    if load.memory
        && let [first, .., last] = used
    {
        j.compared += 1;
        j.figures.insert("device_used_bytes".to_owned(), *last);
        if last > first {
            let message = format!("{first} bytes in use after one round, {last} after two");
            j.fail(FailKind::Leak, message);
        }
    }
}

/// Every token's log-probability within the class, and the perplexity within its own limit.
fn perplexity(
    j: &mut Judgement,
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
    if let Some(i) = predicted.iter().find(|i| !got[**i].is_finite()) {
        return j.fail(FailKind::Nonfinite, format!("token {i}: {}", got[*i]));
    }
    let nll = |x: &[f64]| -predicted.iter().map(|i| x[*i]).sum::<f64>() / predicted.len() as f64;
    let (is, awaited) = (nll(got).exp(), nll(want).exp());
    j.figures.insert("perplexity".to_owned(), is);
    j.figures.insert("perplexity_awaited".to_owned(), awaited);
    j.lines.push(format!("perplexity {is:.6}, awaited {awaited:.6}"));
    let (mean, p99) = mean_and_p99(predicted.iter().map(|i| (got[*i] - want[*i]).abs()).collect());
    j.hold("mean_dlogp", mean, class.mean);
    j.hold("p99_dlogp", p99, class.p99);
    j.hold("perplexity_off", (is / awaited - 1.0).abs(), relative);
}
