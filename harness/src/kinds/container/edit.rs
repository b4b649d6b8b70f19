//! Edits of a file: of its parts, its JSON or its bytes, applied in order.

use serde_json::Value;

use super::bytes::{Entry, File, Files, Tensor, Text};

/// One edit of a file. If it lists several values, one file is generated per value.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The file of a folder that it applies to; the first if none is named.
    pub file: Option<String>,
    /// The change.
    pub change: Change,
}

/// What an edit changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// A metadata record, which replaces the one with its key or is added at the end.
    Set(Entry),
    /// A tensor, which replaces the one with its name or is added at the end.
    Tensor(Tensor),
    /// Removes a key or tensor of GGUF.
    Drop(String),
    /// A value in a JSON text, by RFC 6901; `None` removes it.
    Pointer(String, Option<Value>),
    /// Replaces the whole JSON text.
    Text(String),
    /// Replaces a part of a JSON text that occurs exactly once by another text, repeated this many
    /// times.
    Replace(String, String, usize),
    /// Overwrites a named field.
    Field(String, Vec<Vec<u8>>),
    /// Overwrites bytes at an offset.
    At(usize, Vec<u8>),
    /// Cuts the file to a length; a negative one counts from the end.
    Cut(Vec<i64>),
    /// Appends bytes, repeated this many times.
    Append(Vec<u8>, usize),
}

impl Edit {
    /// How many files it makes out of one.
    pub fn variants(&self) -> usize {
        match &self.change {
            Change::Field(_, values) => values.len(),
            Change::Cut(lengths) => lengths.len(),
            _ => 1,
        }
    }

    /// Applies variant `index`.
    ///
    /// # Errors
    /// The reason why it does not fit the file.
    pub fn apply(&self, files: &mut Files, index: usize) -> Result<(), String> {
        let name = self.file.as_deref().unwrap_or(&files.files[0].0).to_owned();
        let Some((_, file)) = files.files.iter_mut().find(|(own, _)| *own == name) else {
            let names: Vec<&str> = files.files.iter().map(|(own, _)| own.as_str()).collect();
            return Err(format!("no file {name}; there are {}", names.join(", ")));
        };
        match &self.change {
            Change::Set(entry) => set(file, entry),
            Change::Tensor(tensor) => replace_tensor(file, tensor),
            Change::Drop(name) => drop_part(file, name),
            Change::Pointer(pointer, value) => point(file, pointer, value.as_ref()),
            Change::Text(text) => {
                *written(file)? = Text::Written(text.clone());
                Ok(())
            }
            Change::Replace(from, to, times) => {
                let text = written(file)?;
                let old = text.written();
                // With several matches it would be open which part of the file is changed.
                if old.matches(from.as_str()).count() != 1 {
                    return Err(format!("{from:?} must occur exactly once in {old}"));
                }
                *text = Text::Written(old.replacen(from.as_str(), &to.repeat(*times), 1));
                Ok(())
            }
            bytewise => {
                let (bytes, fields) = as_bytes(file);
                overwrite(bytewise, index, bytes, fields)
            }
        }
    }
}

fn overwrite(
    change: &Change,
    index: usize,
    bytes: &mut Vec<u8>,
    fields: &[(String, std::ops::Range<usize>)],
) -> Result<(), String> {
    // Overwriting must not lengthen a file: that would be another fault than the one described.
    let mut put = |at: usize, new: &[u8]| match bytes.get_mut(at..at + new.len()) {
        Some(old) => {
            old.copy_from_slice(new);
            Ok(())
        }
        None => Err(format!("{} bytes at {at} end after the file", new.len())),
    };
    match change {
        Change::Field(name, values) => match fields.iter().find(|(own, _)| own == name) {
            Some((_, range)) => put(range.start, &values[index]),
            None => {
                let names: Vec<&str> = fields.iter().map(|(own, _)| own.as_str()).collect();
                let guess = crate::yaml::near::nearest(name, names.iter().copied());
                Err(format!("no field {name}; the nearest is {}", guess.unwrap_or("none")))
            }
        },
        Change::At(at, new) => put(*at, new),
        Change::Cut(lengths) => {
            let length = match lengths[index] {
                cut if cut < 0 => bytes.len().checked_add_signed(cut as isize),
                cut => Some(cut as usize),
            };
            // A cut at the end or beyond it would leave a good file.
            match length.filter(|length| *length < bytes.len()) {
                Some(length) => {
                    bytes.truncate(length);
                    Ok(())
                }
                None => Err(format!("{} cuts nothing of {} bytes", lengths[index], bytes.len())),
            }
        }
        Change::Append(new, times) => {
            bytes.extend(new.repeat(*times));
            Ok(())
        }
        _ => Err("an edit of parts".to_owned()),
    }
}

