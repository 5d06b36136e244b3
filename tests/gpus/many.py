"""Many workers: the same bits, deaths, joins and speed. README.md has the details.

usage: many.py WEFT_BINARY RECIPE OUT [--device cuda|cpu] [--workers 1,2,…] [--deaths N] [--steps N]
               [--peers PEERS_PY --model MODEL] [PART]…
  PART is bits, death, join, speed, reduce; without any all of them run
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys

from cluster import Cluster

IN_REDUCE, AT_ANY_MOMENT = "in the all-reduce", "at any moment"
PARTS = ["bits", "death", "join", "speed", "reduce"]


class Setting:
    def __init__(self, arguments):
        self.weft, self.recipe, self.out = (os.path.abspath(path) for path in (
            arguments.weft, arguments.recipe, arguments.out))
        self.counts = arguments.workers
        self.most = max(self.counts)
        self.deaths, self.steps = arguments.deaths, arguments.steps
        self.gpus = gpus() if arguments.device == "cuda" else 0
        self.peers, self.model = arguments.peers, arguments.model
        self.rows = []

    def row(self, claim, figure, bar, reached):
        self.rows.append((claim, figure, bar, "reached" if reached else "FALLS SHORT"))
        print(f"{claim}: {figure} (bar {bar})", flush=True)


def file(path):
    if not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"{path} is no file")
    return path


def counts(text):
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) < len(parts) or min(numbers) < 1 or max(numbers) < 2:
        raise argparse.ArgumentTypeError(f"{text} are no numbers of workers, one of them above 1; write them as in 1,2,4")
    return numbers


def gpus():
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True)
    return len(listed.stdout.splitlines())


def used_memory(setting):
    """MiB in use on all GPUs; 0 without any."""
    if not setting.gpus:
        return 0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(int(line) for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())


def changes(setting, steps):
    """Micro-batches are cut for as many workers as there will be, so that all runs of a recipe have the same."""
    return [f"training.max_steps={steps}", "training.save_steps=1000000", f"resources.workers.max={setting.most}"]


def audit(setting, cluster):
    subprocess.run([setting.weft, "audit", cluster.output], check=True, stdout=subprocess.DEVNULL)


def bits(setting):
    """The same adapter with every number of workers, and with a worker killed and one joined on the way."""
    found = {}
    for count in setting.counts:
        with Cluster(setting, f"bits-{count}", count, changes(setting, setting.steps)) as cluster:
            found[f"{count} workers"] = cluster.finish()
            audit(setting, cluster)
    with Cluster(setting, "bits-disturbed", setting.most, changes(setting, setting.steps)) as cluster:
        cluster.wait_for_commit(setting.steps // 4)
        cluster.workers[0].kill()
        cluster.wait_for_commit(setting.steps // 2)
        cluster.come(place=0)
        found["one killed, one joined"] = cluster.finish()
        audit(setting, cluster)
    for how, digest in found.items():
        print(f"  {digest}  {how}")
    setting.row(f"adapters of {setting.steps} steps with {len(found)} ways to have workers",
                f"{len(set(found.values()))} SHA-256", "1", len(set(found.values())) == 1)


def death(setting):
    """Workers die in turn inside the all-reduce and at any other moment; the time until the next step is committed."""
    hows = [IN_REDUCE, AT_ANY_MOMENT]
    failpoints = {IN_REDUCE: "reducing@3:kill", AT_ANY_MOMENT: None}
    times = {how: [] for how in hows}
    before, place, at = used_memory(setting), setting.most - 1, 0
    with Cluster(setting, "death", setting.most, changes(setting, 100_000), start=place) as cluster:
        victim = cluster.come(place, failpoints[hows[0]])
        for number in range(setting.deaths):
            how = hows[number % 2]
            _, at = cluster.coordinator.wait_for(rf"epoch formed .*world={setting.most}\b", at)
            if how == AT_ANY_MOMENT:
                _, at = cluster.wait_for_next_commit(at)
                _, at = cluster.wait_for_next_commit(at + 1)
                died = cluster.workers[victim].kill()
            else:
                died, _ = cluster.workers[victim].wait_for("failpoint reached", within=300)
            _, at = cluster.coordinator.wait_for("member lost", at)
            again, at = cluster.wait_for_next_commit(at)
            times[how].append(again - died)
            victim = cluster.come(place, failpoints[hows[(number + 1) % 2]])
        steps = [record["step"] for record in cluster.records()]
    lost = steps != list(range(len(steps)))
    for how, seconds in times.items():
        if seconds:
            setting.row(f"killed {how}, {len(seconds)} times of {setting.most}: training again",
                        f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s", "3 s", max(seconds) <= 3)
    setting.row("steps committed twice or lost", "some" if lost else "none", "none", not lost)
    if setting.gpus:
        leaked = used_memory(setting) - before
        setting.row("GPU memory in use afterwards that was not before", f"{leaked} MiB", "64 MiB", leaked <= 64)


def gaps(cluster, first, last):
    commits = cluster.commits()
    return [commits[step + 1] - commits[step] for step in range(first, last) if step in commits and step + 1 in commits]


def join(setting):
    """One worker more enters a running job, which had lost one."""
    with Cluster(setting, "join", setting.most, changes(setting, 100_000)) as cluster:
        cluster.wait_for_commit(2)
        cluster.workers[-1].kill()
        _, at = cluster.coordinator.wait_for("member lost")
        for _ in range(8):
            _, at = cluster.wait_for_next_commit(at + 1)
        before = max(cluster.commits())
        usual = statistics.median(gaps(cluster, before - 6, before))
        cluster.come(place=setting.most - 1)
        _, at = cluster.coordinator.wait_for(rf"epoch formed .*world={setting.most}\b", at)
        for _ in range(3):
            _, at = cluster.wait_for_next_commit(at + 1)
        longest = max(gaps(cluster, before, max(cluster.commits())))
    pause = max(0.0, longest - usual)
    setting.row(f"a worker joins {setting.most - 1}: the others' longest step beyond the usual",
                f"{pause:.2f} s (usual step {usual:.2f} s)", "1 s", pause <= 1)


def speed(setting):
    """Steps of a batch that grows with the workers, and of one that stays."""
    for name, bar, grows in [("the batch grows", 0.98, True), ("the batch stays", 0.90, False)]:
        rates = {count: rate(setting, name, count, count if grows else setting.most) for count in setting.counts}
        one = min(rates)
        for count in setting.counts:
            if count > one:
                share = rates[count] / rates[one] / (count / one)
                setting.row(f"{name}: {count} workers over {count} x one", f"{share:.3f}", f"{bar}", share >= bar)
        if grows:
            ours = rates[setting.most]
    if setting.peers:
        recomputes = ["lora.use_gradient_checkpointing=unsloth"]
        alike = rate(setting, "recomputes and offloads", setting.most, setting.most, recomputes)
        theirs = unsloth(setting)
        for how, found in [("its default", ours), ("at Unsloth's setting", alike)]:
            setting.row(f"{setting.most} GPUs: weft, {how}, over Unsloth under DDP",
                        f"{found:.0f} / {theirs:.0f} = {found / theirs:.3f} tokens/s", "1.15", found >= 1.15 * theirs)


def accumulation(setting):
    """Micro-batches a step, as the recipe says."""
    with open(setting.recipe) as recipe:
        said = re.search(r"gradient_accumulation_steps:\s*(\d+)", recipe.read())
    if not said:
        raise RuntimeError(f"{setting.recipe} does not say training.gradient_accumulation_steps, which grows with the workers")
    return int(said[1])


def rate(setting, name, count, times, more=()):
    """Tokens a second, as the ledger counts them, in steps of `times` the recipe's batch."""
    folder = f"speed {name} {count}".replace(" ", "-")
    batch = f"training.gradient_accumulation_steps={times * accumulation(setting)}"
    with Cluster(setting, folder, count, [*changes(setting, setting.steps), batch, *more]) as cluster:
        cluster.finish(within=1200)
        step = statistics.median(gaps(cluster, 2, setting.steps))
        tokens = [sum(slot["tokens"] for slot in record["slots"]) for record in cluster.records()[3:]]
    print(f"  {name}, {count} workers, {times} x the batch: {step:.4f} s a step, {statistics.median(tokens) / step:.0f} tokens/s", flush=True)
    return statistics.median(tokens) / step


