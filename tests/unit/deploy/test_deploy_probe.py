"""The container's health check says what /readyz says, and why not."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from penstock.common.probe import why_not_ready


@contextmanager
def process_that_answers(status: int, body: bytes) -> Iterator[int]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_ready_process_is_healthy() -> None:
    with process_that_answers(200, b"{}") as port:
        assert why_not_ready(port) is None


def test_one_that_waits_says_for_what_and_one_that_is_gone_that_it_is() -> None:
    with process_that_answers(503, b'{"reason": "Postgres is not connected"}') as port:
        assert why_not_ready(port) == "Postgres is not connected"
    with process_that_answers(500, b"a bug") as port:
        assert why_not_ready(port) == "it answers 500"
    assert "does not answer" in str(why_not_ready(port))


def test_docker_is_told_by_the_exit_status_and_the_reason_is_in_its_log() -> None:
    with process_that_answers(503, b'{"reason": "starting or stopping"}') as port:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "penstock.common.probe"],
            env={"PENSTOCK_PORT": str(port)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "not ready: starting or stopping\n")
