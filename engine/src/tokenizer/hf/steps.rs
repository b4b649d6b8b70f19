//! The steps around the model: normaliser, pre-tokenizer, template, decoder, padding, truncation.
//!
//! What is here is what byte-level models are published with. Everything else is refused under the
//! code of its kind, and what has harmed readers of such files before has a check of its own.

use regex_syntax::ast::ErrorKind as Grammar;

use super::check::Vocabulary;
use super::refuse::{Text, of};
use crate::json::{Field, Node};
use crate::tokenizer::split::Split;
use crate::weights::refusal::{Code, Malformed};

/// The longest regular expression that is looked at; published ones have some three hundred bytes.
const LONGEST_REGEX: usize = 4096;

/// The longest text that a step may put in place of another, or before the whole.
const LONGEST_INSERT: usize = 16;

/// The most steps of a sequence, pieces of a template and tokens that one names; published files
/// have two or three.
const MOST: usize = 64;

/// Names of the steps that only look at byte letters, with the fields they may have.
const BYTE_LEVEL: &[&str] = &["type", "add_prefix_space", "trim_offsets", "use_regex"];

type Checked<T> = Result<T, Malformed>;

/// The word under `type`.
fn kind<'a>(text: &Text<'a>, node: Node<'a>, code: Code) -> Checked<String> {
    let Some(kind) = node.get("type") else {
        return text.no_as(code, node, "no type", "an object with a type");
    };
    Ok(text.string(kind)?.into_owned())
}

/// Every step of a sequence in order, or the one step.
fn flat<'a>(text: &Text<'a>, node: Node<'a>, code: Code, list: &str) -> Checked<Vec<Node<'a>>> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    if kind(text, node, code)? != "Sequence" {
        return Ok(vec![node]);
    }
    let fields = text.object(node, &["type", list])?;
    let Some(steps) = of(&fields, list) else {
        return text.no_as(code, node, &format!("no {list}"), "the steps of the sequence");
    };
    text.array(steps)?;
    let found: Vec<Node<'a>> = steps.items().take(MOST + 1).collect();
    match found.len() > MOST {
        true => text.no_as(code, steps, "more", &format!("at most {MOST} steps")),
        false => Ok(found),
    }
}

/// Whether the text is put into canonical composition first.
pub fn normalizer(text: &Text<'_>, node: Node<'_>) -> Checked<bool> {
    let mut nfc = false;
    for step in flat(text, node, Code::Normalizer, "normalizers")? {
        match kind(text, step, Code::Normalizer)?.as_str() {
            "NFC" => {
                text.object(step, &["type"])?;
                nfc = true;
            }
            "Precompiled" => {
                return text.no(Code::Charsmap, step, "no compiled table of characters");
            }
            "Replace" => return replace(text, step, Code::Normalizer),
            "Prepend" => {
                let long = step.get("prepend").and_then(|n| n.string()).map_or(0, |t| t.len());
                let grows = long > LONGEST_INSERT;
                let code = if grows { Code::Expansion } else { Code::Normalizer };
                return text.no(code, step, "NFC or nothing");
            }
            _ => return text.no(Code::Normalizer, step, "NFC or nothing"),
        }
    }
    Ok(nfc)
}

/// Refuses a replacement: of nothing, by something longer, or at all.
fn replace<T>(text: &Text<'_>, step: Node<'_>, code: Code) -> Checked<T> {
    let inner = |n: Node<'_>| n.fields().next().and_then(|f| f.value.string()).map(|t| t.len());
    let from = step.get("pattern").and_then(inner).unwrap_or(0);
    let to = step.get("content").and_then(|n| n.string()).map_or(0, |t| t.len());
    match (from, to) {
        (0, _) => text.no(Code::Pattern, step, "a pattern that is not empty"),
        // One letter to ten, nine times in a row, is a thousand million letters.
        (from, to) if to > 4 * from => {
            text.no(Code::Expansion, step, "at most four times the text that it replaces")
        }
        _ => text.no(code, step, "no replacement"),
    }
}

/// How a text is cut into pieces.
pub fn pre_tokenizer(text: &Text<'_>, node: Node<'_>) -> Checked<Split> {
    const WANTED: &str = "ByteLevel, or Split by a published pattern and then ByteLevel";
    let steps = flat(text, node, Code::Pretok, "pretokenizers")?;
    let mut split = None;
    for (place, step) in steps.iter().enumerate() {
        let last = place + 1 == steps.len();
        match kind(text, *step, Code::Pretok)?.as_str() {
            "Split" if place == 0 && !last => split = Some(pattern(text, *step)?),
            "Split" => {
                pattern(text, *step)?;
                return text.no(Code::Pretok, *step, WANTED);
            }
            "ByteLevel" if last => {
                let own = byte_level(text, *step)?;
                return match (split, own) {
                    (Some(split), false) => Ok(split),
                    (None, true) => Ok(Split::Gpt2),
                    _ => text.no(Code::Pretok, *step, "one pattern: its own, or that of a Split"),
                };
            }
            _ => return text.no(Code::Pretok, *step, WANTED),
        }
    }
    text.no(Code::Pretok, node, WANTED)
}

