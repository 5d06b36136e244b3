#!/usr/bin/env bash
# compute-sanitizer over the tests of the CUDA kernels, which use small shapes.
# usage: sanitizer.sh CUDA_TEST_BINARY OUT [TOOL]…
#   TOOL is memcheck, racecheck, synccheck or initcheck; without any the first three run
#   FILTER in the environment chooses tests, SECONDS_EACH limits a tool's time (240)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../gpu.sh"
[ $# -ge 2 ] || usage
need_gpu checked
tests=$(realpath "$1") out=$(realpath -m "$2")
shift 2
tools=${*:-memcheck racecheck synccheck}
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -1 || true)
if [ -z "$sanitizer" ]; then
    echo "NOT RUN: compute-sanitizer is neither in PATH nor in /usr/local/cuda*/bin; it comes with CUDA's toolkit" >&2
    exit 3
fi
mkdir -p "$out"
export WEFT_REQUIRE_GPU=1 WEFT_TEST_PEFT_CASE="$here/../fixtures/golden/peft_case"
failed=0
# Compiles the kernels, so that no tool's time goes into it.
"$tests" --test-threads 1 ${FILTER:+"$FILTER"} >"$out/plain.log" 2>&1 || {
    tail -20 "$out/plain.log"
    echo "the tests fail without a tool already" >&2
    exit 1
}
for tool in $tools; do
    start=$SECONDS status=0
    timeout "${SECONDS_EACH:-240}" "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20 \
        "$tests" --test-threads 1 ${FILTER:+"$FILTER"} >"$out/$tool.log" 2>&1 || status=$?
    case $status in
    0) said=clean ;;
    124) said="NOT FINISHED in ${SECONDS_EACH:-240} s" ;;
    *) said="FAILED with $status" ;;
    esac
    echo "$tool: $said, $(grep -c '^test .* ok$' "$out/$tool.log" || true) tests, $((SECONDS - start)) s; $(grep -E '(ERROR|RACECHECK) SUMMARY' "$out/$tool.log" | tail -1)"
    if [ $status != 0 ]; then
        failed=1
        grep -m 10 -A 12 '^=========.*\(Invalid\|Error\|Race\|hazard\|Uninit\|Barrier\)' "$out/$tool.log" || tail -20 "$out/$tool.log"
    fi
done
exit $failed
