//! Published vocabularies and their published vectors, where the machine has them.

use std::path::{Path, PathBuf};

use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::tokenizer::gguf::Vocabulary;
use goldgate_engine::tokenizer::texts::Texts;

/// The folder of vocabularies beside the repository, or where `GOLDGATE_VOCABULARIES` says.
fn folder() -> Option<PathBuf> {
    let beside = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let near = ["../shared", "../../shared"].map(|up| root.join(up));
        near.into_iter().map(|s| s.join("data/tokenizer-vectors")).find(|f| f.is_dir())
    };
    std::env::var_os("GOLDGATE_VOCABULARIES").map(PathBuf::from).or_else(beside)
}

/// Reads the few types of metadata that a vocabulary has.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> &[u8] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }

    fn number(&mut self, bytes: usize) -> u64 {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes));
        u64::from_le_bytes(wide)
    }

    fn text(&mut self) -> String {
        let n = self.number(8) as usize;
        String::from_utf8(self.take(n).to_vec()).expect("UTF-8")
    }

    fn skip(&mut self, kind: u64) {
        match kind {
            0 | 1 | 7 => drop(self.number(1)),
            2 | 3 => drop(self.number(2)),
            4..=6 => drop(self.number(4)),
            10..=12 => drop(self.number(8)),
            8 => drop(self.text()),
            9 => {
                let (kind, n) = (self.number(4), self.number(8));
                (0..n).for_each(|_| self.skip(kind));
            }
            other => panic!("type {other}"),
        }
    }

    fn texts(&mut self) -> Texts {
        assert_eq!(self.number(4), 8);
        (0..self.number(8)).map(|_| self.text()).collect()
    }
}

fn vocabulary(path: &Path) -> Vocabulary {
    let bytes = std::fs::read(path).expect("a file");
    let mut reader = Reader(&bytes[16..]);
    let mut v = Vocabulary { file: path.to_path_buf(), ..Vocabulary::default() };
    for _ in 0..reader.number(8) {
        let (key, kind) = (reader.text(), reader.number(4));
        match key.strip_prefix("tokenizer.ggml.") {
            Some("model") => v.model = reader.text(),
            Some("pre") => v.pre = Some(reader.text()),
            Some("tokens") => v.tokens = reader.texts(),
            Some("merges") => v.merges = reader.texts(),
            Some("token_type") => {
                reader.number(4);
                let n = reader.number(8);
                v.token_types = Some((0..n).map(|_| reader.number(4) as i64).collect());
            }
            Some(name) if name.ends_with("_token_id") => {
                let name = name.trim_end_matches("_token_id").to_owned();
                v.special.push((name, reader.number(4)));
            }
            _ => reader.skip(kind),
        }
    }
    v
}

fn vectors(name: &str) {
    let Some(folder) = folder() else {
        println!("not run: no folder of vocabularies beside the repository");
        return;
    };
    let t = Tokenizer::of_vocabulary(vocabulary(&folder.join(name))).expect("a vocabulary");
    let read =
        |end: &str| std::fs::read_to_string(folder.join(format!("{name}.{end}"))).expect(end);
    let (texts, lines) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!((texts.len(), lines.len()), (47, 46), "each text is followed by the separator");
    for (text, line) in texts.iter().zip(lines) {
        let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        let ours = t.encode(text.as_bytes(), false, false).expect("ids");
        assert_eq!(ours, ids, "{text:?}");
        assert_eq!(t.decode(&ids, false).as_deref(), Ok(text.as_bytes()));
    }
}

#[test]
fn gpt2_gives_all_published_vectors() {
    vectors("ggml-vocab-gpt-2.gguf");
}

#[test]
fn llama3_gives_all_published_vectors() {
    vectors("ggml-vocab-llama-bpe.gguf");
}
