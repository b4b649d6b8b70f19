//! An index of shards: which tensor lies in which file of the same folder.

use std::path::Path;

use super::{SafeTensors, header};
use crate::weights::file::Mapped;
use crate::weights::json::{Text, below};
use crate::weights::refusal::{Code, Malformed, Warnings, begin, beside, budget};
use crate::weights::{TensorInfo, duplicate};

/// Longest index, bytes.
const INDEX: usize = 32 << 20;
/// Most shards; the largest published checkpoints have below 400.
const SHARDS: usize = 4096;
/// How many names of a list a refusal shows.
const SHOWN: usize = 8;

/// What an index says.
struct Index {
    /// Tensor, and the number of its file.
    tensors: Vec<(String, u16)>,
    files: Vec<String>,
    total: Option<u64>,
}

pub(super) fn open(path: &Path) -> Result<SafeTensors, Malformed> {
    let file = Mapped::open(path)?;
    if file.len() > INDEX {
        let expected = format!("at most {INDEX} bytes");
        return Err(Malformed::new(Code::HeaderLen, path, "file", file.len(), expected).at(0));
    }
    let index = read(Text::new(path, &file, 0)?)?;
    let mut files = Vec::with_capacity(index.files.len());
    let mut tensors = Vec::new();
    for (shard, name) in index.files.iter().enumerate() {
        let shard_path = beside(path, name);
        let file = Mapped::open(&shard_path).map_err(|e| {
            let found = format!("{name}: {}", e.found);
            Malformed::new(Code::Shard, path, "weight_map", found, "every shard in the folder")
        })?;
        tensors.extend(header::read(&file, shard as u16)?);
        files.push(file);
    }
    let mut warnings = Warnings::default();
    agree(path, &index, &tensors, &mut warnings)?;
    Ok(SafeTensors::of(files, tensors, warnings))
}

/// Holds the index to what the shards hold.
fn agree(
    path: &Path,
    index: &Index,
    tensors: &[TensorInfo],
    warnings: &mut Warnings,
) -> Result<(), Malformed> {
    if let Some((first, second)) = duplicate(tensors, |t| &t.name) {
        let (a, b) = (&tensors[first], &tensors[second]);
        let file = |t: &TensorInfo| &index.files[usize::from(t.shard)];
        let found = format!("{} in {} and in {}", a.name, file(a), file(b));
        return Err(Malformed::new(Code::NameDup, path, "weight_map", found, "one shard"));
    }
    let names = crate::weights::by_name(tensors);
    let lacks = |(name, shard): &&(String, u16)| {
        crate::weights::find(tensors, &names, name).is_none_or(|at| tensors[at].shard != *shard)
    };
    let missing: Vec<&str> = index.tensors.iter().filter(lacks).map(|(n, _)| n.as_str()).collect();
    if !missing.is_empty() {
        let expected = "every listed tensor in its shard";
        let found = some(&missing);
        return Err(Malformed::new(Code::TensorMissing, path, "weight_map", found, expected));
    }
    let listed = |t: &&TensorInfo| index.tensors.binary_search_by(|(n, _)| n.cmp(&t.name)).is_ok();
    let extra: Vec<&str> = tensors.iter().filter(|t| !listed(t)).map(|t| t.name.as_str()).collect();
    if !extra.is_empty() {
        warnings.add(format!("tensors that the index does not list: {}", some(&extra)));
    }
    let sum: u64 = tensors.iter().map(|t| t.bytes).sum();
    match index.total {
        Some(total) if total != sum => {
            let field = "metadata.total_size";
            Err(Malformed::new(Code::SizeMismatch, path, field, total, sum.to_string()))
        }
        _ => Ok(()),
    }
}

/// The first of a list of names, and how many more there are.
fn some(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| begin(n)).collect();
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(" ")),
        None => shown.join(" "),
    }
}

fn read(text: Text<'_>) -> Result<Index, Malformed> {
    let mut reader = text.reader();
    reader.object(&String::new)?;
    let mut index = Index { tensors: Vec::new(), files: Vec::new(), total: None };
    let (mut maps, mut metadata) = (0, 0);
    while let Some((at, key)) = reader.key() {
        match &*key {
            "weight_map" => {
                maps += 1;
                weight_map(&mut reader, &mut index)?;
            }
            "metadata" => {
                metadata += 1;
                reader.object(&|| "/metadata".to_owned())?;
                while let Some((at, key)) = reader.key() {
                    if key != "total_size" {
                        reader.skip();
                        continue;
                    }
                    let pointer = || "/metadata/total_size".to_owned();
                    let total = reader.integer(&pointer)?.unwrap_or(u64::MAX);
                    if index.total.replace(total).is_some() {
                        return Err(text.refuse(Code::JsonDup, at, pointer(), "again", "once"));
                    }
                }
            }
            _ => reader.skip(),
        }
        if maps > 1 || metadata > 1 {
            return Err(text.refuse(Code::JsonDup, at, below("", &key), "again", "once"));
        }
    }
    if index.tensors.is_empty() {
        return Err(text.refuse(Code::JsonType, 0, "/weight_map", "nothing", "an object"));
    }
    Ok(index)
}

fn weight_map(
    reader: &mut crate::weights::json::Reader<'_>,
    index: &mut Index,
) -> Result<(), Malformed> {
    let text = reader.text();
    reader.object(&|| "/weight_map".to_owned())?;
    // The list doubles as it grows.
    let most = budget(text.length() as u64) as usize / (2 * size_of::<(String, u16)>());
    while let Some((at, name)) = reader.key() {
        let pointer = || below("/weight_map", &begin(&name));
        let file = reader.string(&pointer)?;
        let known = index.files.iter().position(|f| *f == *file);
        let shard = match known {
            Some(shard) => shard,
            None => {
                plain(text, at, &file, &pointer(), index)?;
                index.files.push(file.into_owned());
                index.files.len() - 1
            }
        };
        index.tensors.push((name.into_owned(), shard as u16));
        if index.tensors.len() > most || index.files.len() > SHARDS {
            let (found, expected) = (index.tensors.len(), format!("at most {most} tensors"));
            return Err(text.refuse(Code::Count, at, "/weight_map", found, expected));
        }
    }
    if let Some((_, second)) = duplicate(&index.tensors, |(name, _)| name) {
        let name = &index.tensors[second].0;
        let pointer = below("/weight_map", &begin(name));
        return Err(text.refuse(Code::JsonDup, 0, pointer, begin(name), "once"));
    }
    index.tensors.sort();
    Ok(())
}

/// Holds the name of a shard to be a plain file name, and unlike every other when case is ignored.
fn plain(
    text: Text<'_>,
    at: usize,
    file: &str,
    pointer: &str,
    index: &Index,
) -> Result<(), Malformed> {
    let path = file.is_empty()
        || file.starts_with('.')
        || file.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control());
    if path || !file.ends_with(".safetensors") {
        let expected = "a plain file name that ends in .safetensors";
        return Err(text.refuse(Code::Path, at, pointer, begin(file), expected));
    }
    if let Some(other) = index.files.iter().find(|f| f.eq_ignore_ascii_case(file)) {
        let (found, expected) = (begin(file), format!("one spelling; {} is another", begin(other)));
        return Err(text.refuse(Code::Shard, at, pointer, found, expected));
    }
    Ok(())
}
