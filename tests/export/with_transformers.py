"""PEFT, transformers, bitsandbytes and gguf on what check.sh exported.

usage: with_transformers.py OUT
"""

import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import bitsandbytes as bnb
import gguf
import torch
import transformers
from peft import PeftModel
from rows import log, row
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
OUT = pathlib.Path(sys.argv[1])
RUN = OUT / "run"
TEXTS = [
    "What are the symptoms of anaemia?",
    "Explain in two sentences how vaccines work.",
    "def fibonacci(n):\n    if n < 2:",
]
# Without these llama.cpp does not start.
REQUIRED = (
    "general.architecture general.name general.type general.file_type general.quantization_version llama.block_count llama.context_length "
    "llama.embedding_length llama.feed_forward_length llama.vocab_size llama.attention.head_count llama.attention.head_count_kv "
    "llama.attention.layer_norm_rms_epsilon llama.attention.key_length llama.attention.value_length llama.rope.dimension_count "
    "llama.rope.freq_base tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens tokenizer.ggml.token_type tokenizer.ggml.merges "
    "tokenizer.ggml.bos_token_id tokenizer.ggml.eos_token_id tokenizer.ggml.add_bos_token tokenizer.chat_template").split()


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def logits(model, tokenizer):
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits[0].float() for text in TEXTS])


def distance(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def merged_4bit(tokenizer, sixteen):
    """The same values as bitsandbytes makes of the 16-bit folder, and logits over them in single precision."""
    model = AutoModelForCausalLM.from_pretrained(RUN / "merged-4bit", dtype=torch.bfloat16)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)}
    differing = 0
    for name, module in sixteen.named_modules():
        if name in linears:
            weight, state = linears[name].weight, linears[name].weight.quant_state
            stored = bnb.functional.dequantize_4bit(weight.data, state).float()
            packed, fresh = bnb.functional.quantize_4bit(module.weight.data.to(torch.bfloat16), blocksize=64, quant_type="nf4", compress_statistics=True)
            differing += int((packed.flatten() != weight.data.flatten()).sum() > 0)
            expected = bnb.functional.dequantize_4bit(packed, fresh).float()
            # On a CPU bitsandbytes rounds a few magnitudes another way than on a GPU, which is what weft follows.
            assert distance(stored, expected) < 3e-3, name
            module.weight.data = stored
    row("bitsandbytes reads merged-4bit: its linears", f"{len(linears)}, {differing} of them with other codes than its own quantizer's", "210, 0", len(linears) == 210 and differing == 0)
    found, expected = logits(model, tokenizer), logits(sixteen, tokenizer)
    row("merged-4bit in transformers (bfloat16) against its values in f32: logits", f"{distance(found, expected):.2e}", "< 5e-2", distance(found, expected) < 5e-2)


def main():
    tokenizer = AutoTokenizer.from_pretrained(OUT / "base")
    log("PEFT")
    with_adapter = PeftModel.from_pretrained(load(OUT / "base"), RUN / "adapter-export").eval()
    expected = logits(with_adapter, tokenizer)
    base = logits(load(OUT / "base"), tokenizer)
    row("PEFT loads the adapter: it changes logits by", f"{distance(expected, base):.2e}", "> 1e-2", distance(expected, base) > 1e-2)
    by_peft = with_adapter.merge_and_unload()
    sixteen = load(RUN / "merged-16bit")
    found = distance(logits(sixteen, tokenizer), expected)
    row("merged-16bit in transformers against PEFT unmerged: logits", f"{found:.2e}", "< 2e-2 (bfloat16 weights)", found < 2e-2)
    worst = max(distance(a.to(torch.bfloat16).float(), b) for (_, a), (_, b) in zip(sorted(by_peft.state_dict().items()), sorted(sixteen.state_dict().items())))
    row("merged-16bit against PEFT's merge rounded to bfloat16: worst tensor", f"{worst:.1e}", "< 1e-4", worst < 1e-4)
    ours = AutoTokenizer.from_pretrained(RUN / "merged-16bit")
    row("its tokenizer against the base's: texts that differ", sum(ours(t).input_ids != tokenizer(t).input_ids for t in TEXTS), 0, all(ours(t).input_ids == tokenizer(t).input_ids for t in TEXTS))
    merged_4bit(tokenizer, sixteen)
    for path in sorted((RUN / "gguf").glob("*.gguf")):
        reader = gguf.GGUFReader(path)
        missing = [key for key in REQUIRED if key not in reader.fields]
        row(f"gguf parses {path.name}: tensors, required keys missing", f"{len(reader.tensors)}, {len(missing)}", "272, 0", len(reader.tensors) == 272 and not missing)
    f32 = {tensor.name: tensor for tensor in gguf.GGUFReader(RUN / "gguf" / "smollm2-F32.gguf").tensors}
    worst = 0.0
    for tensor in gguf.GGUFReader(RUN / "gguf" / "smollm2-Q8_0.gguf").tensors:
        values = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        worst = max(worst, distance(values.flatten(), torch.tensor(f32[tensor.name].data).flatten()))
    row("gguf's own dequantizer on Q8_0 against F32: worst tensor", f"{worst:.1e}", "< 1e-2", worst < 1e-2)
    config = json.loads((RUN / "merged-4bit" / "config.json").read_text())
    row("quantization_config of merged-4bit", config["quantization_config"]["bnb_4bit_quant_type"], "nf4", config["quantization_config"]["bnb_4bit_quant_type"] == "nf4")


main()
