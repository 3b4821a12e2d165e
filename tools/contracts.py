"""Write the contracts from the code, and hold them to it.

    python tools/contracts.py            write deploy/topics.yaml and docs/{contracts,errors,settings}
    python tools/contracts.py --check    fail when they are not current
    python tools/contracts.py --break    write although a change is incompatible

A change that would break someone is refused: it is a new topic, or a new path.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from compatibility import incompatible
from penstock.api import errors
from penstock.api.app import openapi
from penstock.common import events
from penstock.common.topics import TOPICS, Topic
from settings_page import settings_page

ROOT = Path(__file__).parent.parent
TOPICS_YAML = ROOT / "deploy/topics.yaml"
ASYNCAPI = ROOT / "docs/contracts/asyncapi.json"
OPENAPI = ROOT / "docs/contracts/openapi.json"
ERRORS = ROOT / "docs/errors.md"
SETTINGS = ROOT / "docs/settings.md"
EXAMPLES = ROOT / "tests/contracts/examples"


def topics_yaml() -> str:
    """The register of topics, for operators."""
    table = {
        topic.name: {
            "description": (topic.body.__doc__ or "").strip().split("\n")[0],
            "owner": topic.owner,
            "producers": list(topic.producers),
            "consumer_groups": list(topic.groups),
            "read_by_every_instance_of": list(topic.readers),
            "key": topic.key,
            "partitions": topic.partitions,
            "retention_days": None if topic.compacted else topic.retention_ms // 86_400_000,
            "cleanup": "compact" if topic.compacted else "delete",
            "null_value": "delete" if topic.tombstones else "refused",
            "example": example(topic),
        }
        for topic in TOPICS
    }
    head = "# Written by `make contracts` from penstock.common.topics; do not edit.\n"
    return head + yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=100)


def example(topic: Topic[events.Event]) -> Any:
    return json.loads((EXAMPLES / f"{topic.name}.json").read_text())


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: one channel and one message per topic, the body's JSON Schema as payload."""
    headers = {
        name: {"type": "string"}
        for name in ("ce_id", "ce_tenant", "ce_job", "ce_subject", "ce_deadline", "traceparent")
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Penstock", "version": "1", "description": "Every topic and its body."},
        "channels": {
            topic.name: {
                "address": topic.name,
                "messages": {
                    topic.body.__name__: {
                        "contentType": "application/json",
                        "headers": {"type": "object", "properties": headers},
                        "payload": topic.body.model_json_schema(),
                        "examples": [{"payload": example(topic)}],
                    }
                },
            }
            for topic in TOPICS
        },
    }


def asyncapi_breaks(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name, channel in old["channels"].items():
        if name not in new["channels"]:
            yield f"{name} is gone"
            continue
        for message, body in channel["messages"].items():
            other = new["channels"][name]["messages"].get(message)
            if other is not None:
                yield from incompatible(body["payload"], other["payload"], f"{name}: ")


def openapi_breaks(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for path, operations in old["paths"].items():
        for method in operations:
            if method not in new["paths"].get(path, {}):
                yield f"{method.upper()} {path} is gone"
    schemas = new.get("components", {}).get("schemas", {})
    for name, schema in old.get("components", {}).get("schemas", {}).items():
        if name in schemas:
            yield from incompatible(schema, schemas[name], f"{name}.")


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--break", dest="breaking", action="store_true")
    options = arguments.parse_args()
    asynchronous, http = asyncapi(), openapi()
    broken: list[str] = []
    for path, new, breaks in (
        (ASYNCAPI, asynchronous, asyncapi_breaks),
        (OPENAPI, http, openapi_breaks),
    ):
        if path.exists():
            broken += breaks(json.loads(path.read_text()), new)
    if broken and not options.breaking:
        sys.stderr.write("incompatible changes:\n" + "".join(f"  {line}\n" for line in broken))
        return 1
    wanted = {
        TOPICS_YAML: topics_yaml(),
        ASYNCAPI: _text(asynchronous),
        OPENAPI: _text(http),
        ERRORS: errors.table() + "\n",
        SETTINGS: settings_page(),
    }
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    if options.check:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not current: run `make contracts`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
