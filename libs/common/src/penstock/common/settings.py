"""Settings that more than one process has. Environment variables, `PENSTOCK_…`, nothing global."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CONFIG = SettingsConfigDict(
    env_prefix="PENSTOCK_", extra="ignore", frozen=True, use_attribute_docstrings=True,
    hide_input_in_errors=True,
)  # fmt: skip
"""Docstrings of fields become their descriptions, which docs/settings.md is made of. What a process
says of a setting that it refuses quotes no value: it may be a secret, or lie beside one."""


class KafkaSettings(BaseSettings):
    """How to reach the brokers."""

    model_config = CONFIG

    kafka: str = "127.0.0.1:9092"
    """Bootstrap servers, comma-separated."""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    kafka_username: str | None = None
    """For SASL."""
    kafka_password: SecretStr | None = None
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    kafka_ca: FilePath | None = None
    """Certificates to trust, PEM; absent: those of the system."""
    default_tenant: str = "default"
    """Of records whose key and headers name none."""

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        credentials = self.kafka_username, self.kafka_password
        if self.kafka_security.startswith("SASL") and None in credentials:
            raise ValueError(
                f"PENSTOCK_KAFKA_SECURITY={self.kafka_security} needs PENSTOCK_KAFKA_USERNAME "
                "and PENSTOCK_KAFKA_PASSWORD"
            )
        return self


class ServiceSettings(KafkaSettings):
    """What every process needs; each service adds its own few fields."""

    service_secret: SecretStr = Field(min_length=32)
    """Signs the tokens between services; at least 32 characters; the same for all of them."""
    host: str = "127.0.0.1"
    """Where health, metrics and inner doors listen."""
    port: int = 0
    """0: any free one."""
    log_level: str = "info"
    """debug, info, warning or error."""
    grace_s: float = Field(default=10.0, ge=0)
    """How long a stop waits for what is in flight, seconds."""


class DatabaseSettings(ServiceSettings):
    database: SecretStr
    """postgresql://role:password@host:port/name, the role of this service alone."""
    database_pool: int = Field(default=4, ge=1)
    """Connections at most."""


class BlobSettings(BaseSettings):
    model_config = CONFIG

    blobs: Path = Path(".penstock/blobs")
    """The folder of the blob store, the same for all who use it."""
    max_document_bytes: int = 64 * 1024 * 1024
    """A larger document is refused at the door, or fails."""
