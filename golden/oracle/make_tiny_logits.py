"""What transformers gives for the tiny models: logits of a text, float32, eager.

    python3 golden/oracle/make_tiny_logits.py golden/models/llama-tiny

Writes `transformers.safetensors` beside the forms: `ids` [n], and for each form the logits of the
last ROWS positions. A quantised form's weights are dequantised by gguf-py and put into the same
code; `greedy` [m] is the text that goes on from `ids`, of the f16 form.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import hooks

TEXT = "Once upon a time there were three little sisters, and they lived at the bottom of a well"
ROWS = 8
TOKENS = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
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
            path = folder / f"{form}.gguf"
            model.load_state_dict(hooks.gguf_state(path, model.config, state))
            out[form] = model(ids).logits[0, -ROWS:].contiguous()
            model.load_state_dict(state)
    save_file(out, str(folder / "transformers.safetensors"))
    print(folder.name, ids.shape[1], out["greedy"].tolist())


if __name__ == "__main__":
    main()
