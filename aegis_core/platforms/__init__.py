"""Everything in which systems differ for the engine: one module per system, imported here and on that system only.

The window's part (staying awake, taskbar, sound) is in aegis_gui/desktop. Nothing else may ask which system this is;
tests/test_platforms.py holds it.
"""

import functools
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

StartOptions = Any  # dict[str, Any]: mypy would choose among the overloads of Popen by the key type
"""Keyword arguments of subprocess.Popen."""


class Bond(Protocol):
    """Ties a process and all that it starts to this program's life."""

    def end_all(self) -> None:
        """End every process of it that still runs; may be called twice."""
        ...

    def release(self) -> None:
        """The process has ended: hold on to nothing any more."""
        ...


@dataclass(frozen=True)
class Commitment:
    """Memory that the system can promise to programs, RAM and page file together, and what is left of it."""

    limit_bytes: int
    left_bytes: int


@dataclass(frozen=True)
class GpuMemory:
    """Graphics memory of some processes together, as the system counts it: on the card, and in RAM (shared)."""

    dedicated: int
    shared: int


class Platform(Protocol):
    """What the engine asks of the system it runs on. Nothing raises unless it says so; what is not told is None."""

    @property
    def name(self) -> str:
        """As in sys.platform: "win32", "linux", "darwin"."""
        ...

    def description(self) -> str:
        """The system and its version, for people."""
        ...

    @property
    def case_blind_drives(self) -> bool:
        """Whether paths have drive letters, reserved device names and alternative data streams."""
        ...

    def quiet(self) -> StartOptions:
        """For a program whose end is waited for: no console window flashes up."""
        ...

    def in_terminal(self) -> StartOptions:
        """For a program that takes this one's place in its terminal: it needs the console that is there."""
        ...

    def program(self, name: str) -> str:
        """The file name of a program."""
        ...

    def engine(self) -> StartOptions:
        """For the engine: no window, and Ctrl-C in this program's terminal does not reach it. To be bound at once."""
        ...

    def outliving(self) -> tuple[StartOptions, ...]:
        """For a program that lives on after this one (Ollama): ways to start it, to be tried in this order."""
        ...

    def apart(self) -> AbstractContextManager[None]:
        """While another program is started: it must not look for its libraries among those of the frozen window."""
        ...

    def bind(self, process: "subprocess.Popen[Any]") -> Bond:
        """Let an engine started with `engine()` run, and bind to it all that it starts; OSError if it may not run.

        The engine itself hears of this program's death by the end of its input, saves and leaves.
        """
        ...

    def take_along(self, process: "subprocess.Popen[Any]") -> Bond:
        """Let a program started with `engine()` run that has nothing to save; on Windows it ends with this one."""
        ...

    def is_held_elsewhere(self, error: OSError) -> bool:
        """Whether this refusal may pass by itself, since another program has the file open for a moment."""
        ...

    def holders(self, path: Path) -> tuple[str, ...]:
        """The programs that have the file, or a file of the folder, open; empty where that is not told."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Force renames in a folder to the disk. OSError if it cannot be opened."""
        ...

    def part_with_streams(self, commands: int, events: int) -> None:
        """After the descriptors 0 and 1 were given to others: nobody else may find the pipes any more."""
        ...

    def stop_signals(self) -> tuple[int, ...]:
        """The signals by which the person at the terminal or the system asks a program to stop."""
        ...

    def locale_name(self) -> str:
        """The language setting of the person's system, such as ja_JP.UTF-8."""
        ...

    def peak_resident_bytes(self) -> int:
        """The most RAM this process has had since it began."""
        ...

    def gpu_memory(self, pids: frozenset[int]) -> GpuMemory | None:
        """Graphics memory of processes where the GPU's driver leaves the counting to the system."""
        ...

    def commitment(self) -> Commitment | None:
        """None where the system hands out memory without a limit of its own."""
        ...

    def native_paths_are_ascii(self) -> bool:
        """Whether native programs open file names of ASCII letters alone."""
        ...

    def short_name(self, path: Path) -> str | None:
        """An older, plain name of an existing file."""
        ...

    def longest_path(self) -> int | None:
        """The most characters a path may have; None where no path of ours comes near."""
        ...

    def missing_runtimes(self) -> tuple[str, ...]:
        """Libraries of the C and C++ runtime that programs need here and that are not installed."""
        ...

    def graphics_adapters(self) -> tuple[str, ...]:
        """The names of all graphics adapters, NVIDIA's or not; empty where that is not told."""
        ...


@functools.cache
def here() -> Platform:
    """The system this program runs on."""
    if sys.platform == "win32":
        from .windows import Windows

        return Windows()
    from .posix import Posix

    return Posix(sys.platform)
