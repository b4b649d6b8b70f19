//! Texts that are drawn many times: only tokens that the chain keeps, as often as it says, another
//! text for another seed, and the same for the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::model::ask::draws::Drawn;
use crate::kinds::model::case::Draws;
use crate::kinds::model::chain::{Chain, bounds::possible};
use crate::kinds::model::class::{BF16, Class, F32, rel_rms, rms};
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::Findings;
use crate::kinds::model::judge::evidence::{LIMIT, Site, evidence};
use crate::line::FailKind;

pub(super) fn judge(
    j: &mut Findings,
    class: Class,
    golden: &ModelGolden,
    draws: &Draws,
    drawn: &Drawn,
) {
    let count = draws.contexts.count * draws.seeds;
    if !shaped(j, golden, draws, &drawn.texts, count) {
        return;
    }
    seeds_count(j, draws, &drawn.texts);
    let Some((rows, distance)) = logits(j, class, golden, drawn) else { return };
    let chain = Chain::from_settings(&draws.sampling);
    let sites = sites(golden, draws, &drawn.texts, rows);
    for site in &sites {
        let (row, seen) = (site.logits, [site.prompt, site.text]);
        let distance = distance * deviation(row);
        let Some(possible) = possible(&chain, row, &seen, distance) else { continue };
        if let Some((id, times)) = site.counts.iter().find(|(id, _)| !possible[*id]) {
            let kept = possible.iter().filter(|possible| **possible).count();
            let message = format!(
                "token {id} was drawn {times} times behind {:?}, where the chain keeps at most \
                 {kept} tokens and not this one",
                [site.prompt, site.text].concat()
            );
            j.fail(FailKind::Bits, message);
        }
    }
    let found = evidence(&chain, draws.contexts.tokens(), &sites);
    j.compared += found.tokens;
    j.figures.insert("ln_e".to_owned(), found.ln_e);
    j.load = j.load.max(found.ln_e / LIMIT);
    j.lines.push(format!("ln E of {} tokens is {:.1}", found.tokens, found.ln_e));
    j.lines.extend(found.each.iter().map(|(name, ln)| format!("{ln:>12.1}  {name}")));
    let strongest = found.each.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    if found.ln_e.is_nan() || found.ln_e > LIMIT {
        let name = strongest.map_or("nothing", |(name, _)| name.as_str());
        let message = format!(
            "the draws speak against the settings: ln E is {:.1}, at most {LIMIT}; most for {name}",
            found.ln_e
        );
        j.fail(FailKind::Load, message);
    }
}

/// Checks that the same seed gave the same text.
pub(super) fn repeated(j: &mut Findings, draws: &Draws, drawn: &Drawn) {
    let Drawn { texts, again, .. } = drawn;
    if texts.len() != draws.contexts.count || again.len() != texts.len() {
        let message = format!("{} texts, and {} again", texts.len(), again.len());
        return j.fail(FailKind::Shape, message);
    }
    j.compared += texts.iter().map(|text| text.len() as u64).sum::<u64>();
    if let Some(i) = (0..texts.len()).find(|i| texts[*i] != again[*i]) {
        let (first, second) = (&texts[i], &again[i]);
        let message = format!("context {i}: one seed gave {first:?}, and then {second:?}");
        j.fail(FailKind::Nondeterministic, message);
    }
}

/// Checks that there are as many texts as were asked for, each of as many tokens of the vocabulary.
fn shaped(
    j: &mut Findings,
    golden: &ModelGolden,
    draws: &Draws,
    texts: &[Vec<i32>],
    count: usize,
) -> bool {
    let (tokens, vocabulary) = (draws.contexts.tokens(), golden.logits.width);
    let message = match texts.iter().position(|text| text.len() != tokens) {
        _ if texts.len() != count => format!("{} texts, {count} were asked for", texts.len()),
        Some(i) => format!("text {i} has {} tokens, {tokens} were asked for", texts[i].len()),
        None => {
            let known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocabulary);
            match texts.iter().flatten().find(|id| !known(id)) {
                Some(id) => format!("token {id} is none of the {vocabulary} of the vocabulary"),
                None => return true,
            }
        }
    };
    j.fail(FailKind::Shape, message);
    false
}

