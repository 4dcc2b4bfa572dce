"""Writes packaging/window.lock: every package of the window with its hashes, for every system and Python at once.

    python packaging/lock_window.py

Needed again whenever a pin of the window changes in pyproject.toml; a test says so.
"""

import sys
import tempfile
from pathlib import Path

from project import WINDOW_LOCK, window_pins
from tools import Stopped, run, uv


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "window.in"
        wanted.write_text("\n".join(window_pins()) + "\n", encoding="utf-8")
        rules = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        try:
            run([uv(), "pip", "compile", wanted, *rules, "--upgrade", "--quiet", "--output-file", WINDOW_LOCK])
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 1
    print(f"{WINDOW_LOCK} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
