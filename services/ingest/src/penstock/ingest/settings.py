"""Settings of the ingest process."""

import os

from pydantic import Field

from penstock.common.settings import BlobSettings, DatabaseSettings


def _all_cores_but_one() -> int:
    return max(1, (os.cpu_count() or 2) - 1)


class IngestSettings(DatabaseSettings, BlobSettings):
    parse_workers: int = Field(default_factory=_all_cores_but_one, ge=1)
    """Processes that read documents; all cores but one."""
    parse_seconds: int = Field(default=60, ge=1)
    """Longest a document may take to be read."""
    parse_memory_mib: int = Field(default=2048, ge=256)
    """Most memory a parse worker may take."""
    uri_prefixes: str = ""
    """Comma-separated; a `uri` must lie below one: `file:///srv/docs/`, `https://wiki.example/`."""
