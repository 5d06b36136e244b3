#!/usr/bin/env bash
# weft's CUDA engine against transformers + peft + bitsandbytes on one GPU. README.md has the details.
# usage: on_gpu.sh WEFT_BINARY CUDA_TEST_BINARY SITE_DIR DATA_DIR SMOLLM2_DIR OUT [PART]…
#   SITE_DIR has the Python packages that the machine's own Python lacks, DATA_DIR medquad.csv,
#   SMOLLM2_DIR the NF4 checkpoint that `models.py gguf` makes; `-` for either of the last two leaves out what needs it
#   PART is stack, smollm2, curve, run; without any all of them run
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../gpu.sh"
[ $# -ge 6 ] || usage
need_gpu compared
weft=$(realpath "$1") tests=$(realpath "$2") site=$(realpath "$3") data=$4 smollm2=$5 out=$(realpath -m "$6")
shift 6
parts=${*:-stack smollm2 curve run}
if [ "$smollm2" != - ]; then smollm2=$(realpath "$smollm2"); fi
if [ "$data" != - ]; then data=$(realpath "$data"); fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 WEFT_CACHE="$work/cache"
results=()

# step NAME COMMAND…: runs it, keeps what it says, and goes on where it fails.
step() {
    local name=$1 start=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    { "$@" 2>&1 | tee "$out/$name.log"; } || status=1
    results+=("$([ $status = 0 ] && echo passed || echo FAILED)  $name ($((SECONDS - start)) s)")
    return $status
}

# compare NAME FOLDER: the CUDA engine against a case.
compare() {
    step "$1" env WEFT_REQUIRE_GPU=1 WEFT_TEST_PEFT_CASE="$2" "$tests" --nocapture against_peft || true
}

stack() {
    step stack-model python3 "$here/models.py" llama-3.2-1b "$work/stack" || return 0
    step stack-reference python3 "$here/reference.py" "$work/stack" "$work/stack-case" || return 0
    compare stack "$here/../fixtures/golden/peft_case:$work/stack-case"
}

smollm2() {
    step smollm2-reference python3 "$here/reference.py" "$smollm2" "$work/smollm2-case" \
        --csv "$data/medquad.csv" --lengths 256,256,128,128 --b-std 0.01 || return 0
    compare smollm2 "$work/smollm2-case"
}

curve() {
    step curve python3 "$here/loss_curve.py" "$weft" "$smollm2" "$data/medquad.csv" "$out/curve" || true
    step curve-check python3 "$here/check_run.py" "$out/curve/run" "$smollm2" "$out/curve/rows.jsonl" --tolerance 0.01 || true
    step curve-audit "$weft" audit "$out/curve/run" || true
    # Checkpoints are large, and nothing more is read from them.
    rm -rf "$out/curve/run/checkpoints" "$out/curve/start" "$out/curve/cache"
}

run() {
    local example=$here/../../examples/quickstart
    step run "$weft" run "$example/recipe.yaml" --device cuda --workers 1 --output "$work/quickstart" || return 0
    step run-check python3 "$here/check_run.py" "$work/quickstart" "$example/model" "$example/medical_qa.jsonl" --tolerance 0.01 || true
}

for part in $parts; do
    case $part in
    stack | run) "$part" ;;
    smollm2 | curve)
        if [ "$smollm2" = - ] || [ "$data" = - ]; then
            results+=("NOT RUN: $part, for want of SMOLLM2_DIR or DATA_DIR")
        else
            "$part"
        fi
        ;;
    *)
        echo "there is no part $part; there are stack, smollm2, curve, run" >&2
        exit 2
        ;;
    esac
done

printf '\n%s\n' "${results[@]}" | tee "$out/results.txt"
! grep -q FAILED "$out/results.txt"
