//! The kinds of cases about whole models: *load*, *stage*, *logits*, *generation*, *perplexity*,
//! *draws*.

pub mod ask;
pub mod case;
pub mod chain;
pub mod class;
pub mod edit;
pub mod forms;
pub mod golden;
pub mod hub;
pub mod judge;
pub mod recompute;
pub mod selfcheck;
pub mod spec;
#[cfg(test)]
mod tests;

pub use case::ModelCase;
pub use hub::Hub;

use std::sync::Arc;

use goldgate_wire::Observed;
use goldgate_wire::call::{Load, LoadOptions};

use crate::kinds::model::ask::{Answer, Put, Question, prompt};
use crate::kinds::model::case::{Ask, At, Generation, Prompt, prefill};
use crate::kinds::model::edit::edited_file;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::model::selfcheck::{self_check, wrong};
use crate::kinds::mutant::Mutant;
use crate::kinds::{Goldens, Kind, Plant, Withheld, fate};
use crate::line::{
    BrokenKind, Caller, FailKind, Family, Fate, Head, Judgement, NotRun, On, Part, Sort, Stopped,
    Verdict, Whom,
};

/// The kind of everything that is asked of a loaded model.
#[derive(Clone, Copy, Debug)]
pub struct Model;

/// How many lines of a table a failure page shows on each side of the first that diverges.
const AROUND: usize = 6;

impl Kind for Model {
    type Case = ModelCase;
    type Question = Question;
    type Golden = ModelGolden;
    type Got = Answer;

    fn head(&self, case: &ModelCase) -> Head {
        let refused = matches!(&case.ask, Ask::Load(load) if load.refuses.is_some());
        Head {
            name: case.full_name(),
            kind: case.kind(),
            sort: Sort::Case,
            gate: case.gate,
            stem: case.stem.clone(),
            case: case.name.clone(),
            variant: case.label(),
            why: case.why.clone(),
            source: case.source.clone(),
            place: Some(case.place.clone()),
            family: if refused { Family::Refused } else { Family::Rough },
            dtype: case.activations,
            // Its answers are compared with each other.
            golden: case.golden.clone().filter(|_| case.part == Part::Numbers),
            definition: false,
            slow: case.slow,
            on: On::Engines,
            // Slow cases run on their own, so that the others of the group need not wait for them.
            group: (!case.slow).then(|| format!("{}::{}", case.stem, case.form.label)),
        }
    }

    fn golden(&self, case: &ModelCase, from: &dyn Goldens) -> Result<ModelGolden, Withheld> {
        from.model(case)
    }

    fn self_check(&self, case: &ModelCase, golden: &ModelGolden) -> Result<(u32, u32), String> {
        self_check(case, golden)
    }

