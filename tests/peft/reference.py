"""What transformers, peft and bitsandbytes compute for one micro-batch: logits, loss and every LoRA gradient.

usage: reference.py MODEL CASE [--csv QUESTIONS_AND_ANSWERS.csv] [--lengths 512,300,…] [--rank N] [--b-std X]

MODEL is a bitsandbytes NF4 checkpoint (models.py). CASE becomes a folder for weft's tests `against_peft`:

* `case.json`: where the model lies, the rows (tokens, supervised), and the positions whose logits are kept
* `adapter/`: the adapter as peft saves it; B is not zero
* `expected.safetensors`: `logits`, `loss` and `grad.<name>` of three computations from the same NF4 values:
  `f32.*` in single precision throughout; `bf16.*` as a model loaded in bfloat16 trains under autocast; `upcast.*` the same
  after `prepare_model_for_kbit_training`, with norms, embeddings and the residual stream in single precision

How far the bf16 values are from the f32 ones is what 16 bits cost transformers, and the bar for weft.
"""

import argparse
import gc
import json
import os
import pathlib

from bases import DEVICE, in_f32, quantized  # before transformers: it says that there is no network

import bitsandbytes as bnb
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer

from rows import chat_row, read_csv

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LOGIT_POSITIONS = 16


def make_adapter(folder, out, rank, b_std):
    """A as peft starts it; B normal, so that every matrix has a gradient and weighs in the output."""
    torch.manual_seed(11)
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=SEVEN, task_type="CAUSAL_LM")
    model = get_peft_model(quantized(folder), config)
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * b_std)
    model.save_pretrained(out)


def one_pass(model, rows, positions, autocast):
    """Each row on its own, without padding; the loss is the mean over all supervised tokens."""
    model.train()
    supervised = sum(sum(row["supervised"][1:]) for row in rows)
    total, logits, start = 0.0, [], 0
    for row in rows:
        tokens = torch.tensor([row["tokens"]], device=DEVICE)
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
            of_row = model(input_ids=tokens, use_cache=False).logits[0].float()
        chosen = torch.tensor(row["supervised"][1:], device=DEVICE)
        losses = torch.nn.functional.cross_entropy(of_row[:-1][chosen], tokens[0, 1:][chosen], reduction="sum")
        (losses / supervised).backward()
        total += losses.item()
        logits += [of_row[position - start].detach() for position in positions if start <= position < start + len(row["tokens"])]
        start += len(row["tokens"])
    grads = {name.replace(".default", ""): p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in grads), list(grads)
    tensors = {f"grad.{name}": grad.float() for name, grad in grads.items()}
    return {"logits": torch.stack(logits), "loss": torch.tensor([total / supervised], dtype=torch.float32), **tensors}


def computed(kind, folder, adapter, rows, positions):
    model = in_f32(folder) if kind == "f32" else quantized(folder)
    if kind == "upcast":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    values = one_pass(model, rows, positions, autocast=kind != "f32")
    values = {f"{kind}.{name}": value.cpu().contiguous() for name, value in values.items()}
    del model
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    return values


def relative(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def report(kind, values):
    """How far a computation is from single precision."""
    names = [name.removeprefix("f32.") for name in values if name.startswith("f32.")]
    errors = {name: relative(values[f"{kind}.{name}"], values[f"f32.{name}"]) for name in names}
    worst = max((name for name in names if name.startswith("grad.")), key=errors.get)
    print(f"{kind} from f32: logits {errors['logits']:.2e}, loss {errors['loss']:.2e}, worst gradient {errors[worst]:.2e} ({worst})")


def random_rows(vocab, lengths):
    generator = torch.Generator().manual_seed(13)
    rows = []
    for length in lengths:
        tokens = torch.randint(0, vocab, (length,), generator=generator).tolist()
        first = length // 4
        rows.append(dict(tokens=tokens, supervised=[i >= first for i in range(length)]))
    return rows


def spread(rows):
    """Positions among all tokens, spread evenly."""
    tokens = sum(len(row["tokens"]) for row in rows)
    return sorted({(2 * i + 1) * tokens // (2 * LOGIT_POSITIONS) for i in range(LOGIT_POSITIONS)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("--csv", type=pathlib.Path, help="rows of text; without it tokens are random")
    parser.add_argument("--lengths", default="512,300,129,83", help="tokens of each row")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--b-std", type=float, default=0.05, help="of B; a large one spoils what real weights say")
    arguments = parser.parse_args()
    lengths = [int(length) for length in arguments.lengths.split(",")]
    if arguments.csv:
        tokenizer = AutoTokenizer.from_pretrained(arguments.model)
        read = read_csv(arguments.csv, len(lengths))
        rows = [chat_row(tokenizer, *row, max_tokens) for row, max_tokens in zip(read, lengths)]
    else:
        rows = random_rows(AutoConfig.from_pretrained(arguments.model).vocab_size, lengths)
    positions = spread(rows)
    arguments.case.mkdir(parents=True, exist_ok=True)
    adapter = arguments.case / "adapter"
    make_adapter(arguments.model, adapter, arguments.rank, arguments.b_std)
    values = {}
    for kind in ("f32", "bf16", "upcast"):
        values |= computed(kind, arguments.model, adapter, rows, positions)
        if kind != "f32":
            report(kind, values)
    save_file(values, arguments.case / "expected.safetensors", metadata={"format": "pt"})
    model = os.path.relpath(arguments.model, arguments.case)
    case = dict(model=model, rows=rows, logit_positions=positions)
    (arguments.case / "case.json").write_text(json.dumps(case))
    versions = {library.__name__: library.__version__ for library in (torch, transformers, peft, bnb)}
    supervised = sum(sum(row["supervised"][1:]) for row in rows)
    print(f"{arguments.case}: {sum(len(row['tokens']) for row in rows)} tokens, {supervised} supervised, loss {values['f32.loss'].item():.6f}; {versions}")


main()
