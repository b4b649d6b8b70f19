"""Trains the small tokenizers of golden/tokenizers and writes their specs.

    python3 golden/oracle/make_tokenizers.py

Needs tokenizers 0.23, tiktoken and gguf. For each published pre-tokenizer one byte-level BPE is
trained on golden/tokenizers/corpus.txt and written in both forms: tokenizer.json, and a GGUF file
of its vocabulary alone. The texts stand in texts.py; their ids are those of `tokenizers`, and every
one without special tokens is held against tiktoken with the same ranks and pattern.
"""

import json
import unicodedata
from importlib.metadata import version
from pathlib import Path

import gguf
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

import texts

GOLDEN = Path(__file__).resolve().parent.parent
FOLDER = GOLDEN / "tokenizers"
SPECS = GOLDEN.parent / "specs" / "tokenizers"

AHEAD = r"|\s+(?!\S)|\s+"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + AHEAD
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SHORT}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SHORT}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+" + AHEAD
)

# The split of the training: words with what follows them. A vocabulary that was trained with its
# own pattern has no token across a border of it, and then a wrong border costs nothing.
LOOSE = r" ?\S+[\r\n/]*|\s+"

# name: pre-tokenizer, pattern, special tokens (the first ends a text, but for Llama's: it begins
# one), architecture, vocabulary, source.
KINDS = {
    "gpt2-tokens": (
        "gpt-2",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + AHEAD,
        ["<|endoftext|>"],
        "gpt2",
        901,
        "openai/gpt-2, src/encoder.py",
    ),
    "llama3-tokens": (
        "llama-bpe",
        WORDS + r"|\p{N}{1,3}" + TAIL,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
        "llama",
        953,
        "meta-llama/llama3, llama/tokenizer.py",
    ),
    "o200k-tokens": (
        "gpt-4o",
        O200K,
        ["<|endoftext|>", "<|return|>", "<|start|>", "<|end|>"],
        "gpt-oss",
        1009,
        "openai/tiktoken, tiktoken_ext/openai_public.py, o200k_base",
    ),
    "qwen2-tokens": (
        "qwen2",
        WORDS + r"|\p{N}" + TAIL,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "qwen2",
        997,
        "Qwen/Qwen2.5-0.5B, tokenizer.json",
    ),
}


def trained(pre, pattern, specials, vocabulary):
    """A byte-level BPE with this split; its merges were trained with a looser one."""
    byte_level = pre_tokenizers.ByteLevel
    loose = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LOOSE), "isolated", invert=False)
    bytes_alone = byte_level(add_prefix_space=False, use_regex=False)
    loose.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_alone])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(specials),
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(byte_level.alphabet()),
    )
    # As one text: a file would be read line by line, and no token would go over the end of one.
    loose.train_from_iterator([(FOLDER / "corpus.txt").read_text()], trainer)
    model = json.loads(loose.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    whole = pre == "llama-bpe"
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=whole))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if pre == "gpt-2":
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_alone])
    tokenizer.decoder = decoders.ByteLevel()
    # A word that is added and no special token: always taken whole, as Qwen2's <tool_call> is.
    own = [AddedToken("<|own|>", normalized=False)] if pre == "qwen2" else []
    tokenizer.add_tokens(own)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in specials])
    assert tokenizer.get_vocab_size() == vocabulary + len(own), tokenizer.get_vocab_size()
    if pre == "llama-bpe":
        first = specials[0]
        template = processors.TemplateProcessing(
            single=[first, "$A"],
            pair=[first, "$A", first, "$B"],
            special_tokens=[(first, tokenizer.token_to_id(first))],
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), template])
    return tokenizer


