"""Runs a peer's script, which draws tokens below 128000, on a model of a smaller vocabulary.

usage: with_vocabulary.py TOKENS PEERS.py ARGUMENTS…
"""

import runpy
import sys

import torch

limit, script = int(sys.argv[1]), sys.argv[2]
draw = torch.randint


def randint(low, high, *arguments, **options):
    return draw(low, min(high, limit), *arguments, **options)


torch.randint = randint
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
