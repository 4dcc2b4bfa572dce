"""What the packaging commands know of the project: its folders, its version, its pins."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
RESOURCES = ROOT / "resources"
WINDOW_LOCK = PACKAGING / "window.lock"
_SUFFIX = ".exe" if sys.platform == "win32" else ""
EXECUTABLE, TERMINAL = "aegis-window" + _SUFFIX, "aegis" + _SUFFIX

# What the window and the terminal beside it import; the versions stand in pyproject.toml alone. A test compares this
# with the real imports.
WINDOW_REQUIREMENTS = (
    "PySide6-Essentials",
    "pyqtgraph",
    "numpy",
    "pydantic",
    "httpx",
    "filelock",
    "platformdirs",
    "psutil",
    "nvidia-ml-py",
    "typer",
    "rich",
)


def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def version() -> str:
    return project()["version"]


def pins(*extras: str) -> list[str]:
    """The project's own requirements, `name==version` each, and those of the extras."""
    found = project()
    return found["dependencies"] + [pin for extra in extras for pin in found["optional-dependencies"][extra]]


def window_pins() -> list[str]:
    """Those pins that the window needs; KeyError if pyproject.toml has lost one."""
    by_name = {pin.partition("==")[0].lower(): pin for pin in pins()}
    return [by_name[name.lower()] for name in WINDOW_REQUIREMENTS]


def package_pin(name: str) -> str:
    """The pin of a tool of the `package` extra."""
    return next(pin for pin in pins("package") if pin.partition("==")[0].lower() == name.lower())


if __name__ == "__main__":
    print(version())
