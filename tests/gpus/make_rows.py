"""Writes rows of random words, each one token of the models that ../peers/make_model.py makes, and their recipe.

usage: make_rows.py FOLDER MODEL_FOLDER [--rows N] [--tokens N]
"""

import argparse
import json
import os
import random

RECIPE = """\
model:
  base_model: {model}
  max_seq_length: {tokens}
lora:
  r: 16
  lora_alpha: 16
datasets:
  - path: rows.jsonl
    kind: text
training:
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 4
  num_train_epochs: 1
  learning_rate: 2.0e-4
  optim: adamw_8bit
  seed: 3407
  output_dir: outputs
resources:
  workers: {{min: 1, max: 64}}
"""

parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
parser.add_argument("folder")
parser.add_argument("model")
parser.add_argument("--rows", type=int, default=2048)
parser.add_argument("--tokens", type=int, default=2048)
arguments = parser.parse_args()
generator = random.Random(3407)
os.makedirs(arguments.folder, exist_ok=True)
with open(os.path.join(arguments.folder, "rows.jsonl"), "w") as rows:
    for _ in range(arguments.rows):
        # What a tokenizer puts around a text has room as well.
        words = (f"t{generator.randrange(4096)}" for _ in range(arguments.tokens - 2))
        rows.write(json.dumps({"text": " ".join(words)}) + "\n")
with open(os.path.join(arguments.folder, "recipe.yaml"), "w") as recipe:
    recipe.write(RECIPE.format(model=os.path.abspath(arguments.model), tokens=arguments.tokens))
