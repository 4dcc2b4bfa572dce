"""Linux and other systems of its kind."""

import contextlib
import os
import platform
import resource
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import Commitment, GpuMemory, StartOptions


@dataclass(frozen=True)
class ProcessGroup:
    """A session of its own. Nothing needs to bind it to this program: the engine ends by itself at its input's end."""

    leader: int

    def end_all(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.leader, signal.SIGKILL)

    def release(self) -> None:
        pass


@dataclass(frozen=True)
class Posix:
    name: str

    def description(self) -> str:
        return f"{platform.system()} {platform.release()}, {platform.machine()}"

    @property
    def case_blind_drives(self) -> bool:
        return False

    def quiet(self) -> StartOptions:
        return {}

    def in_terminal(self) -> StartOptions:
        return {}

    def program(self, name: str) -> str:
        return name

    def engine(self) -> StartOptions:
        return {"start_new_session": True}

    def outliving(self) -> tuple[StartOptions, ...]:
        return ({"start_new_session": True},)

    def apart(self) -> contextlib.AbstractContextManager[None]:
        """Paths of libraries are handed on in the environment alone, which is cleaned elsewhere."""
        return contextlib.nullcontext()

    def bind(self, process: "subprocess.Popen[Any]") -> ProcessGroup:
        return ProcessGroup(process.pid)

    def take_along(self, process: "subprocess.Popen[Any]") -> ProcessGroup:
        return ProcessGroup(process.pid)

    def is_held_elsewhere(self, error: OSError) -> bool:
        return False  # an open file can be replaced

    def holders(self, path: Path) -> tuple[str, ...]:
        return ()

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def part_with_streams(self, commands: int, events: int) -> None:
        pass

    def stop_signals(self) -> tuple[int, ...]:
        return (signal.SIGINT, signal.SIGTERM)

    def locale_name(self) -> str:
        return os.environ.get("LC_ALL") or os.environ.get("LANG") or ""

    def peak_resident_bytes(self) -> int:
        unit = 1 if self.name == "darwin" else 1024
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit

    def gpu_memory(self, pids: frozenset[int]) -> GpuMemory | None:
        return None

    def commitment(self) -> Commitment | None:
        return None

    def native_paths_are_ascii(self) -> bool:
        return False

    def short_name(self, path: Path) -> str | None:
        return None

    def longest_path(self) -> int | None:
        return None

    def missing_runtimes(self) -> tuple[str, ...]:
        return ()

    def graphics_adapters(self) -> tuple[str, ...]:
        """Their kinds by the kernel's list of PCI devices: class 0x03 is a display controller."""
        vendors = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
        found = []
        for device in sorted(Path("/sys/bus/pci/devices").glob("*")):
            with contextlib.suppress(OSError):
                if (device / "class").read_text(encoding="ascii").startswith("0x03"):
                    vendor = (device / "vendor").read_text(encoding="ascii").strip()
                    found.append(vendors.get(vendor, vendor))
        return tuple(found)
