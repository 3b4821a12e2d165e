"""The policy decides, and an error in one is said in a sentence."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.common.events import GuardAction, Verdict
from penstock.common.failures import PermanentError
from penstock.guard.detection import Context
from penstock.guard.engine import Engine, Engines
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import DEFAULT, load, load_all
from penstock.guard.redaction import mask, redact

GOOD = """
name: strict
version: "7"
gates:
  question:
    topics:
      - {categories: [weather], action: refuse}
    secrets:
      - {at_least: 0.9, action: redact}
topics:
  weather: "\\\\brain\\\\b"
"""


def written(folder: Path, text: str, name: str = "policy.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def engine(path: Path) -> Engine:
    policies = load_all(path)
    return Engines(policies, PiiDetector([])).get("strict")


def test_the_packaged_policy_is_sound_and_guards_every_gate() -> None:
    policy = load(DEFAULT)
    assert policy.gates.keys() == {"document", "question", "answer"}
    assert policy.action("document", "injection", "override", 0.9) is GuardAction.QUARANTINE
    assert policy.action("document", "injection", "override", 0.5) is GuardAction.ANNOTATE
    assert policy.action("document", "injection", "override", 0.1) is GuardAction.ALLOW
    assert policy.action("document", "pii", "CREDIT_CARD", 1.0) is GuardAction.REDACT
    assert policy.action("document", "pii", "EMAIL_ADDRESS", 1.0) is GuardAction.ANNOTATE
    assert policy.action("question", "injection", "persona", 0.9) is GuardAction.REFUSE
    assert policy.action("answer", "groundedness", "ungrounded", 0.95) is GuardAction.REFUSE
    assert policy.action("answer", "groundedness", "ungrounded", 0.3) is GuardAction.ANNOTATE


def test_an_operators_policy_applies_beside_the_packaged_one(tmp_path: Path) -> None:
    strict = engine(written(tmp_path, GOOD))
    screening = strict.screen("Will it rain?", Context("question"))
    assert screening.action is GuardAction.REFUSE
    assert screening.findings[0].category == "weather"
    assert strict.verdict("question", screening.findings) == Verdict(
        gate="question", policy="strict@7", action=GuardAction.REFUSE, findings=screening.findings
    )
    assert load_all(tmp_path).keys() == {"default", "strict"}


def test_a_gate_that_a_policy_leaves_out_lets_everything_pass(tmp_path: Path) -> None:
    strict = engine(written(tmp_path, GOOD))
    assert strict.screen("rain", Context("document")).action is GuardAction.ALLOW


def test_a_collection_with_an_unknown_policy_is_never_unguarded(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no guard policy 'lax'; known: default, strict"):
        Engines(load_all(written(tmp_path, GOOD)), PiiDetector([])).get("lax")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("action: refuse", "action: explode"), r"gates.question.topics.0.action"),
        (("action: refuse", "action: quarantine"), "gate question, detector topics: cannot"),
        (("secrets:", "secrtes:"), "no detector 'secrtes'; there are groundedness"),
        (("at_least: 0.9", "at_least: 9"), "less than or equal to 1"),
        (("rain", "(rain"), "topic 'weather' is no regular expression"),
        (("name: strict", "nmae: strict"), "name"),
        (("gates:", "gates: ]"), "is no YAML"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_place_and_the_reason(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(PermanentError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_policy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="No such file"):
        load_all(tmp_path / "absent.yaml")


@settings(max_examples=50)
@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from(["EMAIL", "X"]))),
)
def test_a_redaction_never_moves_what_it_leaves(
    text: str, ranges: list[tuple[int, int, str]]
) -> None:
    inside = [(min(a, b, len(text)), min(max(a, b), len(text)), label) for a, b, label in ranges]
    result = redact(text, inside)
    assert len(result) == len(text)
    covered = {i for start, end, _ in inside for i in range(start, end)}
    assert all(result[i] == text[i] for i in range(len(text)) if i not in covered)


def test_a_mask_names_what_it_hides_where_it_has_room() -> None:
    assert mask(10, "EMAIL") == "[EMAIL███]"
    assert mask(7, "EMAIL") == "[EMAIL]"
    assert mask(3, "EMAIL") == "■■■"
