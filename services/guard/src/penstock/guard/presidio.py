"""Presidio's recognisers without its engine: no spaCy model, no download, no network.

`AnalyzerEngine()` would fetch a model at start and the e-mail recogniser a suffix list at the
first address; both are avoided here (presidio #1447, #1205).
"""

import re
from collections.abc import Iterable, Sequence

from presidio_analyzer import PatternRecognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    CryptoRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    MedicalLicenseRecognizer,
    NhsRecognizer,
    PhoneRecognizer,
    UkNinoRecognizer,
    UsItinRecognizer,
    UsLicenseRecognizer,
    UsPassportRecognizer,
    UsSsnRecognizer,
)
from tldextract import TLDExtract

from penstock.guard.detection import Hit
from penstock.guard.pii import Kind, Recogniser

_suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)
"""From the list that ships with the package."""


class OfflineEmailRecognizer(EmailRecognizer):
    """Presidio's, with the suffix list from the package instead of the network."""

    def validate_result(self, pattern_text: str) -> bool:
        return bool(_suffixes(pattern_text).fqdn)


class PresidioRecogniser:
    """One of Presidio's recognisers behind our port."""

    def __init__(self, recogniser: PatternRecognizer | PhoneRecognizer, kind: Kind) -> None:
        self._recogniser = recogniser
        self.kind = kind

    def find(self, text: str) -> Sequence[Hit]:
        return [
            Hit(self.kind.entity, result.score, result.start, result.end)
            for result in self._recogniser.analyze(text, [self.kind.entity])
        ]


def _kind(entity: str, possible: str, *context: str) -> Kind:
    return Kind(entity, re.compile(possible), context)


_PHONE_SHAPE = r"(?<![\w.])(?:\+|00|\()?\d[\d ()./-]{5,18}\d(?![\w])"


def recognisers() -> list[Recogniser]:
    """Those whose findings are precise: a checksum, an unmistakable shape, or a word nearby."""
    made: Iterable[tuple[PatternRecognizer | PhoneRecognizer, Kind]] = (
        (CreditCardRecognizer(), _kind("CREDIT_CARD", r"\d{4}[- ]?\d{4,6}[- ]?\d{4,5}|\d{13}")),
        (IbanRecognizer(), _kind("IBAN_CODE", r"(?i)\b[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}")),
        (OfflineEmailRecognizer(), _kind("EMAIL_ADDRESS", r"@\w")),
        (
            PhoneRecognizer(),
            _kind("PHONE_NUMBER", _PHONE_SHAPE, "phone", "call", "tel", "mobile", "cell", "fax"),
        ),
        (IpRecognizer(), _kind("IP_ADDRESS", r"\d\.\d{1,3}\.\d|[0-9A-Fa-f]:[0-9A-Fa-f:]", "ip ", "address")),
        (UsSsnRecognizer(), _kind("US_SSN", r"\d{3}[- .]?\d{2}[- .]?\d{4}", "social security", "ssn")),
        (UsItinRecognizer(), _kind("US_ITIN", r"\b9\d{2}[- ]?\d{2}[- ]?\d{4}", "itin", "taxpayer")),
        (UsPassportRecognizer(), _kind("US_PASSPORT", r"\b[A-Z]?\d{8,9}\b", "passport")),
        (UsLicenseRecognizer(), _kind("US_DRIVER_LICENSE", r"(?i)licen[cs]e[\s\S]{0,60}\d{3}", "driver's lic", "driver lic", "driving lic", "drivers lic")),
        (MedicalLicenseRecognizer(), _kind("MEDICAL_LICENSE", r"\b[A-Za-z]{2}\d{7}\b", "dea", "medical")),
        (NhsRecognizer(), _kind("UK_NHS", r"\d{3}[- ]?\d{3}[- ]?\d{4}", "nhs", "national health")),
        (UkNinoRecognizer(), _kind("UK_NINO", r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]", "national insurance")),
        (CryptoRecognizer(), _kind("CRYPTO", r"\b(?:bc1|[13])[A-Za-z0-9]{25}", "bitcoin", "wallet")),
    )  # fmt: skip
    return [PresidioRecogniser(recogniser, kind) for recogniser, kind in made]
