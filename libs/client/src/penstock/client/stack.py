"""Where the command finds its Penstock: options and environment first, then `.penstock/stack.json`."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from penstock.client.client import DEFAULT_URL
from penstock.client.errors import PenstockError


@dataclass(frozen=True, slots=True)
class Addresses:
    """`kafka` and `blobs` are known where the topic can be written directly."""

    api: str
    key: str | None
    kafka: str | None
    blobs: Path | None
    tenant: str


def find(home: Path | None = None) -> Addresses:
    """
    Raises:
        PenstockError: stack.json is there but cannot be read, or a variable cannot be meant so.
    """
    folder = home or Path(os.environ.get("PENSTOCK_HOME", ".penstock"))
    stack = _stack(folder / "stack.json")
    blobs = os.environ.get("PENSTOCK_BLOBS") or stack.get("blobs")
    api = os.environ.get("PENSTOCK_URL") or stack.get("api") or DEFAULT_URL
    if not api.startswith(("http://", "https://")):
        raise PenstockError(f"PENSTOCK_URL is {api!r}; write it as http://host:port")
    key = os.environ.get("PENSTOCK_KEY")
    if key and not (key.isascii() and key.isprintable()):
        raise PenstockError("PENSTOCK_KEY has characters that no key has; write pk_<id>_<secret>")
    return Addresses(
        api=api,
        key=key,
        kafka=os.environ.get("PENSTOCK_KAFKA") or stack.get("kafka"),
        blobs=Path(blobs) if blobs else None,
        tenant=os.environ.get("PENSTOCK_DEFAULT_TENANT", "default"),
    )


def _stack(path: Path) -> dict[str, str]:
    try:
        loaded = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PenstockError(f"{path} cannot be read ({error}); run `penstock up` again") from error
    return {name: value for name, value in loaded.items() if isinstance(value, str)}
