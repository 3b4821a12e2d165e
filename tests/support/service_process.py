"""A service as its own process, as an operator runs it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def service_process(
    log: Path, module: str, *arguments: str, settings: Mapping[str, str]
) -> AsyncIterator[Process]:
    """`python -m MODULE ARGUMENT…` with these settings, stopped by SIGTERM at the end.

    It must then end in order: by itself, or by the signal once all is closed.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env=os.environ | settings,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
        assert process.returncode in (0, -signal.SIGTERM), log.read_text()
        assert '"stopped"' in log.read_text(), log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
