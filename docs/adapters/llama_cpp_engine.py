"""llama.cpp on trial, through the binding cyllama. From the root of the repository:

    pip install -r docs/adapters/requirements-llama-cpp.txt
    goldgate run 'llama-tiny::*' --on 'llamacpp=python3 docs/adapters/llama_cpp_engine.py'

Model files are GGUF. Where llama.cpp aborts the process, it aborts: the row says `crashed`.
"""
import os

import numpy as np

from goldtext import Model, Pieces, Words, in_vocabulary, serve, without
from goldwire import Refused, Subject, Unsupported

# An abort ends the process at once, and starts no debugger first.
os.environ["GGML_NO_BACKTRACE"] = "1"
subject = Subject("llama.cpp", formats=["gguf"], activations="f16", claims=["run"])

import cyllama.llama.llama_cpp as lib  # after Subject, so that what it prints goes to stderr
from cyllama._internal import build_config

KV = {"f32": 0, "f16": 1, "bf16": 30}  # numbers of ggml
ALL_F32 = 0  # of general.file_type
ERROR = 4  # a level of ggml's log
LOG: list[str] = []


def logged(level: int, text: str) -> None:
    """Keeps errors of llama.cpp's log, because the binding raises without the reason."""
    if level == ERROR:
        LOG.append(text.strip())


class Bound(lib.LlamaModel):
    """The binding's model. Its contexts read an attribute that version 0.2.18 does not have."""

    @property
    def n_vocab(self) -> int:
        return self.get_vocab().n_vocab


def opened(path: str) -> Bound:
    """Opens a GGUF file, or refuses with what llama.cpp logged."""
    if not os.path.exists(path):
        raise Refused("IO", "path", f"{path} does not exist")
    if os.path.isdir(path) or path.endswith((".json", ".safetensors")):
        raise Unsupported("files other than GGUF")
    chosen = lib.LlamaModelParams()
    chosen.n_gpu_layers = 0
    LOG.clear()
    try:
        return Bound(path, chosen)
    except (ValueError, RuntimeError) as e:
        why = LOG[0] if LOG else str(e)
        # A file without a vocabulary is a good one that llama.cpp does not open. The binding wants
        # tensors as well, and aborts where it is asked to open vocabularies alone.
        if "key not found in model: tokenizer.ggml.model" in why or "tensor_count=0" in why:
            raise Unsupported("models without a vocabulary, vocabularies without a model") from e
        raise Refused("Malformed", "path", why) from e


