//! The kinds of models on literals: what is read, what is refused, and what the judge sees.

use goldgate_tensor::DType;

use crate::kinds::model::ask::{Content, Route, Written};
use crate::kinds::model::case::{ModelCase, Way};
use crate::kinds::model::class::Class;
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::stage::place;
use crate::kinds::model::judge::{Findings, judge};
use crate::kinds::model::selfcheck::{perfect, self_check};
use crate::kinds::model::spec::{expand, model_file};
use crate::line::{FailKind, NotRun, Verdict, Whom};
use crate::yaml::read::Reader;
use crate::yaml::tree::{Source, parse};

const FILE: &str = r#"
format: 1
model: tiny
gate: 2
source: nobody
files:
  f16: { path: models/tiny/f16.gguf }
  hf: { path: models/tiny/hf, weights: f16 }
context: 16
loads:
  - name: fits
    why: a reason
    memory: true
    foretold: true
stages:
  - name: slots
    why: a reason
    prompt: { ids: [1, 2] }
    slots: ["*"]
    activations: [f32]
logits:
  - name: rows
    why: a reason
    prompt: { ids: [1, 2, 3] }
    rows: [0, 2]
    ways: [whole, chunks_of_2, one_by_one]
generation:
  - name: text
    why: a reason
    prompt: { text: "Once" }
    max_tokens: 4
    repeat: 2
  - name: drawn
    why: a reason
    prompt: { text: "Once" }
    max_tokens: 4
    sampling: { temperature: 0.8, seed: 7 }
  - name: ended
    why: a reason
    prompt: { ids: [1, 2, 3] }
    max_tokens: 8
    stop: ["stop"]
    stop_ids: [5]
    context: 12
perplexity:
  - name: chapter
    why: a reason
    text: models/text/chapter.txt
    tokens: 20
    within: { relative: 1.0e-3, because: "a reason" }
draws:
  - name: short
    why: a reason
    contexts: { text: models/text/chapter.txt, count: 8, length: 3, follow: 4 }
    seeds: 256
    sampling: { temperature: 1.5, top_k: 6, repetition_penalty: 0.5 }
  - name: shorter
    why: a reason
    contexts: { text: models/text/chapter.txt, count: 16, length: 3 }
    seeds: 256
    sampling: { temperature: 1.5, top_p: 0.8 }
"#;

fn read(text: &str) -> Result<Vec<ModelCase>, Vec<&'static str>> {
    let source = Source::new("models/tiny.yaml", text.as_bytes()).expect("text");
    let node = parse(&source).expect("yaml");
    let reader = Reader::new(&source);
    let file = model_file(&reader, &node);
    let codes: Vec<&'static str> = reader.finish().iter().map(|p| p.code).collect();
    match (file, codes.is_empty()) {
        (Some(file), true) => Ok(expand(&file, "models/tiny.yaml")),
        _ => Err(codes),
    }
}

pub(super) fn case(name: &str) -> ModelCase {
    let cases = read(FILE).expect("cases");
    cases.into_iter().find(|c| c.name == name && c.form.label == "f16").expect(name)
}

/// Rows of unlike numbers.
fn rows(count: usize, width: usize) -> Rows {
    let number = |i: usize| ((i * 37 + 11) % 23) as f64 / 4.0 - 2.0;
    Rows { width, numbers: (0..count * width).map(number).collect() }
}

pub(super) fn golden(name: &str) -> ModelGolden {
    let mut golden = ModelGolden { ids: vec![1, 2, 3], ..ModelGolden::default() };
    match name {
        "slots" => {
            golden.ids.pop();
            for slot in ["embed", "layer.0.attn.q", "layer.0.out", "layer.1.attn.norm", "logits"] {
                golden.slots.insert(slot.to_owned(), rows(2, 6));
            }
        }
        "rows" => {
            golden.rows = vec![0, 2];
            golden.logits = rows(2, 5);
            (golden.margin, golden.std) = (vec![1.0; 2], vec![1.0; 2]);
        }
        "fits" => golden.ids.clear(),
        "drawn" => {
            golden = ModelGolden { branches: Vec::new(), ..self::golden("text") };
        }
        "ended" => {
            // The third token would be text, the fourth ends it.
            (golden.chosen, golden.handed_out) = (vec![7, 8, 9, 5], 3);
            (golden.text, golden.stop) = (b" upon".to_vec(), "eos".to_owned());
            (golden.margin, golden.std) = (vec![1.0, 1.0, 1.0, 1e-6], vec![1.0; 4]);
            golden.logprob = vec![-1.0; 4];
        }
        "text" => {
            golden.chosen = vec![7, 8, 9, 10];
            (golden.handed_out, golden.stop) = (4, "length".to_owned());
            golden.text = b" upon".to_vec();
            (golden.margin, golden.std) = (vec![1.0, 1.0, 1e-6, 1.0], vec![1.0; 4]);
            golden.logprob = vec![-1.0; 4];
            golden.branches = vec![(vec![7, 8, 11, 12], -1.02), (vec![7, 8, 12, 12], -1.2)];
        }
        "short" | "shorter" => {
            let (contexts, count) = if name == "short" { (8, 8 + 8 * 4) } else { (16, 16) };
            golden.ids = (0..contexts * 3).map(|i| (i * 5 + 1) % 17).collect();
            golden.logits = rows(count, 17);
            (golden.margin, golden.std) = (vec![1.0; count], vec![1.6; count]);
            if name == "short" {
                golden.next = (0..8).flat_map(|_| [3, 5, 11, 16]).collect();
            }
        }
        _ => {
            golden.ids = vec![1; 20];
            golden.logprob = (0..20).map(|i| if i % 16 == 0 { 0.0 } else { -1.5 }).collect();
            (golden.margin, golden.std) = (vec![0.0; 20], vec![0.0; 20]);
        }
    }
    golden
}

