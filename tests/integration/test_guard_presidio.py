"""Presidio's recognisers offline: precise where a checksum or a word speaks for a finding."""

import socket

import pytest

from penstock.guard.detection import Context
from penstock.guard.pii import PiiDetector
from penstock.guard.presidio import recognisers


@pytest.fixture(scope="module")
def detector() -> PiiDetector:
    return PiiDetector(recognisers())


def found(detector: PiiDetector, text: str) -> list[tuple[str, str]]:
    hits = detector.scan(text, Context("document"))
    return [(hit.category, text[hit.start : hit.end]) for hit in hits]


@pytest.mark.parametrize(
    ("category", "value", "text"),
    [
        ("CREDIT_CARD", "4111 1111 1111 1111", "Paid by 4111 1111 1111 1111 today."),
        ("IBAN_CODE", "GB29 NWBK 6016 1331 9268 19", "To GB29 NWBK 6016 1331 9268 19."),
        ("EMAIL_ADDRESS", "sam@weir.example.com", "Write to sam@weir.example.com soon"),
        ("PHONE_NUMBER", "+44 20 7946 0958", "Call +44 20 7946 0958 now."),
        ("IP_ADDRESS", "192.168.12.7", "The pump answers at 192.168.12.7 only."),
        ("US_SSN", "536-90-4399", "His social security number is 536-90-4399."),
        ("UK_NHS", "943 476 5919", "NHS number 943 476 5919"),
        ("US_PASSPORT", "912803456", "Passport: 912803456"),
        ("CRYPTO", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "Send to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ],
)  # fmt: skip
def test_personal_data_is_found_where_it_stands(
    detector: PiiDetector, category: str, value: str, text: str
) -> None:
    assert (category, value) in found(detector, text)


@pytest.mark.parametrize(
    "text",
    [
        "The order 4111 1111 1111 1112 has a wrong digit.",
        "In 2024 the plant made 1,234,567 kWh, up 12.5 % on 2023.",
        "Version 3.11.7 of the firmware fixes ticket 20240117.",
        "Part number 912803456 fits the old pump.",
        "Decorators such as @property are explained on page 42.",
    ],
)
def test_plain_numbers_are_left_alone(detector: PiiDetector, text: str) -> None:
    assert found(detector, text) == []


def test_an_address_is_checked_without_the_network(
    detector: PiiDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert found(detector, "mail anna@fresh-domain.co.uk") == [
        ("EMAIL_ADDRESS", "anna@fresh-domain.co.uk")
    ]
