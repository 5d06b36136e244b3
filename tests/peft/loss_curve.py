"""The loss of each step of `weft run` beside that of a plain PyTorch loop of transformers, peft and bitsandbytes.

usage: loss_curve.py WEFT MODEL QUESTIONS_AND_ANSWERS.csv OUT [--steps N] [--device cuda]

Both train the recipe loss_curve.yaml on an NF4 checkpoint (models.py), from the same adapter, on the same rows in the same
order: the adapter is what weft leaves after a step of rate 0, and which rows a step has is read from the ledger. Text,
template, mask and truncation are done anew here. OUT gets `loss_curve.csv`, `rows.jsonl`, and weft's output in `run/`.
Ends with 1 where a step's losses are further apart than 1 %.
"""

import argparse
import csv
import json
import pathlib
import shutil
import subprocess
import sys
import time

from bases import DEVICE, quantized  # before transformers: it says that there is no network

import torch
import yaml
from peft import PeftModel, prepare_model_for_kbit_training
from transformers import AutoTokenizer, get_scheduler

from ledger import commits
from rows import chat_row, read_csv

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 800
TOLERANCE = 0.01


def weft_run(arguments, name, steps):
    """Trains into OUT/name."""
    output = arguments.out / name
    shutil.rmtree(output, ignore_errors=True)
    command = [
        arguments.weft, "run", arguments.out / "loss_curve.yaml", "--device", arguments.device, "--workers", "1", "--output", output,
        "--cache", arguments.out / "cache", "--set", f"model.base_model={arguments.model}", "--set", f"training.max_steps={steps}",
    ]
    start = time.time()
    with open(arguments.out / f"{name}.log", "w") as log:
        status = subprocess.run([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT).returncode
    if status != 0:
        print((arguments.out / f"{name}.log").read_text()[-3000:], flush=True)
        sys.exit(f"weft run ended with {status}")
    print(f"weft, {steps} steps: {time.time() - start:.1f} s", flush=True)
    return output


def batch_of(rows):
    """Rows beside each other, padded on the right, where causal attention sees no padding; −100 is not supervised."""
    width = max(len(row["tokens"]) for row in rows)
    tokens, labels = torch.zeros((len(rows), width), dtype=torch.long), torch.full((len(rows), width), -100)
    for index, row in enumerate(rows):
        ids = torch.tensor(row["tokens"])
        tokens[index, : len(ids)] = ids
        labels[index, : len(ids)] = torch.where(torch.tensor(row["supervised"]), ids, -100)
    return tokens.to(DEVICE), labels[:, 1:].to(DEVICE)


def peft_losses(model, training, steps, row):
    """The mean loss over the supervised tokens of each step."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=training["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=training["weight_decay"])
    schedule = get_scheduler(training["lr_scheduler_type"], optimizer, num_warmup_steps=training["warmup_steps"], num_training_steps=len(steps))
    model.train()
    for slots in steps:
        supervised, total = sum(slot["supervised_tokens"] for slot in slots), 0.0
        for slot in slots:
            tokens, labels = batch_of([row(index) for index in slot["rows"]])
            found = int((labels != -100).sum())
            assert found == slot["supervised_tokens"], f"{found} supervised tokens here, but {slot}"
            with torch.autocast(DEVICE, dtype=torch.bfloat16):
                logits = model(input_ids=tokens, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels.flatten(), reduction="sum")
            (loss / supervised).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        yield total / supervised


def compare(out, ours, theirs):
    """Writes both curves and prints some of them; whether all steps are near enough."""
    apart = [abs(a / b - 1) for a, b in zip(ours, theirs)]
    with open(out / "loss_curve.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "weft", "peft", "relative_difference"])
        table.writerows(zip(range(1, len(ours) + 1), ours, theirs, apart))
    print("step    weft      peft      apart")
    for step, (a, b, difference) in enumerate(zip(ours, theirs, apart)):
        if step % 5 == 4 or step == 0 or difference == max(apart):
            print(f"{step + 1:4}  {a:8.5f}  {b:8.5f}  {100 * difference:6.3f} %")
    print(f"{len(apart)} steps, furthest apart {100 * max(apart):.3f} %, on average {100 * sum(apart) / len(apart):.3f} %", flush=True)
    return max(apart) <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weft", "model", "csv", "out"):
        parser.add_argument(name, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", default="cuda", help="of weft")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "loss_curve.yaml", arguments.out)
    training = yaml.safe_load((HERE / "loss_curve.yaml").read_text())["training"]
    pairs = read_csv(arguments.csv, ROWS)
    with open(arguments.out / "rows.jsonl", "w") as file:
        file.writelines(json.dumps(dict(question=question, answer=answer)) + "\n" for question, answer in pairs)

    start = weft_run(arguments, "start", 1)
    found = commits(weft_run(arguments, "run", arguments.steps))
    steps = [found[step]["slots"] for step in sorted(found)]
    assert len(steps) == arguments.steps, sorted(found)
    ours = [sum(float(slot["loss_sum"]) for slot in slots) / sum(slot["supervised_tokens"] for slot in slots) for slots in steps]

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = prepare_model_for_kbit_training(quantized(arguments.model), use_gradient_checkpointing=False)
    model = PeftModel.from_pretrained(model, str(start / "adapter"), is_trainable=True)
    began = time.time()
    theirs = list(peft_losses(model, training, steps, lambda index: chat_row(tokenizer, *pairs[index], 256)))
    print(f"transformers + peft + bitsandbytes: {time.time() - began:.1f} s", flush=True)
    sys.exit(0 if compare(arguments.out, ours, theirs) else 1)


main()
