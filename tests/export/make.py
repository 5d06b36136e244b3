"""Base models for check.sh.

usage: make.py base FILE.gguf OUT              a GGUF file's weights in bfloat16 and its tokenizer, as transformers saves them
       make.py llama-3.2-1b BASE OUT           random weights in Llama-3.2-1B's shape, with BASE's tokenizer, and an adapter of rank 16       make.py vocabulary TOKENIZER OUT        a tiny model of random weights around a tokenizer, and an adapter of rank 16
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def base(source, out):
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    del read.config.quantization_config
    model = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The conversion takes the beginning of a turn for its end.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(read.config.eos_token_id)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(out)
    # It also forgets that digits are cut one by one, and takes the vocabulary for SentencePiece's.
    path = out / "tokenizer.json"
    parts = json.loads(path.read_text())
    bytes_ = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    parts["pre_tokenizer"] = dict(type="Sequence", pretokenizers=[dict(type="Digits", individual_digits=True), bytes_])
    parts["decoder"] = bytes_
    parts["normalizer"] = parts["post_processor"] = None
    parts["model"].update(byte_fallback=False, fuse_unk=False, unk_token=None)
    path.write_text(json.dumps(parts, ensure_ascii=False))


def llama_3_2_1b(tokenizer, out):
    rope = dict(
        rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    random_weights(tokenizer, out, LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, max_position_embeddings=131072, rms_norm_eps=1e-5, rope_parameters=rope, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2))


def vocabulary(tokenizer, out):
    parts = json.loads((tokenizer / "tokenizer.json").read_text())
    count = 1 + max([*parts["model"]["vocab"].values(), *(token["id"] for token in parts["added_tokens"])])
    random_weights(tokenizer, out, LlamaConfig(
        vocab_size=count, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, max_position_embeddings=512, tie_word_embeddings=True))


def random_weights(tokenizer, out, config):
    """A model with these dimensions and that tokenizer, and an adapter of it."""
    torch.manual_seed(3407)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, out / name)
    adapter = out / "run" / "adapter"
    adapter.mkdir(parents=True)
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(16, module.in_features, dtype=torch.float32) * 0.02
            tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(module.out_features, 16, dtype=torch.float32) * 0.02
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    lora = dict(peft_type="LORA", base_model_name_or_path=str(out), r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    (adapter / "adapter_config.json").write_text(json.dumps(lora))


def main():
    kind, source, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    {"base": base, "llama-3.2-1b": llama_3_2_1b, "vocabulary": vocabulary}[kind](source, out)
    print(f"made {out}", file=sys.stderr)


main()
