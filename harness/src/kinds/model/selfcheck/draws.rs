//! The right answer to a case of draws, by the wire's own generator from the golden's logits, and
//! the faults that such an answer may have.

use crate::kinds::model::ask::draws::Drawn;
use crate::kinds::model::ask::{Answer, Content};
use crate::kinds::model::case::{Ask, Draws, ModelCase};
use crate::kinds::model::chain::{Chain, draw};
use crate::kinds::model::class::argmax;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::model::selfcheck::Fault;
use crate::line::Part;

/// The largest top_k at which one token more or less is sure to show.
const FEW: usize = 8;

/// How the texts of an answer are drawn.
struct Writer<'a> {
    draws: &'a Draws,
    golden: &'a ModelGolden,
    chain: Chain,
    /// Changes the probabilities before a draw.
    change: fn(&mut Vec<f64>),
    /// The seed of the text with an index.
    seed: fn(usize) -> u64,
    /// Whether the tokens of the text are penalised.
    penalises_text: bool,
}

impl<'a> Writer<'a> {
    fn new(draws: &'a Draws, golden: &'a ModelGolden) -> Writer<'a> {
        let chain = Chain::from_settings(&draws.sampling);
        let seed = Draws::seed;
        Writer { draws, golden, chain, change: |_| (), seed, penalises_text: true }
    }

    /// All texts; none if the chain's settings are out of range.
    fn texts(&self) -> Option<Vec<Vec<i32>>> {
        let Draws { contexts, seeds, .. } = self.draws;
        let rows: Vec<&[f64]> = self.golden.logits.iter().collect();
        let shares = |row: usize, seen: &[&[i32]]| {
            let mut shares = self.chain.log_probabilities(rows.get(row)?, seen)?;
            (self.change)(&mut shares);
            Some(shares)
        };
        let mut texts = Vec::with_capacity(contexts.count * seeds);
        for (i, prompt) in self.golden.ids.chunks(contexts.length).enumerate() {
            let first = shares(i, &[prompt])?;
            let next = self.golden.next.chunks(contexts.follow.max(1)).nth(i).unwrap_or_default();
            let mut behind: Vec<Vec<f64>> = Vec::new();
            for (at, id) in next.iter().enumerate() {
                let text = if self.penalises_text { std::slice::from_ref(id) } else { &[] };
                behind.push(shares(contexts.count + i * contexts.follow + at, &[prompt, text])?);
            }
            for text in 0..*seeds {
                let seed = (self.seed)(i * seeds + text);
                let mut ids = vec![draw(&first, seed, 0)];
                if contexts.tokens() > 1 {
                    let at = next.iter().position(|id| *id == ids[0]);
                    // Nothing is known behind other tokens, so nothing is judged there.
                    ids.push(at.map_or(ids[0], |at| draw(&behind[at], seed, 1)));
                }
                texts.push(ids);
            }
        }
        Some(texts)
    }
}

/// The answer of a perfect subject that offers sessions.
pub(super) fn perfect(case: &ModelCase, draws: &Draws, golden: &ModelGolden) -> Drawn {
    let texts = Writer::new(draws, golden).texts().unwrap_or_default();
    match case.part {
        Part::Numbers => Drawn { texts, again: Vec::new(), logits: Some(golden.logits.clone()) },
        Part::Bits => {
            let texts: Vec<Vec<i32>> = texts.into_iter().step_by(draws.seeds).collect();
            Drawn { again: texts.clone(), texts, logits: None }
        }
    }
}