def write_gguf(path, tokenizer, pre, specials, arch):
    """The vocabulary alone, as the converter of llama.cpp writes it."""
    data = json.loads(tokenizer.to_str())
    added = {a["content"]: a for a in data["added_tokens"]}
    tokens = dict(data["model"]["vocab"]) | {a: f["id"] for a, f in added.items()}
    ordered = sorted(tokens, key=tokens.get)
    kind = lambda t: 1 if t not in added else 3 if added[t]["special"] else 4
    writer = gguf.GGUFWriter(path, arch)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(ordered)
    writer.add_token_types([kind(t) for t in ordered])
    writer.add_token_merges([" ".join(pair) for pair in data["model"]["merges"]])
    first, last = (specials[0], specials[1]) if pre == "llama-bpe" else (None, specials[0])
    if first is not None:
        writer.add_bos_token_id(tokens[first])
        writer.add_add_bos_token(True)
    writer.add_eos_token_id(tokens[last])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def alphabet():
    """byte -> letter, as GPT-2 has it."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(0x100 + i) for i, b in enumerate(other)}


LETTERS = alphabet()


def ranked(tokenizer, pattern):
    """tiktoken with the same tokens by their ids."""
    data = json.loads(tokenizer.to_str())
    back = {letter: b for b, letter in LETTERS.items()}
    ranks = {bytes(back[c] for c in t): i for t, i in data["model"]["vocab"].items()}
    return tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def stretches(raw):
    """(text, True) for UTF-8, (bytes, False) for each stretch of other bytes."""
    out, at = [], 0
    while at < len(raw):
        try:
            out.append((raw[at:].decode(), True))
            break
        except UnicodeDecodeError as e:
            if e.start:
                out.append((raw[at : at + e.start].decode(), True))
            bad = raw[at + e.start : at + e.end]
            if out and not out[-1][1]:
                bad = out.pop()[0] + bad
            out.append((bad, False))
            at += e.end
    return out


def ids(tokenizer, witness, raw, special):
    """The ids of bytes, by `tokenizers`; without special tokens tiktoken agrees."""
    tokenizer.encode_special_tokens = special != "parse"
    found, told = [], []
    for part, is_text in stretches(raw):
        if is_text:
            found += tokenizer.encode(part, add_special_tokens=False).ids
            told += witness.encode_ordinary(unicodedata.normalize("NFC", part)
                                            if tokenizer.normalizer else part)
        else:
            letters = "".join(LETTERS[b] for b in part)
            found += [t.id for t in tokenizer.model.tokenize(letters)]
            told += witness._core_bpe.encode_single_piece(part)
    if special != "parse" and b"<|own|>" not in raw:
        assert found == told, (raw, found, told)
    if special == "add":
        text = raw.decode()
        found = tokenizer.encode(text, add_special_tokens=True).ids
    return found


def quoted(text):
    """YAML in double quotes: letters as they are, everything that one cannot see escaped."""
    out = []
    for c in text:
        kind = unicodedata.category(c)[0]
        if c in '"\\':
            out.append("\\" + c)
        elif c == " " or kind in "LNPS" and ord(c) < 0x1F000:
            out.append(c)
        else:
            out.append(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}")
    return '"' + "".join(out) + '"'


def vector(tokenizer, witness, text, special):
    raw = text if isinstance(text, bytes) else text.encode()
    listed = ", ".join(map(str, ids(tokenizer, witness, raw, special)))
    if isinstance(text, bytes):
        return f'      - {{ bytes: "{raw.hex(" ")}", ids: [{listed}] }}'
    return f"      - {{ text: {quoted(text)}, ids: [{listed}] }}"


def spec(name, tokenizer, witness, source):
    lines = [
        "# yaml-language-server: $schema=../schema.json",
        "# Written by golden/oracle/make_tokenizers.py.",
        "format: 1",
        f"tokenizer: {name}",
        "gate: 2",
        f'source: "pattern of {source}; merges trained on golden/tokenizers/corpus.txt; '
        f"ids by tokenizers {version('tokenizers')}, those without special tokens by tiktoken "
        f"{version('tiktoken')} too\"",
        "forms:",
        f"  hf: {{ path: tokenizers/{name}/tokenizer.json }}",
        f"  gguf: {{ path: tokenizers/{name}/vocab.gguf }}",
        "",
        "cases:",
    ]
    changed = []
    for case, why, special, all_of_it in texts.CASES:
        kept = [t for t in all_of_it if not (tokenizer.normalizer and composes(t))]
        changed += [t for t in all_of_it if t not in kept]
        lines += [f"  - name: {case}", f"    why: {why}"]
        lines += [f"    special: {special}"] if special != "none" else []
        lines += ["    vectors:"]
        lines += [vector(tokenizer, witness, t, special) for t in kept]
    if changed:
        lines += ["  - name: composed", f"    why: {texts.COMPOSED}"]
        lines += ["    checks: [encode, stream]", "    vectors:"]
        lines += [vector(tokenizer, witness, t, "none") for t in changed]
    return "\n".join(lines) + "\n"


def composes(text):
    """Whether canonical composition changes a text."""
    return isinstance(text, str) and not unicodedata.is_normalized("NFC", text)


def main():
    SPECS.mkdir(exist_ok=True)
    for name, (pre, pattern, specials, arch, vocabulary, source) in KINDS.items():
        tokenizer = trained(pre, pattern, specials, vocabulary)
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        write_gguf(folder / "vocab.gguf", tokenizer, pre, specials, arch)
        witness = ranked(tokenizer, pattern)
        (SPECS / f"{name}.yaml").write_text(spec(name, tokenizer, witness, source))


if __name__ == "__main__":
    main()
