"""Fetch model files ahead: `python -m penstock.models.fetch [MODEL…]`."""

import sys

from penstock.common.failures import PermanentError, TransientError
from penstock.models.cache import model_files
from penstock.models.registry import DEFAULT_MODEL, model_spec
from penstock.models.settings import ModelSettings


class ProgressLine:
    """One line on stderr: rewritten on a terminal, written once into a log."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._live = sys.stderr.isatty()

    def __call__(self, done: int, size: int | None) -> None:
        if self._live:
            share = f" of {size / 1e6:.0f}" if size else ""
            sys.stderr.write(f"\r{self._label}: {done / 1e6:.0f}{share} MB ")
            sys.stderr.flush()

    def finish(self, text: str) -> None:
        start, end = ("\r", "\033[K") if self._live else ("", "")
        sys.stderr.write(f"{start}{self._label}: {text}{end}\n")


def main(arguments: list[str]) -> int:
    settings = ModelSettings()
    for name in arguments or [DEFAULT_MODEL]:
        line = ProgressLine(f"{name} {settings.embed_precision}")
        try:
            files = model_files(model_spec(name), settings.embed_precision, settings, line)
        except (PermanentError, TransientError) as error:
            line.finish(str(error))
            return 1
        line.finish(f"in {files.onnx.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
