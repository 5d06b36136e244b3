"""weft and its peers on one GPU, one after another, in one go; started by side_by_side.sh and small_models.sh.

usage: side_by_side.py WEFT PEERS_DIR OUT [--only PART]… [--models DIR] [--steps N]

Each part is one or more runs of a peer and of `weft bench step` at the same setting: random weights, rank 16 on the seven
linears, AdamW in 8 bits, every token supervised. Both get the same driver's count of memory (gpu_memory.py). The table comes
last; OUT gets table.md, results.json and a log of each run.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from gpu_memory import Gpu, Sampler

HERE = pathlib.Path(__file__).resolve().parent
RUN_SECONDS = 240
# What a part is compared at: model, micro-batch × accumulation × tokens of a row.
SHAPE_8B = ("llama-3-8b", 2, 4, 2048)


@dataclasses.dataclass(frozen=True)
class Part:
    """One line of the table."""

    setting: str
    shape: tuple
    peer: tuple  # the peer and its checkpointing
    weft: tuple  # options of `weft bench step`


PARTS = {
    "recompute": Part("recompute and offload", SHAPE_8B, ("unsloth", "unsloth"), ("--checkpointing", "unsloth")),
    "keep": Part("keep activations", SHAPE_8B, ("unsloth", "false"), ("--checkpointing", "false")),
    "default": Part("each one's default", SHAPE_8B, ("unsloth", "unsloth"), ("--checkpointing", "auto")),
    "lowest": Part("weft within 6.2 GiB", SHAPE_8B, ("unsloth", "unsloth"), ("--checkpointing", "auto", "--memory-limit", "6.2GiB")),
    "small": Part("SmolLM2-135M", ("smollm2-135m", 4, 1, 512), ("hf", "false"), ("--checkpointing", "auto")),
    "1b": Part("Llama-3.2-1B", ("llama-3.2-1b", 2, 4, 2048), ("unsloth", "false"), ("--checkpointing", "false")),
    "3b": Part("Llama-3.2-3B", ("llama-3.2-3b", 2, 4, 2048), ("unsloth", "false"), ("--checkpointing", "false")),
    "mistral": Part("Mistral-7B", ("mistral-7b", 2, 4, 2048), ("unsloth", "false"), ("--checkpointing", "false")),
    "gemma": Part("Gemma-1.1-7B", ("gemma-1.1-7b", 2, 4, 2048), ("unsloth", "false"), ("--checkpointing", "false")),
    "long": Part("rows of 8192", ("llama-3-8b", 1, 8, 8192), ("unsloth", "unsloth"), ("--checkpointing", "unsloth")),
}
# In this order the peer's result is there before weft is compared with it again.
DEFAULT_PARTS = ["recompute", "default", "lowest", "keep"]
# peers.py makes these; the others are made here, and its tokens kept below their vocabulary.
MADE_BY_PEERS = {"llama-3-8b": "8b", "llama-3.2-3b": "3b", "llama-3.2-1b": "1b"}
VOCABULARY = {"smollm2-135m": 49152, "mistral-7b": 32768, "gemma-1.1-7b": 256000}


class Host:
    """Runs commands one at a time and keeps what they say."""

    def __init__(self, arguments):
        self.weft = arguments.weft.resolve()
        self.peers = arguments.peers.resolve()
        self.out = arguments.out.resolve()
        # Also where commands run: some leave caches in the current folder.
        self.models = arguments.models.resolve()
        self.steps = arguments.steps
        self.gpu = Gpu()
        self.done = {}

    def run(self, name, command):
        """Standard output, peak bytes and wall seconds; a run that fails or takes too long gives no output."""
        print(f"== {name}: {' '.join(map(str, command))}", flush=True)
        start = time.time()
        with open(self.out / f"{name}.log", "w") as log, Sampler(self.gpu) as memory:
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=RUN_SECONDS, text=True, cwd=self.models)
                status, text = done.returncode, done.stdout
            except subprocess.TimeoutExpired:
                status, text = f"no end after {RUN_SECONDS} s", ""
            log.write(text)
        seconds = round(time.time() - start, 1)
        print(f"   {seconds} s, peak {gib(memory.peak_bytes):.3f} GiB", flush=True)
        if status != 0:
            tail = (self.out / f"{name}.log").read_text().splitlines()[-15:]
            print("   FAILED:", status, *tail, sep="\n   | ", flush=True)
            return None, memory.peak_bytes, seconds
        return text, memory.peak_bytes, seconds

    def model(self, name):
        """A folder with the model's random weights, made once."""
        folder = self.models / name
        if not (folder / "config.json").exists():
            if name in MADE_BY_PEERS:
                command = [sys.executable, self.peers / "peers.py", "make", folder, 1, 1, 1, 1, MADE_BY_PEERS[name]]
            else:
                command = [sys.executable, HERE / "make_model.py", folder, name]
            self.run(f"make-{name}", [str(word) for word in command])
        return folder

    def peer(self, part):
        model, rows, accumulation, tokens = part.shape
        peer, checkpointing = part.peer
        name = f"{peer}-{checkpointing}-{model}-{rows}x{accumulation}x{tokens}"
        if name not in self.done:
            script = [self.peers / "peers.py"]
            if model in VOCABULARY:
                script = [HERE / "with_vocabulary.py", VOCABULARY[model], *script]
            folder = self.model(model)
            # It leaves two steps out of its median.
            command = [sys.executable, *script, peer, folder, rows, accumulation, tokens, self.steps + 2, checkpointing]
            text, peak, seconds = self.run(name, [str(word) for word in command])
            result = {"run": name, "peak_bytes": peak, "wall_seconds": seconds}
            for line in (text or "").splitlines():
                if line.startswith("RESULT "):
                    result["result"] = json.loads(line.removeprefix("RESULT "))
                    result["tokens_per_second"] = result["result"]["tok_s"]
            self.done[name] = result
        return self.done[name]

    def own(self, key, part):
        model, rows, accumulation, tokens = part.shape
        name = f"weft-{key}-{model}-{rows}x{accumulation}x{tokens}"
        command = [
            self.weft, "bench", "step", "--json", "--device", "cuda:0", "--random-weights", "--model", model,
            "--micro-batch", rows, "--accum", accumulation, "--seq", tokens, "--steps", self.steps, "--warmup", 2, *part.weft,
        ]
        text, peak, seconds = self.run(name, [str(word) for word in command])
        result = {"run": name, "peak_bytes": peak, "wall_seconds": seconds}
        if text:
            result["result"] = json.loads(text)
            result["tokens_per_second"] = result["result"]["tokens_per_second"]["median"]
        self.done[name] = result
        return result


