"""The table of settings, from the classes that read them."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from penstock.api.settings import ApiSettings
from penstock.common.bootstrap.settings import AdminSettings
from penstock.common.settings import BlobSettings, DatabaseSettings, KafkaSettings, ServiceSettings
from penstock.embed.settings import EmbedSettings
from penstock.generate.settings import GenerateSettings
from penstock.guard.settings import GuardSettings
from penstock.ingest.settings import IngestSettings
from penstock.models.settings import ModelSettings

_SECTIONS: tuple[tuple[str, type[BaseSettings], type[BaseSettings] | None], ...] = (
    ("Kafka, for every process and the command", KafkaSettings, None),
    ("Every process", ServiceSettings, KafkaSettings),
    ("Processes with a database", DatabaseSettings, ServiceSettings),
    ("Blobs: `api`, `ingest` and the command", BlobSettings, None),
    ("`api`", ApiSettings, DatabaseSettings),
    ("`ingest`", IngestSettings, DatabaseSettings),
    ("`guard documents`, `guard dialogue`", GuardSettings, DatabaseSettings),
    ("`embed`", EmbedSettings, ServiceSettings),
    ("`answerer`", GenerateSettings, DatabaseSettings),
    ("`penstock bootstrap database`", AdminSettings, None),
    ("What runs a model: `ingest`, `embed`, `searcher`, `answerer`", ModelSettings, None),
)

_HEAD = """\
# Settings

Written by `make contracts` from the settings classes; do not edit. Every setting is an environment
variable. `penstock up` sets addresses, roles and secrets by itself and hands on every other
`PENSTOCK_…` of its own environment to the processes it starts.
"""


def settings_page() -> str:
    return _HEAD + "".join(
        f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n"
        + "".join(_rows(settings, base))
        for title, settings, base in _SECTIONS
    )


def _rows(settings: type[BaseSettings], base: type[BaseSettings] | None) -> Iterator[str]:
    """What `settings` adds to, or has otherwise than, its base."""
    inherited = base.model_fields if base else {}
    shared = BlobSettings.model_fields if settings is not BlobSettings else {}
    for name, field in settings.model_fields.items():
        known = inherited.get(name) or shared.get(name)
        if known is None or known.default != field.default:
            yield f"| `PENSTOCK_{name.upper()}` | {_default(field)} | {_meaning(field)} |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "by the machine"
    value: Any = field.default
    if value is None or value == "":
        return "none"
    assert not isinstance(value, SecretStr), "a secret has no default"
    return f"`{value}`".lower() if isinstance(value, bool) else f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    return re.sub(r"\s+", " ", field.description or "").replace("|", "\\|")
