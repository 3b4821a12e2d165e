"""Settings of the ingest process."""

import os
from typing import Annotated

from pydantic import Field

from penstock.common.settings import BlobSettings, DatabaseSettings


class IngestSettings(DatabaseSettings, BlobSettings):
    parse_workers: Annotated[int, Field(ge=1)] = max(1, (os.cpu_count() or 2) - 1)
    parse_seconds: Annotated[int, Field(ge=1)] = 60
    """Longest a document may take to be read."""
    parse_memory_mib: Annotated[int, Field(ge=256)] = 2048
    """Most memory a parse worker may take."""
    uri_prefixes: str = ""
    """Comma-separated; a `uri` must lie below one: `file:///srv/docs/`, `https://wiki.example/`."""
