//! The check of tokenizer.json: everything that the library would take on trust.

use std::path::Path;

use super::refuse::{Text, of};
use super::steps;
use crate::json::{Field, Node};
use crate::tokenizer::markup::Mark;
use crate::tokenizer::split::Split;
use crate::tokenizer::texts::{Order, Texts};
use crate::tokenizer::{Kind, Policy, gguf};
use crate::weights::refusal::{Code, Malformed, Warnings, begin};

const ROOT: &[&str] = &[
    "added_tokens",
    "decoder",
    "model",
    "normalizer",
    "padding",
    "post_processor",
    "pre_tokenizer",
    "truncation",
    "version",
];

const MODEL: &[&str] = &[
    "byte_fallback",
    "continuing_subword_prefix",
    "dropout",
    "end_of_word_suffix",
    "fuse_unk",
    "ignore_merges",
    "merges",
    "type",
    "unk_token",
    "vocab",
];

const ADDED: &[&str] =
    &["content", "id", "lstrip", "normalized", "rstrip", "single_word", "special"];

/// A tokenizer.json, understood.
#[derive(Debug)]
pub struct Parts {
    /// Text of each id, as written; nothing where there is none.
    pub texts: Texts,
    /// What each id is for.
    pub kinds: Vec<Kind>,
    /// Ids of the model's own vocabulary.
    pub words: Vec<u32>,
    /// Merges by rank.
    pub merges: Vec<[u32; 2]>,
    /// A piece that is a token is taken whole.
    pub ignore_merges: bool,
    /// Canonical composition first.
    pub nfc: bool,
    /// How a text is cut.
    pub split: Split,
    /// Added tokens.
    pub marks: Vec<Mark>,
    /// What begins and ends a text.
    pub policy: Policy,
    /// What is odd and legal.
    pub warnings: Warnings,
}

/// The model's vocabulary and the added tokens, before they are sorted by id.
#[derive(Debug)]
pub struct Vocabulary {
    texts: Texts,
    ids: Vec<u32>,
    order: Order,
    added: Vec<Mark>,
    len: usize,
}

impl Vocabulary {
    /// The id of a text, as a word or as an added token.
    pub fn id(&self, text: &[u8]) -> Option<u32> {
        let added = self.added.iter().find(|m| m.text == text).map(|m| m.id);
        added.or_else(|| self.word(text))
    }

    fn word(&self, text: &[u8]) -> Option<u32> {
        self.order.find(&self.texts, text).map(|place| self.ids[place as usize])
    }

    /// Whether an id has a token.
    pub fn has(&self, id: u64) -> bool {
        let same = |i: &u32| u64::from(*i) == id;
        self.added.iter().any(|m| same(&m.id)) || self.ids.iter().any(same)
    }
}

type Checked<T> = Result<T, Malformed>;

/// Checks a file and takes it apart.
pub fn parts(bytes: &[u8], file: &Path) -> Checked<Parts> {
    let text = read(bytes, file)?;
    let root = text.json.root();
    let fields = text.object(root, ROOT)?;
    version(&text, root, &fields)?;
    let Some(model) = fields.iter().find(|f| f.key == "model").map(|f| f.value) else {
        return text.no_as(Code::Model, root, "no model", "a model of type BPE");
    };
    let members = model_members(&text, model)?;
    let mut vocabulary = words(&text, model, of(&members, "vocab"))?;
    affixes(&text, &members, &vocabulary)?;
    if let Some(added) = of(&fields, "added_tokens") {
        vocabulary.added = added_tokens(&text, added, &vocabulary)?;
    }
    let step = |name: &str| fields.iter().find(|f| f.key == name).map(|f| f.value);
    let nfc = step("normalizer").map_or(Ok(false), |n| steps::normalizer(&text, n))?;
    for node in of(&fields, "added_tokens").filter(|_| nfc).into_iter().flat_map(|n| n.items()) {
        // It would be found in the composed text; here tokens are found in the text as it is.
        let plain = node.get("content").and_then(|n| n.string()).is_some_and(|t| t.is_ascii());
        if !plain && text.flag(node.get("normalized"), false)? {
            return text.no(Code::Added, node, "normalized false, or a text that is ASCII");
        }
    }
    let split = match step("pre_tokenizer") {
        Some(node) => steps::pre_tokenizer(&text, node)?,
        None => return text.no_as(Code::Pretok, root, "no pre_tokenizer", "a pre_tokenizer"),
    };
    if let Some(node) = step("decoder") {
        steps::decoder(&text, node)?;
    }
    if let Some(node) = step("padding") {
        steps::padding(&text, node, &vocabulary)?;
    }
    if let Some(node) = step("truncation") {
        steps::truncation(&text, node)?;
    }
    let (before, after) = match step("post_processor") {
        Some(node) => steps::post_processor(&text, node, &vocabulary)?,
        None => Default::default(),
    };
    if let Err(refused) = gguf::letters(file, &vocabulary.texts, &vocabulary.order) {
        let vocab = of(&members, "vocab").unwrap_or(model);
        return text.no_as(refused.code, vocab, &refused.found, &refused.expected);
    }
    let merges = merges(&text, of(&members, "merges"), &vocabulary)?;
    let ignore_merges = text.flag(of(&members, "ignore_merges"), false)?;
    let policy = Policy { bos: before.first().copied(), before, after, eos: Vec::new() };
    Ok(sorted(
        vocabulary,
        Parts {
            texts: Texts::default(),
            kinds: Vec::new(),
            words: Vec::new(),
            merges,
            ignore_merges,
            nfc,
            split,
            marks: Vec::new(),
            policy,
            warnings: Warnings::default(),
        },
    ))
}

