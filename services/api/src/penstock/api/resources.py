"""What requests share: opened once by the process, found by every route."""

from dataclasses import dataclass
from typing import cast

import httpx
from fastapi import Request

from penstock.api.deadletters import DeadLetterReader
from penstock.api.settings import ApiSettings
from penstock.api.signals import Signals
from penstock.common.blobs import BlobStore
from penstock.common.db import Database
from penstock.common.failures import TransientError
from penstock.common.kafka import Collections


@dataclass(frozen=True, slots=True)
class Resources:
    settings: ApiSettings
    database: Database
    signals: Signals
    blobs: BlobStore
    http: httpx.AsyncClient
    dead_letters: DeadLetterReader
    collections: Collections


def resources(request: Request) -> Resources:
    """
    Raises:
        TransientError: the process is still starting.
    """
    found = getattr(request.app.state, "resources", None)
    if found is None:
        raise TransientError("the API is starting; try again in a moment")
    return cast("Resources", found)
