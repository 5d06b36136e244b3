"""Tokens a second of weft and of llama-cpp-python on the same GGUF file and cores, one after the other, several times.

    python tests/generate/speed.py --weft target/release/weft --model MODEL.gguf [--threads 2] [--tokens 128] [--repeats 3]

Needs llama-cpp-python in the interpreter's environment. A file in another quantization is made one of q8_0 first with
--quantize, in a temporary folder. Besides the time it tells the processor's seconds a token, which depend less on what else
the machine does. Both write greedily from the same prompt; the first token's time is not counted.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

PROMPT = "Iron deficiency is a common cause of"


def weft(args, tokens):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [args.weft, "generate", args.model, "--device", "cpu", "--threads", str(args.threads), "--raw",
        "--prompt", PROMPT, "--max-new-tokens", str(tokens), "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return answer["completion_tokens"], answer["decode_seconds"], processor


LLAMA = """
import json, sys, time
import llama_cpp
model, threads, tokens, prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
llama = llama_cpp.Llama(model, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
ids = llama.tokenize(prompt.encode(), add_bos=True, special=False)
begin, count = None, 0
for token in llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
    count += 1
    if begin is None:
        begin = time.perf_counter()
    if count == tokens:
        break
print(json.dumps([count, time.perf_counter() - begin]))
"""


def llama(args, tokens):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", LLAMA, args.model, str(args.threads), str(tokens), PROMPT]
    count, seconds = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return count, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(run, args):
    """Tokens a second, and processor seconds a token: those of a long text less those of a short one."""
    count, seconds, processor = run(args, args.tokens)
    short, _, start = run(args, 2)
    return (count - 1) / seconds, (processor - start) / (count - short)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weft", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quantize", action="store_true", help="make a q8_0 file of the model first")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.quantize:
            import llama_cpp

            made = os.path.join(folder, "model.q8_0.gguf")
            options = llama_cpp.llama_model_quantize_default_params()
            options.ftype, options.allow_requantize = 7, True
            assert llama_cpp.llama_model_quantize(args.model.encode(), made.encode(), options) == 0
            args.model = made
        measured = {"weft": [], "llama-cpp-python": []}
        for _ in range(args.repeats):
            for name, run in [("weft", weft), ("llama-cpp-python", llama)]:
                measured[name].append(measure(run, args))
    best = {}
    for name, runs in measured.items():
        best[name] = max(rate for rate, _ in runs)
        processor = statistics.median(processor for _, processor in runs)
        rates = ", ".join(f"{rate:.1f}" for rate, _ in runs)
        print(f"{name:<18} {best[name]:7.1f} tokens/s (of {rates}), {1e3 * processor:.2f} ms of processor time a token")
    print(f"weft / llama-cpp-python: {best['weft'] / best['llama-cpp-python']:.2f}")


if __name__ == "__main__":
    main()
