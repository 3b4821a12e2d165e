"""The API as the process that it is: started, spoken to, stopped by SIGTERM."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from penstock.local.ports import free_port
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected


async def test_it_starts_opens_for_the_operators_key_and_stops_in_order(
    servers: Servers, tmp_path: Path
) -> None:
    """Not open without a key. A stream that is followed and a request that waits do not hold up
    the stop, nor are they cut off: they end with what there is."""
    port, secret = free_port(), "k" * 40
    environment = os.environ | {
        "PENSTOCK_KAFKA": servers.kafka,
        "PENSTOCK_DATABASE": servers.dsns["api"],
        "PENSTOCK_SERVICE_SECRET": "s" * 32,
        "PENSTOCK_PORT": str(port),
        "PENSTOCK_BLOBS": str(tmp_path / "blobs"),
        "PENSTOCK_OPERATOR_KEY": f"pk_first_{secret}",
        "PENSTOCK_GRACE_S": "60",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "penstock.api.app", env=environment, stdout=output, stderr=output
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            await until_ready(client, log)
            assert (await client.get("/v1/jobs")).status_code == 401
            client.headers["authorization"] = f"Bearer pk_first_{secret}"
            made = await client.post("/v1/questions", json={"question": "q"})
            assert made.status_code == 202, made.text
            job = f"/v1/jobs/{made.json()['id']}"
            waiting = asyncio.create_task(
                client.get(job, headers={"Prefer": "wait=55"}, timeout=60), name="waiting"
            )
            async with client.stream("GET", f"{job}/events") as stream:
                assert stream.status_code == 200
                process.send_signal(signal.SIGTERM)
                assert b"end" not in await stream.aread()
            assert (await waiting).json()["state"] in ("accepted", "running")
            async with asyncio.timeout(15):
                await process.wait()
        assert process.returncode in (0, -signal.SIGTERM), log.read_text()
        assert b"service_failed" not in log.read_bytes()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_ready(client: httpx.AsyncClient, log: Path) -> None:
    async with asyncio.timeout(40):
        while True:
            with suppress(httpx.TransportError):  # not listening yet
                if (await client.get("/readyz")).status_code == 200:
                    return
            assert "service_failed" not in log.read_text()
            await asyncio.sleep(0.1)
