#!/usr/bin/env bash
# What other programs make of weft's exports: a small real model is trained for a few steps and exported in every format; PEFT,
# transformers, bitsandbytes, gguf and llama.cpp load what comes out. Prints a table; fails where a row does.
#
# usage: tests/export/check.sh OUT [SPEED]     with SPEED, llama.cpp's quantizer is timed on a Llama of 1.2 billion parameters too
#
# WEFT          a release build of weft; else target/release/weft is built
# MODEL         SmolLM2-135M-Instruct as a GGUF file; else examples/smollm2/fetch.sh fetches it
# PYTHON        a Python with torch, transformers, peft, bitsandbytes, accelerate and gguf; else one is made in OUT
# THREADS       of llama.cpp; else as many as there are cores
# TOKENIZERS    a folder with llama3/ and llama2/, each with tokenizer.json and tokenizer_config.json; else they are left out
# LLAMA_PYTHON  a Python with llama-cpp-python, gguf and tokenizers; else one is made in OUT (its build takes ten minutes on two cores)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$1
speed=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# venv NAME PACKAGES...: a Python with these packages, made once.
venv() {
    local folder=$out/$1
    shift
    if [ ! -x "$folder/bin/python" ]; then
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet "$@" >&2
    fi
    echo "$folder/bin/python"
}

if [ -z "${WEFT:-}" ]; then
    cargo build --release --locked --manifest-path "$root/Cargo.toml"
    WEFT=$root/target/release/weft
fi
MODEL=${MODEL:-$("$root/examples/smollm2/fetch.sh")}
PYTHON=${PYTHON:-$(venv python torch transformers peft bitsandbytes accelerate gguf safetensors)}
LLAMA_PYTHON=${LLAMA_PYTHON:-$(venv llama llama-cpp-python numpy gguf tokenizers)}
export WEFT MODEL

[ -f "$out/base/config.json" ] || "$PYTHON" "$here/make.py" base "$MODEL" "$out/base"
if [ ! -f "$out/run/adapter/adapter_config.json" ]; then
    "$WEFT" run "$here/recipe.yaml" --set "model.base_model=$out/base" --output "$out/run" --overwrite
fi
adapter=$out/run/adapter
kinds=f32,f16,bf16,q8_0,q6_k,q5_k_m,q5_k_s,q4_k_m,q4_k_s
"$WEFT" export "$adapter" --format adapter,merged-16bit,merged-4bit --overwrite
"$WEFT" export "$adapter" --format gguf --quantization "$kinds" --name smollm2 --overwrite
"$WEFT" export "$adapter" --format gguf --quantization f32,f16 --name trained --merge-base nf4 --output "$out/run/trained" --overwrite
"$WEFT" export "$adapter" --format gguf-lora --quantization f32 --name smollm2 --overwrite
for kind in llama3 llama2; do
    [ -n "${TOKENIZERS:-}" ] || break
    [ -f "$out/$kind/config.json" ] || "$PYTHON" "$here/make.py" vocabulary "$TOKENIZERS/$kind" "$out/$kind"
    "$WEFT" export "$out/$kind/run/adapter" --format gguf --quantization q8_0 --name "$kind" --overwrite
done

: >"$out/rows.txt"
"$PYTHON" "$here/with_transformers.py" "$out" | tee -a "$out/rows.txt"
"$LLAMA_PYTHON" "$here/with_llama.py" "$out" | tee -a "$out/rows.txt"
if [ -n "$speed" ]; then
    [ -f "$out/llama-1b/config.json" ] || "$PYTHON" "$here/make.py" llama-3.2-1b "$out/base" "$out/llama-1b"
    "$LLAMA_PYTHON" "$here/speed.py" "$out" | tee -a "$out/rows.txt"
fi
echo
echo "| shown | found | demanded | |"
echo "| --- | --- | --- | --- |"
grep '^| ' "$out/rows.txt"
! grep -q 'FAILED' "$out/rows.txt"
