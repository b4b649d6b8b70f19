//! Tests the judge on the golden alone: the right answer must pass, and planted faults must not.

mod draws;

use std::collections::BTreeMap;

use goldgate_tensor::DType;

use crate::kinds::model::ask::alongside::{Alongside, place};
use crate::kinds::model::ask::{Answer, Content, Route, Written, prompt};
use crate::kinds::model::case::{Ask, Generation, ModelCase, Prompt, Way};
use crate::kinds::model::class::Class;
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::generation::MANY;
use crate::kinds::model::judge::judge;
use crate::line::Part;

/// The answer of a perfect subject: the golden itself, rounded to float32.
pub fn perfect(case: &ModelCase, golden: &ModelGolden) -> Answer {
    let single = |rows: &Rows| Rows {
        width: rows.width,
        // Rounded to f32, because that is how slots travel on the wire.
        numbers: rows.numbers.iter().map(|x| f64::from(*x as f32)).collect(),
    };
    let content = match &case.ask {
        Ask::Load(load) => Content::Load {
            refused: load
                .refuses
                .as_ref()
                .map(|r| (r.kind.clone(), r.operand.clone(), String::new())),
            used: if load.memory { vec![1.0; 2] } else { Vec::new() },
            predicted: load.foretold.then_some(PREDICTED),
        },
        Ask::Stage { .. } => Content::Stage {
            slots: golden.slots.iter().map(|(n, rows)| (n.clone(), single(rows))).collect(),
            local: golden.slots.keys().map(|n| (n.clone(), 0.25)).collect(),
        },
        Ask::Logits { ways, .. } => {
            let asked = |way: &&Way| case.part == Part::Numbers || **way != Way::OneByOne;
            let each = ways.iter().filter(asked).map(|way| (*way, single(&golden.logits)));
            Content::Logits(each.collect())
        }
        Ask::Generation(g) => Content::Generation(Written {
            runs: match case.part {
                Part::Numbers => vec![golden.chosen[..golden.handed_out].to_vec()],
                Part::Bits => {
                    vec![golden.chosen[..golden.handed_out].to_vec(); g.repeat as usize]
                }
            },
            text: g.stop.is_empty().then(|| golden.text.clone()),
            bare: None,
            reported: Some(golden.text.clone()),
            stop: Some(golden.stop.clone()),
            forced: g.is_greedy().then(|| along(golden)),
            used: vec![1.0; 2],
            own_draws: false,
            alongside: match case.part {
                Part::Numbers => Vec::new(),
                Part::Bits => alongside(g, &golden.chosen[..golden.handed_out]),
            },
        }),
        Ask::Perplexity { .. } => Content::Perplexity(golden.logprob.clone()),
        Ask::Draws(asked) => Content::Draws(draws::perfect(case, asked, golden)),
    };
    let mut figures = BTreeMap::new();
    if let Ask::Load(load) = &case.ask {
        let ms = load.within_s.map(|seconds| ("load_ms", seconds * 500.0));
        let bytes = load.foretold.then_some(("bytes_arena", PREDICTED));
        figures.extend(ms.into_iter().chain(bytes).map(|(name, x)| (name.to_owned(), x)));
    }
    Answer {
        activations: Some(case.activations.unwrap_or(DType::F32)),
        ids: match prompt(&case.ask) {
            Some(Prompt::Text(_)) => Some(golden.ids.clone()),
            _ => None,
        },
        content,
        figures,
        route: Route::default(),
        unasked: Vec::new(),
    }
}

/// Sequences of a batch that all differ from each other, with the case's own in its place.
fn alongside(g: &Generation, own: &[i32]) -> Vec<Alongside> {
    let other = |i: usize| own.iter().map(|id| id + 1 + i as i32).collect::<Vec<_>>();
    let mut all: Vec<Vec<i32>> = (0..g.beside).map(other).collect();
    if g.beside > 0 {
        all.insert(place(g.beside), own.to_vec());
    }
    all.into_iter().map(|ids| Alongside { alone: ids.clone(), together: ids }).collect()
}

/// The bytes that a perfect subject predicts and takes.
const PREDICTED: f64 = 4096.0;

/// Logits whose largest elements are the golden's ids.
fn along(golden: &ModelGolden) -> Rows {
    let width = golden.chosen.iter().max().map_or(1, |id| *id as usize + 1);
    let mut numbers = vec![0.0; width * golden.chosen.len()];
    for (row, id) in numbers.chunks_exact_mut(width).zip(&golden.chosen) {
        row[*id as usize] = 1.0;
    }
    Rows { width, numbers }
}

/// Plants a fault in an answer. Returns false if that would change nothing that is judged.
type Fault = fn(&ModelCase, &ModelGolden, &mut Answer) -> bool;

