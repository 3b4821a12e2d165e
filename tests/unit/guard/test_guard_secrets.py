"""Credentials are found by their shape; what only looks like one stays."""

import base64

import pytest

from penstock.guard.detection import Context
from penstock.guard.secrets import SecretDetector, entropy

DETECTOR = SecretDetector()


def found(text: str) -> list[tuple[str, str]]:
    hits = DETECTOR.scan(text, Context("document"))
    return [(hit.category, text[hit.start : hit.end]) for hit in hits]


def segment(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


# Put together here, so that no scanner of this repository takes them for real ones.
AWS = "AKIA" + "QYLPMN5HHHFPZAM2"
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
STRIPE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
SLACK = "xoxb-" + "123456789012-abcdefghijkl"
OPENAI = "sk-proj-" + "a8Bc7De6Fg5Hi4Jk3Lm2No1Pq0Rs9Tu8"
JWT = ".".join((segment('{"alg":"HS256"}'), segment('{"sub":"anna-1"}'), "c2lnbmF0dXJl" * 3))
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("category", "secret"),
    [
        ("aws_access_key", AWS),
        ("github_token", GITHUB),
        ("stripe_key", STRIPE),
        ("slack_token", SLACK),
        ("openai_key", OPENAI),
        ("jwt", JWT),
        ("private_key", KEY),
    ],
)
def test_a_known_shape_is_found_exactly(category: str, secret: str) -> None:
    assert found(f"use {secret} here") == [(category, secret)]


def test_an_assignment_gives_the_value_alone() -> None:
    assert found('api_key = "q8Zr4Lx0Vt2Nw6Ym"') == [("assigned_secret", "q8Zr4Lx0Vt2Nw6Ym")]
    assert found("postgresql://bob:Zk3-w9q!x@db.internal/x") == [("url_password", "Zk3-w9q!x")]


@pytest.mark.parametrize(
    "text",
    [
        "The password policy requires twelve characters.",
        "api_key = YOUR_API_KEY_EXAMPLE_1",
        "password: changeme123456",
        "token = os.environ['GITHUB_TOKEN']",
        "See the ticket ASK-1234567 about the sk-learn upgrade.",
        "eyJust.eyJoking.abcdefghij",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "https://user:pass@example.com/",
        "postgresql://bob:${PASSWORD}@db/x",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_entropy_tells_words_from_keys() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