def byte_of() -> dict[str, int]:
    """The byte of each character of a byte-level vocabulary (the table of GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


class Vocabulary(Words):
    """llama.cpp's vocabulary. The binding takes and gives str, so text that is no UTF-8 cannot be
    encoded, and a token of half a character comes back as U+FFFD."""

    def __init__(self, model: Bound):
        self.model, self.vocab, self.table = model, model.get_vocab(), byte_of()

    def encode(self, text, add_special, parse_special):
        try:
            return self.vocab.tokenize(text.decode(), add_special, parse_special)
        except UnicodeDecodeError:
            raise Unsupported("text that is no UTF-8: the binding takes str") from None

    def piece(self, token: int, skip_special: bool) -> bytes:
        in_vocabulary(np.array([token]), self.vocab.n_vocab)
        text = self.vocab.token_to_piece(token, special=not skip_special)
        # Nothing is lost in the vocabulary's own spelling, so half a character is taken from there.
        return bytes(self.table[c] for c in self.vocab.get_text(token)) \
            if "\ufffd" in text else text.encode()

    def decode(self, ids, skip_special):
        # Token by token, as llama.cpp's own programs write. The binding's `detokenize` drops spaces
        # at the beginning, and llama.cpp's those before punctuation.
        return b"".join(self.piece(token, skip_special) for token in ids)

    def stream(self, skip_special):
        return Pieces(lambda token: self.piece(token, skip_special))


class Loaded(Model):
    """A model of which each session has a context of its own."""

    def __init__(self, ask: dict, path: str, context: int | None):
        without(ask, "sha256", "yarn", "budget_bytes")
        self.model = opened(path)
        made_for = self.model.n_ctx_train
        # llama.cpp warns of this and goes on, with positions that the model has never seen.
        if context and context > made_for:
            raise Refused("CapacityExceeded", "context", f"{context}, made for {made_for}")
        metadata = self.model.metadata()
        # Products round x to f16 beside f16 weights and to int8 beside quantised ones; sums and
        # everything between are f32. Only a file of f32 throughout rounds nothing.
        exact = metadata.get("general.file_type") == str(ALL_F32)
        activations, self.kv = "f32" if exact else "f16", ask.get("kv") or "f16"
        if ask.get("activations") not in (None, activations):
            raise Unsupported(f"activations in {ask['activations']}: this file has {activations}")
        self.words, self.context = Vocabulary(self.model), context or made_for
        self.vocabulary = self.words.vocab.n_vocab
        self.ends = {i for i in range(self.vocabulary) if self.words.vocab.is_eog(i)}
        self.facts = {"architecture": metadata.get("general.architecture", ""),
                      "activations": activations, "kv": self.kv,
                      "bytes_weights": self.model.size,
                      "config": {"context": made_for, "vocabulary": self.vocabulary,
                                 "hidden": self.model.n_embd, "layers": self.model.n_layer,
                                 "heads": self.model.n_head, "kv_heads": self.model.n_head_kv}}

    def open(self):
        params = lib.LlamaContextParams()
        params.n_ctx = params.n_batch = self.context
        params.n_threads = params.n_threads_batch = os.cpu_count()
        params.type_k = params.type_v = KV[self.kv]
        return [lib.LlamaContext(self.model, params), 0]

    def feed(self, session, ids, rows, slots):
        context, length = session
        batch = lib.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
        for i, token in enumerate(ids.tolist()):
            batch.add(token, length + i, [0], i in rows)
        context.decode(batch)
        context.synchronize()
        session[1] += len(ids)
        logits = [np.array(context.get_logits_ith(row), np.float32) for row in rows]
        return np.array(logits, np.float32).reshape(len(rows), self.vocabulary), {}

    def fork(self, session, keep):
        new = self.open()
        if session[1]:
            new[0].set_state_seq_data(session[0].get_state_seq_data(0), 0)
            new[0].memory_seq_rm(0, keep, -1)
        new[1] = keep
        return new

    def draw(self, ids, count, sampling, take):
        chain = lib.LlamaSampler(lib.LlamaSamplerChainParams())
        if sampling["repetition_penalty"] != 1:
            chain.add_penalties(self.context, sampling["repetition_penalty"], 0.0, 0.0)
        if sampling["temperature"] == 0:
            chain.add_greedy()
        else:
            chain.add_temp(sampling["temperature"])
            if sampling["top_k"]:
                chain.add_top_k(sampling["top_k"])
            chain.add_top_p(sampling["top_p"], 1)
            chain.add_min_p(sampling["min_p"], 1)
            chain.add_dist(sampling["seed"] & 0xFFFFFFFF)
        # A penalty is for ids of the prompt too, and the chain knows only what it has accepted.
        for token in ids.tolist():
            chain.accept(token)
        session, following = self.open(), ids
        for _ in range(count):
            self.feed(session, following, [len(following) - 1], [])
            token = chain.sample(session[0], -1)
            if not take(token):
                return
            following = np.array([token], np.int32)


@subject.call("inspect")
def inspect(path: str):
    """Opens a file as `load` does and says the little that llama.cpp says of it. The binding looks
    at the file first, so a refusal is that of the two together."""
    metadata = opened(path).metadata()
    return {"format": "gguf", "architecture": metadata.get("general.architecture", ""),
            "warnings": []}


VOCABULARIES: dict[str, Vocabulary] = {}


def words(path: str) -> Words:
    """The vocabulary of a model file."""
    if path not in VOCABULARIES:
        VOCABULARIES[path] = Vocabulary(opened(path))
    return VOCABULARIES[path]


if __name__ == "__main__":
    lib.set_log_callback(logged)
    versions = build_config.versions()
    subject.hello["subject"]["version"] = versions.get("llama_cpp_version", "unknown")
    serve(subject, lambda ask, path, context, trace: Loaded(ask, path, context), words)
    subject.run()
