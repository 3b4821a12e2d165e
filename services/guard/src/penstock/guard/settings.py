"""Settings of the two guard processes."""

from pathlib import Path

from penstock.common.settings import DatabaseSettings


class GuardSettings(DatabaseSettings):
    """`PENSTOCK_GUARD_POLICY`, `PENSTOCK_GUARD_NER`, and what every process has."""

    guard_policy: Path | None = None
    """A policy file, or a folder of them; the packaged `default` applies beside it."""
    guard_ner: bool = False
    """Also look for names of people and places (needs spaCy's small model; milliseconds a chunk)."""
