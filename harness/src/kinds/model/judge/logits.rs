//! Logits of rows, for one way of cutting the prompt or several: within the limits of the class,
//! and with the same bits however the prompt is cut.

use crate::kinds::model::case::Way;
use crate::kinds::model::class::{Class, argmax, log_softmax, mean_and_p99, rel_rms};
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::Findings;
use crate::line::FailKind;

/// Compares every way with the golden.
pub(super) fn numbers(j: &mut Findings, class: Class, golden: &ModelGolden, ways: &[(Way, Rows)]) {
    for (way, rows) in ways {
        let want = &golden.logits;
        if rows.count() != want.count() || rows.width != want.width {
            let message = format!(
                "{}: logits are {} rows of {}, awaited {} of {}",
                way.name(),
                rows.count(),
                rows.width,
                want.count(),
                want.width
            );
            return j.fail(FailKind::Shape, message);
        }
        let lines = j.lines.len();
        let failed = j.failed.is_some();
        against(j, class, golden, rows);
        j.lines[lines..]
            .iter_mut()
            .for_each(|line| line.insert_str(0, &format!("{}: ", way.name())));
        // A message from an earlier way has its name already.
        if !failed && let Some((_, message)) = &mut j.failed {
            message.insert_str(0, &format!("{}: ", way.name()));
        }
    }
}

/// Compares the ways with each other: however the prompt is cut, its logits have the same bits.
pub(super) fn bits(j: &mut Findings, golden: &ModelGolden, ways: &[(Way, Rows)]) {
    let Some(((first, bits), others)) = ways.split_first() else { return };
    for (way, rows) in others {
        if (rows.count(), rows.width) != (bits.count(), bits.width)
            || rows.count() != golden.rows.len()
        {
            let message = format!(
                "{} gives {} rows of {}, {} gives {} of {}",
                way.name(),
                rows.count(),
                rows.width,
                first.name(),
                bits.count(),
                bits.width
            );
            return j.fail(FailKind::Shape, message);
        }
        j.compared += rows.numbers.len() as u64;
        // By bits: `==` would accept zeros of different sign and reject a NaN that is repeated.
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        if let Some(at) = rows.numbers.iter().zip(&bits.numbers).position(|pair| !same(pair)) {
            let (row, id) = (golden.rows[at / rows.width], at % rows.width);
            let (got, want) = (rows.numbers[at], bits.numbers[at]);
            let message = format!(
                "{} gives {got:e} for id {id} of row {row}, {} gives {want:e}",
                way.name(),
                first.name()
            );
            j.fail(FailKind::Bits, message);
        }
    }
}

/// Compares rows of logits with the golden's.
pub(super) fn against(j: &mut Findings, class: Class, golden: &ModelGolden, rows: &Rows) {
    let mut changes = Vec::new();
    let mut worst = (0.0, 0);
    let mut decided = 0;
    for (i, (got, want)) in rows.iter().zip(golden.logits.iter()).enumerate() {
        let row = golden.rows[i];
        j.compared += want.len() as u64;
        if let Some(id) = got.iter().position(|x| !x.is_finite()) {
            return j.fail(FailKind::Nonfinite, format!("row {row}, id {id}: {}", got[id]));
        }
        // A row of equal logits has no deviation to divide by.
        let rel = rel_rms(got, want, golden.std[i].max(f64::MIN_POSITIVE));
        if rel > worst.0 {
            worst = (rel, row);
        }
        j.hold("rel_rms", rel, class.rel_rms);
        let (log_got, log_want) = (log_softmax(got), log_softmax(want));
        let (best, right) = (argmax(got), argmax(want));
        // How much worse, by the reference, the token is that the subject would choose.
        j.hold("regret", log_want[right] - log_want[best], class.regret);
        // Below the margin a legal engine may prefer another token.
        if class.decides(golden.margin[i], golden.std[i]) {
            decided += 1;
            if best != right {
                let message = format!("row {row}: the first token is {best}, awaited {right}");
                j.fail(FailKind::Bits, message);
            }
        }
        // The last row predicts a token beyond the text, which has no expected probability.
        if let Some(next) = golden.ids.get(row + 1).and_then(|id| usize::try_from(*id).ok())
            && next < got.len()
        {
            changes.push((log_got[next] - log_want[next]).abs());
        }
    }
    if !changes.is_empty() {
        let (mean, p99) = mean_and_p99(changes);
        j.hold("mean_dlogp", mean, class.mean);
        j.hold("p99_dlogp", p99, class.p99);
    }
    let share = decided as f64 / rows.count().max(1) as f64;
    j.figures.insert("decided".to_owned(), share);
    j.lines.push(format!("rel rms at most {:.3e}, in row {}", worst.0, worst.1));
}
