import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Server:
    """A real HTTP server on this machine. The first part of a path says how it behaves: /ok, /500, /429, /302, /hang."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.release = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.codes: list[int] = []
        """Answers before the path decides, first come first served."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)})
                outer.arrived.release()
                how = self.path.split("/")[1]
                if how == "hang":
                    outer.release.wait(120)
                code = outer.codes.pop(0) if outer.codes else int(how) if how.isdigit() else 200
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", f"/ok{self.path}")
                said = f"you posted to {self.path}".encode()
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def do_GET(self) -> None:
                outer.got.append({"path": self.path, "method": "GET"})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:  # a client that gave up waiting
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Server()
    yield made
    made.close()


class Results:
    """What ``on_result`` was told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, bool, str]] = []
        self._changed = threading.Condition()

    def __call__(self, notifier: str, event: str, ok: bool, detail: str) -> None:
        with self._changed:
            self.all.append((notifier, event, ok, detail))
            self._changed.notify_all()

    def until(self, n: int, seconds: float = 60.0) -> list[tuple[str, str, bool, str]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= n, seconds), f"{len(self.all)} results, expected {n}: {self.all}"
            return list(self.all)


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def until() -> Callable[..., Any]:
    def wait(right: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := right()):
            assert time.monotonic() < deadline, f"not so within {seconds} s"
            time.sleep(0.01)
        return found

    return wait