def unsloth(setting):
    """Its tokens a second on as many GPUs under DDP, two rows at a time, each GPU as many as one worker has of the recipe's batch."""
    peer = [setting.peers, "unsloth", setting.model, 2, accumulation(setting), 2048, 10, "unsloth"]
    run = subprocess.run(["torchrun", "--nproc_per_node", str(setting.most), *map(str, peer)],
                         stdout=subprocess.PIPE, text=True, check=True)
    result = next(line for line in run.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(result.removeprefix("RESULT "))["tok_s"]


def reduce(setting):
    """What the link does."""
    subprocess.run([setting.weft, "bench", "reduce", "--workers", str(max(2, setting.most)),
                    *(["--parameters", "1000000"] if not setting.gpus else [])], check=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("weft", type=file)
    parser.add_argument("recipe", type=file)
    parser.add_argument("out")
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=counts, default="1,2")
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peers")
    parser.add_argument("--model")
    arguments = parser.parse_intermixed_args()
    setting = Setting(arguments)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {' '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    failed = []
    for part in arguments.parts or PARTS:
        print(f"== {part}", flush=True)
        try:
            globals()[part](setting)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"{part} FAILED: {error}", flush=True)
            failed.append(part)
    print()
    for claim, figure, bar, reached in setting.rows:
        print(f"{reached:<12} {claim}: {figure} (bar {bar})")
    for part in failed:
        print(f"FAILED       {part}")
    sys.exit(1 if failed or any(row[3] != "reached" for row in setting.rows) else 0)


if __name__ == "__main__":
    main()
