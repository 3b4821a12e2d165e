"""Webhooks: signed as in Standard Webhooks, to allowed addresses, tried again for three days.

https://github.com/standard-webhooks/standard-webhooks
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult, urlsplit

import asyncpg
import httpx
import orjson
import structlog
from standardwebhooks.webhooks import Webhook

from penstock.api.errors import Problem
from penstock.api.postgres import WEBHOOK_CHANNEL
from penstock.api.settings import ApiSettings
from penstock.api.signals import Signals
from penstock.common.db import Database
from penstock.common.failures import TransientError

log = structlog.get_logger()

RETRY_AFTER_S = (5, 30, 120, 600, 3_600, 6 * 3_600, 24 * 3_600, 36 * 3_600)
"""Pauses after each failure; after the last one the delivery is given up."""

LEASE_S = 60
"""A delivery in hand is left alone by other processes for this long."""

TIMEOUT_S = 10.0


def secret_of(settings: ApiSettings, tenant: str, key: str) -> str:
    """The signing secret of a key: derived, so nothing needs to be kept."""
    name = f"webhook/{tenant}/{key}".encode()
    secret = settings.service_secret.get_secret_value().encode()
    return "whsec_" + base64.b64encode(hmac.digest(secret, name, hashlib.sha256)).decode()


def check_callback(settings: ApiSettings, url: str | None) -> None:
    """
    Raises:
        Problem: the address does not lie under an allowed prefix.
    """
    if url is None:
        return
    prefixes = [p.strip() for p in settings.webhook_prefixes.split(",") if p.strip()]
    if not prefixes:
        raise Problem(
            "callback_not_allowed",
            "callback_url: the operator allows no address; see PENSTOCK_WEBHOOK_PREFIXES",
        )
    if not any(lies_under(url, prefix) for prefix in prefixes):
        raise Problem(
            "callback_not_allowed",
            f"callback_url: it must lie under one of {', '.join(prefixes)}",
        )


def lies_under(url: str, prefix: str) -> bool:
    """By parts, so that `https://a.example` allows neither `a.example.evil` nor `a.example@evil`."""
    try:
        wanted, allowed = urlsplit(url), urlsplit(prefix)
        origins = _origin(wanted) == _origin(allowed)
    except ValueError:
        return False
    if wanted.username is not None or wanted.password is not None or not origins:
        return False
    folder = allowed.path.rstrip("/")
    segments = wanted.path.split("/")
    if ".." in segments or "\\" in url or "%2e" in url.lower():
        return False
    return wanted.path == folder or wanted.path.startswith(folder + "/") or not folder


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


class Courier:
    """Delivers what is due; several processes share the work."""

    def __init__(
        self,
        settings: ApiSettings,
        database: Database,
        http: httpx.AsyncClient,
        signals: Signals,
    ) -> None:
        self._settings = settings
        self._database = database
        self._http = http
        self._signals = signals

    async def run(self) -> None:
        """For ever."""
        with self._signals.listen(WEBHOOK_CHANNEL) as woken:
            while True:
                try:
                    while await self.deliver_one():
                        pass
                except TransientError as error:
                    log.warning("webhooks_wait", error=str(error))
                await woken.wait(timeout=1.0)

    async def deliver_one(self) -> bool:
        """Deliver one that is due; False when none is."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """
                UPDATE webhook SET next_at = clock_timestamp() + make_interval(secs => $1),
                    attempts = attempts + 1
                WHERE id = (SELECT id FROM webhook WHERE next_at <= clock_timestamp()
                    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                RETURNING *
                """,
                LEASE_S,
            )
        if row is None:
            return False
        error = await self._post(row)
        await self._note(row, error)
        return True

    async def _post(self, row: asyncpg.Record) -> str | None:
        """None when the receiver took it, else why not."""
        body = orjson.dumps(row["body"]).decode()
        now = datetime.now(UTC)
        signer = Webhook(secret_of(self._settings, row["tenant"], row["key"]))
        headers = {
            "content-type": "application/json",
            "webhook-id": row["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(row["id"], now, body),
        }
        try:
            answer = await self._http.post(
                row["url"],
                content=body,
                headers=headers,
                timeout=TIMEOUT_S,
                follow_redirects=False,  # a redirect would leave the allowed addresses
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"
        return None if answer.is_success else f"the receiver answered {answer.status_code}"

    async def _note(self, row: asyncpg.Record, error: str | None) -> None:
        pause = after(row["attempts"])
        again = error is not None and pause is not None
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE webhook SET next_at = $2, error = $3, "
                "delivered_at = CASE WHEN $3::text IS NULL THEN clock_timestamp() END "
                "WHERE id = $1",
                row["id"],
                datetime.now(UTC) + timedelta(seconds=pause or 0) if again else None,
                error,
            )
        log.info("webhook_sent", id=row["id"], attempt=row["attempts"], error=error)


def after(attempts: int) -> int | None:
    """Seconds until the next try after this many; None when it is given up."""
    return RETRY_AFTER_S[attempts - 1] if attempts <= len(RETRY_AFTER_S) else None
