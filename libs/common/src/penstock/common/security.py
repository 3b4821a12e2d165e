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
    uses_ssl = settings.kafka_security.endswith("SSL")
    context = None
    if uses_ssl:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ca) if settings.kafka_ca else None
        )
    if not settings.kafka_security.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=uses_ssl)
    assert settings.kafka_username is not None
    assert settings.kafka_password is not None
    return _MECHANISMS[settings.kafka_mechanism](
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        ssl_context=context,
        use_ssl=uses_ssl,
    )
