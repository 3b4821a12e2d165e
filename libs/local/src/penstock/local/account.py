"""Whom PostgreSQL runs as: it refuses to run as root, so root lends it an unprivileged account.

The account may not be able to enter the folders above the data (a home of mode 700, a test's
scratch folder). Nothing above the data is opened for it: the server is handed the open folder
itself and names it through `/proc/self/fd`. Programs cannot be run that way; when the account
cannot reach them, they are copied once to where it can.
"""

import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from penstock.local.failures import StackError

_ACCOUNTS = ("postgres", "nobody")
_PROGRAMS = Path("/var/lib/penstock")


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account for servers that refuse root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL refuses to run as root and there is neither a user postgres nor nobody to run "
        "it as: run penstock as an ordinary user."
    )


def reaches(account: Account, path: Path) -> bool:
    """Whether the account may enter every folder down to `path` (by mode; no ACLs)."""
    return all(_enters(account, folder) for folder in [path, *path.parents] if folder.is_dir())


def _enters(account: Account, folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def reachable_copy(account: Account, programs: tuple[Path, ...], name: str) -> Path:
    """The folder that holds `programs` (folders side by side) where the account can run them."""
    home = programs[0].parent
    if all(reaches(account, folder) for folder in programs):
        return home
    copy = _PROGRAMS / name
    if not copy.is_dir():
        _PROGRAMS.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=_PROGRAMS, prefix=f".{name}-"))
        for folder in programs:
            shutil.copytree(folder, scratch / folder.name, symlinks=True)
        scratch.chmod(0o755)
        try:
            scratch.rename(copy)
        except OSError:
            shutil.rmtree(scratch)
            if not copy.is_dir():
                raise
    if not reaches(account, copy):
        raise StackError(
            f"PostgreSQL refuses to run as root, and the user {account.name} cannot enter {copy}: "
            "run penstock as an ordinary user."
        )
    return copy