/// All faults by name. Which of them can be planted depends on the kind of case.
const FAULTS: &[(&str, Fault)] = &[
    ("a number that is none", |_, _, a| {
        rows(a).is_some_and(|r| put(r, |_| f64::NAN)) || chances(a, |p| *p = f64::NAN)
    }),
    ("one row moved to twice the limit", |case, golden, a| {
        let class = Class::for_activations(a.activations);
        let std = golden.std.last().copied().unwrap_or(1.0);
        let stage = matches!(case.ask, Ask::Stage { .. });
        let Some(r) = rows(a) else { return false };
        let width = r.width;
        let Some(last) = r.numbers.len().checked_sub(width) else { return false };
        let row = &mut r.numbers[last..];
        let length = if stage { crate::kinds::model::class::rms(row) } else { std };
        // The step alternates in sign, so that no sum hides it.
        let step = 2.0 * class.rel_rms * length;
        row.iter_mut().enumerate().for_each(|(i, x)| *x += if i % 2 == 0 { step } else { -step });
        step > 0.0
    }),
    ("the last row of zeros", |_, _, a| {
        let Some(r) = rows(a) else { return false };
        let from = r.numbers.len() - r.width;
        let was = r.numbers[from..].iter().any(|x| *x != 0.0);
        r.numbers[from..].fill(0.0);
        was
    }),
    ("one row missing", |_, _, a| {
        let Some(r) = rows(a) else { return false };
        r.numbers.truncate(r.numbers.len() - r.width);
        true
    }),
    ("a slot missing", |_, _, a| match &mut a.content {
        Content::Stage { slots, .. } => slots.pop_last().is_some(),
        _ => false,
    }),
    ("a step far from its own definition", |_, _, a| match &mut a.content {
        Content::Stage { local, .. } => local.values_mut().next().map(|load| *load = 1.5).is_some(),
        _ => false,
    }),
    ("another way with one other bit", |_, _, a| match &mut a.content {
        Content::Logits(ways) => {
            let other = ways.get_mut(1).map(|(_, rows)| rows);
            other.is_some_and(|r| put(r, |x| f64::from((x as f32).next_up())))
        }
        _ => false,
    }),
    ("one id changed where the margin decides", |_, golden, a| {
        let at = (0..golden.handed_out).find(|at| decided(golden, a, *at));
        match (&mut a.content, at) {
            (Content::Generation(written), Some(at)) => {
                written.runs.iter_mut().for_each(|run| run[at] += 1);
                true
            }
            _ => false,
        }
    }),
    ("every id the one behind it", |_, golden, a| {
        let handed_out = &golden.chosen[..golden.handed_out];
        let differs =
            handed_out.iter().zip(handed_out.iter().cycle().skip(1)).position(|(a, b)| a != b);
        // The judge rightly accepts an undecided difference, so the fault counts only where one is
        // decided.
        let seen = differs.is_some_and(|at| decided(golden, a, at));
        match &mut a.content {
            Content::Generation(written) if seen => {
                written.runs.iter_mut().for_each(|run| run.rotate_left(1));
                true
            }
            _ => false,
        }
    }),
    ("one id missing", |_, golden, a| {
        let last = golden.handed_out.checked_sub(1);
        let seen = last.is_some_and(|at| decided(golden, a, at));
        match &mut a.content {
            Content::Generation(w) if seen => w.runs.iter_mut().all(|run| run.pop().is_some()),
            _ => false,
        }
    }),
    ("the id that comes next", |_, golden, a| match &mut a.content {
        Content::Generation(written) => {
            let next = golden.chosen.get(golden.handed_out).copied().unwrap_or_default();
            written.runs.iter_mut().for_each(|run| run.push(next));
            true
        }
        _ => false,
    }),
    ("another end", |_, golden, a| match &mut a.content {
        Content::Generation(written) => {
            let other = if golden.stop == "length" { "eos" } else { "length" };
            written.stop.replace(other.to_owned()).is_some()
        }
        _ => false,
    }),
    ("one byte less of the text", |_, _, a| match &mut a.content {
        Content::Generation(Written { reported: Some(text), .. }) => text.pop().is_some(),
        _ => false,
    }),
    ("another text in the last run", |_, _, a| match &mut a.content {
        Content::Generation(Written { runs, .. }) if runs.len() > 1 => {
            runs.last_mut().and_then(|run| run.last_mut()).map(|id| *id += 1).is_some()
        }
        _ => false,
    }),
    ("a neighbour's ids in a batch", |_, _, a| match &mut a.content {
        Content::Generation(Written { alongside, .. }) if alongside.len() > 1 => {
            let own = place(alongside.len() - 1);
            alongside[own].together = alongside[own - 1].together.clone();
            true
        }
        _ => false,
    }),
    ("one seed, or one prompt, for all of a batch", |_, _, a| match &mut a.content {
        Content::Generation(Written { alongside, .. }) if alongside.len() > 1 => {
            let own = alongside[place(alongside.len() - 1)].together.clone();
            alongside.iter_mut().for_each(|sequence| sequence.together.clone_from(&own));
            true
        }
        _ => false,
    }),
    ("a sequence of a batch that ends a token early", |_, _, a| match &mut a.content {
        Content::Generation(Written { alongside, .. }) => {
            alongside.last_mut().and_then(|sequence| sequence.together.pop()).is_some()
        }
        _ => false,
    }),
    ("memory that is not given back", |case, _, a| match &mut a.content {
        Content::Load { used, .. } if !used.is_empty() => {
            used[1] += 1.0;
            true
        }
        Content::Generation(Written { used, .. }) if repeats(case) => {
            used[1] += 1.0;
            true
        }
        _ => false,
    }),
    ("a control character", |_, _, a| match &mut a.content {
        Content::Generation(Written { reported: Some(text), .. }) => {
            text.push(7);
            true
        }
        _ => false,
    }),
    ("every token a little less likely", |case, _, a| {
        let Ask::Perplexity { relative, .. } = &case.ask else { return false };
        // A mean log-probability that is lower by this raises the perplexity by four times its
        // limit.
        let step = 4.0 * relative;
        match &mut a.content {
            Content::Perplexity(x) => {
                x.iter_mut().for_each(|p| *p -= step);
                true
            }
            _ => false,
        }
    }),
    ("one probability missing", |_, _, a| match &mut a.content {
        Content::Perplexity(x) => x.pop().is_some(),
        _ => false,
    }),
    ("loaded in place of a refusal, or refused", |_, _, a| match &mut a.content {
        Content::Load { refused, .. } => {
            *refused = match refused {
                Some(_) => None,
                None => Some(("CapacityExceeded".to_owned(), "path".to_owned(), String::new())),
            };
            true
        }
        _ => false,
    }),
    ("refused as something else", |_, _, a| match &mut a.content {
        Content::Load { refused: Some((kind, ..)), .. } => {
            kind.push('?');
            true
        }
        _ => false,
    }),
    ("a byte more than foretold", |_, _, a| match &a.content {
        Content::Load { predicted: Some(_), .. } => {
            a.figures.get_mut("bytes_arena").map(|bytes| *bytes += 1.0).is_some()
        }
        _ => false,
    }),
    ("a session larger than foretold", |_, _, a| match &a.content {
        Content::Load { predicted: Some(all), .. } => {
            // In sum eight bytes more than predicted, while `bytes_arena` still agrees.
            let parts = [("bytes_weights", all - 8.0), ("bytes_session", 16.0)];
            a.figures.extend(parts.map(|(name, bytes)| (name.to_owned(), bytes)));
            true
        }
        _ => false,
    }),
    ("loaded too late", |case, _, a| match (&case.ask, a.figures.get_mut("load_ms")) {
        (Ask::Load(load), Some(ms)) => {
            *ms = load.within_s.unwrap_or_default() * 2e3;
            true
        }
        _ => false,
    }),
    ("the prompt's ids changed", |_, _, a| {
        a.ids.as_mut().and_then(|ids| ids.last_mut()).map(|id| *id += 1).is_some()
    }),
];

