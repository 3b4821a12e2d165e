"""A process that is set up badly does not start, and does not say its secrets while refusing."""

import pytest
from pydantic import ValidationError

from penstock.common.settings import DatabaseSettings, KafkaSettings

GOOD = {
    "PENSTOCK_SERVICE_SECRET": "a-secret-of-at-least-thirty-two-characters",
    "PENSTOCK_DATABASE": "postgresql://penstock:password@db/penstock",
}


@pytest.mark.parametrize("secret", ["", "a-short-secret", "x" * 31])
def test_a_secret_that_can_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """With an empty one anybody could sign for every tenant."""
    for name, value in (GOOD | {"PENSTOCK_SERVICE_SECRET": secret}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="service_secret") as caught:
        DatabaseSettings()
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("name", ["PENSTOCK_SERVICE_SECRET", "PENSTOCK_DATABASE", "PENSTOCK_PORT"])
def test_a_refusal_quotes_no_value(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It ends in a log, and names the setting: that is enough to find it."""
    for other, value in GOOD.items():
        monkeypatch.setenv(other, value)
    monkeypatch.delenv(name, raising=False)
    if name not in GOOD:
        monkeypatch.setenv(name, "p4ssw0rd-in-the-wrong-place")
    with pytest.raises(ValidationError, match=name.removeprefix("PENSTOCK_").lower()) as caught:
        DatabaseSettings()
    assert not any(words in str(caught.value) for words in ("a-secret", "postgresql", "p4ssw0rd"))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SECURITY": "sasl_ssl"}, "kafka_security"),
        ({"SECURITY": "SASL_SSL"}, "PENSTOCK_KAFKA_USERNAME and PENSTOCK_KAFKA_PASSWORD"),
        ({"SECURITY": "SASL_SSL", "USERNAME": "a"}, "PENSTOCK_KAFKA_PASSWORD"),
        ({"MECHANISM": "GSSAPI"}, "kafka_mechanism"),
        ({"SECURITY": "SSL", "CA": "/no/such/ca.pem"}, "kafka_ca"),
    ],
)
def test_a_way_into_kafka_that_cannot_be_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """At the start, not as an error of the client library an hour later."""
    for name, value in variables.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    with pytest.raises(ValidationError, match=said):
        KafkaSettings()
