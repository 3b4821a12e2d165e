"""A process that its neighbours cannot look into. Needs nothing but the standard library."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def close_to_neighbours() -> None:
    """From here on no other process of the same user reads this one's environment or memory.

    A parse worker runs as the same user as the service that started it, whose passwords stand in
    `/proc/<pid>/environ`. On Linux the files there then belong to root, nobody attaches as a
    debugger, and no core is dumped; what the process does and how much memory it takes can still be
    seen. Whoever is root (with CAP_SYS_PTRACE) reads everything, so run services as another user.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
