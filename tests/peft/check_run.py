"""Checks a finished quickstart run against transformers, peft and bitsandbytes.

usage: python3 check_run.py OUTPUT_DIR MODEL_DIR ROWS.jsonl [GENERATED.json]

1. PEFT loads `adapter/` on the base model, whose linears hold the same NF4 values as bitsandbytes makes them.
2. For each checkpoint, the ledger's loss of each slot of the next step is computed again: template, mask, packing,
   base, adapter and loss all have to agree.
3. GENERATED.json, a list of {"prompt", "text"} from `weft generate`, equals greedy decoding there.
"""

import glob
import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
import torch
from bitsandbytes import functional as F
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

out, model_dir, rows_file = sys.argv[1:4]
rows = [json.loads(line) for line in open(rows_file)]
tokenizer = AutoTokenizer.from_pretrained(model_dir)
device = "cuda" if torch.cuda.is_available() else "cpu"


def base():
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            packed, state = F.quantize_4bit(module.weight.data.to(device, torch.bfloat16), blocksize=64, quant_type="nf4", compress_statistics=True)
            module.weight.data = F.dequantize_4bit(packed, state).float().cpu()
    return model


def row_loss(model, row):
    messages = [dict(role="user", content=row["question"]), dict(role="assistant", content=row["answer"])]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    tokens, mask = encoded["input_ids"][:256], encoded["assistant_masks"][:256]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].double()
    losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]), reduction="none")
    return sum(loss.item() for loss, counted in zip(losses, mask[1:]) if counted), sum(mask[1:])


def check_losses():
    commits = {}
    for segment in sorted(glob.glob(f"{out}/ledger/*.jsonl")):
        for line in open(segment):
            entry = json.loads(line)["entry"]
            if "commit" in entry:
                commits[entry["commit"]["step"]] = entry["commit"]
    worst, slots = 0.0, 0
    for folder in sorted(glob.glob(f"{out}/checkpoints/*")):
        commit = commits.get(int(os.path.basename(folder)))
        if commit is None:
            continue
        model = PeftModel.from_pretrained(base(), folder)
        for slot in commit["slots"]:
            loss, count = map(sum, zip(*(row_loss(model, rows[row]) for row in slot["rows"])))
            assert count == slot["supervised_tokens"], (count, slot)
            worst, slots = max(worst, abs(loss / float(slot["loss_sum"]) - 1)), slots + 1
    print(f"losses: {slots} slots, worst relative difference {worst:.2e}")
    assert slots and worst < 1e-4


def check_generated(path):
    model = PeftModel.from_pretrained(base(), f"{out}/adapter")
    cases = json.load(open(path))
    equal = 0
    for case in cases:
        ids = tokenizer.apply_chat_template([dict(role="user", content=case["prompt"])], add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
        made = model.generate(input_ids=ids, max_new_tokens=40, do_sample=False, pad_token_id=0)
        text = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        equal += text.strip() == case["text"].strip()
        if text.strip() != case["text"].strip():
            print("differs:", repr(case["text"]), "|", repr(text))
    print(f"greedy text: {equal} of {len(cases)} equal")
    assert equal == len(cases)


check_losses()
if len(sys.argv) > 4:
    check_generated(sys.argv[4])
print("ok")