/// Whether a ByteLevel step cuts by its own pattern.
fn byte_level(text: &Text<'_>, step: Node<'_>) -> Checked<bool> {
    let fields = text.object(step, BYTE_LEVEL)?;
    // A space that the text does not have could not be told from one that it has.
    if text.flag(of(&fields, "add_prefix_space"), true)? {
        return text.no_as(Code::Pretok, step, "add_prefix_space true", "add_prefix_space false");
    }
    text.flag(of(&fields, "use_regex"), true)
}

/// The published pattern of a Split.
fn pattern(text: &Text<'_>, step: Node<'_>) -> Checked<Split> {
    let fields = text.object(step, &["type", "pattern", "behavior", "invert"])?;
    let Some(pattern) = of(&fields, "pattern") else {
        return text.no_as(Code::Pattern, step, "no pattern", "a pattern");
    };
    let inner = text.object(pattern, &["Regex", "String"])?;
    let [Field { key, value, .. }] = inner.as_slice() else {
        return text.no(Code::Pattern, pattern, "one Regex");
    };
    let written = text.string(*value)?;
    if written.is_empty() {
        return text.no(Code::Pattern, *value, "a pattern that is not empty");
    }
    if key != "Regex" {
        return text.no(Code::Pretok, *value, "a Regex");
    }
    let published = Split::ALL.into_iter().find(|s| s.pattern() == *written);
    let Some(split) = published else {
        let names = Split::ALL.map(Split::name).join(", ");
        let code = if is_regex(&written) { Code::RegexUnsafe } else { Code::Regex };
        return text.no(code, *value, &format!("the published pattern of {names}"));
    };
    let isolated = of(&fields, "behavior").and_then(|n| n.string());
    if isolated.as_deref() != Some("Isolated") || text.flag(of(&fields, "invert"), false)? {
        return text.no(Code::Pretok, step, "behavior Isolated, invert false");
    }
    Ok(split)
}

/// Whether it could be a regular expression at all, looking ahead and back aside.
fn is_regex(written: &str) -> bool {
    let reads = || match regex_syntax::ast::parse::Parser::new().parse(written) {
        Ok(_) => true,
        Err(e) => {
            matches!(e.kind(), Grammar::UnsupportedLookAround | Grammar::UnsupportedBackreference)
        }
    };
    written.len() <= LONGEST_REGEX && reads()
}

/// Ids before and after a single text.
pub fn post_processor(
    text: &Text<'_>,
    node: Node<'_>,
    vocabulary: &Vocabulary,
) -> Checked<(Vec<u32>, Vec<u32>)> {
    let mut ends = (Vec::new(), Vec::new());
    for step in flat(text, node, Code::Template, "processors")? {
        match kind(text, step, Code::Template)?.as_str() {
            "ByteLevel" => {
                text.object(step, BYTE_LEVEL)?;
            }
            "TemplateProcessing" => ends = template(text, step, vocabulary)?,
            _ => return text.no(Code::Template, step, "ByteLevel or TemplateProcessing"),
        }
    }
    Ok(ends)
}

fn template(
    text: &Text<'_>,
    step: Node<'_>,
    vocabulary: &Vocabulary,
) -> Checked<(Vec<u32>, Vec<u32>)> {
    let fields = text.object(step, &["type", "single", "pair", "special_tokens"])?;
    for name in ["single", "pair", "special_tokens"] {
        let Some(list) = of(&fields, name) else { continue };
        if list.items().chain(list.fields().map(|f| f.value)).nth(MOST).is_some() {
            return text.no_as(Code::Template, list, "more", &format!("at most {MOST}"));
        }
    }
    let mut listed: Vec<(String, Vec<u32>)> = Vec::new();
    for token in of(&fields, "special_tokens").into_iter().flat_map(|n| n.fields()) {
        listed.push((token.key.to_string(), listed_ids(text, token.value, vocabulary)?));
    }
    let mut ends = (Vec::new(), Vec::new());
    for name in ["single", "pair"] {
        let Some(pieces) = of(&fields, name) else { continue };
        text.array(pieces)?;
        let mut texts = 0;
        for piece in pieces.items() {
            let members = text.object(piece, &["SpecialToken", "Sequence"])?;
            let [Field { key, value, .. }] = members.as_slice() else {
                return text.no(Code::Template, piece, "SpecialToken or Sequence");
            };
            let id = of(&text.object(*value, &["id", "type_id"])?, "id");
            let Some(id) = id.and_then(|n| n.string()) else {
                return text.no_as(Code::Template, *value, "no id", "an id");
            };
            if key == "Sequence" {
                texts += 1;
                continue;
            }
            let Some((_, ids)) = listed.iter().find(|(name, _)| *name == id) else {
                return text.no(Code::Template, *value, "a token of special_tokens");
            };
            if name == "single" {
                if texts == 0 { &mut ends.0 } else { &mut ends.1 }.extend_from_slice(ids);
            }
        }
        if texts != if name == "single" { 1 } else { 2 } {
            return text.no(Code::Template, pieces, "each text once");
        }
    }
    Ok(ends)
}

