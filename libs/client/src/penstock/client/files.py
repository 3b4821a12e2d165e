"""Which files a `penstock publish` means, and what each document is called."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from penstock.client.errors import PenstockError


def walk(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """
    Yield (document id, file). A file is called by its name, a file in a folder by its path below
    that folder. Hidden files and folders are left out.

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
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), file


def document_id(path: Path, roots: Iterable[Path]) -> str | None:
    """What `walk(roots)` calls this file, even when it is gone already; None: not one of them."""
    for root in roots:
        if root.is_dir() and path.is_relative_to(root):
            relative = path.relative_to(root)
            return None if any(p.startswith(".") for p in relative.parts) else relative.as_posix()
        if path == root:
            return path.name
    return None
