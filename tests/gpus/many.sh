#!/usr/bin/env bash
# Many workers: the same bits, deaths, joins and speed, on GPUs or on the CPU. README.md has the details.
# usage: many.sh WEFT_BINARY RECIPE OUT [--device cuda|cpu] [--workers 1,2,…] [--deaths N] [--steps N]
#          [--peers PEERS_PY --model MODEL] [PART]…
#   PART is bits, death, join, speed, reduce; without any all of them run
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../gpu.sh"
[ $# -ge 3 ] || usage
case " $* " in
*" --device cpu "*) ;;
*) need_gpu measured ;;
esac
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/many.py" "$@"
