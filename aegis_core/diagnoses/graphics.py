"""GPU, driver, torch and the libraries between them."""

import importlib
import importlib.metadata as metadata
from dataclasses import replace
from types import ModuleType
from typing import Any

from .. import hardware, platforms
from ..engine.remedy import remedy
from ..engine.torch_build import choose_build, needed_driver
from ..events import CheckRow
from ..plan import DEMO, Plan

_GB = 1e9
_LITTLE_VRAM_BYTES = 7.5 * _GB
_TAKEN_BYTES = 2.5 * _GB  # a desktop with a browser takes less


def absent_row(name: str) -> CheckRow:
    """A package that is not there, and what brings it."""
    return _with_remedy(CheckRow(name, "missing", "not installed"))


def _with_remedy(row: CheckRow) -> CheckRow:
    mending = remedy()
    return replace(row, fix=mending.command, mend=mending.mend)


def torch_row(torch: ModuleType | str, card: hardware.Gpu | None) -> CheckRow:
    """`torch` is the module, or in words why it cannot be loaded."""
    if isinstance(torch, str):
        return _with_remedy(CheckRow("torch", "missing", torch))
    version, cuda = str(torch.__version__), torch.version.cuda
    if card is None:
        return CheckRow("torch", "ok", version)
    if cuda is None:
        return _built_for_the_processor(version, card)
    if not torch.cuda.is_available():
        found = f"{version} for CUDA {cuda}, but the driver {card.driver} does not run it"
        if _older(card.cuda, cuda):
            found = f"{version} needs CUDA {cuda}, but the driver {card.driver} is too old: it runs up to {card.cuda}"
        fix = f"Update the NVIDIA driver, then {remedy().command}."
        return CheckRow("torch", "warning", found, fix, "nvidia_driver")
    return CheckRow("torch", "ok", f"{version}, CUDA {cuda}")


def _built_for_the_processor(version: str, card: hardware.Gpu) -> CheckRow:
    """What installs AEGIS chooses that build too where the driver is too old for the card: then that comes first."""
    capable, mending = hardware.cuda_card(), remedy()
    found = f"{version} cannot use the {card.name}: it is built for the processor alone"
    if choose_build(capable).is_cuda:
        return CheckRow("torch", "warning", found, f"{mending.command} installs the CUDA build.", mending.mend)
    needed = needed_driver(capable) if capable else None
    if capable and needed is None:
        return CheckRow("torch", "warning", f"no build of torch for CUDA knows the {card.name}", "Use another card.")
    if needed:
        cuda = ".".join(map(str, needed))
        found = f"for the {card.name} torch needs CUDA {cuda}, and the driver {card.driver} runs {card.cuda}"
    return CheckRow("torch", "warning", found, f"Update the NVIDIA driver, then {mending.command}.", "nvidia_driver")


def bitsandbytes_row(cuda: bool) -> CheckRow:
    """Where CUDA works, 64 numbers are really quantised on the card: an installed package proves nothing."""
    name = "bitsandbytes"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        if not cuda:
            return CheckRow(name, "ok", "not needed without CUDA")
        return absent_row(name)
    if not cuda:
        return CheckRow(name, "ok", version)
    try:
        _quantise()
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        words = " ".join(str(error).split())[:200]
        found = f"{version} cannot quantise on the GPU: {words}"
        mending = remedy()
        fix = f"{mending.command} mends it; until then train without quantisation."
        return CheckRow(name, "warning", found, fix, mending.mend)
    return CheckRow(name, "ok", version)


def gpu_row(plan: Plan, card: hardware.Gpu | None) -> CheckRow:
    """The card, what it has, and who else uses it."""
    if card is None:
        return _no_card(plan)
    total, used = card.vram_total_bytes, card.vram_used_bytes
    found = f"{card.name}, driver {card.driver}, CUDA up to {card.cuda}"
    if total is not None:
        found = f"{card.name}, {total / _GB:.1f} GB, driver {card.driver}, CUDA up to {card.cuda}"
    if total is not None and total < _LITTLE_VRAM_BYTES:
        return CheckRow("GPU", "warning", found, "Choose a small model and short sequences.")
    if total is not None and used is not None and used > _TAKEN_BYTES:
        found = f"{card.name}, {total / _GB:.1f} GB, of which other programs hold {used / _GB:.1f} GB already"
        fix = "Close games, browsers and other models before the training; Ollama's panel unloads its own."
        return CheckRow("GPU", "warning", found, fix, "ollama")
    return CheckRow("GPU", "ok", found)


def spill_rows(card: hardware.Gpu | None) -> list[CheckRow]:
    """Windows lends RAM to a full card; whether it tells how much decides whether AEGIS can warn."""
    system = platforms.here()
    if card is None or system.name != "win32":
        return []
    if system.gpu_memory(frozenset()) is None:
        found = "Windows does not tell how much graphics memory has moved into RAM"
        fix = (
            "If training is suddenly many times slower, the card is full. In the NVIDIA control panel, set “CUDA - "
            "Sysmem Fallback Policy” to “Prefer No Sysmem Fallback”."
        )
        return [CheckRow("shared graphics memory", "warning", found, fix)]
    return [CheckRow("shared graphics memory", "ok", "is watched during the training")]


def _no_card(plan: Plan) -> CheckRow:
    adapters = platforms.here().graphics_adapters()
    if any("NVIDIA" in name for name in adapters):
        found = "there is an NVIDIA GPU, but its driver does not answer"
        return CheckRow(
            "GPU", "warning", found, "Install the NVIDIA driver and start the computer anew.", "nvidia_driver"
        )
    if plan.model.source == DEMO:
        return CheckRow("GPU", "ok", "none; the demo model needs none")
    fix = "Without one only small models train in bearable time."
    if adapters:
        names = ", ".join(adapters)
        return CheckRow("GPU", "warning", f"no NVIDIA GPU; there is {names}, which AEGIS cannot train on", fix)
    return CheckRow("GPU", "warning", "no NVIDIA GPU", fix)


def _older(have: str | None, need: str) -> bool:
    if have is None:
        return False
    numbers: list[tuple[int, ...]] = [
        tuple(int(part) for part in version.split(".") if part.isdecimal()) for version in (have, need)
    ]
    return numbers[0] < numbers[1]


def _quantise() -> None:
    torch: Any = importlib.import_module("torch")
    importlib.import_module("bitsandbytes.functional").quantize_4bit(torch.ones(64, device="cuda"))