    fn question(
        &self,
        case: &ModelCase,
        golden: &ModelGolden,
        from: &dyn Goldens,
    ) -> Result<Question, Withheld> {
        let path =
            case.form.find(from.folder(), from.models()).map_err(|why| match case.form.at {
                // What is shipped must be there, whereas a checkpoint is downloaded by choice.
                At::Golden(_) => Withheld::Broken(BrokenKind::FileMissing, why),
                At::Hub(_) => Withheld::NotRun(NotRun::NoModel, why),
            })?;
        let options = LoadOptions {
            context: Some(case.context as u64),
            activations: case.activations,
            sha256: match &case.form.at {
                At::Hub(Hub { sha256, .. }) => sha256.clone(),
                At::Golden(_) => None,
            },
            ..LoadOptions::default()
        };
        let mut load = Load { path: path.display().to_string(), options };
        if let Ask::Load(crate::kinds::model::case::Load { path: Some(path), .. }) = &case.ask {
            // A file that does not exist has no canonical path.
            let path = std::path::absolute(from.folder().join(path)).unwrap_or_default();
            load.path = path.display().to_string();
            // The hash is that of the form's own file.
            load.options.sha256 = None;
        }
        let text = match prompt(&case.ask) {
            Some(Prompt::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let mut ids = golden.ids.clone();
        if let (Some(Prompt::Ids(own)), true) = (prompt(&case.ask), ids.is_empty()) {
            ids.clone_from(own);
        }
        let (put, limit) = (put(case, golden), case.timeout);
        Ok(Question { path, load, text, ids, put, limit, steps: true, folder: None })
    }

    fn ask(&self, question: &Question, to: &mut Caller<'_>) -> Result<Answer, Stopped> {
        crate::kinds::model::ask::ask(question, to)
    }

    fn judge(
        &self,
        case: &ModelCase,
        golden: &ModelGolden,
        answer: &Answer,
        whom: &Whom,
    ) -> Judgement {
        let class = judge::class(case, answer, whom);
        let mut found = judge::judge(case, golden, answer, class);
        found.routed(whom, &answer.route);
        found.require_prediction(whom);
        let entries: Vec<String> = answer.route.entries.iter().cloned().collect();
        let observed =
            Observed { route: (!entries.is_empty()).then_some(entries), ..Observed::default() };
        Judgement {
            verdict: found.verdict(),
            // Without a comparison a load of 0 would read as a perfect answer.
            load: (found.compared > 0).then_some(found.load),
            compared: found.compared,
            worst: None,
            notes: found.notes(),
            observed,
            detail: vec![("measured", around(&found.lines).join("\n"))],
            first: found.first,
            figures: found.figures,
        }
    }

    fn detail(
        &self,
        case: &ModelCase,
        golden: Option<&ModelGolden>,
    ) -> Vec<(&'static str, String)> {
        let witnesses = golden.map(|golden| golden.witnesses.as_slice()).unwrap_or_default();
        let by: Vec<String> =
            witnesses.iter().map(|w| format!("{} {}", w.name, w.version)).collect();
        let line = |path: &String| match by.is_empty() {
            true => path.clone(),
            false => format!("{path}, by {}", by.join(" and ")),
        };
        case.golden.iter().map(|path| ("golden", line(path))).collect()
    }

    fn plant(
        &self,
        case: &ModelCase,
        golden: &ModelGolden,
        mutant: &Mutant,
        from: &dyn Goldens,
    ) -> Result<Plant<Question, Answer>, String> {
        if case.part == Part::Bits && mutant.kernel.is_none() {
            return Err("its answers are compared with each other, not with the golden".to_owned());
        }
        if let Some(name) = &mutant.wrong {
            return wrong(case, golden, name).map(Plant::Answered);
        }
        let edit = mutant.ask.as_ref().and_then(|ask| ask.model.as_ref());
        let edit = edit.ok_or("it is no edit of a model's file")?;
        let At::Golden(path) = &case.form.at else {
            return Err("a file that is not shipped".into());
        };
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = folder.path().join("edited.gguf");
        edited_file(&from.folder().join(path), &file, edit)?;
        let mut question = self.question(case, golden, from).map_err(Withheld::message)?;
        question.load.path = file.display().to_string();
        // With an edited file only the goldens can reveal the fault: each step still matches its
        // own definition.
        (question.path, question.steps) = (file, false);
        question.folder = Some(Arc::new(folder));
        Ok(Plant::Asked(question, None))
    }

    /// The outcome of a fault. A case of slots must also locate it.
    fn fate(&self, case: &ModelCase, mutant: &Mutant, judgement: &Judgement) -> Fate {
        let edit = mutant.ask.as_ref().and_then(|ask| ask.model.as_ref());
        let at = edit.and_then(|edit| edit.diverges_at.as_ref());
        match (&judgement.verdict, at) {
            (Verdict::Fail { kind: FailKind::Load, .. }, Some(slot))
                if judgement.first.as_ref() != Some(slot) =>
            {
                let first = judgement.first.as_deref().unwrap_or("nothing");
                let why = format!("{}: diverges first at {first}, not at {slot}", case.variant);
                Fate::Survived { why }
            }
            _ => fate(&case.variant, judgement),
        }
    }
}

/// What to ask of the loaded model.
fn put(case: &ModelCase, golden: &ModelGolden) -> Put {
    match (&case.ask, case.part) {
        (Ask::Logits { ways, .. }, Part::Bits) => Put::Logits {
            rows: golden.rows.clone(),
            ways: prefill(ways).copied().collect(),
            forms: true,
        },
        (Ask::Generation(g), Part::Bits) => Put::Generation {
            generation: g.clone(),
            forced: Vec::new(),
            decoded: false,
            forms: true,
        },
        (Ask::Draws(draws), Part::Bits) => {
            Put::Draws { draws: draws.clone(), next: Vec::new(), forms: true }
        }
        _ => numbers(case, golden),
    }
}

/// What to ask for the answers that are compared with the golden.
fn numbers(case: &ModelCase, golden: &ModelGolden) -> Put {
    match &case.ask {
        Ask::Load(load) => Put::Load(load.clone()),
        Ask::Stage { slots, .. } => {
            Put::Stage { slots: slots.clone(), logits: golden.slots.contains_key("logits") }
        }
        Ask::Logits { ways, .. } => {
            Put::Logits { rows: golden.rows.clone(), ways: ways.clone(), forms: false }
        }
        Ask::Generation(g) => Put::Generation {
            forms: false,
            // Once and alone: other forms of asking are another trial.
            generation: Generation { repeat: 1, beside: 0, ..g.clone() },
            // The largest logit along a drawn text need not be the token that was drawn.
            forced: if g.is_greedy() { golden.chosen.clone() } else { Vec::new() },
            // A stop text may end inside a token, and then the ids have more bytes than are handed
            // out.
            decoded: g.stop.is_empty() && !golden.text.is_empty(),
        },
        Ask::Perplexity { window, .. } => Put::Perplexity(*window),
        Ask::Draws(draws) => {
            Put::Draws { draws: draws.clone(), next: golden.next.clone(), forms: false }
        }
    }
}

/// The head of the table, and the lines around the first marked one.
fn around(lines: &[String]) -> Vec<&str> {
    let marked = lines.iter().position(|line| line.ends_with("<-"));
    let Some(at) = marked else {
        return lines.iter().take(2 * AROUND).map(String::as_str).collect();
    };
    let from = at.saturating_sub(AROUND).max(1);
    let to = (at + AROUND).min(lines.len());
    lines.first().into_iter().chain(&lines[from..to]).map(String::as_str).collect()
}
