//! A byte-level vocabulary of a given size: the letters of all bytes, then all pairs of letters,
//! then pairs with a third letter, each with the merge that creates it.

use goldgate_engine::tokenizer::alphabet::letter;

use super::Keys;
use super::models::Words;

/// The type of a token that texts consist of.
const NORMAL: i32 = 1;
/// The type of a control token.
const CONTROL: i32 = 3;
/// The type of an embedding row without a token.
const UNUSED: i32 = 5;

/// Tokens and merges, with their description in the file.
#[derive(Debug)]
pub struct Vocabulary {
    words: Words,
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

impl Vocabulary {
    /// A vocabulary of `size` tokens in the style of `words`.
    pub fn with_size(words: Words, size: usize) -> Vocabulary {
        let (own, first): (&[&str], usize) = match words {
            Words::Gpt2 => (&["<|endoftext|>"], 50_256),
            Words::Llama3 => (&["<|begin_of_text|>", "<|end_of_text|>"], 128_000),
            Words::Qwen2 => (&["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 151_643),
        };
        let mut letters: Vec<String> = (0..=255u8).map(|b| letter(b).to_string()).collect();
        // By code point, as the first 256 tokens of published byte-level vocabularies are.
        letters.sort_unstable();
        let mut tokens = letters.clone();
        let mut merges = Vec::new();
        for i in 0..first - letters.len() {
            let (left, right) = match i.checked_sub(1 << 16) {
                None => (letters[i / 256].clone(), &letters[i % 256]),
                // The pair that merge j / 256 created.
                Some(j) => (tokens[256 + j / 256].clone(), &letters[j % 256]),
            };
            tokens.push(format!("{left}{right}"));
            merges.push(format!("{left} {right}"));
        }
        let mut types = vec![NORMAL; tokens.len()];
        for text in own {
            tokens.push((*text).to_owned());
            types.push(CONTROL);
        }
        // Published embeddings have more rows than there are tokens, and files name the rest like
        // this.
        while tokens.len() < size {
            let id = tokens.len();
            let (text, kind) = match words {
                Words::Llama3 if id == 128_009 => ("<|eot_id|>".to_owned(), CONTROL),
                Words::Llama3 => (format!("<|reserved_special_token_{}|>", id - 128_002), CONTROL),
                Words::Gpt2 | Words::Qwen2 => (format!("[PAD{id}]"), UNUSED),
            };
            tokens.push(text);
            types.push(kind);
        }
        Vocabulary { words, tokens, types, merges }
    }

    /// Writes `tokenizer.ggml.*`.
    pub fn describe(&self, keys: &mut Keys) {
        let (pre, bos, eos) = match self.words {
            Words::Gpt2 => ("gpt-2", 50_256, 50_256),
            Words::Llama3 => ("llama-bpe", 128_000, 128_009),
            Words::Qwen2 => ("qwen2", 151_643, 151_645),
        };
        // GGUF's name for every byte-level vocabulary, whichever model it belongs to.
        keys.text("tokenizer.ggml.model", "gpt2");
        keys.text("tokenizer.ggml.pre", pre);
        keys.texts("tokenizer.ggml.tokens", &self.tokens);
        keys.numbers("tokenizer.ggml.token_type", &self.types);
        keys.texts("tokenizer.ggml.merges", &self.merges);
        keys.number("tokenizer.ggml.bos_token_id", bos);
        keys.number("tokenizer.ggml.eos_token_id", eos);
        if self.words == Words::Qwen2 {
            keys.number("tokenizer.ggml.padding_token_id", 151_643);
        }
        keys.flag("tokenizer.ggml.add_bos_token", self.words == Words::Llama3);
    }
}
