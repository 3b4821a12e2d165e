"""What goes wrong with the stack, said so that the person at the terminal knows what to do."""

import errno


class StackError(Exception):
    """One plain sentence for the operator; the command prints it and exits with 1."""


def from_os(error: OSError, doing: str) -> StackError:
    """The sentence for a disk or permission error met while `doing` something."""
    where = f" ({error.filename})" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            reason = "the disk is full; free some space and try again"
        case errno.EROFS:
            reason = "the file system is read-only; choose another folder with --folder"
        case errno.EACCES | errno.EPERM:
            reason = "permission denied; choose a folder that you own with --folder"
        case _:
            reason = error.strerror or str(error)
    return StackError(f"{doing}{where}: {reason}.")
