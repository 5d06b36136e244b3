"""A coordinator and its workers as processes of their own, with what they say and when."""

import functools
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

STEP = re.compile(r"step committed step=(\d+)")
# Deaths on one host that the coordinator takes for chance.
FREE_DEATHS = 3
FORMED = re.compile(r"epoch formed .*world=(\d+)")


@functools.cache
def can_name_hosts():
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "--uts", "true"], stderr=subprocess.DEVNULL).returncode == 0


class Process:
    """A process whose lines are read as they come, and kept in the file `log`."""

    def __init__(self, command, log, environment=None):
        self.lines, self.seen, self.log = [], threading.Condition(), log
        self.process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with open(self.log, "w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                with self.seen:
                    self.lines.append((time.monotonic(), line.rstrip()))
                    self.seen.notify_all()
        with self.seen:
            self.lines.append((time.monotonic(), None))
            self.seen.notify_all()

    def wait_for(self, pattern, start=0, within=120.0):
        """The time and number of the first line from `start` on that has `pattern`."""
        end, at = time.monotonic() + within, start
        with self.seen:
            while True:
                for at in range(at, len(self.lines)):
                    moment, line = self.lines[at]
                    if line is None:
                        raise RuntimeError(f"ended before it said {pattern!r}:\n{self.tail()}")
                    if re.search(pattern, line):
                        return moment, at
                at = len(self.lines)
                left = end - time.monotonic()
                if left <= 0 or not self.seen.wait(left):
                    raise RuntimeError(f"did not say {pattern!r} in {within:.0f} s:\n{self.tail()}")

    def tail(self):
        return "\n".join(line for _, line in self.lines[-25:] if line)

    def kill(self):
        """As `kill -9` does; gives the moment."""
        moment = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        return moment

    def finish(self, within):
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"did not end in {within:.0f} s:\n{self.tail()}") from None
        if code != 0:
            raise RuntimeError(f"ended with {code}:\n{self.tail()}")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """One job. Every process ends with the `with` block."""

    def __init__(self, setting, name, workers, changes, start=None):
        self.setting, self.output = setting, os.path.join(setting.out, name)
        self.logs = os.path.join(setting.out, f"{name}.logs")
        os.makedirs(self.logs, exist_ok=True)
        options = [part for change in changes for part in ("--set", change)]
        self.coordinator = Process(
            [setting.weft, "coordinator", setting.recipe, "--listen", "127.0.0.1:0", "--workers", workers,
             "--output", self.output, "--overwrite", *options],
            os.path.join(self.logs, "coordinator.log"), {"WEFT_LOG": "info,weft_coordinator=debug"})
        self.workers = []
        _, at = self.coordinator.wait_for("listening on http://")
        self.url = self.coordinator.lines[at][1].split()[-1]
        for _ in range(workers if start is None else start):
            self.come()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self.workers, self.coordinator]:
            process.end()

    def come(self, place=None, failpoint=None):
        """Starts a worker, on the GPU that `place` has a turn at; its number."""
        place = len(self.workers) if place is None else place
        gpus = self.setting.gpus
        device = f"cuda:{place % gpus}" if gpus else "cpu"
        environment = {"WEFT_FAILPOINT": failpoint} if failpoint else {}
        threads = ["--threads", "1"] if not gpus else []
        number = len(self.workers)
        command = [self.setting.weft, "worker", "--coordinator", self.url, "--device", device, *threads]
        if self.setting.deaths > FREE_DEATHS and can_name_hosts():
            # A host whose workers die one after another is kept out for a while: each has a host name of its own. NCCL goes
            # by names too, and must not take them for machines apart.
            environment["NCCL_HOSTID"] = "one"
            command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', f"host-{number}", *command]
        self.workers.append(Process(command, os.path.join(self.logs, f"worker-{number}.log"),
                                    {"WEFT_LOG": "info,weft_worker::collective=debug", **environment}))
        return len(self.workers) - 1

    def commits(self):
        """When each step was committed, by step."""
        found = {}
        for moment, line in list(self.coordinator.lines):
            committed = STEP.search(line or "")
            if committed:
                found[int(committed[1])] = moment
        return found

    def wait_for_commit(self, step, within=600.0):
        return self.coordinator.wait_for(rf"step committed step={step}\b", within=within)

    def wait_for_next_commit(self, after, within=120.0):
        return self.coordinator.wait_for("step committed", after, within)

    def finish(self, within=600.0):
        self.coordinator.finish(within)
        return self.digest()

    def digest(self):
        """SHA-256 of the adapter."""
        with open(os.path.join(self.output, "adapter", "adapter_model.safetensors"), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def records(self):
        """The ledger's commits, in the order in which they were written."""
        found = []
        for segment in sorted(glob.glob(os.path.join(self.output, "ledger", "*.jsonl"))):
            with open(segment) as lines:
                found += [commit for line in lines if (commit := json.loads(line)["entry"].get("commit"))]
        return found
