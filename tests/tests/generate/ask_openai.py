"""Asks a server with OpenAI's own client, every way that the test looks at; prints one JSON object."""

import json
import sys

import openai

base_url, key = sys.argv[1:3]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=120)
model = client.models.list().data[0].id
question = dict(
    model=model,
    messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is anaemia?"}],
    temperature=0,
    max_tokens=12,
)
said = {"model": model, "retrieved": client.models.retrieve(model).id}

whole = client.chat.completions.create(**question)
said["chat"] = whole.choices[0].message.content
said["role"] = whole.choices[0].message.role
said["finish_reason"] = whole.choices[0].finish_reason
said["usage"] = whole.usage.model_dump()

chunks = list(client.chat.completions.create(**question, stream=True, stream_options={"include_usage": True}))
pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
said["streamed"] = "".join(pieces)
said["pieces"] = sum(1 for piece in pieces if piece)
said["streamed_usage"] = chunks[-1].usage.model_dump()
said["streamed_finish_reason"] = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1]

# The second word and what follows is cut off.
words = said["chat"].split()
said["stopped"] = client.chat.completions.create(**question, stop=[" " + words[1]]).choices[0].model_dump()

sampled = dict(model=model, prompt="Iron", max_tokens=8, temperature=1.0, top_p=0.9)
said["seeded"] = [client.completions.create(**sampled, seed=seed).choices[0].text for seed in (7, 7, 8)]
stream = client.completions.create(**sampled, seed=7, stream=True)
said["seeded_stream"] = "".join(chunk.choices[0].text for chunk in stream)

said["errors"] = {}
for name, change in {
    "n": dict(n=2),
    "temperature": dict(temperature=-1),
    "model": dict(model="another"),
    "too_long": dict(messages=[{"role": "user", "content": "iron " * 20000}]),
}.items():
    try:
        client.chat.completions.create(**{**question, **change})
    except openai.APIStatusError as error:
        said["errors"][name] = {"class": type(error).__name__, "status": error.status_code, "code": error.code,
            "param": error.param, "message": error.message}
try:
    openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0).models.list()
except openai.APIStatusError as error:
    said["errors"]["key"] = {"class": type(error).__name__, "status": error.status_code, "code": error.code}
print(json.dumps(said))
