"""The few lines of `settings.env` that point the answerer at the local model."""

from collections.abc import Mapping
from pathlib import Path

from penstock.local.files import write_atomically

_BEGIN = "# >>> penstock llm up wrote these lines; penstock llm down takes them back"
_END = "# <<< penstock llm"


def with_block(text: str, values: Mapping[str, str]) -> str:
    """`text` with the lines at its end, where they pass before the person's own."""
    kept = without_block(text)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return f"{kept}{_BEGIN}\n{lines}{_END}\n"


def without_block(text: str) -> str:
    """`text` as the person wrote it; a block whose end is missing reaches to the end."""
    before, _, rest = text.partition(f"{_BEGIN}\n")
    _, _, after = rest.partition(f"{_END}\n")
    return before + after


def holds_block(folder: Path) -> bool:
    return _BEGIN in _read(_path(folder))


def give(folder: Path, values: Mapping[str, str]) -> bool:
    """Write the lines; False when they are there already. Raises OSError."""
    return _write(folder, with_block(_read(_path(folder)), values))


def take_back(folder: Path) -> bool:
    """Remove the lines; False when there are none. Raises OSError."""
    return _write(folder, without_block(_read(_path(folder))))


def _write(folder: Path, text: str) -> bool:
    path = _path(folder)
    if text == _read(path):
        return False
    if text:
        write_atomically(path, text, mode=0o600)  # it holds a key
    else:
        path.unlink()
    return True


def _path(folder: Path) -> Path:
    return folder / "settings.env"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
