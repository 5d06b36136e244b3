"""Checks a finished run against transformers, peft and bitsandbytes.

usage: python3 check_run.py OUTPUT_DIR MODEL_DIR ROWS.jsonl [GENERATED.json] [--tolerance RELATIVE] [--max-tokens N]

ROWS.jsonl has a `question` and an `answer` a row, as in the quickstart.

1. PEFT loads `adapter/` on the base model, whose linears hold the same NF4 values as bitsandbytes makes them.
2. For each checkpoint, the ledger's loss of each slot of the next step is computed again in single precision: template,
   mask, packing, base, adapter and loss all have to agree. A run on a GPU computes in 16 bits: `--tolerance 0.01`.
3. GENERATED.json, a list of {"prompt", "text"} from `weft generate`, equals greedy decoding there.
"""

import argparse
import glob
import json
import os

from bases import DEVICE, in_f32  # before transformers: it says that there is no network

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from ledger import commits
from rows import chat_row


def row_loss(model, row):
    """Sum over the supervised tokens, and how many they are."""
    tokens = torch.tensor([row["tokens"]], device=DEVICE)
    with torch.no_grad():
        logits = model(tokens).logits[0].double()
    losses = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:], reduction="none")
    counted = torch.tensor(row["supervised"][1:], device=DEVICE)
    return losses[counted].sum().item(), int(counted.sum())


def check_losses(arguments, rows):
    of_step = commits(arguments.output)
    worst, slots = 0.0, 0
    for folder in sorted(glob.glob(f"{arguments.output}/checkpoints/*")):
        commit = of_step.get(int(os.path.basename(folder)))
        if commit is None:
            continue
        model = PeftModel.from_pretrained(in_f32(arguments.model), folder)
        for slot in commit["slots"]:
            loss, count = map(sum, zip(*(row_loss(model, rows(row)) for row in slot["rows"])))
            assert count == slot["supervised_tokens"], (count, slot)
            worst, slots = max(worst, abs(loss / float(slot["loss_sum"]) - 1)), slots + 1
    print(f"losses: {slots} slots, worst relative difference {worst:.2e}")
    assert slots and worst < arguments.tolerance


def check_generated(arguments, tokenizer):
    model = PeftModel.from_pretrained(in_f32(arguments.model), f"{arguments.output}/adapter")
    with open(arguments.generated) as file:
        cases = json.load(file)
    equal = 0
    for case in cases:
        prompt = [dict(role="user", content=case["prompt"])]
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"].to(DEVICE)
        made = model.generate(input_ids=ids, max_new_tokens=40, do_sample=False, pad_token_id=0)
        text = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        equal += text.strip() == case["text"].strip()
        if text.strip() != case["text"].strip():
            print("differs:", repr(case["text"]), "|", repr(text))
    print(f"greedy text: {equal} of {len(cases)} equal")
    assert equal == len(cases)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("generated", nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference of a slot's loss")
    parser.add_argument("--max-tokens", type=int, default=256, help="the recipe's model.max_seq_length")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    with open(arguments.rows) as file:
        pairs = [json.loads(line) for line in file]

    def row(index):
        return chat_row(tokenizer, pairs[index]["question"], pairs[index]["answer"], arguments.max_tokens)

    check_losses(arguments, row)
    if arguments.generated:
        check_generated(arguments, tokenizer)
    print("ok")


main()
