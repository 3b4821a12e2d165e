"""What is done about a finding: a versioned YAML file, checked when it is read."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from penstock.common.events import GuardAction
from penstock.common.failures import PermanentError
from penstock.guard.detection import Gate

DEFAULT = Path(__file__).parent / "policies" / "default.yaml"
DETECTORS = frozenset({"injection", "pii", "secrets", "groundedness", "topics"})
_POSSIBLE: Mapping[Gate, frozenset[GuardAction]] = {
    "document": frozenset(GuardAction) - {GuardAction.REFUSE},
    "question": frozenset(GuardAction) - {GuardAction.QUARANTINE},
    "answer": frozenset(GuardAction) - {GuardAction.QUARANTINE},
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Model):
    """Applies to findings whose category fits one of the patterns and whose score is enough."""

    categories: tuple[str, ...] = ("*",)
    """Shell-style patterns, such as `CREDIT_CARD` or `aws_*`."""
    at_least: float = Field(default=0.0, ge=0, le=1)
    action: GuardAction

    def fits(self, category: str, score: float) -> bool:
        return score >= self.at_least and any(
            fnmatch.fnmatchcase(category, pattern) for pattern in self.categories
        )


class Policy(_Model):
    """For each gate the detectors that run and, in order, the rules for their findings.

    The first rule that fits decides; a finding that none fits is allowed and not recorded.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    version: Annotated[str, Field(min_length=1, max_length=40)]
    gates: Mapping[Gate, Mapping[str, tuple[Rule, ...]]]
    topics: Mapping[str, str] = Field(default_factory=dict)
    """Name of a topic -> regular expression, matched without regard to case."""
    refusal: str = "This question was stopped by the guard."
    """What a person reads when a question is refused."""
    withheld: str = "This part of the answer was withheld because the documents do not support it."
    """What a person reads instead of an answer that is withheld."""

    @field_validator("topics")
    @classmethod
    def _compiles(cls, topics: Mapping[str, str]) -> Mapping[str, str]:
        for name, pattern in topics.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"topic {name!r} is no regular expression: {error}") from error
        return topics

    @model_validator(mode="after")
    def _possible(self) -> "Policy":
        for gate, detectors in self.gates.items():
            for detector, rules in detectors.items():
                if detector not in DETECTORS:
                    known = ", ".join(sorted(DETECTORS))
                    raise ValueError(f"gate {gate}: no detector {detector!r}; there are {known}")
                for rule in rules:
                    if rule.action not in _POSSIBLE[gate]:
                        allowed = ", ".join(sorted(_POSSIBLE[gate]))
                        raise ValueError(
                            f"gate {gate}, detector {detector}: cannot {rule.action}; use {allowed}"
                        )
        return self

    @property
    def label(self) -> str:
        """As verdicts name it."""
        return f"{self.name}@{self.version}"

    def action(self, gate: Gate, detector: str, category: str, score: float) -> GuardAction:
        for rule in self.gates[gate][detector]:
            if rule.fits(category, score):
                return rule.action
        return GuardAction.ALLOW

    def patterns(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(text, re.IGNORECASE) for name, text in self.topics.items()}


def load(path: Path) -> Policy:
    """The policy in a file; `PermanentError` names the file, the field and what is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PermanentError(f"guard policy {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PermanentError(f"guard policy {path} is no YAML: {error}") from error
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PermanentError(f"guard policy {path}: {where}: {first['msg']}") from error


def load_all(path: Path | None) -> dict[str, Policy]:
    """Every policy by name: the packaged one and, from a file or a folder, the operator's."""
    files: Iterable[Path] = ()
    if path is not None:
        files = sorted(path.glob("*.y*ml")) if path.is_dir() else (path,)
    policies = [load(DEFAULT), *(load(file) for file in files)]
    return {policy.name: policy for policy in policies}
