#!/usr/bin/env bash
# weft beside Unsloth on one GPU: tokens per second and memory of both, and their ratios. README.md has the details.
# usage: side_by_side.sh WEFT_BINARY PEERS_DIR SITE_DIR OUT [--only PART]… [--steps N] [--models DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../gpu.sh"
[ $# -ge 4 ] || usage
weft=$(realpath "$1") peers=$(realpath "$2") site=$(realpath -m "$3") out=$(realpath -m "$4")
shift 4

need_gpu measured
unpack_peers "$peers" "$site"
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
exec python3 "$here/side_by_side.py" "$weft" "$peers" "$out" "$@"
