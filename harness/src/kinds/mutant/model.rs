//! A fault in a model: an edit of one tensor or one number of its file.

use schemars::JsonSchema;

use crate::yaml::read::Reader;
use crate::yaml::tree::Node;

/// Another model in place of the case's: one tensor or one number of its GGUF file is edited.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelEdit {
    /// The tensor, by its name in the file.
    pub tensor: Option<String>,
    /// Becomes zero.
    #[schemars(default)]
    pub zero: bool,
    /// Becomes the same with the other sign.
    #[schemars(default)]
    pub negate: bool,
    /// Its memory is that of its transpose, under the same shape; square.
    #[schemars(default)]
    pub transpose: bool,
    /// Every element times that.
    pub scale: Option<f64>,
    /// Each row in the place of the one so many before it.
    pub roll_rows: Option<u64>,
    /// Rows of each of so many heads: from halves to neighbouring pairs.
    pub pairs_of_heads: Option<u64>,
    /// Its bytes become those of another tensor.
    pub copy: Option<String>,
    /// The two change places.
    pub swap: Option<String>,
    /// A number of the metadata.
    pub key: Option<String>,
    /// What it becomes.
    pub value: Option<f64>,
    /// The slot that a case of slots must name as the first that diverges.
    pub diverges_at: Option<String>,
}

/// Reads an edit of a model.
pub fn model_edit(r: &Reader<'_>, node: &Node, path: &str) -> Option<ModelEdit> {
    let mut f = r.fields(node, path)?;
    // From 1, because rolling by no row is no fault.
    let count = |r: &Reader<'_>, n: &Node, p: &str| Some(r.int(n, p, 1, 1 << 20)? as u64);
    let edit = ModelEdit {
        tensor: f.may("tensor", Reader::text),
        zero: f.may("zero", Reader::flag).unwrap_or_default(),
        negate: f.may("negate", Reader::flag).unwrap_or_default(),
        transpose: f.may("transpose", Reader::flag).unwrap_or_default(),
        scale: f.may("scale", Reader::number),
        roll_rows: f.may("roll_rows", count),
        pairs_of_heads: f.may("pairs_of_heads", count),
        copy: f.may("copy", Reader::text),
        swap: f.may("swap", Reader::text),
        key: f.may("key", Reader::text),
        value: f.may("value", Reader::number),
        diverges_at: f.may("diverges_at", Reader::text),
    };
    f.done();
    let flags = [edit.zero, edit.negate, edit.transpose];
    let given = [
        edit.scale.is_some(),
        edit.roll_rows.is_some(),
        edit.pairs_of_heads.is_some(),
        edit.copy.is_some(),
        edit.swap.is_some(),
    ];
    // Exactly one change, so that the slot where it first shows is known.
    let changes = flags.iter().chain(&given).filter(|x| **x).count();
    // A change without a tensor, or a key without its value, would do nothing.
    let whole = match (&edit.tensor, &edit.key) {
        (Some(_), None) => changes == 1 && edit.value.is_none(),
        (None, Some(_)) => changes == 0 && edit.value.is_some(),
        _ => false,
    };
    if !whole {
        let expected = "one change of one `tensor`, or a `key` with its `value`";
        r.note(node, "MISSING_FIELD", path, expected);
    }
    Some(edit)
}
