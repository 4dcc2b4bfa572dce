"""What this machine has and how busy it is. Nothing here raises; what cannot be read is None. Light: no torch."""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from . import platforms
from .events import Telemetry

# torch counts the fastest card first unless told to follow the driver (NVML), whose numbers are read here. To be in the
# environment before torch is imported.
CARD_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
SPILT_BYTES = 300_000_000  # shared graphics memory above this means that the card is full; some is always in use


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it; readings the driver withholds are None."""

    name: str
    driver: str | None
    cuda: str | None
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    vram_own_bytes: int | None
    percent: float | None
    celsius: float | None
    watts: float | None
    vram_shared_bytes: int | None = None


def gpu(own_pids: frozenset[int] = frozenset()) -> Gpu | None:
    """The GPU that torch would use first, or None where there is none; memory of `own_pids` counts as own."""
    first = _first_visible()
    if first is None or not _driver():
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(first)
        name = pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError:
        return None
    memory = _try(pynvml.nvmlDeviceGetMemoryInfo, handle)
    use = _try(pynvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _try(pynvml.nvmlDeviceGetPowerUsage, handle)
    version = _try(pynvml.nvmlSystemGetCudaDriverVersion)
    own, windows = _own_vram(handle, own_pids), platforms.here().gpu_memory(own_pids)
    return Gpu(
        name=name,
        driver=_try(pynvml.nvmlSystemGetDriverVersion),
        cuda=None if version is None else f"{version // 1000}.{version % 1000 // 10}",
        vram_total_bytes=None if memory is None else int(memory.total),
        vram_used_bytes=None if memory is None else int(memory.used),
        vram_own_bytes=windows.dedicated if own is None and windows else own,
        vram_shared_bytes=windows.shared if windows else None,
        percent=None if use is None else float(use.gpu),
        celsius=_try(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        watts=None if milliwatts is None else milliwatts / 1000,
    )


@dataclass(frozen=True)
class CudaCard:
    """The newest CUDA that the driver knows, and the compute capability of the card that torch would use first."""

    driver_cuda: tuple[int, int]
    level: tuple[int, int]


def cuda_card() -> CudaCard | None:
    """None where there is no card, or its driver does not answer."""
    first = _first_visible()
    if first is None or not _driver():
        return None
    try:
        version = pynvml.nvmlSystemGetCudaDriverVersion()
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(pynvml.nvmlDeviceGetHandleByIndex(first))
    except pynvml.NVMLError:
        return None
    return CudaCard((version // 1000, version % 1000 // 10), (major, minor))


def disk_free_bytes(path: Path) -> int | None:
    """Free bytes on the drive that holds `path`, or would hold it once made."""
    with contextlib.suppress(OSError):
        for place in [path.expanduser().absolute(), *path.expanduser().absolute().parents]:
            if place.exists():
                return shutil.disk_usage(place).free
    return None


def ram_total_bytes() -> int | None:
    with contextlib.suppress(OSError, RuntimeError):
        return int(psutil.virtual_memory().total)
    return None


def family_pids(pid: int) -> frozenset[int]:
    """A process and all its descendants."""
    with contextlib.suppress(psutil.Error):
        return frozenset([pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))])
    return frozenset([pid])


def reading(disk: Path | None = None, pid: int | None = None) -> Telemetry:
    """One reading of the machine. `own` figures are those of process `pid` (this one unless given) and its children;
    `cpu_percent` covers the time since the previous reading."""
    family = family_pids(os.getpid() if pid is None else pid)
    card = gpu(family)
    try:
        memory, cpu = psutil.virtual_memory(), psutil.cpu_percent()
    except (OSError, RuntimeError, psutil.Error):
        memory, cpu = None, None
    return Telemetry(
        gpu_name=card.name if card else None,
        vram_used_bytes=card.vram_used_bytes if card else None,
        vram_total_bytes=card.vram_total_bytes if card else None,
        vram_own_bytes=card.vram_own_bytes if card else None,
        vram_shared_bytes=card.vram_shared_bytes if card else None,
        gpu_percent=card.percent if card else None,
        gpu_celsius=card.celsius if card else None,
        gpu_watts=card.watts if card else None,
        cpu_percent=cpu,
        ram_used_bytes=None if memory is None else int(memory.total - memory.available),
        ram_total_bytes=None if memory is None else int(memory.total),
        ram_own_bytes=_own_ram(family),
        disk_free_bytes=None if disk is None else disk_free_bytes(disk),
    )


@functools.cache
def _driver() -> bool:
    """Whether NVML answers; it stays loaded until the program ends, since loading it for each reading is slow."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def _first_visible() -> int | None:
    """torch's device 0 where CUDA_VISIBLE_DEVICES picks by number, None where it hides all ("" or "-1"); torch follows
    NVML's numbers by CARD_ORDER."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if chosen is None else chosen.split(",")[0].strip()
    if first in ("", "-1"):
        return None
    return int(first) if first.isdigit() else 0


def _try(read: Callable[..., Any], *arguments: object) -> Any:
    """What the driver answers, None where it refuses."""
    try:
        return read(*arguments)
    except pynvml.NVMLError:
        return None


def _own_vram(handle: object, pids: frozenset[int]) -> int | None:
    """Bytes the driver books to these processes; None where it does not tell (Windows' display driver, containers)."""
    processes = _try(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    used = [p.usedGpuMemory for p in processes or () if p.pid in pids and p.usedGpuMemory is not None]
    return sum(used) if used else None


def _own_ram(pids: frozenset[int]) -> int | None:
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total or None
