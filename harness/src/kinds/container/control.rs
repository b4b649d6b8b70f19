//! Files that must open, put alongside those that must be refused: a subject that refuses
//! everything has shown nothing by its refusals.

use sha2::{Digest, Sha256};

use crate::kinds::container::bytes::{Base, Entry, File, Files, Text};

/// The number of strings among the types of GGUF's metadata.
const STRING: u32 = 8;

/// A file that must open, as it is or with a change that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The file before the edits of its case.
    Base,
    /// The same with another name of the model, or more white space after its JSON.
    Harmless,
}

impl Control {
    /// Both of them: a subject could know the base by heart.
    pub const ALL: [Control; 2] = [Control::Base, Control::Harmless];

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Control::Base => "the file before the edit",
            Control::Harmless => "the file with a harmless change",
        }
    }

    /// Makes the file. `key` decides the change, so that no two runs have the same.
    ///
    /// # Errors
    /// The base cannot be written; the reason in words.
    pub fn make(self, base: &Base, key: &str) -> Result<Files, String> {
        let mut files = Files::from_base(base)?;
        if self == Control::Harmless {
            let hash = Sha256::digest(key.as_bytes());
            files.files.iter_mut().for_each(|(_, file)| harmless(file, &hash));
        }
        Ok(files)
    }
}

fn harmless(file: &mut File, hash: &[u8]) {
    match file {
        File::Gguf(metadata, _) => {
            let name: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
            let length = (name.len() as u64).to_le_bytes();
            let value = [&length[..], name.as_bytes()].concat();
            let entry = Entry { key: "general.name".to_owned(), id: STRING, value };
            metadata.retain(|own| own.key != entry.key);
            metadata.push(entry);
        }
        File::Json(text, _) => {
            // Whole words of 8 bytes, which is how safetensors pads its header.
            let spaces = 8 * (1 + usize::from(hash[0] % 32));
            *text = Text::Written(format!("{}{}", text.written(), " ".repeat(spaces)));
        }
        File::Bytes(..) => {}
    }
}

/// Where the controls are put among `count` files of a case: the same in every run, and another
/// place for every case.
pub fn places(name: &str, count: usize) -> [usize; 2] {
    let hash = Sha256::digest(name.as_bytes());
    let at = |byte: u8| usize::from(byte) % (count + 1);
    [at(hash[0]), at(hash[1])]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_harmless_change_is_another_in_every_run_and_keeps_the_json() {
        let base = Base::Json { file: "a.json".into(), json: json!({"a": 1}) };
        let text = |control: Control, key: &str| {
            let files = control.make(&base, key).expect("made");
            let (_, bytes) = files.bytes().into_iter().next().expect("one file");
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(text(Control::Base, "x"), r#"{"a":1}"#);
        let other = text(Control::Harmless, "x");
        assert!(other.starts_with(r#"{"a":1} "#) && other.len() % 8 == 7, "{other:?}");
        let lengths: std::collections::BTreeSet<usize> =
            (0..20).map(|i| text(Control::Harmless, &i.to_string()).len()).collect();
        assert!(lengths.len() > 5);
        assert!(places("a", 3).iter().all(|place| *place <= 3));
    }
}