/// Draws an answer's texts anew, by a writer that `change` makes faulty. Returns false if the case
/// cannot show the fault.
fn written(
    case: &ModelCase,
    golden: &ModelGolden,
    a: &mut Answer,
    change: impl Fn(&mut Writer<'_>) -> bool,
) -> bool {
    let (Ask::Draws(draws), Content::Draws(drawn)) = (&case.ask, &mut a.content) else {
        return false;
    };
    let mut writer = Writer::new(draws, golden);
    let texts = if change(&mut writer) { writer.texts() } else { None };
    texts.map(|texts| drawn.texts = texts).is_some()
}

/// The texts of an answer.
fn texts(a: &mut Answer) -> Option<&mut Vec<Vec<i32>>> {
    match &mut a.content {
        Content::Draws(drawn) => Some(&mut drawn.texts),
        _ => None,
    }
}

/// One token for every draw, of a text that is right in itself.
fn one_token(a: &mut Answer) -> bool {
    texts(a).is_some_and(|texts| {
        let first = texts[0].clone();
        texts.iter_mut().for_each(|text| text.clone_from(&first));
        true
    })
}

/// The faults that can be planted in draws.
pub(super) const FAULTS: &[(&str, Fault)] = &[
    ("one token for every draw", |_, _, a| one_token(a)),
    ("one token for every draw and no logits", |_, _, a| {
        if let Content::Draws(drawn) = &mut a.content {
            drawn.logits = None;
        }
        one_token(a)
    }),
    ("every seed the same", |case, golden, a| {
        written(case, golden, a, |w| {
            w.seed = |_| 7;
            true
        })
    }),
    ("the most likely token for every draw", |case, golden, a| {
        written(case, golden, a, |w| {
            w.change = |shares| {
                let best = argmax(shares);
                shares.fill(f64::NEG_INFINITY);
                shares[best] = 0.0;
            };
            true
        })
    }),
    ("every kept token equally often", |case, golden, a| {
        written(case, golden, a, |w| {
            w.change = |shares| shares.iter_mut().filter(|x| x.is_finite()).for_each(|x| *x = 0.0);
            true
        })
    }),
    ("a temperature lower by a fifth", |case, golden, a| {
        written(case, golden, a, |w| {
            w.chain.temperature *= 0.8;
            // Among few tokens the temperature hardly shows.
            !(1..=FEW).contains(&w.chain.top_k)
        })
    }),
    ("top_k with one token more", |case, golden, a| {
        written(case, golden, a, |w| {
            w.chain.top_k += 1;
            (2..=FEW + 1).contains(&w.chain.top_k)
        })
    }),
    ("top_k with one token less", |case, golden, a| {
        written(case, golden, a, |w| {
            let few = (2..=FEW).contains(&w.chain.top_k);
            w.chain.top_k = w.chain.top_k.saturating_sub(1);
            few
        })
    }),
    ("a top_p lower by 0.05", |case, golden, a| {
        written(case, golden, a, |w| {
            let set = w.chain.top_p < 1.0;
            w.chain.top_p -= 0.05;
            set
        })
    }),
    ("a min_p of twice as much", |case, golden, a| {
        written(case, golden, a, |w| {
            w.chain.min_p *= 2.0;
            w.chain.min_p > 0.1
        })
    }),
    ("nothing penalised", |case, golden, a| {
        written(case, golden, a, |w| {
            // A small penalty of a few tokens hardly shows.
            let shows = (w.chain.repetition_penalty - 1.0).abs() >= 0.3;
            w.chain.repetition_penalty = 1.0;
            shows
        })
    }),
    ("the text's own tokens not penalised", |case, golden, a| {
        written(case, golden, a, |w| {
            w.penalises_text = false;
            (w.chain.repetition_penalty - 1.0).abs() >= 0.3 && w.draws.contexts.tokens() > 1
        })
    }),
    ("one text missing", |_, _, a| texts(a).is_some_and(|texts| texts.pop().is_some())),
    ("one token missing", |_, _, a| {
        texts(a).and_then(|texts| texts.last_mut()).is_some_and(|text| text.pop().is_some())
    }),
    ("a token beyond the vocabulary", |_, golden, a| {
        let beyond = golden.logits.width as i32;
        texts(a).and_then(|texts| texts.last_mut()).map(|text| text[0] = beyond).is_some()
    }),
    (OTHER_TEXT, |_, _, a| match &mut a.content {
        Content::Draws(drawn) => {
            let text = drawn.again.last_mut().and_then(|text| text.last_mut());
            text.map(|id| *id += 1).is_some()
        }
        _ => false,
    }),
];

/// The fault that a comparison of the same seed must notice.
pub(super) const OTHER_TEXT: &str = "another text for the same seed";

#[cfg(test)]
mod tests {
    use goldgate_tensor::DType;

    use super::*;
    use crate::kinds::model::class::Class;
    use crate::kinds::model::golden::Rows;
    use crate::kinds::model::judge::{Findings, judge};
    use crate::kinds::model::tests::{case, golden};
    use crate::line::{FailKind, NotRun, Verdict};

    /// The judgement of texts by another generator, which nobody can compare with the golden's.
    fn drawn(name: &str, change: impl Fn(&mut Answer, &ModelGolden)) -> Findings {
        let (case, golden) = (case(name), golden(name));
        let mut answer = crate::kinds::model::selfcheck::perfect(&case, &golden);
        assert!(written(&case, &golden, &mut answer, |w| {
            w.seed = |index| Draws::seed(index + 1_000_000);
            true
        }));
        change(&mut answer, &golden);
        judge(&case, &golden, &answer, Class::for_activations(answer.activations))
    }

    fn logits(a: &mut Answer) -> &mut Option<Rows> {
        let Content::Draws(drawn) = &mut a.content else { panic!("draws") };
        &mut drawn.logits
    }

    #[test]
    fn another_generator_is_judged_by_its_distribution() {
        for name in ["short", "shorter"] {
            let found = drawn(name, |_, _| ());
            assert_eq!(found.verdict(), Verdict::Pass, "{found:?}");
            assert!(found.figures["ln_e"] < 5.0 && found.compared >= 2000, "{found:?}");
            let without = drawn(name, |a, _| *logits(a) = None);
            assert_eq!(without.verdict(), Verdict::Pass, "{without:?}");
            assert_eq!(without.notes, ["judged by the golden's logits"]);
        }
    }

    #[test]
    fn logits_in_bf16_need_to_be_the_subjects_own() {
        let coarse = drawn("short", |a, _| {
            (a.activations, *logits(a)) = (Some(DType::BF16), None);
        });
        let Verdict::NotRun { kind: NotRun::Inconclusive, message } = coarse.verdict() else {
            panic!("{coarse:?}")
        };
        assert!(message.starts_with("coarse"), "{message}");
        let own = drawn("short", |a, _| a.activations = Some(DType::BF16));
        assert_eq!(own.verdict(), Verdict::Pass);
        // Even so a subject must not ignore its seeds.
        let constant = drawn("short", |a, _| {
            (a.activations, *logits(a)) = (Some(DType::BF16), None);
            one_token(a);
        });
        assert!(matches!(constant.verdict(), Verdict::Fail { kind: FailKind::Bits, .. }));
    }

    #[test]
    fn logits_that_fit_the_draws_and_not_the_model_fail() {
        let found = drawn("short", |a, golden| {
            let width = golden.logits.width;
            let row: Vec<f64> = (0..width).map(|id| if id == 5 { 40.0 } else { 0.0 }).collect();
            *logits(a) = Some(Rows { width, numbers: row.repeat(golden.logits.count()) });
        });
        let Verdict::Fail { kind: FailKind::Load, message } = found.verdict() else {
            panic!("{found:?}")
        };
        assert!(message.starts_with("rel_rms"), "{message}");
    }

    #[test]
    fn another_text_for_the_same_seed_is_named() {
        let bits = case("short").bits().expect("asked twice");
        let golden = golden("short");
        let mut answer = crate::kinds::model::selfcheck::perfect(&bits, &golden);
        assert_eq!(
            judge(&bits, &golden, &answer, Class::for_activations(answer.activations)).verdict(),
            Verdict::Pass
        );
        let Content::Draws(drawn) = &mut answer.content else { panic!("draws") };
        drawn.again[3][1] += 1;
        let verdict =
            judge(&bits, &golden, &answer, Class::for_activations(answer.activations)).verdict();
        let Verdict::Fail { kind: FailKind::Nondeterministic, message } = verdict else {
            panic!("{verdict:?}")
        };
        assert!(message.starts_with("context 3: "), "{message}");
    }
}
