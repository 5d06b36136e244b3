#!/usr/bin/env bash
# One epoch over 2000 medical rows, batch 2 x 4, random-weight Llama-3-8B: `weft run` beside Unsloth's trainer.
# usage: seed_job.sh WEFT_BINARY PEERS_DIR SITE_DIR DATA_DIR TOKENIZER_DIR OUT
#   DATA_DIR has medquad.csv and medical_meadow_wikidoc.csv, TOKENIZER_DIR Llama-3's tokenizer.json and tokenizer_config.json
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../gpu.sh"
[ $# -eq 6 ] || usage
weft=$(realpath "$1") peers=$(realpath "$2") site=$(realpath -m "$3") data=$(realpath "$4") tokenizer=$(realpath "$5") out=$(realpath -m "$6")

need_gpu measured
unpack_peers "$peers" "$site"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 "$peers/peers.py" make "$work/model" 1 1 1 1 8b
rm -f "$work/model/special_tokens_map.json"
cp "$tokenizer/tokenizer.json" "$tokenizer/tokenizer_config.json" "$work/model/"
cp "$data/medquad.csv" "$data/medical_meadow_wikidoc.csv" "$here/seed_job.yaml" "$work/"
cd "$work"

# Unsloth offloads and recomputes by default; weft keeps what fits. The second run is at Unsloth's setting.
for plan in auto unsloth; do
    "$weft" run seed_job.yaml --device cuda --output "$work/weft-$plan" --set lora.use_gradient_checkpointing=$plan >"$out/weft-$plan.log" 2>&1
    "$weft" audit "$work/weft-$plan" >"$out/audit-$plan.log" 2>&1
    cp "$work/weft-$plan/trainer_stats.json" "$out/weft-$plan.json"
done
PYTHONPATH="$site" OUT="$out" python3 "$peers/seedjob.py" "$work/model" 250 unsloth >"$out/unsloth.log" 2>&1

python3 - "$out" <<'PY'
import json, pathlib, re, sys

out = pathlib.Path(sys.argv[1])
peer = json.loads(re.findall(r"RESULT (\{.*\})", (out / "unsloth.log").read_text())[-1])
print(f"Unsloth: {peer['wall_s']:.1f} s for {peer['steps']} steps")
for plan in ("auto", "unsloth"):
    seconds = json.loads((out / f"weft-{plan}.json").read_text())[2]["train_runtime"]
    print(f"weft, {plan}: {seconds:.1f} s, {seconds / peer['wall_s']:.3f} of Unsloth's")
PY
