"""Writes a random-weight model of a known shape, for peers that load from a folder.

usage: make_model.py DIR smollm2-135m|llama-3-8b|llama-2-7b|mistral-7b|gemma-1.1-7b

Speed and memory do not depend on the values. The tokenizer is a list of words: only its size matters.
"""

import sys

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, PreTrainedTokenizerFast

CONFIGS = {
    "smollm2-135m": lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True),
    "llama-3-8b": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=500000.0),
    "llama-2-7b": lambda: LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        max_position_embeddings=4096, rms_norm_eps=1e-5),
    "mistral-7b": lambda: MistralConfig(
        vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=32768, rms_norm_eps=1e-5, rope_theta=1000000.0, sliding_window=None),
    # Its defaults are this model's.
    "gemma-1.1-7b": GemmaConfig,
}

folder, name = sys.argv[1:3]
config = CONFIGS[name]()
special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
config.bos_token_id, config.eos_token_id = config.vocab_size - 3, config.vocab_size - 2
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(config)
model.save_pretrained(folder, max_shard_size="4GB")
words = [f"t{i}" for i in range(config.vocab_size - len(special))] + special
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="t0"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1], pad_token=special[2], unk_token="t0",
).save_pretrained(folder)
print("made", name)
