"""The client in plain Python asks what the library asks, over HTTP."""

import dataclasses
import http.server
import itertools
import json
import threading

import numpy as np
import pytest

from jswarm.graphs import dag
from jswarm.systems import openai_client, prompts, waves
from jswarm.systems import system as system_lib
from jswarm.wiring import config as config_lib
from tests import fakes

NAMES = ("ada", "bea", "cyd", "dov")
EDGES = np.zeros((4, 4), int)
EDGES[3, 1] = EDGES[0, 1] = EDGES[3, 2] = EDGES[1, 2] = 1
JOB = system_lib.make_job(dag.from_edges(EDGES, 2))


def _say(expert, prompt):
  """Depends on all that is asked, and has what prompts must not stumble over."""
  return f"{expert}{{k}}\n{sum(prompt.encode()) % 997} {len(prompt)}"


@pytest.fixture
def server():
  """(its address, what it was asked); it says 503 once before it answers."""
  asked, tries = [], itertools.count()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802
      body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      if next(tries) == 0:
        self.send_error(503)
        return
      asked.append((self.path, body, self.headers["Authorization"]))
      prompt = body.get("prompt") or body["messages"][0]["content"]
      if prompt.endswith("refuse"):
        self.send_error(400, "no such model")
        return
      text = _say(int(body["model"][-1]), prompt)
      said = {"text": text, "message": {"content": text}}
      self.send_response(200)
      self.end_headers()
      self.wfile.write(json.dumps({"choices": [said]}).encode())

    def log_message(self, *args):
      pass

  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  threading.Thread(target=running.serve_forever, daemon=True).start()
  yield f"http://127.0.0.1:{running.server_address[1]}/v1/", asked
  running.shutdown()
  running.server_close()


def _description(chat=False, **wording):
  words = dataclasses.replace(config_lib.resolve_default({}).wording, **wording)
  order = [int(n) for n in np.argsort(JOB.position)]
  return words, {
    "schema_version": 1,
    "nodes": [{"id": n, "expert": NAMES[n], "depth": int(JOB.depth[n])} for n in order],
    "edges": [[int(i), int(j)] for i, j in np.argwhere(JOB.edges)],
    "topological_order": order,
    "end": JOB.end,
    "wording": dataclasses.asdict(words),
    "limit": 7,
    "chat": chat,
    "serving": {"seed": 3},
  }


def _client(address, description):
  ends = {n: {"url": address, "model": f"{n}-{k}"} for k, n in enumerate(NAMES)}
  return openai_client.System(description, ends)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
  monkeypatch.setattr(openai_client, "PAUSE", 0.01)


@pytest.mark.parametrize("chunks", [None, ("one", "two", "three")])
@pytest.mark.parametrize("chunks_by", ["position", "node"])
def test_the_client_answers_as_the_library_does(server, chunks, chunks_by):
  address, _ = server
  words, description = _description(chunks_by=chunks_by)
  experts, _ = fakes.dictionary(_say, NAMES)
  question = prompts.Question("What is {reply}\nor {prompt}?", chunks)
  terms = prompts.Terms(experts, words, 7, False)
  (expected,) = waves.run([waves.Item(JOB, question)], terms, waves.direct(experts))
  said = _client(address, description).trace(question.prompt, chunks)
  assert said == expected.by_node
  assert said[JOB.end] == expected.reply


def test_plain_prompts_and_chats_go_where_they_belong(server, monkeypatch):
  address, asked = server
  monkeypatch.setenv("OPENAI_API_KEY", "secret")
  for chat in (False, True):
    _client(address, _description(chat)[1]).answer("Why?")
  paths = {path for path, *_ in asked}
  assert paths == {"/v1/completions", "/v1/chat/completions"}
  _, body, key = asked[0]
  assert key == "Bearer secret"
  assert (body["max_tokens"], body["temperature"], body["seed"]) == (7, 0.0, 3)


def test_a_server_that_refuses_is_quoted_and_one_that_is_away_is_named(server):
  address, _ = server
  _, description = _description(question="{prompt}")
  client = _client(address, description)
  with pytest.raises(RuntimeError, match=r"completions says 400: (.|\n)*no such model"):
    client.answer("refuse")
  gone = _client("http://127.0.0.1:9/v1", description)
  with pytest.raises(RuntimeError, match="127.0.0.1:9/v1/completions cannot be asked"):
    gone.answer("Why?")


def test_a_system_of_another_schema_is_refused(tmp_path):
  (tmp_path / "jswarm_system.json").write_text('{"schema_version": 9}')
  with pytest.raises(ValueError, match="schema_version 9, this client reads 1"):
    openai_client.load(tmp_path)
