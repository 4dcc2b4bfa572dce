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

from .. import hardware
from ..chat.ollama_state import look
from ..context import StepContext
from ..events import CheckRow
from ..failures import UserError
from ..gguf_export.file_types import FILE_TYPES
from ..models.identity import read_base
from ..plan import DEMO, Plan
from ..run_directory import RunDirectory, write_json

REINSTALL = "python start.py"
ESSENTIAL = ("Python", "torch", "transformers", "tokenizers", "safetensors", "peft")
_PACKAGES = (
    *("transformers", "tokenizers", "safetensors", "peft", "accelerate", "datasets", "optuna", "numpy"),
    *("gguf", "libgguf", "xllamacpp"),
)
_GB = 1e9
_LITTLE_VRAM_BYTES = 7.5 * _GB
_LITTLE_RAM_BYTES = 7.5 * _GB
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
            "Nothing can work without {names}.", "{command} installs it.", names=", ".join(missing), command=REINSTALL
        )


def examine(plan: Plan, folder: Path) -> Iterator[CheckRow]:
    """The rows for this plan, in the order they are found; `folder` is the run's (or where one would be made)."""
    card = hardware.gpu()
    yield CheckRow("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _processor()
    yield _python()
    yield _utf8()
    torch = _imported("torch")
    yield _torch(torch, card)
    yield from (_package(name) for name in _PACKAGES)
    yield _bitsandbytes(isinstance(torch, ModuleType) and bool(torch.cuda.is_available()))
    yield _ollama()
    yield _gpu(plan, card)
    yield _ram()
    yield from _disks(plan, folder)
    yield from _long_paths()


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
    return CheckRow("Python", "missing", found, "Install Python 3.11, 3.12 or 3.13, then python start.py.")


def _utf8() -> CheckRow:
    encoding = locale.getpreferredencoding(do_setlocale=False)
    if sys.flags.utf8_mode or encoding.lower().replace("-", "") == "utf8":
        return CheckRow("UTF-8", "ok", "mode on" if sys.flags.utf8_mode else encoding)
    return CheckRow("UTF-8", "warning", encoding, "Set the environment variable PYTHONUTF8=1; python start.py does.")


def _imported(name: str) -> ModuleType | str:
    """The module, or in one line why it cannot be had."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())[:200]


def _torch(torch: ModuleType | str, card: hardware.Gpu | None) -> CheckRow:
    if isinstance(torch, str):
        return CheckRow("torch", "missing", torch, REINSTALL)
    version, cuda = str(torch.__version__), torch.version.cuda
    if card is None:
        return CheckRow("torch", "ok", version)
    if cuda is None:
        found = f"{version} cannot use the {card.name}: it is built for the processor alone"
        return CheckRow("torch", "warning", found, f"{REINSTALL} installs the CUDA build.")
    if not torch.cuda.is_available():
        found = f"{version} for CUDA {cuda}, but the driver {card.driver} does not run it"
        return CheckRow("torch", "warning", found, "Update the NVIDIA driver, then python start.py.")
    return CheckRow("torch", "ok", f"{version}, CUDA {cuda}")


def _package(name: str) -> CheckRow:
    try:
        return CheckRow(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return CheckRow(name, "missing", "not installed", REINSTALL)


def _bitsandbytes(cuda: bool) -> CheckRow:
    row = _package("bitsandbytes")
    if row.status == "ok" or cuda:
        return row
    return CheckRow("bitsandbytes", "ok", "not needed without CUDA")


def _ollama() -> CheckRow:
    state = look()
    if state.problem is None:
        return CheckRow("Ollama", "ok", f"{state.version} at {state.address}")
    return CheckRow("Ollama", "warning", state.problem.reason, state.problem.advice)


def _gpu(plan: Plan, card: hardware.Gpu | None) -> CheckRow:
    if card is None and plan.model.source == DEMO:
        return CheckRow("GPU", "ok", "none; the demo model needs none")
    if card is None:
        return CheckRow("GPU", "warning", "no NVIDIA GPU", "Without one only small models train in bearable time.")
    total = card.vram_total_bytes
    found = f"{card.name}, driver {card.driver}, CUDA up to {card.cuda}"
    if total is not None:
        found = f"{card.name}, {total / _GB:.1f} GB, driver {card.driver}, CUDA up to {card.cuda}"
    if total is not None and total < _LITTLE_VRAM_BYTES:
        return CheckRow("GPU", "warning", found, "Choose a small model and short sequences.")
    return CheckRow("GPU", "ok", found)


def _ram() -> CheckRow:
    total = hardware.ram_total_bytes()
    if total is None:
        return CheckRow("RAM", "warning", "cannot be read", "Make sure that 8 GB are there.")
    if total < _LITTLE_RAM_BYTES:
        return CheckRow("RAM", "warning", f"{total / _GB:.1f} GB", "Close other programs; 8 GB are the least.")
    return CheckRow("RAM", "ok", f"{total / _GB:.1f} GB")


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


def _long_paths() -> list[CheckRow]:
    """Windows refuses paths above 260 characters unless told otherwise; elsewhere there is nothing to look at."""
    rows: list[CheckRow] = []
    if sys.platform == "win32":
        import winreg

        place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
                value, _ = winreg.QueryValueEx(key, "LongPathsEnabled")
        except OSError:
            value = 0
        fix = f"In an administrator's PowerShell: Set-ItemProperty HKLM:\\{place} LongPathsEnabled 1"
        found = "on" if value else "off: paths above 260 characters fail"
        rows.append(CheckRow("long paths", "ok" if value else "warning", found, "" if value else fix))
    return rows