def gib(size):
    return size / 2**30


def row(part, peer, weft):
    """A line of the table; a run that failed leaves dashes."""
    speeds = [run.get("tokens_per_second") for run in (weft, peer)]
    model, rows, accumulation, tokens = part.shape
    both = all(speeds)
    cells = [
        part.setting,
        f"{model}, {rows}x{accumulation}x{tokens}",
        " ".join(part.peer),
        *(f"{speed:,.0f}" if speed else "-" for speed in speeds),
        f"{speeds[0] / speeds[1]:.3f}" if both else "-",
        *(f"{gib(run['peak_bytes']):.3f}" if speed else "-" for run, speed in zip((weft, peer), speeds)),
        f"{weft['peak_bytes'] / peer['peak_bytes']:.3f}" if both else "-",
        f"{weft['result']['floor_share']:.3f}" if speeds[0] else "-",
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft", type=pathlib.Path)
    parser.add_argument("peers", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be given several times")
    models = pathlib.Path(tempfile.gettempdir()) / "weft-peers-models"
    parser.add_argument("--models", type=pathlib.Path, default=models, help="where weights are made, once")
    parser.add_argument("--steps", type=int, default=8, help="steps that count")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.models.mkdir(parents=True, exist_ok=True)
    host = Host(arguments)
    gpu = host.gpu.name()
    table = [
        f"{gpu}; tokens per second are medians of {host.steps} steps; GiB are the driver's count at its highest over the whole run,",
        "context and loading included, less what was in use before.",
        "",
        "| setting | shape | peer | weft tok/s | peer tok/s | ratio | weft GiB | peer GiB | ratio | weft's share of its floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    whole = True
    for key in arguments.only or DEFAULT_PARTS:
        part = PARTS[key]
        peer = host.peer(part)
        weft = host.own(key, part)
        whole = whole and "result" in peer and "result" in weft
        table.append(row(part, peer, weft))
        # What is there survives whatever ends this.
        (host.out / "table.md").write_text("\n".join(table) + "\n")
        (host.out / "results.json").write_text(json.dumps({"gpu": gpu, "runs": list(host.done.values())}, indent=1))
    print("\n".join(["", *table]), flush=True)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