/// The grammar; two words with one text have a code of their own.
fn read<'a>(bytes: &'a [u8], file: &'a Path) -> Checked<Text<'a>> {
    Text::read(bytes, file).map_err(|fault| {
        let place = fault.json.as_ref().map_or("", |json| &json.pointer);
        match (fault.code, place) {
            (Code::JsonDup, "/model/vocab") => Malformed { code: Code::VocabDup, ..fault },
            _ => fault,
        }
    })
}

fn version<'a>(text: &Text<'a>, root: Node<'a>, fields: &[Field<'a>]) -> Checked<()> {
    match of(fields, "version") {
        Some(node) if node.string().as_deref() == Some("1.0") => Ok(()),
        Some(node) => text.no(Code::Version, node, "\"1.0\""),
        None => text.no_as(Code::Version, root, "no version", "\"1.0\""),
    }
}

/// The members of a BPE model, the switches among them checked.
fn model_members<'a>(text: &Text<'a>, model: Node<'a>) -> Checked<Vec<Field<'a>>> {
    if !model.is_object() {
        return text.no(Code::Model, model, "a model of type BPE");
    }
    match model.get("type").and_then(|n| n.string()).as_deref() {
        Some("BPE") => {}
        Some("Unigram") => return unigram(text, model),
        _ => {
            let node = model.get("type").unwrap_or(model);
            return text.no(Code::Model, node, "a model of type BPE");
        }
    }
    let fields = text.object(model, MODEL)?;
    if let Some(node) = of(&fields, "dropout")
        && node.number() != Some(0.0)
    {
        return text.no(Code::Dropout, node, "null or 0: ids must not be random");
    }
    Ok(fields)
}

/// A table of pieces with scores is not offered; what is broken in it is said first.
fn unigram<T>(text: &Text<'_>, model: Node<'_>) -> Checked<T> {
    let pieces = model.get("vocab").map(|n| n.items().count()).unwrap_or_default();
    if pieces == 0 {
        return text.no_as(Code::Unigram, model, "no piece", "pieces with scores");
    }
    if let Some(unk) = model.get("unk_id").filter(|n| !n.is_null())
        && unk.whole().is_none_or(|id| id >= pieces as u64)
    {
        return text.no(Code::Unigram, unk, &format!("an id below {pieces}"));
    }
    let mut seen = Texts::default();
    for entry in model.get("vocab").into_iter().flat_map(|n| n.items()) {
        let mut pair = entry.items();
        let piece = pair.next().and_then(|n| n.string()).filter(|p| !p.is_empty());
        let score = pair.next().and_then(|n| n.number()).filter(|s| s.is_finite());
        let (Some(piece), Some(_)) = (piece, score) else {
            return text.no(Code::Unigram, entry, "a piece that is not empty, a finite score");
        };
        seen.push(piece.as_bytes());
    }
    if let Some((first, second)) = seen.order().twice(&seen) {
        let found = format!("one piece as {first} and as {second}");
        return text.no_as(Code::Unigram, model, &found, "each piece once");
    }
    text.no_as(Code::Model, model, "Unigram", "a model of type BPE")
}

