//! `goldgate mutate --generate`: plants faults that nobody chose, and prints a score.

use goldgate_harness::line::{Fate, GeneratedScore};
use goldgate_harness::mutants::Planting;
use goldgate_harness::mutants::generated::{self, Outcome, percent, scores};
use goldgate_harness::session::folders::{nothing, selects};

use crate::commands::{Exit, Failure, say, say_json};

/// Plants the generated faults that the filters select.
///
/// The exit code is 1 if the score is below `floor`, 4 if a fault could not be tried, for want of
/// Python for instance, and 0 otherwise, whatever survives: the score is a figure of merit.
pub fn run(
    planting: &Planting<'_>,
    filters: &[String],
    floor: Option<f64>,
    json: bool,
) -> Result<Exit, Failure> {
    let outcomes = generated::plant(planting, |name| selects(filters, name));
    // A filter that selects nothing must not look like a score without survivors.
    if outcomes.is_empty() {
        let names = generated::names(planting.specs);
        return Err(nothing(filters, names.iter().map(String::as_str)).into());
    }
    let scores = scores(&outcomes);
    match json {
        true => say_json(&generated::json(&outcomes))?,
        false => tell(&outcomes, &scores)?,
    }
    let below = |floor: f64| percent(&scores).is_none_or(|percent| percent < floor);
    Ok(match floor {
        Some(floor) if below(floor) => Exit::No,
        _ if scores.iter().any(|s| s.not_run > 0) => Exit::Absent,
        _ => Exit::Yes,
    })
}

fn tell(outcomes: &[Outcome], scores: &[GeneratedScore]) -> Result<(), Failure> {
    for outcome in outcomes {
        match &outcome.fate {
            Fate::Survived { why } => say(&format!("SURVIVED {}: {why}", outcome.name))?,
            Fate::NotRun { why } => say(&format!("not run  {}: {why}", outcome.name))?,
            Fate::Killed { .. } | Fate::Equivalent { .. } => {}
        }
    }
    for score in scores {
        say(&line(&format!("{} {}", score.op, score.variant), std::slice::from_ref(score)))?;
    }
    say(&line("all", scores))?;
    Ok(())
}

/// `linear f16-q4_k  killed 52 of 60, 86.7 %; 2 equivalent; 3 not run`.
fn line(name: &str, scores: &[GeneratedScore]) -> String {
    let (killed, planted) = GeneratedScore::total(scores);
    let mut line = format!("{name:<28} killed {killed:>5} of {planted:>5}");
    if let Some(percent) = percent(scores) {
        line.push_str(&format!(", {percent:>5.1} %"));
    }
    let equivalent: usize = scores.iter().map(|s| s.equivalent).sum();
    let not_run: usize = scores.iter().map(|s| s.not_run).sum();
    for (count, word) in [(equivalent, "equivalent"), (not_run, "not run")] {
        if count > 0 {
            line.push_str(&format!("; {count} {word}"));
        }
    }
    line
}
