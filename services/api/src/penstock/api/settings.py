"""Settings of the API."""

from pydantic import Field, SecretStr

from penstock.common.settings import BlobSettings, DatabaseSettings


class ApiSettings(DatabaseSettings, BlobSettings):
    port: int = 8080
    """The API's own."""
    database_pool: int = Field(default=10, ge=2)
    """Connections at most."""
    searcher_url: str = "http://127.0.0.1:8081"
    """The searcher's inner door."""
    guard_url: str = "http://127.0.0.1:8082"
    """The inner door of `guard documents`: quarantine."""
    open_on_loopback: bool = False
    """Requests from this machine need no key: the embedded stack, never a server."""
    operator_key: SecretStr | None = None
    """`pk_<id>_<secret>`: the first key, global operator, where none has been made yet."""
    webhook_prefixes: str = ""
    """Comma-separated addresses that a `callback_url` may lie under; empty: none."""
    document_job_hours: float = Field(default=24.0, gt=0)
    """A document job without progress for this long, since its take-in, expires."""
    job_retention_days: float = Field(default=30.0, gt=0)
    """How long finished jobs and their answers are kept."""
