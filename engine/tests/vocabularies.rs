//! Published vocabularies and their published vectors, where the machine has them.

use std::path::{Path, PathBuf};

use goldgate_engine::tokenizer::Tokenizer;

/// The folder of vocabularies beside the repository, or where `GOLDGATE_VOCABULARIES` says.
fn folder() -> Option<PathBuf> {
    let beside = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let near = ["../shared", "../../shared"].map(|up| root.join(up));
        near.into_iter().map(|s| s.join("data/tokenizer-vectors")).find(|f| f.is_dir())
    };
    std::env::var_os("GOLDGATE_VOCABULARIES").map(PathBuf::from).or_else(beside)
}

fn vectors(name: &str) {
    let Some(folder) = folder() else {
        println!("not run: no folder of vocabularies beside the repository");
        return;
    };
    let t = Tokenizer::open(&folder.join(name)).expect("a vocabulary");
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
