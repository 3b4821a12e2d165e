"""Kafka credentials as FastStream wants them."""

import ssl

from faststream.security import (
    BaseSecurity,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)

from penstock.common.settings import KafkaSettings

_MECHANISMS = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}


def faststream_security(settings: KafkaSettings) -> BaseSecurity:
    """
    Raises:
        ValueError: a mechanism that is not supported, or credentials that are missing.
    """
    uses_ssl = settings.kafka_security.endswith("SSL")
    context = None
    if uses_ssl:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ca) if settings.kafka_ca else None
        )
    if not settings.kafka_security.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=uses_ssl)
    security = _MECHANISMS.get(settings.kafka_mechanism)
    if security is None:
        raise ValueError(
            f"PENSTOCK_KAFKA_MECHANISM is {settings.kafka_mechanism!r}; "
            f"use one of {', '.join(_MECHANISMS)}"
        )
    if settings.kafka_username is None or settings.kafka_password is None:
        raise ValueError("PENSTOCK_KAFKA_USERNAME and PENSTOCK_KAFKA_PASSWORD are needed for SASL")
    return security(
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        ssl_context=context,
        use_ssl=uses_ssl,
    )
