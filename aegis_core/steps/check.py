"""What this machine has, what is missing and what mends it; every row is read, none assumed."""

import importlib
import importlib.metadata as metadata
import locale
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import psutil

from .. import hardware, platforms
from ..chat.ollama_state import look
from ..context import StepContext
from ..diagnoses import graphics, memory, places, reach
from ..engine.remedy import remedy
from ..events import CheckRow
from ..failures import UserError
from ..gguf_export.file_types import FILE_TYPES
from ..models.identity import read_base
from ..plan import DEMO, Plan
from ..run_directory import RunDirectory, write_json

ESSENTIAL = ("Python", "torch", "transformers", "tokenizers", "safetensors", "peft")
_PACKAGES = (
    *("transformers", "tokenizers", "safetensors", "peft", "accelerate", "datasets", "optuna", "numpy"),
    *("gguf", "libgguf", "xllamacpp"),
)
_GB = 1e9
_LITTLE_DISK_BYTES = 5 * _GB


def run(plan: Plan, ctx: StepContext) -> None:
    """Emit a row for everything looked at and leave check/check.json; UserError if nothing can work without it."""
    rows: list[CheckRow] = []
    for row in examine(plan, ctx.run.path):
        ctx.cancel.check()
        ctx.emit(row)
        rows.append(row)
    path = ctx.folder / "check.json"
    write_json(path, [{k: v for k, v in asdict(row).items() if k not in ("at", "stage")} for row in rows])
    ctx.artifact(path)
    if missing := [row.name for row in rows if row.status == "missing" and row.name in ESSENTIAL]:
        raise UserError(
            "Nothing can work without {names}.",
            "{command} installs it.",
            names=", ".join(missing),
            command=remedy().command,
        )


def examine(plan: Plan, folder: Path) -> Iterator[CheckRow]:
    """The rows for this plan, in the order they are found; `folder` is the run's (or where one would be made)."""
    hub = reach.asked(plan)
    card = hardware.gpu()
    yield CheckRow("system", "ok", platforms.here().description())
    yield _processor()
    yield _python()
    yield _utf8()
    yield from _runtimes()
    torch = _imported("torch")
    yield graphics.torch_row(torch, card)
    yield from (_package(name) for name in _PACKAGES)
    yield graphics.bitsandbytes_row(isinstance(torch, ModuleType) and bool(torch.cuda.is_available()))
    yield graphics.gpu_row(plan, card)
    yield from graphics.spill_rows(card)
    yield memory.ram_row()
    yield from memory.page_file_rows()
    yield from _disks(plan, folder)
    yield from places.speed_rows(folder)
    yield from places.path_rows(folder)
    yield reach.ollama_row(look())
    yield from hub()


def _processor() -> CheckRow:
    """Its kind as far as the system tells, and how many cores; what comes out of a run may depend on both."""
    name = platform.processor() or platform.machine()
    cores = psutil.cpu_count(logical=False)
    if cores is None:
        return CheckRow("processor", "ok", name)
    return CheckRow("processor", "ok", f"{name}, {cores} cores")


def _python() -> CheckRow:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return CheckRow("Python", "ok", found)
    return CheckRow("Python", "missing", found, f"Install Python 3.11, 3.12 or 3.13, then {remedy().command}.")


def _utf8() -> CheckRow:
    encoding = locale.getpreferredencoding(do_setlocale=False)
    if sys.flags.utf8_mode or encoding.lower().replace("-", "") == "utf8":
        return CheckRow("UTF-8", "ok", "mode on" if sys.flags.utf8_mode else encoding)
    return CheckRow("UTF-8", "warning", encoding, "Set the environment variable PYTHONUTF8=1, then check again.")


def _runtimes() -> Iterator[CheckRow]:
    """Windows' own libraries for programs in C++, which come with an installer of Microsoft's."""
    system = platforms.here()
    if not system.case_blind_drives:
        return
    if missing := system.missing_runtimes():
        found = f"{', '.join(missing)} cannot be loaded"
        fix = "Install Microsoft's Visual C++ Redistributable (x64), then check again."
        yield CheckRow("Visual C++ runtime", "warning", found, fix, "visual_cpp")
    else:
        yield CheckRow("Visual C++ runtime", "ok", "is there")


def _imported(name: str) -> ModuleType | str:
    """The module, or in one line why it cannot be had."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())[:200]


def _package(name: str) -> CheckRow:
    try:
        return CheckRow(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return graphics.absent_row(name)


def _disks(plan: Plan, folder: Path) -> Iterator[CheckRow]:
    """Free space wherever this plan writes, against what it will write there as far as the model's size is known."""
    n_parameters = _n_parameters(plan, folder)
    homes = {
        "run": (folder, _run_bytes),
        "fused model": (Path(plan.fuse.directory).expanduser() if plan.fuse.directory else folder, _fused_bytes),
        "GGUF": (Path(plan.export.directory).expanduser() if plan.export.directory else folder, _gguf_bytes),
    }
    for place in dict.fromkeys(place for place, _ in homes.values()):
        here = {name: needs for name, (home, needs) in homes.items() if home == place}
        needed = None if n_parameters is None else sum(needs(plan, n_parameters) for needs in here.values())
        yield _disk(f"disk ({', '.join(here)})", place, needed)


def _disk(name: str, place: Path, needed: float | None) -> CheckRow:
    free = hardware.disk_free_bytes(place)
    if free is None:
        return CheckRow(name, "warning", f"{place} cannot be read", "Choose a folder on a drive that is there.")
    found = f"{free / _GB:.1f} GB free at {place}"
    if needed is not None:
        found = f"{free / _GB:.1f} GB free at {place}, about {needed / _GB:.1f} GB will be written"
    if free < (_LITTLE_DISK_BYTES if needed is None else needed):
        return CheckRow(name, "warning", found, "Free some space or choose another drive.")
    return CheckRow(name, "ok", found)


def _n_parameters(plan: Plan, folder: Path) -> int | None:
    """Size of the base: as prepared, or estimated from the files of a local folder; None while it is not known."""
    run = RunDirectory(folder)
    if (run.step_folder("prepare") / "base.json").is_file():
        base = read_base(run)
        if base.source == plan.model.source:
            return base.n_parameters
    local = Path(plan.model.source).expanduser()
    if plan.model.source != DEMO and local.is_dir():
        return sum(path.stat().st_size for path in local.glob("*.safetensors")) // 2 or None
    return None


def _run_bytes(plan: Plan, n_parameters: int) -> float:
    """Adapters and checkpoints: about a hundredth of the model each, with the optimiser's two moments."""
    return n_parameters * 4 * 3 / 100 * (plan.train.keep_checkpoints + 1)


def _fused_bytes(plan: Plan, n_parameters: int) -> float:
    return n_parameters * 2.0


def _gguf_bytes(plan: Plan, n_parameters: int) -> float:
    return sum(n_parameters * FILE_TYPES[kind].bytes_per_parameter for kind in plan.export.types)