/// The words of the model and their ids.
fn words<'a>(text: &Text<'a>, model: Node<'a>, vocab: Option<Node<'a>>) -> Checked<Vocabulary> {
    let Some(vocab) = vocab else {
        return text.no_as(Code::VocabEmpty, model, "no vocab", "tokens with ids");
    };
    if !vocab.is_object() {
        return text.no(Code::JsonType, vocab, "an object of tokens with ids");
    }
    let count = vocab.fields().count();
    if count == 0 {
        return text.no(Code::VocabEmpty, vocab, "tokens with ids");
    }
    let (mut texts, mut ids) = (Texts::with_capacity(count), Vec::with_capacity(count));
    for field in vocab.fields() {
        if field.key.is_empty() {
            return text.no_as(Code::VocabToken, field.value, "no text", "a token's text");
        }
        let Some(id) = field.value.whole().and_then(|n| u32::try_from(n).ok()) else {
            return text.no(Code::VocabId, field.value, "a whole number from 0 to 4294967295");
        };
        if id as usize >= limit(count) {
            let expected = format!("an id below {}, of {count} tokens", limit(count));
            return text.no(Code::VocabId, field.value, &expected);
        }
        texts.push(field.key.as_bytes());
        ids.push(id);
    }
    let order = texts.order();
    let mut owner = vec![u32::MAX; limit(count)];
    for (place, id) in (0u32..).zip(&ids) {
        let before = std::mem::replace(&mut owner[*id as usize], place);
        if before != u32::MAX {
            let name = |p: u32| String::from_utf8_lossy(texts.get(p as usize)).into_owned();
            let found = format!("id {id} for {} and for {}", name(before), name(place));
            let second = vocab.fields().nth(place as usize).map_or(vocab, |f| f.value);
            return text.no_as(Code::VocabIdDup, second, &found, "one token for each id");
        }
    }
    Ok(Vocabulary { texts, ids, order, added: Vec::new(), len: count })
}

/// Ids may have holes, but not so many that a small file makes a large table.
fn limit(tokens: usize) -> usize {
    2 * tokens + 1024
}

/// What a BPE may say besides: prefixes, suffixes, unknown text, fallback to bytes.
fn affixes(text: &Text<'_>, fields: &[Field<'_>], vocabulary: &Vocabulary) -> Checked<()> {
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if let Some(node) = of(fields, name)
            && node.string().as_deref() != Some("")
        {
            return text.no(Code::MergePrefix, node, "null or no text: bytes have no affixes");
        }
    }
    if let Some(node) = of(fields, "unk_token") {
        let unk = text.string(node)?;
        if vocabulary.word(unk.as_bytes()).is_none() {
            return text.no(Code::Unk, node, "a token of the vocabulary");
        }
    }
    text.flag(of(fields, "fuse_unk"), false)?;
    if text.flag(of(fields, "byte_fallback"), false)? {
        let token = |byte: &u8| vocabulary.word(format!("<0x{byte:02X}>").as_bytes());
        if let Some(byte) = (0u8..=255).find(|b| token(b).is_none())
            && let Some(node) = of(fields, "byte_fallback")
        {
            let found = format!("no <0x{byte:02X}>");
            return text.no_as(Code::ByteFallback, node, &found, "tokens <0x00> to <0xFF>");
        }
    }
    Ok(())
}

/// Tokens that are found as they are written.
fn added_tokens<'a>(
    text: &Text<'a>,
    list: Node<'a>,
    vocabulary: &Vocabulary,
) -> Checked<Vec<Mark>> {
    text.array(list)?;
    let count = list.items().count();
    let mut marks: Vec<Mark> = Vec::with_capacity(count);
    let mut taken: Vec<u32> = vocabulary.ids.clone();
    taken.sort_unstable();
    for node in list.items() {
        let fields = text.object(node, ADDED)?;
        let flag = |name: &str| text.flag(of(&fields, name), false);
        let content = match of(&fields, "content") {
            Some(content) => text.string(content)?,
            None => return text.no_as(Code::Added, node, "no content", "a token's text"),
        };
        if content.is_empty() {
            return text.no(Code::Added, node, "a token's text");
        }
        let id = of(&fields, "id").and_then(|n| n.whole()).and_then(|n| u32::try_from(n).ok());
        let room = limit(vocabulary.len + count);
        let Some(id) = id.filter(|id| (*id as usize) < room) else {
            return text.no(Code::Added, node, &format!("an id below {room}"));
        };
        let word = vocabulary.word(content.as_bytes());
        if word.is_some_and(|w| w != id) || (word.is_none() && taken.binary_search(&id).is_ok()) {
            return text.no(Code::Added, node, "an id that no other token has");
        }
        if flag("single_word")? {
            return text.no(Code::Added, node, "single_word false");
        }
        flag("normalized")?;
        marks.push(Mark {
            id,
            text: content.as_bytes().to_vec(),
            takes_left: flag("lstrip")?,
            takes_right: flag("rstrip")?,
            control: flag("special")?,
        });
    }
    match twice(&marks).and_then(|second| list.items().nth(second)) {
        Some(node) => text.no(Code::Added, node, "each added token and each id once"),
        None => Ok(marks),
    }
}

