"""Writes tests/fixtures/golden/ggml_blocks.safetensors: numbers, and the blocks that ggml's reference quantizers make of them.

usage: ggml_blocks.py LIBGGML_BASE OUT     LIBGGML_BASE is libggml-base.so, as the package llama-cpp-python installs it in llama_cpp/lib
"""

import ctypes
import sys

import numpy as np
from safetensors.numpy import save_file

KINDS = dict(q8_0=(8, 32, 34), q5_0=(6, 32, 22), q5_1=(7, 32, 24), q4_k=(12, 256, 144), q5_k=(13, 256, 176), q6_k=(14, 256, 210))


def numbers():
    """Super-blocks that look like weights, and those that do not: nothing, one number, one large number, tiny ones, steps."""
    rng = np.random.default_rng(3407)
    rows = [rng.normal(0, scale, 256) for scale in (1, 0.02, 0.02, 0.02, 1e-4, 30)]
    rows += [rng.normal(0.5, 0.02, 256), rng.normal(-0.5, 0.02, 256), rng.uniform(0.1, 1, 256), rng.standard_t(2, 256)]
    rows += [np.zeros(256), np.full(256, 0.3), np.full(256, -0.3), np.full(256, 1e-17), rng.normal(0, 1e-9, 256)]
    rows += [np.where(np.arange(256) == 100, 50.0, rng.normal(0, 0.01, 256))]
    rows += [np.repeat(rng.normal(0, 1, 8), 32), np.repeat(rng.normal(0, 1, 16), 16), np.repeat(10.0 ** np.arange(-8, 0), 32) * rng.normal(0, 1, 256)]
    rows += [np.round(rng.normal(0, 4, 256)) / 4, np.where(np.arange(256) < 128, 0, rng.normal(0, 1, 256))]
    rows += [rng.normal(0, 0.05, 256) for _ in range(40)]
    return np.stack(rows).astype(np.float32)


def main():
    library, out = sys.argv[1:]
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    values = numbers()
    tensors = dict(values=values)
    for name, (kind, elements, size) in KINDS.items():
        blocks = np.zeros(values.size // elements * size, np.uint8)
        written = ggml.ggml_quantize_chunk(kind, values.ctypes.data, blocks.ctypes.data, 0, *values.shape, None)
        assert written == blocks.size, (name, written, blocks.size)
        tensors[name] = blocks
    save_file(tensors, out)


main()
