"""Times `weft export` to Q4_K_M against llama.cpp's quantizer, in Llama-3.2-1B's shape, on the same cores.

usage: speed.py OUT
"""

import os
import pathlib
import resource
import subprocess
import sys
import time

from quantizer import FILE_TYPES, quantize
from rows import row

OUT = pathlib.Path(sys.argv[1])
ADAPTER = OUT / "llama-1b" / "run" / "adapter"


def export(kind):
    """Seconds, and the largest resident set of any child so far, in GiB."""
    started = time.time()
    command = [os.environ["WEFT"], "export", ADAPTER, "--format", "gguf", "--quantization", kind, "--name", "llama", "--overwrite"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return time.time() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main():
    folder = ADAPTER.parent / "gguf"
    # What llama.cpp's users have before they quantize: the merged model in 16 bits. It is read from the disk's cache by both.
    export("bf16")
    source = OUT / "source.gguf"
    (folder / "llama-BF16.gguf").rename(source)
    ours, theirs = [], []
    for _ in range(3):
        started = time.time()
        quantize(source, OUT / "theirs.gguf", FILE_TYPES["Q4_K_M"])
        theirs.append(time.time() - started)
        seconds, resident = export("q4_k_m")
        ours.append(seconds)
    source.unlink()
    (OUT / "theirs.gguf").unlink()
    found, expected = min(ours), min(theirs)
    row(f"Q4_K_M of Llama-3.2-1B's shape on {os.cpu_count()} cores: seconds of weft (merge included) and of llama.cpp's quantizer",
        f"{found:.1f}, {expected:.1f} ({expected / found:.2f} x its speed)", ">= 0.8 x", expected / found >= 0.8)
    row("largest resident set of that export, GiB", f"{resident:.2f}", "< 2", resident < 2)


main()
