//! Compares slots in the order of the model: the first that is too far off locates the fault,
//! because everything that it was computed from was within its limits.

use std::collections::BTreeMap;

use crate::kinds::model::class::{Class, rel_rms, rms};
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::Findings;
use crate::line::FailKind;

/// The slots of a layer in the order of computation (docs/wire.md names them).
const ORDER: &[&str] = &[
    "attn.norm",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.q_rope",
    "attn.k_rope",
    "kv.k",
    "kv.v",
    "attn.scores",
    "attn.out",
    "attn.o",
    "attn.sum",
    "ffn.norm",
    "moe.logits",
    "moe.ids",
    "moe.weights",
    "ffn.gate",
    "ffn.up",
    "ffn.act",
    "ffn.down",
    "moe.out",
    "out",
];

/// The position of a slot in the model: before the layers, in its layer, or after them.
pub fn place(slot: &str) -> (usize, usize, usize, String) {
    let named = |n: usize| (n, 0, 0, slot.to_owned());
    let Some((layer, rest)) = slot.strip_prefix("layer.").and_then(|s| s.split_once('.')) else {
        return named(match slot {
            "embed.tokens" => 0,
            "embed" => 1,
            "final.norm" => 4,
            "logits" => 5,
            _ => 3,
        });
    };
    // A slot that the list lacks comes last in its layer, so it is never blamed before a known one.
    let at = ORDER.iter().position(|s| *s == rest).unwrap_or(ORDER.len());
    (2, layer.parse().unwrap_or(usize::MAX), at, slot.to_owned())
}

/// How far the worst row of a slot is off, relative to the root mean square of the golden's row.
fn inherited(got: &Rows, want: &Rows) -> (f64, usize) {
    if got.count() != want.count() || got.width != want.width {
        return (f64::INFINITY, 0);
    }
    let each = got.iter().zip(want.iter()).enumerate();
    let far = each.map(|(row, (g, w))| (rel_rms(g, w, rms(w).max(f64::MIN_POSITIVE)), row));
    far.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0))
}

pub(super) fn judge(
    j: &mut Findings,
    class: Class,
    golden: &ModelGolden,
    slots: &BTreeMap<String, Rows>,
    local: &BTreeMap<String, f64>,
) {
    let mut names: Vec<&String> = golden.slots.keys().chain(local.keys()).collect();
    // In the order of computation, so that the first slot over a limit is the cause and not a
    // consequence.
    names.sort_by_cached_key(|name| place(name));
    names.dedup();
    let limit = class.rel_rms;
    let (mut absent, mut seen) = (Vec::new(), 0);
    let mut first: Option<String> = None;
    for name in names {
        let want = golden.slots.get(name);
        let far = match (want, slots.get(name)) {
            (None, _) => None,
            (Some(_), None) => {
                absent.push(name.as_str());
                None
            }
            (Some(want), Some(got)) => {
                seen += 1;
                j.compared += want.numbers.len() as u64;
                Some((inherited(got, want), got, want))
            }
        };
        let step = local.get(name).copied();
        // Written such that NaN counts as over.
        let over = far.as_ref().is_some_and(|((rel, _), ..)| rel.is_nan() || *rel > limit);
        let wrong = step.is_some_and(|load| load.is_nan() || load > 1.0);
        let column = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.2e}"));
        let mark = if over || wrong { "  <-" } else { "" };
        let rel = far.as_ref().map(|((rel, _), ..)| *rel);
        j.lines.push(format!("{name:<22} {:>9} {:>9}{mark}", column(rel), column(step)));
        if let Some(rel) = rel {
            j.load = j.load.max(rel / limit);
            let largest = j.figures.entry("rel_rms".to_owned()).or_insert(0.0);
            *largest = largest.max(rel);
        }
        if let Some(load) = step {
            j.load = j.load.max(if load.is_nan() { f64::INFINITY } else { load });
            let largest = j.figures.entry("local_load".to_owned()).or_insert(0.0);
            *largest = largest.max(load);
        }
        if first.is_none() && (over || wrong) {
            j.first = Some(name.clone());
            first = Some(why(name, rel.filter(|_| over), step.filter(|_| wrong), far, limit));
        }
    }
    j.lines.insert(0, format!("{:<22} {:>9} {:>9}", "slot", "inherited", "local"));
    if let Some(message) = first {
        j.fail(FailKind::Load, message);
    }
    if !absent.is_empty() {
        // Slots that a subject does not keep are absent, so not everything was examined.
        j.inconclusive =
            Some(format!("{} slots are not offered: {}", absent.len(), absent.join(", ")));
    }
    if seen == 0 && absent.is_empty() {
        j.fail(FailKind::Shape, "no slot was compared".to_owned());
    }
}

type Far<'a> = Option<((f64, usize), &'a Rows, &'a Rows)>;

/// The first divergence in one line.
fn why(name: &str, over: Option<f64>, wrong: Option<f64>, far: Far<'_>, limit: f64) -> String {
    let mut text = format!("diverges first at {name}");
    if let (Some(rel), Some(((_, row), got, want))) = (over, far) {
        text.push_str(&format!(": rel rms {rel:.3e} in row {row}, at most {limit:.0e}"));
        if got.width != want.width || got.count() != want.count() {
            text.push_str(&format!(
                " ({} rows of {}, awaited {} of {})",
                got.count(),
                got.width,
                want.count(),
                want.width
            ));
        }
    }
    if let Some(load) = wrong {
        text.push_str(&format!("; the step itself has load {load:.3e} on its own operands"));
    }
    text
}
