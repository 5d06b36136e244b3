"""Questions and answers as chat rows: tokens, and which of them are supervised. Written against transformers alone."""

import csv


def read_csv(path, count, skip=0):
    """The first questions and answers of a file with these columns, after `skip`."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    return rows[skip : skip + count]


def messages(question, answer):
    return [dict(role="user", content=question), dict(role="assistant", content=answer)]


def chat_row(tokenizer, question, answer, max_tokens):
    """The conversation's tokens, cut at `max_tokens`; supervised are the answer and the token that ends its turn."""
    turns = messages(question, answer)
    prompt = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert whole.startswith(prompt), (prompt, whole)
    # What the template puts behind that token is not the answer's.
    end = whole.index(tokenizer.eos_token, len(prompt)) + len(tokenizer.eos_token)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    supervised = [len(prompt) <= first and last <= end for first, last in encoded["offset_mapping"]]
    return dict(tokens=encoded["input_ids"][:max_tokens], supervised=supervised[:max_tokens])