/// The faults that make forms of one question differ.
const OF_BITS: &[&str] = &[
    "one row missing",
    "another way with one other bit",
    "another text in the last run",
    draws::OTHER_TEXT,
    "a neighbour's ids in a batch",
    "one seed, or one prompt, for all of a batch",
    "a sequence of a batch that ends a token early",
    "memory that is not given back",
];

/// Those of them that a comparison with the golden must notice as well.
const OF_BOTH: &[&str] = &["one row missing", "memory that is not given back"];

/// Whether the golden decides a position for the class of an answer.
fn decided(golden: &ModelGolden, a: &Answer, at: usize) -> bool {
    let margin = golden.margin.get(at).zip(golden.std.get(at));
    margin.is_some_and(|(margin, std)| Class::for_activations(a.activations).decides(*margin, *std))
}

/// Whether a text is generated often enough to reveal a leak.
fn repeats(case: &ModelCase) -> bool {
    let many = matches!(&case.ask, Ask::Generation(g) if g.repeat >= MANY);
    many && case.part == Part::Bits
}

/// The rows that faults are planted in.
fn rows(a: &mut Answer) -> Option<&mut Rows> {
    match &mut a.content {
        Content::Stage { slots, .. } => slots.values_mut().last(),
        Content::Logits(ways) => ways.first_mut().map(|(_, rows)| rows),
        Content::Draws(drawn) => drawn.logits.as_mut(),
        _ => None,
    }
}

