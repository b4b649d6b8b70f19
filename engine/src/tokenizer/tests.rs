//! The face, on vocabularies small enough to write down.

use std::path::PathBuf;

use super::facts::Facts;
use super::*;
use crate::weights::refusal::Code;

/// A GGUF vocabulary of the 256 letters, then these merged words, then a control token.
fn vocabulary(pre: &str, merges: &[&str]) -> Vocabulary {
    let mut tokens: Vec<String> = (0..=255).map(|b| alphabet::letter(b).to_string()).collect();
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    let mut types = vec![1; tokens.len()];
    tokens.extend(["<s>".to_owned(), "<own>".to_owned()]);
    types.extend([3, 4]);
    Vocabulary {
        file: PathBuf::from("tiny.gguf"),
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        special: vec![("bos".to_owned(), tokens.len() as u64 - 2)],
        tokens: tokens.into_iter().collect(),
        token_types: Some(types),
        merges: merges.iter().collect(),
        ..Vocabulary::default()
    }
}

fn tiny(pre: &str, merges: &[&str]) -> Tokenizer {
    Tokenizer::of_vocabulary(vocabulary(pre, merges)).expect("a vocabulary")
}

fn letters(text: &[u8]) -> Vec<u32> {
    text.iter().map(|b| u32::from(*b)).collect()
}

#[test]
fn merges_go_by_rank_and_stay_inside_their_piece() {
    let t = tiny("gpt-2", &["l l", "h e", "he ll", "hell o"]);
    assert_eq!(t.encode(b"hello", false, false), Ok(vec![259]));
    assert_eq!(t.encode(b"hell o", false, false), Ok(vec![258, 32, u32::from(b'o')]));
    assert_eq!(t.len(), 262);
    assert_eq!(t.kind(), "gguf-bpe");
}

#[test]
fn what_looks_like_a_control_token_is_text_unless_it_may_be_one() {
    let t = tiny("gpt-2", &[]);
    assert_eq!(t.encode(b"a<s>", false, false), Ok(letters(b"a<s>")));
    assert_eq!(t.encode(b"a<s>", false, true), Ok(vec![97, 256]));
    // The publisher's own words are words.
    assert_eq!(t.encode(b"a<own>", false, false), Ok(vec![97, 257]));
    assert_eq!(t.decode(&[97, 256, 257], true), Ok(b"a<own>".to_vec()));
    assert_eq!(t.decode(&[97, 256, 257], false), Ok(b"a<s><own>".to_vec()));
}

#[test]
fn the_policy_adds_what_the_file_says() {
    let ids = |t: &Tokenizer| t.encode(b"a", true, false).expect("ids");
    // Llama 3 begins each text; GPT-2 does not, unless the file says so.
    assert_eq!(ids(&tiny("llama-bpe", &[])), [256, 97]);
    assert_eq!(ids(&tiny("gpt-2", &[])), [97]);
    let mut v = vocabulary("gpt-2", &[]);
    (v.add_bos, v.add_eos) = (Some(true), Some(true));
    let without_end = Tokenizer::of_vocabulary(v.clone()).expect_err("no eos");
    assert_eq!(without_end.code, Code::BosPolicy);
    v.special.push(("eos".to_owned(), 257));
    let t = Tokenizer::of_vocabulary(v).expect("a vocabulary");
    assert_eq!(ids(&t), [256, 97, 257]);
    assert_eq!((t.bos(), t.eos()), (Some(256), &[257][..]));
}

#[test]
fn every_byte_comes_back() {
    let t = tiny("llama-bpe", &["Ã ©", "Ġ t"]);
    let all: Vec<u8> = (0..=255).rev().collect();
    let mixed = [&all[..], "é t\u{a0}".as_bytes(), b"\xf0\x9f", "日".as_bytes()].concat();
    for text in [&all[..], &mixed, b"", b"\xff\xfeA", b"\xe2\x82"] {
        let ids = t.encode(text, false, false).expect("ids");
        assert_eq!(t.decode(&ids, false).as_deref(), Ok(text));
        let mut stream = t.stream();
        let mut out: Vec<u8> =
            ids.iter().flat_map(|id| stream.push(*id).expect("a token")).collect();
        out.extend(stream.finish());
        assert_eq!(out, text);
    }
    assert_eq!(t.decode(&[9999], false), Err(Fault::NoToken { id: 9999, len: t.len() }));
}

#[test]
fn a_piece_that_is_a_token_is_taken_whole_by_llama_alone() {
    // No merge leads to "abc": only taking it whole does.
    let with_orphan = |pre| {
        let mut v = vocabulary(pre, &["b c"]);
        let tokens: Vec<Vec<u8>> = v.tokens.iter().map(<[u8]>::to_vec).collect();
        v.tokens = tokens.into_iter().chain([b"abc".to_vec()]).collect();
        v.token_types.as_mut().expect("types").push(1);
        Tokenizer::of_vocabulary(v).expect("a vocabulary")
    };
    assert_eq!(with_orphan("llama-bpe").encode(b"abc", false, false), Ok(vec![259]));
    assert_eq!(with_orphan("gpt-2").encode(b"abc", false, false), Ok(vec![97, 256]));
}

