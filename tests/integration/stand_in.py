"""Started in the place of a service: says what it was given, and that it is ready."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the log is what the tests read."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdout.write(f"{sys.argv[1]}={os.environ.get(sys.argv[1])}\n")
    sys.stdout.flush()
    HTTPServer(("127.0.0.1", int(os.environ["PENSTOCK_PORT"])), Ready).serve_forever()
