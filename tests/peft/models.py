"""Writes a bitsandbytes NF4 checkpoint (double quantization) as transformers saves it; weft and the peers both load it.

usage: models.py llama-3.2-1b OUT [--layers N]     random weights in Llama-3.2-1B's shape, without a tokenizer
       models.py tiny OUT                          random weights in a shape for CPUs
       models.py gguf FILE.gguf OUT                a GGUF file's weights and tokenizer; needs the package gguf
       models.py folder FOLDER OUT                 a Hugging Face folder's weights and tokenizer
"""

import argparse
import os
import pathlib
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def llama_3_2_1b(layers):
    rope = dict(
        rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    return LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, rms_norm_eps=1e-5, rope_parameters=rope,
        tie_word_embeddings=True, bos_token_id=128000, eos_token_id=128001)


def tiny():
    rope = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    return LlamaConfig(
        vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=64, max_position_embeddings=256, rms_norm_eps=1e-5, rope_parameters=rope, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2)


def random_weights(config):
    """Linears and embeddings as transformers starts them, with a standard deviation of 0.02; norms near one."""
    torch.manual_seed(3407)
    with torch.device(DEVICE):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
    return model


def from_gguf(path):
    """The file's weights in bfloat16, and its tokenizer."""
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    del read.config.quantization_config
    model = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # The conversion takes the beginning of a turn for its end.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(read.config.eos_token_id)
    tokenizer.pad_token = tokenizer.eos_token
    return model.to(torch.bfloat16), tokenizer


def from_folder(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16), AutoTokenizer.from_pretrained(path)


def save_quantized(model, out):
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        del model
        quantized = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config, dtype=torch.bfloat16, device_map={"": DEVICE})
        quantized.save_pretrained(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("llama-3.2-1b", "tiny", "gguf", "folder"):
        of_kind = kinds.add_parser(kind)
        if kind in ("gguf", "folder"):
            of_kind.add_argument("source", type=pathlib.Path)
        of_kind.add_argument("out", type=pathlib.Path)
        if kind == "llama-3.2-1b":
            of_kind.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.kind in ("gguf", "folder"):
        model, tokenizer = (from_gguf if arguments.kind == "gguf" else from_folder)(arguments.source)
        tokenizer.save_pretrained(arguments.out)
    else:
        model = random_weights(llama_3_2_1b(arguments.layers) if arguments.kind == "llama-3.2-1b" else tiny())
    save_quantized(model, arguments.out)
    print(f"made {arguments.kind} in {arguments.out}", flush=True)


main()