#[test]
fn qwen2_composes_as_its_publisher_asks() {
    let t = tiny("qwen2", &["Ã ©"]);
    let (composed, apart) = ("é".as_bytes(), "e\u{301}".as_bytes());
    assert_eq!(t.encode(apart, false, false), t.encode(composed, false, false));
    let t = tiny("llama-bpe", &["Ã ©"]);
    assert_ne!(t.encode(apart, false, false), t.encode(composed, false, false));
}

#[test]
fn a_long_word_takes_no_time() {
    let t = tiny("llama-bpe", &["a a", "aa aa"]);
    let ids = t.encode(&vec![b'a'; 26_000], false, false).expect("ids");
    assert_eq!(ids, vec![257; 6_500]);
}

fn refused(change: impl FnOnce(&mut Vocabulary)) -> Malformed {
    let mut v = vocabulary("gpt-2", &["a b"]);
    change(&mut v);
    Tokenizer::of_vocabulary(v).expect_err("a refusal")
}

#[test]
fn a_vocabulary_that_cannot_be_is_refused_by_name() {
    let texts = |list: &[&str]| -> Texts { list.iter().collect() };
    let cases: [(Code, Malformed); 13] = [
        (Code::VocabLen, refused(|v| v.token_types = Some(vec![1; 7]))),
        (Code::VocabLen, refused(|v| v.scores = Some(3))),
        (Code::VocabId, refused(|v| v.special.push(("eos".to_owned(), 259)))),
        (Code::VocabByte, refused(|v| v.token_types.as_mut().expect("types")[5] = 6)),
        (Code::VocabType, refused(|v| v.token_types.as_mut().expect("types")[5] = 7)),
        (Code::VocabEmpty, refused(|v| v.tokens = Texts::default())),
        (Code::Model, refused(|v| v.model = "llama".to_owned())),
        (Code::Pretok, refused(|v| v.pre = Some("deepseek-llm".to_owned()))),
        (Code::Pretok, refused(|v| v.pre = None)),
        (Code::Merge, refused(|v| v.merges = texts(&["a b c"]))),
        (Code::Merge, refused(|v| v.merges = texts(&["a zz"]))),
        (Code::Merge, refused(|v| v.merges = texts(&["a c"]))),
        (Code::BosPolicy, refused(|v| (v.add_bos, v.special) = (Some(true), Vec::new()))),
    ];
    for (code, refusal) in cases {
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.to_string().starts_with("error["), "{refusal}");
    }
    let pre = refused(|v| v.pre = Some("deepseek-llm".to_owned()));
    assert_eq!(
        pre.to_string(),
        "error[PRETOK] file=tiny.gguf field=tokenizer.ggml.pre found=deepseek-llm \
         expected=one of gpt-2, gpt-4o, llama-bpe, qwen2"
    );
}

#[test]
fn tokens_twice_or_missing_are_named() {
    let doubled = refused(|v| {
        v.tokens = v.tokens.iter().map(|t| if t == b"b" { b"a" } else { t }).collect();
    });
    assert_eq!((doubled.code, doubled.found.as_str()), (Code::VocabDup, "a as 97 and as 98"));
    let missing = refused(|v| {
        v.tokens = v.tokens.iter().map(|t| if t == b"q" { b"qq" } else { t }).collect();
    });
    assert_eq!(missing.code, Code::ByteAlphabet);
    assert_eq!(missing.found, "no token for 1 of 256 bytes: 0x71");
}

#[test]
fn rows_and_other_vocabularies_are_held_against_it() {
    let facts =
        |pre, merges: &[&str]| Facts::of_vocabulary(vocabulary(pre, merges)).expect("a vocabulary");
    let (t, file) = (facts("gpt-2", &[]), Path::new("m.gguf"));
    assert_eq!(t.fits(258, file), Ok(()));
    assert_eq!(t.fits(400, file), Ok(()));
    assert_eq!(t.fits(257, file).map_err(|m| m.code), Err(Code::VocabSize));
    assert_eq!(t.same(&facts("qwen2", &[]), file), Ok(()));
    let other = t.same(&facts("gpt-2", &["a b"]), file).expect_err("they differ");
    assert_eq!(other.code, Code::VocabDiff);
    assert!(other.found.starts_with("256: \"<s>\", 257: \"<own>\", 258: none"), "{other}");
    let mut filled = vocabulary("gpt-2", &[]);
    filled.tokens.push(b"[PAD258]");
    filled.token_types.as_mut().expect("types").push(5);
    let filled = Facts::of_vocabulary(filled).expect("a vocabulary");
    assert_eq!((t.same(&filled, file), filled.same(&t, file)), (Ok(()), Ok(())));
}
