//! Reads the cases of texts that are drawn many times.

use crate::kinds::model::case::{Ask, Contexts, Draws};
use crate::kinds::model::spec::{below_golden, sampling};
use crate::yaml::read::{Fields, Reader};
use crate::yaml::tree::Node;

pub(super) fn draws(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let contexts = f.need("contexts", contexts);
    // One text after each context could not show whether the seed counts.
    let seeds = f.need("seeds", |r, n, p| r.int(n, p, 2, 4096));
    let sampling = f.need("sampling", |r, n, p| {
        let settings = sampling(r, n, p)?;
        if settings.contains_key("seed") {
            return r.fail(n, "RANGE", p, "no seed, because each text has its own");
        }
        // A text that is not drawn has no distribution.
        match settings.get("temperature").is_some_and(|t| t.as_f64() > Some(0.0)) {
            true => Some(settings),
            false => r.fail(n, "MISSING_FIELD", p, "a temperature above 0"),
        }
    });
    Some(Ask::Draws(Draws { contexts: contexts?, seeds: seeds? as usize, sampling: sampling? }))
}

fn contexts(r: &Reader<'_>, node: &Node, path: &str) -> Option<Contexts> {
    let mut f = r.fields(node, path)?;
    let text = f.need("text", below_golden);
    let count = f.need("count", |r, n, p| r.int(n, p, 1, 4096));
    let length = f.need("length", |r, n, p| r.int(n, p, 1, 4096));
    let follow = f.may("follow", |r, n, p| r.int(n, p, 1, 64));
    f.done();
    Some(Contexts {
        text: text?,
        count: count? as usize,
        length: length? as usize,
        follow: follow.unwrap_or(0) as usize,
    })
}
