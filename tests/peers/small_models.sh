#!/usr/bin/env bash
# A model of SmolLM2-135M's shape, 4 rows of 512 tokens a step: weft beside transformers, peft and bitsandbytes.
# usage: small_models.sh WEFT_BINARY PEERS_DIR SITE_DIR OUT [--steps N] [--models DIR]
set -euo pipefail
. "$(dirname "$0")/../gpu.sh"
[ $# -ge 4 ] || usage
# Launches dominate: more steps than elsewhere, for a steady median.
exec "$(dirname "$0")/side_by_side.sh" "$1" "$2" "$3" "$4" --only small --steps 40 "${@:5}"
