"""Bills of materials as CycloneDX JSON: of the window as frozen, and of the engine as locked.

    python packaging/bill_of_materials.py OUT_DIR     writes window.cdx.json and engine.cdx.json

build.py writes the window's into the frozen folder.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from project import RESOURCES, ROOT, package_pin, version
from tools import Stopped, run, told

WINDOW, ENGINE = "window.cdx.json", "engine.cdx.json"
SPEC_VERSION = "1.6"
ENGINE_LOCKS = tuple(RESOURCES / "engine" / name for name in ("requirements.lock", "cuda.lock", "torch.txt"))


def write_window(python: Path, path: Path) -> None:
    """What stands in the frozen window's folder: the packages of `python`'s environment, that Python, and uv."""
    bill = _of_command("environment", python, path)
    name, _, number = package_pin("uv").partition("==")
    python_version = told([python, "-c", "import platform; print(platform.python_version())"]).strip()
    extra = [
        _component(name, number, f"pkg:pypi/{name}@{number}", "MIT OR Apache-2.0"),
        _component("python", python_version, f"pkg:generic/python@{python_version}", "PSF-2.0"),
    ]
    _save(with_components(bill, extra), path)


def write_engine(path: Path) -> None:
    """What the engine's environment is made of: every locked package. Torch's build is chosen on each machine."""
    with tempfile.TemporaryDirectory() as scratch:
        together = Path(scratch) / "engine.txt"
        together.write_text("".join(lock.read_text(encoding="utf-8") for lock in ENGINE_LOCKS), encoding="utf-8")
        _save(_of_command("requirements", together, path), path)


def with_components(bill: Mapping[str, Any], extra: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The bill with more components. ValueError if the result is no valid CycloneDX."""
    made = {**bill, "components": [*bill.get("components", []), *extra]}
    if problem := problem_of(made):
        raise ValueError(f"The bill of materials is not valid: {problem}")
    return made


def problem_of(bill: Mapping[str, Any]) -> str:
    """Why it is no valid CycloneDX document, empty if it is one."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.from_version(SPEC_VERSION)).validate_str(json.dumps(bill))
    return "" if error is None else str(error)[:500]


def _of_command(kind: str, subject: Path, path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        kind,
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-reproducible",
    ]
    run([*command, "--sv", SPEC_VERSION, "--of", "JSON", "-o", path, subject])
    return json.loads(path.read_text(encoding="utf-8"))


def _component(name: str, number: str, purl: str, licence: str) -> dict[str, Any]:
    return {
        "type": "application",
        "bom-ref": f"{name}=={number}",
        "name": name,
        "version": number,
        "purl": purl,
        "licenses": [{"expression": licence}],
    }


def _save(bill: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(bill, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    from build import window_python

    out = Path(sys.argv[1])
    try:
        write_engine(out / ENGINE)
        window_python(ROOT / "build" / "window-environment", bill=out / WINDOW)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 1
    for path in sorted(out.glob("*.cdx.json")):
        n_components = len(json.loads(path.read_text(encoding="utf-8"))["components"])
        print(f"{path}: {n_components} components, AEGIS {version()}, valid CycloneDX {SPEC_VERSION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
