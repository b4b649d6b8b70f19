"""What the tiny models are: configurations and tokenizers, one place for training and conversion.

Widths differ everywhere (hidden, query width, key width, feed-forward, vocabulary, context), so
that no swapped axis goes unseen. hidden is 256, a block of the K-quants.
"""

import hashlib
import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import GPT2Config, LlamaConfig, Qwen2Config

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
# What the models were trained on, and its hashes: a model of another text is another model.
BOOKS = {
    "alice.txt": "c1474cfa3c0d0e14007e1271b54e2a32a48a4ba60ba51acd0bf6e167dfb90130",
    "as-you-like-it.txt": "1a02e4c01cedfe324b89cd6d0d5dd3df8953b4a29e69f851167487abcf235370",
}

# The published split patterns: Llama 3 (meta-llama/llama3, tokenizer.py), Qwen2 (Qwen/Qwen2).
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def book(name: str) -> Path:
    """One of the books, if it is the one that the models were trained on."""
    path = HERE / "text" / name
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == BOOKS[name], (name, found)
    return path


def byte_level(pattern: str | None, vocabulary: int, specials: list[str], nfc: bool) -> Tokenizer:
    """Byte-level BPE trained on the two books, `vocabulary` tokens with the special ones."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pattern == LLAMA_3))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train([str(book(name)) for name in BOOKS], trainer)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in specials])
    assert tokenizer.get_vocab_size() == vocabulary, tokenizer.get_vocab_size()
    return tokenizer


def gpt2() -> tuple[Tokenizer, GPT2Config]:
    tokenizer = byte_level(None, 517, ["<|endoftext|>"], nfc=False)
    end = tokenizer.token_to_id("<|endoftext|>")
    return tokenizer, GPT2Config(
        vocab_size=517,
        n_positions=160,
        n_embd=256,
        n_layer=2,
        n_head=4,
        n_inner=512,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        embd_pdrop=0.1,
        attn_pdrop=0.1,
        resid_pdrop=0.1,
        bos_token_id=end,
        eos_token_id=end,
    )


def llama() -> tuple[Tokenizer, LlamaConfig]:
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = byte_level(LLAMA_3, 487, specials, nfc=False)
    first, end = (tokenizer.token_to_id(s) for s in specials)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{specials[0]} $A",
                pair=f"{specials[0]} $A {specials[0]}:1 $B:1",
                special_tokens=[(specials[0], first)],
            ),
        ]
    )
    return tokenizer, LlamaConfig(
        vocab_size=487,
        hidden_size=256,
        intermediate_size=224,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=80,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
        tie_word_embeddings=False,
        bos_token_id=first,
        eos_token_id=end,
    )


def qwen2() -> tuple[Tokenizer, Qwen2Config]:
    # As the published models: more rows than tokens, and the head is the embedding.
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(QWEN_2, 557, specials, nfc=True)
    end, _, turn = (tokenizer.token_to_id(s) for s in specials)
    return tokenizer, Qwen2Config(
        vocab_size=576,
        hidden_size=256,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=96,
        max_position_embeddings=448,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=turn,
    )


TINY = {"gpt2-tiny": gpt2, "llama-tiny": llama, "qwen2-tiny": qwen2}


def tidy_json(path: Path) -> None:
    """The same file on every machine: sorted keys, no date, no version of who wrote it."""
    data = json.loads(path.read_text())
    for key in ("transformers_version", "_name_or_path"):
        data.pop(key, None)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