/// The ids of one entry of `special_tokens`, each of which is its token.
fn listed_ids(text: &Text<'_>, entry: Node<'_>, vocabulary: &Vocabulary) -> Checked<Vec<u32>> {
    let fields = text.object(entry, &["id", "ids", "tokens"])?;
    let list = |name: &str| of(&fields, name).into_iter().flat_map(|n| n.items());
    let (count, tokens) = (list("ids").count(), list("tokens").count());
    if count == 0 || count != tokens || count > MOST {
        let found = format!("{count} ids for {tokens} tokens");
        return text.no_as(Code::Template, entry, &found, "an id for each token");
    }
    let mut ids = Vec::with_capacity(count);
    for (id, token) in list("ids").zip(list("tokens")) {
        let known = id.whole().and_then(|n| u32::try_from(n).ok());
        let token = text.string(token)?;
        match known.filter(|n| vocabulary.id(token.as_bytes()) == Some(*n)) {
            Some(known) => ids.push(known),
            None => return text.no(Code::Template, id, &format!("the id of {token}")),
        }
    }
    Ok(ids)
}

/// Ids to text: by the byte letters.
pub fn decoder(text: &Text<'_>, node: Node<'_>) -> Checked<()> {
    let steps = flat(text, node, Code::Decoder, "decoders")?;
    if steps.is_empty() {
        return text.no(Code::Decoder, node, "ByteLevel");
    }
    for step in steps {
        match kind(text, step, Code::Decoder)?.as_str() {
            "ByteLevel" => {
                text.object(step, BYTE_LEVEL)?;
            }
            "Replace" => return replace(text, step, Code::Decoder),
            _ => return text.no(Code::Decoder, step, "ByteLevel"),
        }
    }
    Ok(())
}

/// Padding concerns batches of texts, which are not made here; a rule that could not be is refused.
pub fn padding(text: &Text<'_>, node: Node<'_>, vocabulary: &Vocabulary) -> Checked<()> {
    if node.is_null() {
        return Ok(());
    }
    let known =
        ["strategy", "direction", "pad_to_multiple_of", "pad_id", "pad_type_id", "pad_token"];
    let fields = text.object(node, &known)?;
    if let Some(id) = of(&fields, "pad_id")
        && !id.whole().is_some_and(|n| vocabulary.has(n))
    {
        return text.no(Code::Padding, id, "an id of the vocabulary");
    }
    if let Some(multiple) = of(&fields, "pad_to_multiple_of")
        && !multiple.whole().is_some_and(|n| (1..=LONGEST_TEXT).contains(&n))
    {
        return text.no(Code::Padding, multiple, "1 to 16777216");
    }
    let strategy = of(&fields, "strategy");
    if let Some(fixed) = strategy.and_then(|n| n.get("Fixed"))
        && !fixed.whole().is_some_and(|n| (1..=LONGEST_TEXT).contains(&n))
    {
        return text.no(Code::Padding, fixed, "1 to 16777216");
    }
    Ok(())
}

/// Tokens of the longest text that a rule may speak of.
const LONGEST_TEXT: u64 = 1 << 24;

/// A text is never cut in silence: the rule is checked, and not applied.
pub fn truncation(text: &Text<'_>, node: Node<'_>) -> Checked<()> {
    if node.is_null() {
        return Ok(());
    }
    let fields = text.object(node, &["direction", "max_length", "strategy", "stride"])?;
    let number = |name: &str| of(&fields, name).map_or(Some(0), |n| n.whole());
    match (number("max_length"), number("stride")) {
        (Some(length), Some(stride)) if length > 0 && stride < length => Ok(()),
        _ => text.no(Code::Truncation, node, "max_length above 0, and a stride below it"),
    }
}