/// Checks that another seed gives another text behind some context at least.
fn seeds_count(j: &mut Findings, draws: &Draws, texts: &[Vec<i32>]) {
    let distinct = |some: &[Vec<i32>]| some.iter().collect::<BTreeSet<_>>().len();
    if texts.chunks(draws.seeds).all(|some| distinct(some) == 1) {
        let message = format!("{} seeds give one text behind every context", draws.seeds);
        j.fail(FailKind::Bits, message);
    }
}

/// The logits that the draws are judged by, and how far each may be off, in standard deviations:
/// the subject's own if it offers them, or else the golden's.
fn logits<'a>(
    j: &mut Findings,
    class: Class,
    golden: &'a ModelGolden,
    drawn: &'a Drawn,
) -> Option<(&'a Rows, f64)> {
    let Some(own) = &drawn.logits else {
        // So far off, many a token may be kept or not, and the shares say little.
        if class.rel_rms >= BF16.rel_rms {
            let name = class.name;
            j.inconclusive = Some(format!(
                "coarse: {name} activations, and no logits of the subject's own to judge by"
            ));
            return None;
        }
        j.notes.push("judged by the golden's logits".to_owned());
        return Some((&golden.logits, 5.0 * class.rel_rms));
    };
    let want = &golden.logits;
    if (own.count(), own.width) != (want.count(), want.width) {
        let message = format!("{} rows of {} logits", own.count(), own.width);
        j.fail(FailKind::Shape, message);
        return None;
    }
    if let Some(at) = own.numbers.iter().position(|x| !x.is_finite()) {
        j.fail(FailKind::Nonfinite, format!("logit {at}: {}", own.numbers[at]));
        return None;
    }
    // Otherwise a subject could return the logits of whatever it draws.
    for (i, (got, want)) in own.iter().zip(want.iter()).enumerate() {
        let rel = rel_rms(got, want, golden.std[i].max(f64::MIN_POSITIVE));
        j.hold("rel_rms", rel, class.rel_rms);
    }
    // Whatever the class, these logits have its rounding already; what is left is that of the
    // chain, and ids of equal logits that stay in another order.
    Some((own, 5.0 * F32.rel_rms))
}

/// The standard deviation of a row.
fn deviation(row: &[f64]) -> f64 {
    let mean = row.iter().sum::<f64>() / row.len().max(1) as f64;
    rms(&row.iter().map(|x| x - mean).collect::<Vec<f64>>())
}

/// Every place with logits where tokens were drawn. A second token behind a first that the golden
/// does not go on from is left out, which depends on nothing that is judged.
fn sites<'a>(
    golden: &'a ModelGolden,
    draws: &Draws,
    texts: &[Vec<i32>],
    rows: &'a Rows,
) -> Vec<Site<'a>> {
    let (count, follow) = (draws.contexts.count, draws.contexts.follow);
    let rows: Vec<&[f64]> = rows.iter().collect();
    let contexts: Vec<&[i32]> = golden.ids.chunks(draws.contexts.length).collect();
    let mut counts: BTreeMap<usize, BTreeMap<usize, f64>> = BTreeMap::new();
    for (i, text) in texts.iter().enumerate() {
        let mut note = |site: usize, id: i32| {
            *counts.entry(site).or_default().entry(id as usize).or_insert(0.0) += 1.0;
        };
        let context = i / draws.seeds;
        note(context, text[0]);
        let next = golden.next.chunks(follow.max(1)).nth(context).unwrap_or_default();
        if let (Some(second), Some(at)) = (text.get(1), next.iter().position(|id| *id == text[0])) {
            note(count + context * follow + at, *second);
        }
    }
    let site = |(site, counts): (usize, BTreeMap<usize, f64>)| {
        let after = site.checked_sub(count);
        let context = after.map_or(site, |after| after / follow.max(1));
        let text = after.and_then(|after| golden.next.get(after..=after)).unwrap_or_default();
        Some(Site {
            logits: rows.get(site)?,
            prompt: contexts.get(context)?,
            text,
            counts: counts.into_iter().collect(),
        })
    };
    counts.into_iter().filter_map(site).collect()
}
