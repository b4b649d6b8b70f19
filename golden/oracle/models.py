"""What transformers gives for the tiny models: logits of a text, float32, eager.

    python3 golden/oracle/models.py golden/models/llama-tiny

Writes `transformers.safetensors` beside the forms: `ids` [n], and for each form the logits of the
last ROWS positions. A quantised form's weights are dequantised by gguf-py and put into the same
code; `greedy` [m] is the text that goes on from `ids`, of the f16 form.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import to_gguf

TEXT = "Once upon a time there were three little sisters, and they lived at the bottom of a well"
ROWS = 8
TOKENS = 50


def halves(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from neighbouring pairs to halves: the way back from GGUF's llama."""
    pairs = x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:])
    return pairs.swapaxes(1, 2).reshape(x.shape)


def dequantised(folder: Path, form: str, kind: str, config: dict, state: dict) -> dict:
    """The state with every tensor of a GGUF file in place of its own."""
    file = gguf.GGUFReader(str(folder / f"{form}.gguf"))
    stored = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        for t in file.tensors
    }
    new = {}
    for name, value in state.items():
        tied = name == "lm_head.weight" and config["tie_word_embeddings"]
        known = "token_embd.weight" if tied else to_gguf.renamed(kind, name)
        x = stored[known]
        if kind == "gpt2" and value.ndim == 2 and "blk." in known:
            x = x.T
        if kind == "llama" and ("attn_q." in known or "attn_k." in known):
            key = "num_attention_heads" if "attn_q." in known else "num_key_value_heads"
            x = halves(x, config[key])
        new[name] = torch.from_numpy(np.ascontiguousarray(x)).reshape(value.shape)
    return new


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    config = json.loads((folder / "hf" / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(
        folder / "hf", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokenizer = Tokenizer.from_file(str(folder / "hf" / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    state = model.state_dict()
    out = {"ids": ids[0].int()}
    with torch.no_grad():
        out["f16"] = model(ids).logits[0, -ROWS:].contiguous()
        text = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
        out["greedy"] = text[0, ids.shape[1] :].int().contiguous()
        for form in ("q8_0", "q4_k_m"):
            kind = config["model_type"]
            model.load_state_dict(dequantised(folder, form, kind, config, state))
            out[form] = model(ids).logits[0, -ROWS:].contiguous()
            model.load_state_dict(state)
    save_file(out, str(folder / "transformers.safetensors"))
    print(folder.name, ids.shape[1], out["greedy"].tolist())


if __name__ == "__main__":
    main()