fn put(rows: &mut Rows, change: impl Fn(f64) -> f64) -> bool {
    rows.numbers.last_mut().map(|x| *x = change(*x)).is_some()
}

fn chances(a: &mut Answer, change: impl Fn(&mut f64)) -> bool {
    match &mut a.content {
        Content::Perplexity(x) => x.last_mut().map(change).is_some(),
        _ => false,
    }
}

/// Tests the judge. Returns how many planted faults it detected, and of how many.
///
/// # Errors
/// It refused a right answer, or accepted a wrong one.
pub fn self_check(case: &ModelCase, golden: &ModelGolden) -> Result<(u32, u32), String> {
    let right = perfect(case, golden);
    let found = judge(case, golden, &right, Class::for_activations(right.activations));
    if let Some((kind, message)) = &found.failed {
        return Err(format!("the golden itself fails: {}: {message}", kind.word()));
    }
    if let Some(message) = &found.inconclusive {
        return Err(format!("the golden itself decides too little: {message}"));
    }
    let mut asked = 0;
    let of_part = |name: &str| match case.part {
        Part::Numbers => !OF_BITS.contains(&name) || OF_BOTH.contains(&name),
        Part::Bits => OF_BITS.contains(&name),
    };
    let faults = FAULTS.iter().chain(draws::FAULTS);
    for (name, fault) in faults.filter(|(name, _)| of_part(name)) {
        let mut wrong = right.clone();
        // A fault that changes nothing judged says nothing about the judge.
        if !fault(case, golden, &mut wrong) {
            continue;
        }
        asked += 1;
        let found = judge(case, golden, &wrong, Class::for_activations(wrong.activations));
        if found.failed.is_none() && found.inconclusive.is_none() {
            return Err(format!("an answer with {name} passes"));
        }
    }
    match asked {
        // A case in which no fault shows would pass with any answer.
        0 => Err("no fault can be planted in the answer".to_owned()),
        n => Ok((n, n)),
    }
}

/// The answer under a fault of the reference, if the golden has it.
///
/// # Errors
/// What the golden lacks.
pub fn wrong(case: &ModelCase, golden: &ModelGolden, fault: &str) -> Result<Answer, String> {
    let tensors =
        golden.wrong.get(fault).ok_or_else(|| format!("no wrong.{fault} in the golden"))?;
    let mut answer = perfect(case, golden);
    let ids = |rows: &Rows| rows.numbers.iter().map(|x| *x as i32).collect::<Vec<_>>();
    let mut lacks: BTreeMap<&str, ()> = BTreeMap::new();
    let mut take = |name: &'static str| match tensors.get(name) {
        Some(rows) => Some(rows.clone()),
        None => {
            lacks.insert(name, ());
            None
        }
    };
    match &mut answer.content {
        Content::Stage { slots, .. } => {
            for (name, rows) in tensors {
                slots.insert(name.clone(), rows.clone());
            }
        }
        Content::Logits(ways) => {
            if let Some(rows) = take("logits") {
                ways.iter_mut().for_each(|(_, w)| *w = rows.clone());
            }
        }
        Content::Generation(written) => {
            let bytes = |rows: &Rows| rows.numbers.iter().map(|x| *x as u8).collect::<Vec<_>>();
            let key = if tensors.contains_key("greedy") { "greedy" } else { "ids" };
            if let Some(rows) = take(key) {
                written.runs.iter_mut().for_each(|run| *run = ids(&rows));
                // The golden has neither of the faulty model, and the right ones would not belong
                // to its ids.
                (written.text, written.forced) = (None, None);
            }
            // For greedy texts the golden has only the ids of a faulty model.
            if key == "greedy" {
                written.reported = None;
            } else if let (Some(text), Some(stop)) = (take("text"), take("stop")) {
                written.reported = Some(bytes(&text));
                written.stop = String::from_utf8(bytes(&stop)).ok();
            }
        }
        Content::Perplexity(x) => {
            if let Some(rows) = take("logprob") {
                x.clone_from(&rows.numbers);
            }
        }
        Content::Load { .. } => return Err("a load has no wrong answer".to_owned()),
        Content::Draws(_) => return Err("draws have no wrong answer in a golden".to_owned()),
    }
    match lacks.first_key_value() {
        Some((name, ())) => Err(format!("no wrong.{fault}.{name} in the golden")),
        None => Ok(answer),
    }
}
