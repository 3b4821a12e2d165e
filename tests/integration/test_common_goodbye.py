"""Postgres says goodbye before it hangs up: what comes in between waits, and is no bug."""

from pathlib import Path

import pytest

from penstock.common.db import Database
from penstock.common.failures import TransientError
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
GOODBYE = b"E" + (len(_FIELDS) + 4).to_bytes(4) + _FIELDS
"""What a server that stops sends on an idle connection, before it closes it."""


async def test_a_connection_that_the_server_has_given_up_is_waited_for(
    servers: Servers, tmp_path: Path
) -> None:
    """Counted as a bug, three of these in a row would dead-letter a good record."""
    async with Database.open(
        servers.dsns["retrieve"], schema="retrieve", migrations=tmp_path, pool_size=1
    ) as database:
        async with database.transaction() as connection:
            protocol = connection._con._protocol
        protocol.data_received(GOODBYE)
        with pytest.raises(TransientError, match="Postgres ends the connection"):
            async with database.transaction():
                pytest.fail("a transaction began on a connection that is over")
        database.pool.terminate()
