"""What `weft run` left in its output folder."""

import glob
import json


def commits(output):
    """The ledger's record of each step, by step: its slots' rows, supervised tokens and losses."""
    found = {}
    for segment in sorted(glob.glob(f"{output}/ledger/*.jsonl")):
        with open(segment) as lines:
            for line in lines:
                commit = json.loads(line)["entry"].get("commit")
                if commit is not None:
                    found[commit["step"]] = commit
    return found
