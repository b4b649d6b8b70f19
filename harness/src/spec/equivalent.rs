//! Generated faults that were reviewed (`specs/mutants/equivalent.yaml`): nobody could tell them
//! from the right answer, so they are out of the score, each with its reason.

use schemars::JsonSchema;

use crate::line::glob::glob;
use crate::yaml::fields::version;
use crate::yaml::read::{At, Reader};
use crate::yaml::tree::Node;

/// The faults that are equivalent to no fault.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EquivalentFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The entries.
    pub equivalent: Vec<EquivalentFault>,
}

/// Faults that no case could detect.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EquivalentFault {
    /// The name of a fault within op and variant, such as `round.x.bf16`; `*` is any text.
    #[schemars(with = "String")]
    pub fault: At<String>,
    /// The ops; all of them where it is absent.
    #[schemars(default)]
    pub ops: Vec<String>,
    /// The variants, such as `f16` or `f16-q4_k`, with `*`; all of them where it is absent.
    #[schemars(default)]
    pub variants: Vec<String>,
    /// Why nobody could tell it from the right answer.
    pub reason: String,
}

impl EquivalentFault {
    /// Whether the entry names a fault of an op and variant.
    pub fn names(&self, op: &str, variant: &str, fault: &str) -> bool {
        let any = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|pattern| glob(pattern, name))
        };
        glob(&self.fault.value, fault) && any(&self.ops, op) && any(&self.variants, variant)
    }
}

/// Reads a whole file.
pub fn equivalent_file(r: &Reader<'_>, node: &Node) -> Option<EquivalentFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let equivalent = f.need("equivalent", |r, n, p| r.list(n, p, entry));
    f.done();
    Some(EquivalentFile { format: format?, equivalent: equivalent? })
}

fn entry(r: &Reader<'_>, node: &Node, path: &str) -> Option<EquivalentFault> {
    let texts = |r: &Reader<'_>, n: &Node, p: &str| r.list(n, p, Reader::text);
    let mut f = r.fields(node, path)?;
    let fault = f.need("fault", |r, n, p| {
        let text = r.text(n, p)?;
        // A bare `*` would excuse every survivor of an op with one reason.
        if !text.contains(|c: char| c.is_ascii_alphanumeric()) {
            return r.fail(n, "RANGE", p, "the name of a fault, such as round.x.bf16");
        }
        Some(At::new(n, text))
    });
    let ops = f.may("ops", texts).unwrap_or_default();
    let variants = f.may("variants", texts).unwrap_or_default();
    let reason = f.need("reason", Reader::text);
    f.done();
    Some(EquivalentFault { fault: fault?, ops, variants, reason: reason? })
}
