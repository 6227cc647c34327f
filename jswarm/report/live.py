"""The report of a run under way, on this machine alone: a thread beside the search.

GET / -> the page of now; GET /version -> changes when there is a newer one
"""

from collections.abc import Callable
import http.server
import os
import pathlib
import threading

from absl import logging

from jswarm.report import pages

HOST = "127.0.0.1"
_WATCHED = ("metrics.jsonl", "results.json", "progress.json", "ablations.json")


class Live:
  """A server of one page; `close` ends it.

  Args:
    folder: of the run. port: 0 takes any that is free.

  Raises:
    OSError: the port is in use, or may not be used.
  """

  def __init__(self, folder: str | os.PathLike, port: int):
    self._folder = pathlib.Path(folder)
    self._kept = ("", b"")  # version, page
    self._lock = threading.Lock()
    handler = _handler({"/": self.page, "/version": self.version})
    self._server = _Server((HOST, port), handler)
    self.address = f"http://{HOST}:{self._server.server_address[1]}/"
    threading.Thread(target=self._server.serve_forever, daemon=True).start()

  def page(self) -> bytes:
    """The page of now, made once a version; who is too early is told so."""
    with self._lock:
      version = self.version().decode()
      if version != self._kept[0]:
        try:
          text = pages.render(self._folder, live=True)
        except ValueError:
          text = (
            "<!DOCTYPE html><meta http-equiv=refresh content=3><p>Not begun yet.</p>"
          )
          version = ""
        self._kept = (version, text.encode("utf-8", "replace"))
      return self._kept[1]

  def version(self) -> bytes:
    """When a file that the page shows was last written."""
    times = []
    for name in _WATCHED:
      try:
        times.append(str((self._folder / name).stat().st_mtime_ns))
      except OSError:
        times.append("-")
    return " ".join(times).encode()

  def close(self) -> None:
    """Answers nobody any more."""
    self._server.shutdown()
    self._server.server_close()


def start(folder: str | os.PathLike, port: int) -> Live | None:
  """The server of a run; a port that cannot be used is a warning, and None."""
  try:
    live = Live(folder, port)
  except (OSError, OverflowError) as error:
    logging.warning(
      "--live=%s cannot be served (%s), the search goes on without: give another port,"
      " or 0 for any that is free.",
      port,
      error,
    )
    return None
  logging.warning("live report: %s", live.address)
  return live


class _Server(http.server.ThreadingHTTPServer):
  """Threads that end with the program, and no address of another server's."""

  daemon_threads = True
  allow_reuse_address = False


def _handler(routes: dict[str, Callable[[], bytes]]):
  class Handler(http.server.BaseHTTPRequestHandler):
    """Answers this machine alone: a page elsewhere may not read through its name."""

    def do_GET(self):  # noqa: N802, the name is the library's
      host = self.headers.get("Host", "").rpartition(":")[0]
      make = routes.get(self.path.partition("?")[0])
      if host not in (HOST, "localhost") or make is None:
        self.send_error(404)
        return
      body = make()
      self.send_response(200)
      kind = "html" if self.path.partition("?")[0] == "/" else "plain"
      self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
      self.send_header("Content-Length", str(len(body)))
      self.send_header("Cache-Control", "no-store")
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, format, *args):
      logging.debug(format, *args)

  return Handler
