"""Which port a server listens on: the one that was set, the default, or a free one."""

import random
import socket
from collections.abc import Callable

from penstock.local.failures import StackError

# Below the range from which Linux takes the ports of outgoing connections, so that a connection
# made between choosing and binding cannot take it.
FREE_RANGE = range(20_000, 32_000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(free: Callable[[int], bool] = is_free) -> int:
    """Any free port; `StackError` when a hundred tries find none."""
    for _ in range(100):
        port = random.choice(FREE_RANGE)  # noqa: S311  (no secret)
        if free(port):
            return port
    raise StackError("No free port was found between 20000 and 32000.")


def choose(
    name: str, *, set_port: int | None, default: int, free: Callable[[int], bool] = is_free
) -> int:
    """The port for `name`. One that was set must be free; a default in use moves."""
    if set_port is not None:
        if not 0 <= set_port <= 65535:
            raise StackError(f"Port {set_port} for {name} is not between 0 and 65535.")
        if set_port == 0:
            return free_port(free)
        if not free(set_port):
            raise StackError(f"Port {set_port}, set for {name}, is in use; free it or set another.")
        return set_port
    return default if free(default) else free_port(free)


class Ports:
    """The ports of a stack's processes: given out once each, and to the same process for ever."""

    def __init__(self, free: Callable[[int], bool] = is_free) -> None:
        self._free = free
        self.given: dict[str, int] = {}
        """By process name."""

    def give(self, name: str, *, set_port: int | None = None, default: int = 0) -> int:
        """As `choose`; `default` 0: any free one."""
        if name not in self.given:
            wanted = 0 if set_port is None and default == 0 else set_port
            self.given[name] = choose(name, set_port=wanted, default=default, free=self._is_free)
        return self.given[name]

    def _is_free(self, port: int) -> bool:
        """Not even one given to a process that does not listen on it yet."""
        return port not in self.given.values() and self._free(port)
