"""The shell of every process: HTTP for health and doors, the stage behind it, an orderly stop."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from penstock.common import logging
from penstock.common.consumer import Stage
from penstock.common.http import JSON
from penstock.common.privacy import close_to_neighbours
from penstock.common.settings import ServiceSettings

log = structlog.get_logger()


class Service:
    """One process.

    Args:
        stage: its place in the pipeline, if it has one, or several that start and stop together.
        routes: its doors beside health and metrics.
        resources: opened before the stage starts, closed after it has drained.
        ready: None when it can work, else the reason; asked by `/readyz`.
        stopping: called when a stop begins, to end the requests that would go on for long.

    A process without doors is not ready while records wait for a dependency: a rollout that cannot
    reach it stops. One with doors goes on serving what it can.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        stage: Stage | Sequence[Stage] = (),
        routes: Sequence[BaseRoute] = (),
        resources: Callable[[], AbstractAsyncContextManager[None]] | None = None,
        ready: Callable[[], Awaitable[str | None]] | None = None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._stages = (stage,) if isinstance(stage, Stage) else tuple(stage)
        self._resources = resources
        self._ready = ready
        self.stopping = stopping
        self._has_doors = bool(routes)
        self._started = False
        self.failed = False
        self.on_failure: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None
        self.app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", _metrics),
                *routes,
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """HTTP answers from the first moment; the rest comes up behind it."""
        stop = asyncio.Event()
        life = asyncio.create_task(self._live(stop), name=self.name)
        life.add_done_callback(self._ended)
        try:
            yield
        finally:
            stop.set()
            if not self._started:
                life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            if not self.failed:
                log.info("stopped")  # in order, be it in the middle of the start

    async def _live(self, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            if self._resources is not None:
                await stack.enter_async_context(self._resources())
            for stage in self._stages:
                stack.push_async_callback(stage.drain)
                await stage.start()
            self.on_start()
            self._started = True
            log.info("started")
            await stop.wait()
        self._started = False

    def _ended(self, life: "asyncio.Task[None]") -> None:
        """A process that cannot come up, or not stop in order, ends with an error."""
        if not life.cancelled() and (error := life.exception()) is not None:
            log.error("service_failed", exc_info=error)
            self.failed = True
            self.on_failure()

    async def why_not_ready(self) -> str | None:
        if not self._started:
            return "starting or stopping"
        for stage in self._stages:
            if reason := stage.why_not_ready():
                return reason
        if self._ready is not None and (reason := await self._ready()):
            return reason
        return None if self._has_doors else self._waits_for()

    def _waits_for(self) -> str | None:
        return next(filter(None, (stage.waits.longest() for stage in self._stages)), None)

    async def _healthz(self, _: Request) -> Response:
        """Alive: the event loop answers."""
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        reason = await self.why_not_ready()
        body = {
            "process": self.name, "ready": reason is None, "reason": reason,
            "waits_for": self._waits_for(),
        }  # fmt: skip
        return JSON(body, status_code=200 if reason is None else 503)


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """It waits for requests in flight before the lifespan ends: who follows a stream would hold up
    the stop, and what the process has in hand would get none of the grace."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


def _keep_what_is_loaded() -> None:
    """Modules and models stay to the end: no later collection of garbage walks them again.

    Measured in the guard: 140,000 objects, and some 100 ms in which a question stands still.
    """
    gc.collect()
    gc.freeze()


def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Returns when all is closed."""
    close_to_neighbours()
    settings = service.settings
    logging.configure(service.name, settings.log_level)
    server = _Server(
        uvicorn.Config(
            service.app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=max(1, int(settings.grace_s)),
        ),
        service.stopping,
    )
    service.on_failure = partial(setattr, server, "should_exit", True)
    service.on_start = _keep_what_is_loaded
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())
    if service.failed or not server.started:
        raise SystemExit(1)
