"""Which files a `penstock publish` means, and what each document is called."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.client.errors import PenstockError


def walk(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """
    Yield (document id, file). A file is called by its name, a file in a folder by its path below
    that folder. Hidden files and folders are left out, and links that lead out of the folder: who
    may drop files there is not to publish every file that the caller can read.

    Raises:
        PenstockError: a path does not exist, or two files would get one id.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise PenstockError(f"{path} does not exist")
        for document_id, file in _below(path):
            other = seen.setdefault(document_id, file)
            if other.resolve() != file.resolve():
                raise PenstockError(
                    f"{other} and {file} would both be the document {document_id!r}; "
                    "publish them from a common folder"
                )
            yield document_id, file


def _below(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
        return
    home = path.resolve()
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and file.is_file() and file.resolve().is_relative_to(home):
            yield relative.as_posix(), file


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was last looked at."""

    path: Path
    changed_ns: int
    size: int


def scan(paths: Iterable[Path]) -> dict[str, Seen]:
    """Every document's file now, by document id; a path that is gone has none."""
    found = {}
    for name, path in walk([path for path in paths if path.exists()]):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found[name] = Seen(path, status.st_mtime_ns, status.st_size)
    return found


def differences(
    before: Mapping[str, Seen], now: Mapping[str, Seen]
) -> tuple[dict[str, Path], list[str]]:
    """What is to be published, and which documents' files have disappeared."""
    changed = {name: seen.path for name, seen in now.items() if before.get(name) != seen}
    return changed, sorted(before.keys() - now.keys())
