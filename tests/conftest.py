"""The real servers, started once per run for every test that is marked `connected`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from penstock.common.failures import TransientError
from penstock.local.stack import Servers
from penstock.local.stack import servers as start_servers
from penstock.models import ModelSettings, model_spec
from penstock.models.cache import model_files


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Kafka and Postgres with roles and topics, without services."""
    folder: Path = tmp_path_factory.mktemp("servers")
    async with start_servers(folder) as running:
        yield running


@pytest.fixture
async def fast_model() -> None:
    """The small embedding model's files, fetched where this machine has never had them."""
    try:
        await asyncio.to_thread(
            model_files, model_spec("all-minilm-l6-v2"), "int8", ModelSettings()
        )
    except TransientError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Tracebacks as text: the pretty ones cost a second each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
        cache_logger_on_first_use=False,
    )


@pytest.fixture(autouse=True)
def clean_context() -> Iterator[None]:
    """No test sees another's log context."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