/// Turns the file into bytes for this and all later edits.
fn as_bytes(file: &mut File) -> (&mut Vec<u8>, &[(String, std::ops::Range<usize>)]) {
    // Once bytes are edited the parts no longer describe the file, so it stays bytes from here on.
    let whole = std::mem::replace(file, File::Bytes(Vec::new(), Vec::new()));
    let (bytes, fields) = whole.finish();
    *file = File::Bytes(bytes, fields);
    match file {
        File::Bytes(bytes, fields) => (bytes, fields),
        _ => unreachable!("it has just become bytes"),
    }
}

const PARTS: &str = "an edit of a GGUF file's parts, before any of its bytes";

fn set(file: &mut File, entry: &Entry) -> Result<(), String> {
    let File::Gguf(metadata, _) = file else { return Err(PARTS.to_owned()) };
    match metadata.iter_mut().find(|own| own.key == entry.key) {
        Some(own) => *own = entry.clone(),
        None => metadata.push(entry.clone()),
    }
    Ok(())
}

fn replace_tensor(file: &mut File, tensor: &Tensor) -> Result<(), String> {
    let File::Gguf(_, tensors) = file else { return Err(PARTS.to_owned()) };
    match tensors.iter_mut().find(|own| own.name == tensor.name) {
        Some(own) => *own = tensor.clone(),
        None => tensors.push(tensor.clone()),
    }
    Ok(())
}

fn drop_part(file: &mut File, name: &str) -> Result<(), String> {
    let File::Gguf(metadata, tensors) = file else { return Err(PARTS.to_owned()) };
    let before = metadata.len() + tensors.len();
    metadata.retain(|own| own.key != name);
    tensors.retain(|own| own.name != name);
    // An edit that removes nothing would leave a good file, and the case would test nothing.
    match before - metadata.len() - tensors.len() {
        1 => Ok(()),
        _ => Err(format!("no key or tensor {name}")),
    }
}

fn written(file: &mut File) -> Result<&mut Text, String> {
    match file {
        File::Json(text, _) => Ok(text),
        _ => Err("an edit of a JSON text, before any of its bytes".to_owned()),
    }
}

fn point(file: &mut File, pointer: &str, value: Option<&Value>) -> Result<(), String> {
    let text = written(file)?;
    // A text that was written out may be no JSON any more, so a pointer has nothing to follow.
    let Text::Value(root) = text else {
        return Err("a pointer into a text that was written out".to_owned());
    };
    let absent = || format!("nothing at {pointer}");
    let (above, last) = pointer.rsplit_once('/').ok_or_else(absent)?;
    // RFC 6901 requires this order: unescaping `~0` first would turn `~01` into `/`, not `~1`.
    let last = last.replace("~1", "/").replace("~0", "~");
    match (root.pointer_mut(above).ok_or_else(absent)?, value) {
        (Value::Object(map), Some(value)) => {
            map.insert(last, value.clone());
        }
        (Value::Object(map), None) => {
            map.shift_remove(&last).ok_or_else(absent)?;
        }
        (Value::Array(list), value) => {
            let at: usize = last.parse().map_err(|_| absent())?;
            match value {
                // One past the end appends, as in a JSON patch.
                Some(value) if at == list.len() => list.push(value.clone()),
                Some(value) => *list.get_mut(at).ok_or_else(absent)? = value.clone(),
                None if at < list.len() => drop(list.remove(at)),
                None => return Err(absent()),
            }
        }
        _ => return Err(absent()),
    }
    Ok(())
}
