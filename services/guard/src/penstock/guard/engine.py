"""One engine for every gate: run the policy's detectors, decide, redact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from penstock.common.events import Finding, GuardAction, TextSpan, Verdict
from penstock.common.failures import PermanentError
from penstock.guard.detection import Context, Detector, Gate, Hit
from penstock.guard.groundedness import GroundednessDetector
from penstock.guard.injection import InjectionDetector
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import Policy
from penstock.guard.redaction import redact
from penstock.guard.secrets import SecretDetector
from penstock.guard.topic_rules import TopicDetector

_SEVERITY = {action: rank for rank, action in enumerate(GuardAction)}


@dataclass(frozen=True, slots=True)
class Screening:
    """A text after a gate: redacted where the policy says so, the same length as before."""

    text: str
    findings: tuple[Finding, ...]

    @property
    def action(self) -> GuardAction:
        return severest(finding.action for finding in self.findings)


def severest(actions: Iterable[GuardAction]) -> GuardAction:
    return max(actions, key=_SEVERITY.__getitem__, default=GuardAction.ALLOW)


class Engine:
    """A policy with its detectors. Pure: safe to use from any thread."""

    def __init__(self, policy: Policy, detectors: Sequence[Detector]) -> None:
        self.policy = policy
        by_name = {detector.name: detector for detector in detectors}
        self._gates: Mapping[Gate, Sequence[Detector]] = {
            gate: [by_name[name] for name in names] for gate, names in policy.gates.items()
        }

    def findings(self, text: str, context: Context) -> list[Finding]:
        """What the policy minds in `text`; spans count from its first character."""
        return [
            self._finding(hit, detector, action)
            for detector in self._gates.get(context.gate, ())
            for hit in detector.scan(text, context)
            if (action := self._action(hit, detector, context.gate)) is not GuardAction.ALLOW
        ]

    def screen(self, text: str, context: Context) -> Screening:
        """The whole of what a gate does with one text on its own."""
        findings = self.findings(text, context)
        return Screening(masked(text, findings), tuple(findings))

    def verdict(self, gate: Gate, findings: Sequence[Finding]) -> Verdict:
        return Verdict(
            gate=gate,
            policy=self.policy.label,
            action=severest(finding.action for finding in findings),
            findings=tuple(findings),
        )

    def _action(self, hit: Hit, detector: Detector, gate: Gate) -> GuardAction:
        return self.policy.action(gate, detector.name, hit.category, hit.score)

    @staticmethod
    def _finding(hit: Hit, detector: Detector, action: GuardAction) -> Finding:
        return Finding(
            detector=detector.name,
            version=detector.version,
            category=hit.category,
            score=hit.score,
            action=action,
            span=TextSpan(start=hit.start, end=hit.end),
        )


def masked(text: str, findings: Iterable[Finding]) -> str:
    """`text` without what is to be redacted; spans are relative to it."""
    return redact(
        text,
        (
            (
                finding.span.start,
                finding.span.end,
                finding.category.removesuffix("_ADDRESS").upper(),
            )
            for finding in findings
            if finding.action is GuardAction.REDACT and finding.span is not None
        ),
    )


class Engines:
    """The engine of every policy by name; the detectors that no policy changes are shared."""

    def __init__(self, policies: Mapping[str, Policy], pii: PiiDetector) -> None:
        shared: list[Detector] = [
            InjectionDetector(), SecretDetector(), pii, GroundednessDetector(),
        ]  # fmt: skip
        self._engines = {
            name: Engine(policy, [*shared, TopicDetector(policy.patterns())])
            for name, policy in policies.items()
        }

    def get(self, policy: str) -> Engine:
        """`PermanentError` when a collection names a policy that is not there: never unguarded."""
        try:
            return self._engines[policy]
        except KeyError:
            known = ", ".join(sorted(self._engines))
            raise PermanentError(
                f"there is no guard policy {policy!r}; known: {known}", type="unknown_policy"
            ) from None