/// The place of an added token whose text or id an earlier one has.
fn twice(marks: &[Mark]) -> Option<usize> {
    let texts: Texts = marks.iter().map(|m| &m.text).collect();
    let by_text = texts.order().twice(&texts).map(|(_, second)| second);
    let mut places: Vec<u32> = (0..u32::try_from(marks.len()).unwrap_or(u32::MAX)).collect();
    places.sort_unstable_by_key(|p| (marks[*p as usize].id, *p));
    let same = |pair: &&[u32]| marks[pair[0] as usize].id == marks[pair[1] as usize].id;
    let by_id = places.windows(2).find(same).map(|pair| pair[1]);
    by_text.into_iter().chain(by_id).min().map(|place| place as usize)
}

/// What is odd about a vocabulary and legal: ids without a token, and a text that is a word and an
/// added token too, which is then taken whole wherever it stands.
fn odd(vocabulary: &Vocabulary, kinds: &[Kind]) -> Warnings {
    let mut warnings = Warnings::default();
    let holes = kinds.iter().filter(|kind| **kind == Kind::Absent).count();
    if let Some(first) = kinds.iter().position(|kind| *kind == Kind::Absent) {
        warnings.add(format!("{holes} ids have no token, the first is {first}"));
    }
    for mark in vocabulary.added.iter().filter(|m| !m.control) {
        if vocabulary.word(&mark.text).is_some() {
            let written = String::from_utf8_lossy(&mark.text);
            warnings.add(format!(
                "the word {} is an added token too, and always taken whole",
                begin(&written)
            ));
        }
    }
    warnings
}

/// Merges as pairs of ids; their whole is a word too.
fn merges<'a>(
    text: &Text<'a>,
    list: Option<Node<'a>>,
    vocabulary: &Vocabulary,
) -> Checked<Vec<[u32; 2]>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    text.array(list)?;
    let mut merges = Vec::with_capacity(list.items().count());
    let mut whole = Vec::new();
    for node in list.items() {
        let (left, right) = match node.string() {
            Some(line) => match line.split_once(' ').filter(|(_, right)| !right.contains(' ')) {
                Some((left, right)) => (left.to_owned(), right.to_owned()),
                None => return text.no(Code::Merge, node, "two tokens with one space between"),
            },
            None => {
                let parts: Vec<_> = node.items().take(3).map(|n| n.string()).collect();
                let [Some(left), Some(right)] = parts.as_slice() else {
                    return text.no(Code::Merge, node, "two tokens");
                };
                (left.clone().into_owned(), right.clone().into_owned())
            }
        };
        let word = |part: &str| vocabulary.word(part.as_bytes());
        let (Some(first), Some(second)) = (word(&left), word(&right)) else {
            return text.no(Code::Merge, node, "two tokens of the vocabulary");
        };
        whole.clear();
        whole.extend_from_slice(left.as_bytes());
        whole.extend_from_slice(right.as_bytes());
        if vocabulary.word(&whole).is_none() {
            return text.no(Code::Merge, node, "two tokens whose whole is one too");
        }
        merges.push([first, second]);
    }
    Ok(merges)
}

/// Everything by id.
fn sorted(vocabulary: Vocabulary, parts: Parts) -> Parts {
    let Vocabulary { texts: words, ids, added, .. } = &vocabulary;
    let last = ids.iter().chain(added.iter().map(|m| &m.id)).max().copied().unwrap_or(0);
    let mut kinds = vec![Kind::Absent; last as usize + 1];
    // Words by their place, added tokens after them: a reference each would be more than the file.
    let mut places = vec![u32::MAX; last as usize + 1];
    for (place, id) in (0u32..).zip(ids) {
        (places[*id as usize], kinds[*id as usize]) = (place, Kind::Normal);
    }
    for (place, mark) in (words.len() as u32..).zip(added) {
        places[mark.id as usize] = place;
        kinds[mark.id as usize] = if mark.control { Kind::Control } else { Kind::Own };
    }
    let text = |place: &u32| match (*place as usize).checked_sub(words.len()) {
        None => words.get(*place as usize),
        Some(place) => added.get(place).map_or(&b""[..], |mark| &mark.text),
    };
    let texts = places.iter().map(text).collect();
    let warnings = odd(&vocabulary, &kinds);
    let Vocabulary { ids, added, .. } = vocabulary;
    Parts { texts, kinds, words: ids, marks: added, warnings, ..parts }
}
