"""Is the process of this container ready? `python -m penstock.common.probe`: 0, or 1 and why not."""

import json
import os
import sys
import urllib.error
import urllib.request

_TIMEOUT_S = 4.0


def why_not_ready(port: int) -> str | None:
    """None when the process on this port is ready, else its own reason."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return _reason(error.read()) or f"it answers {error.code}"
    except OSError as error:
        return f"it does not answer: {error}"


def _reason(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return None


def main() -> int:
    reason = why_not_ready(int(os.environ.get("PENSTOCK_PORT", "8080")))
    if reason is not None:
        sys.stderr.write(f"not ready: {reason}\n")
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
