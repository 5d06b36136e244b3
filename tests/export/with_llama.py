"""llama.cpp, through llama-cpp-python (and tokenizers), on what check.sh exported.

usage: with_llama.py OUT
"""

import json
import math
import os
import pathlib
import random
import subprocess
import sys

import gguf
import llama_cpp
import numpy as np
from quantizer import FILE_TYPES, quantize
from rows import log, row

OUT = pathlib.Path(sys.argv[1])
RUN = OUT / "run"
HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = ["What are the symptoms of anaemia?", "Who was Ada Lovelace?", "Write a haiku about rain."]
LOUD = dict(verbose=False)


def model(path, **options):
    return llama_cpp.Llama(str(path), n_ctx=512, n_threads=int(os.environ.get("THREADS", os.cpu_count())), seed=1, **LOUD, **options)


def texts(count):
    """Questions and answers of the quickstart, and strings that tokenizers disagree about."""
    rows = [json.loads(line) for line in (HERE / "../../examples/quickstart/medical_qa.jsonl").read_text().splitlines()]
    plain = [text for row in rows for text in row.values() if isinstance(text, str)]
    rng = random.Random(3407)
    letters = "abcXYZ 0123456789 \n\t'’.,;:!?()[]{}<>|#@äéßñç日本語한국어русский🙂👩‍🔬\u00a0\u200b"
    odd = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 60))) for _ in range(count // 2)]
    odd[:8] = ["", " ", "  a", "\n\n\n", "I'll we've DON'T", "<|im_start|>user\nhi<|im_end|>\n", "1234567 12 3.14", "x = {y: [1,2]}  \n  end  "]
    rng.shuffle(plain)
    return (odd + plain)[:count]


def weft_generate(*arguments):
    """The answer's text."""
    command = [os.environ["WEFT"], "generate", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n")


def greedy(path, prompt, tokens, **options):
    """llama.cpp's likeliest tokens after the prompt as a user's turn."""
    llama = model(path, **options)
    text = f"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = llama.tokenize(text.encode(), add_bos=False, special=True)
    answer = []
    for token in llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        if len(answer) == tokens or llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(llama.model), token):
            break
        answer.append(token)
    return llama.detokenize(answer).decode(errors="replace")


def same_text():
    """weft's unmerged generation over NF4, and llama.cpp over the merge into the same NF4 values."""
    for file, tokens in (("trained-F32.gguf", 64), ("trained-F16.gguf", 32)):
        same = 0
        for prompt in PROMPTS:
            ours = weft_generate(RUN / "adapter", "--prompt", prompt, "--max-new-tokens", tokens)
            theirs = greedy(RUN / "trained" / file, prompt, tokens)
            same += ours.strip() == theirs.strip()
            log(f"{file}: weft {ours!r}\n{file}: llama.cpp {theirs!r}")
        row(f"greedy, {tokens} tokens: llama.cpp on {file} writes what weft writes unmerged", f"{same} of {len(PROMPTS)} prompts", f"{len(PROMPTS)}", same == len(PROMPTS))


def lora_adds_the_same():
    """The adapter's file over the model that the base was made of, which is the base but for bfloat16."""
    beside = greedy(os.environ["MODEL"], PROMPTS[0], 32, lora_path=str(RUN / "gguf-lora" / "smollm2-lora-F32.gguf"))
    without = greedy(os.environ["MODEL"], PROMPTS[0], 32)
    merged = greedy(RUN / "gguf" / "smollm2-F32.gguf", PROMPTS[0], 32)
    log(f"gguf-lora: {beside!r}\nmerged: {merged!r}\nbase: {without!r}")
    row("gguf-lora beside the base writes what the merged F32 file writes (32 tokens), and not what the base does", beside == merged, True, beside == merged != without)


def tokenization(name, tokenizer, file):
    import tokenizers

    ours = tokenizers.Tokenizer.from_file(str(tokenizer))
    llama = model(file, vocab_only=True)
    differing = []
    for text in texts(500):
        expected = ours.encode(text, add_special_tokens=False).ids
        found = llama.tokenize(text.encode(), add_bos=False, special=True)
        if found != expected:
            differing.append((text, expected, found))
    log(name, "differs on", differing[:3])
    row(f"tokenization of 500 strings by llama.cpp, {name}: differing from ours", len(differing), 0, not differing)


def perplexity(path, ids_of_rows):
    llama = model(path, logits_all=True)
    total, count = 0.0, 0
    for ids in ids_of_rows:
        llama.reset()
        llama.eval(ids)
        scores = llama.scores[: len(ids) - 1].astype(np.float64)
        top = scores.max(axis=1, keepdims=True)
        logs = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
        total += (logs - scores[np.arange(len(ids) - 1), ids[1:]]).sum()
        count += len(ids) - 1
    return math.exp(total / count)


def same_blocks(ours, theirs):
    """Tensors, and those among them whose type or bytes differ."""
    expected = {tensor.name: tensor for tensor in gguf.GGUFReader(theirs).tensors}
    found = gguf.GGUFReader(ours).tensors
    assert {tensor.name for tensor in found} == set(expected)
    differs = lambda t: t.tensor_type != expected[t.name].tensor_type or not np.array_equal(t.data, expected[t.name].data)
    return len(found), sum(map(differs, found))


def against_their_quantizer():
    llama = model(RUN / "gguf" / "smollm2-F16.gguf", vocab_only=True)
    rows = [llama.tokenize(text.encode(), add_bos=False)[:128] for text in texts(2000) if len(text) > 200][:50]
    theirs = OUT / "theirs.gguf"
    for name, file_type in FILE_TYPES.items():
        quantize(RUN / "gguf" / "smollm2-F32.gguf", theirs, file_type)
        ours = RUN / "gguf" / f"smollm2-{name}.gguf"
        tensors, differing = same_blocks(ours, theirs)
        row(f"{name}: tensors whose type or bytes are not those of llama.cpp's quantizer", f"{differing} of {tensors}", "0", differing == 0)
        found = perplexity(ours, rows)
        # The same tensors have the same perplexity.
        expected = perplexity(theirs, rows) if differing else found
        row(f"{name}: perplexity on {len(rows)} rows, against llama.cpp's quantizer", f"{found:.4f}, {expected:.4f}", "within 2 %", abs(found / expected - 1) < 0.02)
    theirs.unlink()


def main():
    log("llama.cpp", llama_cpp.__version__)
    for path in sorted((RUN / "gguf").glob("*.gguf")):
        text = greedy(path, PROMPTS[1], 8)
        row(f"llama.cpp loads {path.name} and goes on", repr(text), "text", bool(text.strip()))
    same_text()
    lora_adds_the_same()
    tokenization("SmolLM2", RUN / "adapter" / "tokenizer.json", RUN / "gguf" / "smollm2-F16.gguf")
    for kind in ("llama3", "llama2"):
        if (OUT / kind).exists():
            tokenization(kind, OUT / kind / "tokenizer.json", OUT / kind / "run" / "gguf" / f"{kind}-Q8_0.gguf")
    against_their_quantizer()


main()
