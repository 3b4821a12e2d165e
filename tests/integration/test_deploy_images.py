"""What an image would hold is enough for its service, and holds no other service.

Without an engine this runs what deploy/Dockerfile runs, into a folder instead of an image.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SERVICES = ("api", "ingest", "guard", "embed", "retrieve", "generate")
IMPORT_ALL = """
import importlib, pkgutil, sys
import penstock.common.probe
package = importlib.import_module(f"penstock.{sys.argv[1]}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import penstock
print(*sorted(module.name for module in pkgutil.iter_modules(penstock.__path__)))
"""


def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv/bin"))
    if found is None:
        pytest.skip("uv is neither on PATH nor in .uv/bin")
    return found


@pytest.mark.parametrize("package", [*SERVICES, "client"])
def test_an_image_has_all_that_its_service_imports_and_no_other_service(
    package: str, tmp_path: Path
) -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    options = re.search(r"uv sync (.*?) --package", text)
    assert options is not None
    environment = {
        **{n: v for n, v in os.environ.items() if n != "VIRTUAL_ENV"},
        "UV_PROJECT_ENVIRONMENT": str(tmp_path / "penstock"),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }
    subprocess.run(
        [uv(), "sync", "--quiet", *options[1].split(), "--package", f"penstock-{package}"],
        cwd=ROOT, env=environment, check=True, timeout=240,
    )  # fmt: skip
    python = tmp_path / "penstock/bin/python"
    done = subprocess.run(
        [python, "-P", "-c", IMPORT_ALL, package],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & {*SERVICES, "client", "local"} == {package}
    if package == "client":
        helped = subprocess.run(
            [tmp_path / "penstock/bin/penstock", "bootstrap", "--help"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert "acls" in helped.stdout
    shutil.rmtree(tmp_path / "penstock")
