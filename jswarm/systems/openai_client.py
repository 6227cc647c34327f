"""Runs a found multi-LLM system against OpenAI-compatible servers. Python alone.

  python openai_client.py "a question" ["another one"]

Beside this file lie jswarm_system.json (who hears whom, in which words) and
endpoints.json (for each expert a `url` that ends in /v1, and the `model` it is there).
A key is read from OPENAI_API_KEY. As a library: `load(folder).answer(question)`.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import sys
import time
import urllib.error
import urllib.request

TRIES, PAUSE, TIMEOUT = 4, 1.0, 600.0  # of a call that fails; seconds
AGAIN = (408, 429, 500, 502, 503, 504)  # answers of a server that may change


class System:
  """A graph of experts; see `load`.

  Args:
    description: the content of jswarm_system.json.
    endpoints: {expert: {"url", "model"}}.
  """

  def __init__(self, description, endpoints):
    self.words, self.limit = description["wording"], description["limit"]
    self.chat, self.end = description["chat"], description["end"]
    self.serving = description.get("serving", {})
    self.endpoints = endpoints
    self.expert = {node["id"]: node["expert"] for node in description["nodes"]}
    self.heard = {node: [] for node in self.expert}
    for start, end in sorted(map(tuple, description["edges"])):
      self.heard[end].append(start)
    self.place = {node: k for k, node in enumerate(description["topological_order"])}
    depth = {node["id"]: node["depth"] for node in description["nodes"]}
    self.waves = [
      sorted(node for node in depth if depth[node] == d)
      for d in range(1 + max(depth.values()))
    ]

  def answer(self, question, chunks=None):
    """The system's answer; `chunks`: context, one piece a node, or none."""
    return self.trace(question, chunks)[self.end]

  def trace(self, question, chunks=None):
    """{node: what it said}; the nodes of a wave are asked at the same time."""
    said = {}
    with concurrent.futures.ThreadPoolExecutor(max(map(len, self.waves))) as threads:
      for wave in self.waves:
        prompts = [self.prompt(node, question, said, chunks) for node in wave]
        replies = threads.map(self.ask, [self.expert[node] for node in wave], prompts)
        said.update(zip(wave, replies))
    return said

  def prompt(self, node, question, said, chunks=None):
    """What a node is asked: instruction, context, what it hears, the question."""
    heard, words = [said[k] for k in self.heard[node]], self.words
    instruction = words["first"]
    if heard:
      instruction = words["last"] if node == self.end else words["middle"]
    by_place = words.get("chunks_by", "position") == "position"
    place = self.place[node] if by_place else node
    chunk = chunks[place % len(chunks)] if chunks else ""
    quoted = [
      fill(words["response"], k=str(k), reply=" ".join(reply.split("\n")))
      for k, reply in enumerate(heard, 1)
    ]
    lines = [instruction, chunk, *quoted, fill(words["question"], prompt=question)]
    return "\n".join(line for line in lines if line)

  def ask(self, expert, prompt):
    """One call: the reply of an expert."""
    where = self.endpoints[expert]
    body = {
      "model": where["model"],
      "max_tokens": self.limit,
      "temperature": self.serving.get("generation.temperature", 0.0),
      "top_p": self.serving.get("generation.top_p", 1.0),
      "seed": self.serving.get("seed", 0),
    }
    url = where["url"].rstrip("/")
    if not self.chat:
      answered = post(f"{url}/completions", {**body, "prompt": prompt})
      return answered["choices"][0]["text"]
    messages = [{"role": "user", "content": prompt}]
    answered = post(f"{url}/chat/completions", {**body, "messages": messages})
    return answered["choices"][0]["message"]["content"] or ""


def load(folder="."):
  """The system whose files lie in a folder."""
  folder = pathlib.Path(folder)
  read = lambda name: json.loads((folder / name).read_text("utf-8"))
  description = read("jswarm_system.json")
  if description.get("schema_version") != 1:
    raise ValueError(
      f"{folder}: schema_version {description.get('schema_version')!r}, this client"
      " reads 1: use the client that was exported with the system."
    )
  return System(description, read("endpoints.json"))


def fill(template, **values):
  """The template with {name} replaced; what a value brings is left as it is."""
  names = "|".join(map(re.escape, values))
  return re.sub("{(" + names + ")}", lambda found: values[found[1]], template)


def post(url, body):
  """The JSON that a server answers; it is asked again where that may help."""
  headers = {"Content-Type": "application/json"}
  if key := os.environ.get("OPENAI_API_KEY"):
    headers["Authorization"] = f"Bearer {key}"
  request = urllib.request.Request(url, json.dumps(body).encode(), headers)
  turn = 0
  while True:
    turn += 1
    try:
      with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return json.load(answer)
    except urllib.error.HTTPError as error:
      told = error.read().decode("utf-8", "replace")[:500]
      if error.code not in AGAIN or turn == TRIES:
        raise RuntimeError(f"{url} says {error.code}: {told}") from error
    except OSError as error:
      if turn == TRIES:
        raise RuntimeError(f"{url} cannot be asked: {error}") from error
    time.sleep(PAUSE * 2 ** (turn - 1))


def main():
  """Answers the questions of the command line, a line each."""
  system = load(pathlib.Path(__file__).parent)
  for question in sys.argv[1:]:
    sys.stdout.write(system.answer(question) + "\n")


if __name__ == "__main__":
  main()
