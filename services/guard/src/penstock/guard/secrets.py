"""Credentials in text: the vendors' published shapes first, then named assignments.

A shape that only looks random is not enough: a generic value needs a name such as `api_key` in
front of it and more entropy than words or paths have.
"""

import base64
import binascii
import math
import re
from collections import Counter
from dataclasses import dataclass

from penstock.guard.detection import Context, Hit

MIN_ENTROPY = 3.4
"""Bits per character of an assigned value; English words have about 2.6, paths about 3.2."""


@dataclass(frozen=True, slots=True)
class _Shape:
    category: str
    score: float
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]


def _shape(category: str, score: float, anchors: tuple[str, ...], pattern: str) -> _Shape:
    return _Shape(category, score, anchors, re.compile(pattern))


_SHAPES = (
    _shape("aws_access_key", 0.95, ("AKIA", "ASIA"), r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])"),
    _shape("github_token", 0.98, ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
           r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b"),
    _shape("gitlab_token", 0.95, ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,64}\b"),
    _shape("slack_token", 0.95, ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    _shape("slack_webhook", 0.95, ("hooks.slack.com",), r"https://hooks\.slack\.com/services/T\w{6,12}/B\w{6,12}/\w{20,30}"),
    _shape("stripe_key", 0.97, ("_live_", "_test_"), r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,247}\b"),
    _shape("openai_key", 0.95, ("sk-",), r"(?<![\w-])sk-(?:proj-|svcacct-|admin-)?(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{32,220}"),
    _shape("anthropic_key", 0.97, ("sk-ant-",), r"(?<![\w-])sk-ant-[A-Za-z0-9_-]{24,220}"),
    _shape("google_api_key", 0.95, ("AIza",), r"\bAIza[A-Za-z0-9_-]{35}(?![\w-])"),
    _shape("huggingface_token", 0.95, ("hf_",), r"\bhf_[A-Za-z]{34,40}\b"),
    _shape("npm_token", 0.95, ("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
    _shape("pypi_token", 0.97, ("pypi-",), r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,255}"),
    _shape("sendgrid_key", 0.97, ("SG.",), r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _shape("azure_storage_key", 0.95, ("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{86}=="),
    _shape("private_key", 0.99, ("-----BEGIN",),
           r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,8000}?(?:-----END (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----|\Z)"),
    _shape("url_password", 0.8, ("://",), r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"<>{}]{1,80}:(?P<value>[^\s:/@'\"<>{}$]{4,120})@[\w.-]{2,}"),
)  # fmt: skip

_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}")
_ASSIGNMENT = re.compile(
    r"(?i)\b[\w.-]{0,40}(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|access[_-]?token"
    r"|client[_-]?secret|bearer|passw(?:or)?d|pwd|passphrase|private[_-]?key)[\"']?"
    r"(?:\s{0,3}(?:=>|:=|=|:)\s{0,3}|\s)[\"']?(?P<value>[A-Za-z0-9+/_.~!@#$%^&*-]{8,200}={0,2})"
)
_ASSIGNMENT_WORDS = ("key", "secret", "token", "passw", "pwd", "bearer", "passphrase")
_PLACEHOLDER = re.compile(
    r"(?i)example|changeme|your[_-]|placeholder|x{4,}|\*{3,}|dummy|redacted|^pass(?:word)?$|<|^\$|\.{3}|\(\)"
)


class SecretDetector:
    """Finds credentials; the span covers the secret itself, not the name in front of it."""

    name = "secrets"
    version = "1"

    def scan(self, text: str, context: Context) -> list[Hit]:  # noqa: ARG002
        hits = [hit for shape in _SHAPES for hit in _of_shape(shape, text)]
        if "eyJ" in text:
            hits += [
                Hit("jwt", 0.95, *match.span()) for match in _JWT.finditer(text) if is_jwt(match[0])
            ]
        taken = [(hit.start, hit.end) for hit in hits]
        hits += [hit for hit in _assignments(text) if not _overlaps(hit, taken)]
        return hits


def is_jwt(token: str) -> bool:
    """Whether the head decodes to a JSON object that names an algorithm."""
    head = token.split(".", 1)[0]
    try:
        decoded = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return False
    return decoded.startswith(b"{") and b'"alg"' in decoded


def entropy(value: str) -> float:
    """Shannon entropy of the characters, bits per character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _of_shape(shape: _Shape, text: str) -> list[Hit]:
    if not any(anchor in text for anchor in shape.anchors):
        return []
    group = "value" if "value" in shape.pattern.groupindex else 0
    return [
        Hit(shape.category, shape.score, *match.span(group))
        for match in shape.pattern.finditer(text)
        if not _PLACEHOLDER.search(match[group])
    ]


def _assignments(text: str) -> list[Hit]:
    lower = text.lower()
    if not any(word in lower for word in _ASSIGNMENT_WORDS):
        return []
    hits = []
    for match in _ASSIGNMENT.finditer(text):
        value = match["value"]
        mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
        if mixed and entropy(value) >= MIN_ENTROPY and not _PLACEHOLDER.search(value):
            long = min(1.0, 0.5 + len(value) / 80)
            hits.append(Hit("assigned_secret", round(long, 2), *match.span("value")))
    return hits


def _overlaps(hit: Hit, taken: list[tuple[int, int]]) -> bool:
    return any(hit.start < end and start < hit.end for start, end in taken)
