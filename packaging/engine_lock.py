"""Writes resources/engine/: which wheels the engine is made of, each with its SHA-256.

    python packaging/engine_lock.py            resolve anew and write
    python packaging/engine_lock.py --check    only say whether the lock still covers pyproject.toml; no network

What pyproject.toml pins for the engine, and all it needs, for 64-bit Windows and Linux. Torch and what belongs to it
(NVIDIA's libraries, triton) are left out: which build a machine takes is decided there, and PyTorch's own index, which
alone has them all, names their hashes when they are fetched.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "resources" / "engine"
PYTHON = "3.11"
WINDOW_ONLY = {"pyside6-essentials", "pyqtgraph"}
ENGINE_ONLY = ["pip"]  # fetches the demo model
WITH_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*|triton-windows)$")
SYSTEMS = {
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
}
PLATFORM = {"windows": re.compile(r"any|win_amd64"), "linux": re.compile(r"any|(many)?linux\w*x86_64")}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="write nothing")
    if options.parse_args().check:
        return check()
    packages = resolved(["--universal"])
    everywhere = {name: row for name, row in packages.items() if not WITH_TORCH.match(name) or name in pinned()}
    del everywhere["torch"]
    only_cuda = {name: everywhere.pop(name) for name in cuda_pins()}
    LOCKS.mkdir(parents=True, exist_ok=True)
    write(LOCKS / "requirements.lock", "Everything but torch", everywhere)
    write(LOCKS / "cuda.lock", "What is wanted on top where torch is built for CUDA", only_cuda)
    (LOCKS / "torch.txt").write_text(f"torch=={pinned()['torch']}\n", encoding="utf-8", newline="\n")
    sizes = {system: sum(size(row, system) for row in everywhere.values()) for system in SYSTEMS}
    text = json.dumps({"python": PYTHON, "download_bytes": sizes}, indent=1) + "\n"
    (LOCKS / "engine.json").write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(everywhere)} + {len(only_cuda)} packages; to fetch besides torch: {sizes}")
    return check()


def check() -> int:
    """1 where a pin of pyproject.toml is not what the lock holds."""
    files = ("requirements.lock", "cuda.lock", "torch.txt")
    text = "".join((LOCKS / name).read_text(encoding="utf-8") for name in files)
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))
    wanted = {name: version for name, version in (pinned() | cuda_pins()).items() if name not in WINDOW_ONLY}
    for name, version in wanted.items():
        if locked.get(name) != version:
            print(f"{name} is pinned at {version} and locked at {locked.get(name)}: run packaging/engine_lock.py")
            return 1
    return 0


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, str]:
    found = map(Requirement, lines)
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}


def pinned() -> dict[str, str]:
    return pins(project()["dependencies"])


def cuda_pins() -> dict[str, str]:
    return pins(project()["optional-dependencies"]["cuda"])


def resolved(options: list[str]) -> dict[str, dict[str, Any]]:
    wanted = {**pinned(), **cuda_pins()}
    lines = [f"{name}=={version}" for name, version in wanted.items() if name not in WINDOW_ONLY] + ENGINE_ONLY
    command = [find_uv_bin(), "pip", "compile", "-", "--no-config", "--format", "pylock.toml", "--only-binary", ":all:"]
    command += ["--python-version", PYTHON, "--quiet", *options]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(done.stderr)
    rows = tomllib.loads(done.stdout)["packages"]
    return {row["name"]: row for row in rows if any(applies(row, system) for system in SYSTEMS)}


def applies(row: dict[str, Any], system: str) -> bool:
    environment = {**SYSTEMS[system], "python_version": PYTHON, "python_full_version": f"{PYTHON}.9"}
    environment |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return "marker" not in row or Marker(row["marker"]).evaluate(environment)


def wheels(row: dict[str, Any], system: str) -> list[dict[str, Any]]:
    if not applies(row, system):
        return []
    found = [wheel for wheel in row["wheels"] if fits(wheel["url"].rsplit("/", 1)[-1], system)]
    if not found:
        sys.exit(f"{row['name']} {row['version']} has no wheel for {system}")
    return found


def fits(file: str, system: str) -> bool:
    """Whether the engine's Python takes that wheel on this system."""
    known = (*cpython_tags((3, 11), platforms=["any"]), *compatible_tags((3, 11), platforms=["any"]))
    accepted = {(tag.interpreter, tag.abi) for tag in known}
    tags = parse_wheel_filename(file)[3]
    return any((tag.interpreter, tag.abi) in accepted and PLATFORM[system].fullmatch(tag.platform) for tag in tags)


def size(row: dict[str, Any], system: str) -> int:
    return max((wheel["size"] for wheel in wheels(row, system)), default=0)


def write(path: Path, title: str, packages: dict[str, dict[str, Any]]) -> None:
    lines = [f"# {title}, for the engine's environment. Written by packaging/engine_lock.py; do not edit."]
    for name, row in sorted(packages.items()):
        hashes = sorted({wheel["hashes"]["sha256"] for system in SYSTEMS for wheel in wheels(row, system)})
        where = [system for system in SYSTEMS if applies(row, system)]
        marker = f" ; sys_platform == '{SYSTEMS[where[0]]['sys_platform']}'" if len(where) == 1 else ""
        lines.append(" \\\n    ".join([f"{name}=={row['version']}{marker}", *(f"--hash=sha256:{h}" for h in hashes)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