#[test]
fn a_case_is_asked_in_every_form_and_type() {
    let names: Vec<String> = read(FILE).expect("cases").iter().map(ModelCase::full_name).collect();
    assert_eq!(
        names,
        [
            "gate2::tiny::fits::f16",
            "gate2::tiny::fits::hf",
            "gate2::tiny::slots::f16-f32",
            "gate2::tiny::slots::hf-f32",
            "gate2::tiny::rows::f16",
            "gate2::tiny::rows::hf",
            "gate2::tiny::text::f16",
            "gate2::tiny::text::hf",
            "gate2::tiny::drawn::f16",
            "gate2::tiny::drawn::hf",
            "gate2::tiny::ended::f16",
            "gate2::tiny::ended::hf",
            "gate2::tiny::chapter::f16",
            "gate2::tiny::chapter::hf",
            "gate2::tiny::short::f16",
            "gate2::tiny::short::hf",
            "gate2::tiny::shorter::f16",
            "gate2::tiny::shorter::hf",
        ]
    );
    assert_eq!((case("ended").context, case("text").context), (12, 16));
    let shared = case("rows").golden;
    assert_eq!(shared.as_deref(), Some("stages/tiny/rows.f16.safetensors"));
    // Named after the contexts: cases that differ in their settings share it.
    let shared = case("short").golden;
    assert_eq!(shared.as_deref(), Some("stages/tiny/chapter-8x3-4.f16.safetensors"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let table = [
        ("ids: [1, 2]", "ids: []", "MISSING_FIELD"),
        ("ways: [whole,", "ways: [half,", "ENUM"),
        ("weights: f16", "weights: f17", "GATE_REF"),
        ("rows: [0, 2]", "rows: [2, 0]", "RANGE"),
        ("name: chapter", "name: text", "ID_DUP"),
        ("path: models/tiny/hf", "path: ../hf", "PATH"),
        ("tokens: 20", "tokens: 20\n    temperature: 1.0", "UNKNOWN_FIELD"),
        ("seed: 7", "seeds: 7", "UNKNOWN_FIELD"),
        ("temperature: 0.8", "temperature: 2.5", "RANGE"),
        ("stop_ids: [5]", "stop_ids: [-5]", "RANGE"),
        ("stop_ids: [5]", "decided_at_least: 0", "RANGE"),
        ("stop: [\"stop\"]", "stop: [\"\"]", "TYPE"),
        ("context: 16", "context: 0", "RANGE"),
        ("top_k: 6,", "seed: 6,", "RANGE"),
        ("temperature: 1.5, top_k", "top_k", "MISSING_FIELD"),
        ("seeds: 256", "seeds: 1", "RANGE"),
        ("follow: 4", "follows: 4", "UNKNOWN_FIELD"),
    ];
    for (from, to, code) in table {
        let text = FILE.replacen(from, to, 1);
        assert_ne!(text, FILE, "{from}");
        assert_eq!(read(&text), Err(vec![code]), "{to}");
    }
}

#[test]
fn every_kind_sees_its_planted_faults() {
    for (name, least) in [
        ("fits", 4),
        ("slots", 5),
        ("rows", 4),
        ("text", 8),
        ("drawn", 6),
        ("ended", 7),
        ("chapter", 3),
        ("short", 14),
        ("shorter", 13),
    ] {
        let (found, asked) = self_check(&case(name), &golden(name)).expect(name);
        assert!(found == asked && asked >= least, "{name}: {found} of {asked}");
        // The same case, by the bits of its other forms.
        if let Some(bits) = case(name).bits() {
            let (found, asked) = self_check(&bits, &golden(name)).expect(name);
            assert!(found == asked && asked >= 1, "{name}: {found} of {asked}");
        }
    }
    assert!(case("rows").bits().is_some() && case("slots").bits().is_none());
}

#[test]
fn the_first_slot_in_the_order_of_the_model_is_named() {
    let (case, golden) = (case("slots"), golden("slots"));
    let mut answer = perfect(&case, &golden);
    let Content::Stage { slots, .. } = &mut answer.content else { panic!("slots") };
    for slot in ["layer.0.out", "layer.1.attn.norm", "logits"] {
        slots.get_mut(slot).expect(slot).numbers[7] += 1.0;
    }
    let judged = judge(&case, &golden, &answer, Class::for_activations(answer.activations));
    assert_eq!(judged.first.as_deref(), Some("layer.0.out"));
    let Verdict::Fail { kind: FailKind::Load, message } = judged.verdict() else {
        panic!("a pass")
    };
    assert!(message.starts_with("diverges first at layer.0.out: rel rms"), "{message}");
    assert!(message.contains("row 1"), "{message}");
}

#[test]
fn slots_stand_in_the_order_of_computing() {
    let mut slots = vec![
        "logits",
        "final.norm",
        "layer.10.out",
        "layer.2.attn.norm",
        "layer.2.out",
        "embed",
        "embed.tokens",
        "layer.2.attn.q_rope",
        "layer.2.attn.q",
        "layer.2.ffn.norm",
    ];
    slots.sort_by_key(|s| place(s));
    let order = [
        "embed.tokens",
        "embed",
        "layer.2.attn.norm",
        "layer.2.attn.q",
        "layer.2.attn.q_rope",
        "layer.2.ffn.norm",
        "layer.2.out",
        "layer.10.out",
        "final.norm",
        "logits",
    ];
    assert_eq!(slots, order);
}

#[test]
fn a_text_may_leave_the_golden_only_where_no_margin_decides() {
    let (case, golden) = (case("text"), golden("text"));
    let judged = |ids: [i32; 4]| {
        let mut answer = perfect(&case, &golden);
        let Content::Generation(Written { runs, .. }) = &mut answer.content else { panic!("text") };
        *runs = vec![ids.to_vec(); 2];
        judge(&case, &golden, &answer, Class::for_activations(answer.activations)).verdict()
    };
    assert_eq!(judged([7, 8, 9, 10]), Verdict::Pass);
    // Undecided, and as likely as the golden's own text.
    assert_eq!(judged([7, 8, 11, 12]), Verdict::Pass);
    // Undecided, and much less likely.
    assert!(matches!(judged([7, 8, 12, 12]), Verdict::Fail { kind: FailKind::Load, .. }));
    // A text that nobody has a figure of.
    let unknown = judged([7, 8, 13, 13]);
    assert!(matches!(unknown, Verdict::NotRun { kind: NotRun::Inconclusive, .. }), "{unknown:?}");
    assert!(matches!(judged([7, 9, 9, 10]), Verdict::Fail { kind: FailKind::Bits, .. }));
}

/// An answer to a case of generation, changed.
fn wrote(name: &str, change: impl Fn(&mut Written)) -> Findings {
    let (case, golden) = (case(name), golden(name));
    let mut answer = perfect(&case, &golden);
    let Content::Generation(written) = &mut answer.content else { panic!("text") };
    change(written);
    judge(&case, &golden, &answer, Class::for_activations(answer.activations))
}

#[test]
fn what_ends_a_text_is_not_handed_out() {
    let judged = |ids: &[i32], stop: &str| {
        wrote("ended", |written| {
            (written.runs, written.stop) = (vec![ids.to_vec()], Some(stop.to_owned()));
        })
        .verdict()
    };
    let fails = |kind, verdict| matches!(verdict, Verdict::Fail { kind: k, .. } if k == kind);
    assert_eq!(judged(&[7, 8, 9], "eos"), Verdict::Pass);
    // Handed out, although the margin does not decide that it comes.
    assert!(fails(FailKind::Bits, judged(&[7, 8, 9, 5], "eos")));
    // Another token in its place, which no margin forbids; but one before it is decided.
    assert_eq!(judged(&[7, 8, 9, 6, 1], "length"), Verdict::Pass);
    assert!(fails(FailKind::Bits, judged(&[7, 8, 6], "eos")));
    assert!(fails(FailKind::Shape, judged(&[7, 8], "eos")));
    assert!(fails(FailKind::Bits, judged(&[7, 8, 9], "length")));
    assert!(fails(FailKind::Shape, judged(&[7, 8, 9, 6, 1, 1, 1, 1, 1], "length")));
    let silent = wrote("ended", |written| written.stop = None);
    assert!(fails(FailKind::Shape, silent.verdict()));
    let uncut = wrote("ended", |written| written.reported = Some(b" upon stop".to_vec()));
    assert!(fails(FailKind::Bits, uncut.verdict()));
    let no_text = wrote("ended", |written| written.reported = None);
    assert!(fails(FailKind::Shape, no_text.verdict()));
}

#[test]
fn the_ids_of_another_generator_prove_nothing() {
    let other = |written: &mut Written| written.runs = vec![vec![7, 1, 1, 1]];
    assert!(matches!(wrote("drawn", other).verdict(), Verdict::Fail { kind: FailKind::Bits, .. }));
    let own = wrote("drawn", |written| {
        other(written);
        written.own_draws = true;
    });
    let inconclusive = matches!(own.verdict(), Verdict::NotRun { kind: NotRun::Inconclusive, .. });
    assert!(inconclusive, "{:?}", own.verdict());
    // Undecided, and drawn: nobody asks how likely it is.
    let late = wrote("drawn", |written| written.runs = vec![vec![7, 8, 1, 1]]);
    assert_eq!(late.verdict(), Verdict::Pass);
    let short = wrote("drawn", |written| {
        (written.runs, written.own_draws) = (vec![vec![7, 1]], true);
    });
    assert!(matches!(short.verdict(), Verdict::Fail { kind: FailKind::Shape, .. }));
}

#[test]
fn what_was_not_reported_is_a_note() {
    let (case, golden) = (case("fits"), golden("fits"));
    let mut answer = perfect(&case, &golden);
    assert_eq!(
        judge(&case, &golden, &answer, Class::for_activations(answer.activations)).notes(),
        [""; 0]
    );
    let Content::Load { used, .. } = &mut answer.content else { panic!("a load") };
    used.clear();
    let judged = judge(&case, &golden, &answer, Class::for_activations(answer.activations));
    assert_eq!((judged.verdict(), judged.notes()), (Verdict::Pass, vec![MEMORY.to_owned()]));
    let Content::Load { predicted, .. } = &mut answer.content else { panic!("a load") };
    *predicted = None;
    let mut judged = judge(&case, &golden, &answer, Class::for_activations(answer.activations));
    assert_eq!(judged.notes(), ["not observed: memory, foretold memory"]);
    judged.require_prediction(&Whom::foreign(true));
    assert_eq!(judged.verdict(), Verdict::Pass);
    judged.require_prediction(&Whom::Cpu);
    assert!(matches!(judged.verdict(), Verdict::Fail { kind: FailKind::Shape, .. }));
}

const MEMORY: &str = "not observed: memory";

#[test]
fn our_own_card_names_its_kernels() {
    let named = Route { entries: ["rope_f16".to_owned()].into(), ..Route::default() };
    let empty = Route { empty: 1, ..named.clone() };
    let silent = Route { silent: 1, ..named.clone() };
    let foreign = |kind: &str| Whom::foreign(kind == "cuda");
    for (asked, route, fails, notes) in [
        (Whom::Cuda, &named, false, 0),
        (Whom::Cuda, &empty, true, 0),
        (Whom::Cuda, &silent, true, 0),
        (Whom::Cpu, &silent, false, 0),
        (foreign("cuda"), &named, false, 0),
        (foreign("cuda"), &empty, true, 0),
        (foreign("cuda"), &silent, false, 1),
        (foreign("cpu"), &silent, false, 1),
    ] {
        let mut judged = Findings::default();
        judged.routed(&asked, route);
        let failed = matches!(judged.verdict(), Verdict::Fail { kind: FailKind::Route, .. });
        assert_eq!((failed, judged.notes().len()), (fails, notes), "{asked:?} {route:?}");
    }
}

#[test]
fn the_class_is_what_the_subject_says_of_its_activations() {
    let (case, golden) = (case("rows"), golden("rows"));
    let mut answer = perfect(&case, &golden);
    let Content::Logits(ways) = &mut answer.content else { panic!("logits") };
    // In every way, so that no bit differs among them.
    ways.iter_mut().for_each(|(_, rows)| rows.numbers[0] += 2e-3);
    assert!(matches!(
        judge(&case, &golden, &answer, Class::for_activations(answer.activations)).verdict(),
        Verdict::Fail { .. }
    ));
    answer.activations = Some(DType::F16);
    assert_eq!(
        judge(&case, &golden, &answer, Class::for_activations(answer.activations)).verdict(),
        Verdict::Pass
    );
    let Content::Logits(ways) = &mut answer.content else { panic!("logits") };
    ways.retain(|(way, _)| *way == Way::Whole);
    ways[0].1.numbers[3] = f64::INFINITY;
    let judged =
        judge(&case, &golden, &answer, Class::for_activations(answer.activations)).verdict();
    assert!(matches!(judged, Verdict::Fail { kind: FailKind::Nonfinite, .. }), "{judged:?}");
}
