"""A local server of chat completions that fails as it is told."""

import contextlib
import http.server
import json
import threading


class Failing:
  """What the server does next, and what it was asked.

  Attributes:
    plan: prompt -> list of what its next posts get, each one of "ok", "empty",
      "nonsense", "null", "hang", "drip", "drop", a status, or (status, header value of
      Retry-After). Then, and for all others, `then`.
    say: prompt -> the verdict. posts: all prompts in order.
  """

  def __init__(self, say=lambda prompt: "Rating: 7", plan=None, then="ok"):
    self.say, self.plan, self.then = say, dict(plan or {}), then
    self.posts, self.bodies, self.headers = [], [], []
    self.url, self.lock, self.over = "", threading.Lock(), threading.Event()

  def next(self, prompt):
    with self.lock:
      waiting = self.plan.get(prompt, [])
      return waiting.pop(0) if waiting else self.then


def completion(text):
  usage = {"prompt_tokens": 3, "completion_tokens": 2}
  return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage})


@contextlib.contextmanager
def serving(failing):
  """Runs the server; `failing.url` is where."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
      pass

    def do_POST(self):  # noqa: N802
      body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      prompt = body["messages"][0]["content"]
      with failing.lock:
        failing.posts.append(prompt)
        failing.bodies.append(body)
        failing.headers.append(dict(self.headers))
      with contextlib.suppress(OSError):  # who asked may be gone
        self._answer(failing.next(prompt), prompt)

    def _answer(self, what, prompt):
      if what == "hang":
        failing.over.wait(30)
      elif what == "drop":
        self.close_connection = True
      elif what == "drip":
        self.send_response(200)
        self.end_headers()
        for _ in range(300):
          self.wfile.write(b" ")
          self.wfile.flush()
          if failing.over.wait(0.05):
            break
      elif isinstance(what, (int, tuple)):
        status, after = what if isinstance(what, tuple) else (what, None)
        self._send("no", status, after)
      else:
        bodies = {"empty": "", "nonsense": "<html>", "null": completion(None)}
        self._send(bodies.get(what, completion(failing.say(prompt))))

    def _send(self, text, status=200, after=None):
      raw = text.encode()
      self.send_response(status)
      if after is not None:
        self.send_header("Retry-After", after)
      self.send_header("Content-Length", str(len(raw)))
      self.end_headers()
      self.wfile.write(raw)

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  failing.url = f"http://127.0.0.1:{server.server_port}/v1"
  thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
  thread.start()
  try:
    yield failing
  finally:
    failing.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
