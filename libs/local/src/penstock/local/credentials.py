"""The stack's own secrets: random, made once, readable by their owner alone."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from penstock.common.bootstrap.database import SCHEMAS
from penstock.local.failures import StackError, from_os
from penstock.local.files import write_atomically


def _token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `secrets.json` holds."""

    service_secret: str = field(default_factory=_token, repr=False)
    """Signs the tokens between services."""
    operator_key: str = field(
        default_factory=lambda: f"pk_local_{secrets.token_hex(24)}", repr=False
    )
    """The first API key, of the person who runs the stack: `pk_<id>_<secret>`."""
    llm_key: str = field(default_factory=_token, repr=False)
    """Opens the local model's server, to the answerer alone."""
    database: dict[str, str] = field(
        default_factory=lambda: {schema: _token() for schema in SCHEMAS}, repr=False
    )
    """By schema: the password of the role that owns it."""

    @classmethod
    def load(cls, folder: Path) -> "Credentials":
        """Read `secrets.json` of the folder, or make it. `StackError` when it cannot be used."""
        path = folder / "secrets.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = json.loads(path.read_text()) if path.exists() else {}
            made = asdict(cls())
            database = {**made["database"], **known.get("database", {})}
            whole = {**made, **{k: v for k, v in known.items() if k in made}, "database": database}
            if whole != known:
                write_atomically(path, json.dumps(whole, indent=2) + "\n", mode=0o600)
        except OSError as error:
            raise from_os(error, f"The stack's folder {folder} cannot be used") from error
        except ValueError as error:
            raise StackError(
                f"{path} is not readable as JSON ({error}); restore it, or delete the whole folder "
                "to start with new data."
            ) from error
        return cls(**whole)
