#!/usr/bin/env bash
# weft beside Unsloth on one GPU: tokens per second and memory of both, and their ratios. README.md has the details.
# usage: side_by_side.sh WEFT_BINARY PEERS_DIR SITE_DIR OUT [--only PART]… [--steps N] [--models DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -lt 4 ]; then
    sed -n 's/^# //p' "$0" >&2
    exit 2
fi
weft=$(realpath "$1") peers=$(realpath "$2") site=$(realpath -m "$3") out=$(realpath -m "$4")
shift 4

if ! command -v nvidia-smi >/dev/null 2>&1 || ! nvidia-smi --query-gpu=name --format=csv,noheader; then
    echo "NOT RUN: THERE IS NO GPU HERE. Nothing was measured." >&2
    exit 3
fi
# The peers' packages, packed by prepare.sh.
if [ ! -d "$site/bitsandbytes" ]; then
    mkdir -p "$site"
    tar xJf "$peers/site.tar.xz" -C "$site"
fi
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
exec python3 "$here/side_by_side.py" "$weft" "$peers" "$out" "$@"
