"""Base models as bitsandbytes holds them in 4 bits, and the same values to compute with in single precision."""

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import bitsandbytes as bnb
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

transformers.utils.logging.disable_progress_bar()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def quantized(folder):
    """An NF4 checkpoint as it trains: everything else in bfloat16."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": DEVICE}, attn_implementation="sdpa")


def in_f32(folder):
    """The NF4 values of a checkpoint, in single precision; where it has 16 bits, those that bitsandbytes makes of them."""
    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None) is None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(DEVICE)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                module.weight.data = round_trip(module.weight.data)
        return model
    stored = quantized(folder)
    values = {name: value.float().cpu() for name, value in stored.state_dict().items() if value.is_floating_point() and ".weight." not in name}
    for name, module in stored.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            values[f"{name}.weight"] = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).float().cpu()
    del stored, config.quantization_config
    config.dtype = torch.float32
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).float()
    missing, unexpected = model.load_state_dict(values, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model.requires_grad_(False).to(DEVICE)


def round_trip(weight):
    """To NF4 with double quantization and back, from bfloat16."""
    packed, state = bnb.functional.quantize_4bit(weight.to(torch.bfloat16), blocksize=64, quant_type="nf4", compress_statistics=True)
    return bnb.functional.dequantize_4bit(packed, state).float()
