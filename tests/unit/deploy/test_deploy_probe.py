"""The container's health check says what /readyz says, and why not."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


@contextmanager
def process_that_answers(status: int, body: bytes) -> Iterator[int]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def probe(port: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "penstock.common.probe"],
        env={"PENSTOCK_PORT": str(port)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_ready_process_is_healthy() -> None:
    with process_that_answers(200, b"{}") as port:
        assert probe(port) == (0, "")


def test_one_that_waits_says_for_what_and_one_that_is_gone_that_it_is() -> None:
    with process_that_answers(503, b'{"reason": "Postgres is not connected"}') as port:
        assert probe(port) == (1, "not ready: Postgres is not connected\n")
    code, words = probe(port)
    assert code == 1
    assert "does not answer" in words
