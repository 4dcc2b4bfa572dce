"""Windows; tested with fakes of its libraries (tests/test_platforms.py): no such machine was at hand.

The names that Python defines on Windows alone are written as numbers, as Microsoft's headers give them.
"""

import ctypes
import functools
import locale
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from . import Commitment, GpuMemory, StartOptions
from .windows_graphics import gpu_memory
from .windows_holders import holders
from .windows_job import Job, declared

CREATE_SUSPENDED = 0x00000004
CREATE_NEW_PROCESS_GROUP = 0x00000200
CREATE_BREAKAWAY_FROM_JOB = 0x01000000
CREATE_NO_WINDOW = 0x08000000
# ERROR_ACCESS_DENIED (also while a deleted file is still open), ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION,
# ERROR_USER_MAPPED_FILE (safetensors maps its files)
HELD = (5, 32, 33, 1224)
STD_INPUT, STD_OUTPUT = 0xFFFFFFF6, 0xFFFFFFF5  # (DWORD)-10 and -11
MAX_PATH = 259  # without the final zero
_SIGBREAK = 21
_RUNTIMES = ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll")
_MOST_FILES_ASKED = 200
_STARTING = threading.Lock()
_FILE_SYSTEM = r"SYSTEM\CurrentControlSet\Control\FileSystem"
_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def library(name: str) -> Any:
    """A DLL by its name; OSError if it is not there."""
    return ctypes.WinDLL(name)  # type: ignore[attr-defined]


class MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX; the sizes called page file are those of RAM and page file together."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("total_page_file", ctypes.c_uint64),
        ("available_page_file", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended_virtual", ctypes.c_uint64),
    )


class Windows:
    name = "win32"
    case_blind_drives = True

    def __init__(
        self,
        load: Callable[[str], Any] = library,
        resume: Callable[[int], None] = lambda pid: psutil.Process(pid).resume(),
    ) -> None:
        self._load = functools.cache(load)
        self._resume = resume

    def description(self) -> str:
        return f"Windows {platform.release()} ({platform.version()}), {platform.machine()}"

    def quiet(self) -> StartOptions:
        return {"creationflags": CREATE_NO_WINDOW}

    def in_terminal(self) -> StartOptions:
        return {}

    def program(self, name: str) -> str:
        return f"{name}.exe"

    def engine(self) -> StartOptions:
        """Suspended, so that it can start nothing before it is bound."""
        return {"creationflags": CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP | CREATE_SUSPENDED}

    def outliving(self) -> tuple[StartOptions, ...]:
        """Out of the engine's job; a job around this program that allows no leaving refuses that, then inside it."""
        flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
        return {"creationflags": flags | CREATE_BREAKAWAY_FROM_JOB}, {"creationflags": flags}

    @contextmanager
    def apart(self) -> Iterator[None]:
        """The freezer's starter calls SetDllDirectory, and Windows hands that folder on to every program started: to an
        engine that would then take its runtime or OpenSSL from there. Put back at once: this program needs it."""
        folder = vars(sys).get("_MEIPASS")
        if folder is None:
            yield
            return
        kernel32 = self._load("kernel32")
        with _STARTING:
            kernel32.SetDllDirectoryW(None)
            try:
                yield
            finally:
                kernel32.SetDllDirectoryW(ctypes.c_wchar_p(folder))

    def bind(self, process: "subprocess.Popen[Any]") -> Job:
        """The process runs afterwards, bound or not: without a job, its input's end still tells it to leave.

        OSError if it cannot be let run; it is ended then.
        """
        job = self._in_a_job(process)
        job.share(int(process._handle))  # type: ignore[attr-defined]
        return self._let_run(process, job)

    def take_along(self, process: "subprocess.Popen[Any]") -> Job:
        return self._let_run(process, self._in_a_job(process))

    def _in_a_job(self, process: "subprocess.Popen[Any]") -> Job:
        return Job(declared(self._load("kernel32")), int(process._handle))  # type: ignore[attr-defined]

    def _let_run(self, process: "subprocess.Popen[Any]", job: Job) -> Job:
        try:
            self._resume(process.pid)
        except psutil.NoSuchProcess:
            pass
        except psutil.Error as error:
            process.kill()
            raise OSError(f"Windows does not let the engine begin: {error}") from error
        return job

    def is_held_elsewhere(self, error: OSError) -> bool:
        return getattr(error, "winerror", None) in HELD

    def holders(self, path: Path) -> tuple[str, ...]:
        try:
            inside = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else iter((path,))
            return holders(self._load("rstrtmgr"), list(islice(inside, _MOST_FILES_ASKED)))
        except OSError:
            return ()

    def sync_folder(self, path: Path) -> None:
        """Windows has no such call; NTFS journals renames."""

    def part_with_streams(self, commands: int, events: int) -> None:
        """Binary pipes, and the standard handles follow the descriptors 0 and 1.

        Windows lets one call at a time use a pipe's file object. While a thread waits for commands, any other call on
        it waits too: a library that looks at its standard input when it is loaded (numpy's Fortran runtime does), or
        a child that inherits it, would hang until the next command. os.dup2 moves the standard handles of console
        programs alone, hence once more for all.
        """
        import msvcrt

        kernel32 = self._load("kernel32")
        set_handle = kernel32.SetStdHandle
        set_handle.restype, set_handle.argtypes = ctypes.c_int32, (ctypes.c_uint32, ctypes.c_void_p)
        for which, descriptor in ((STD_INPUT, 0), (STD_OUTPUT, 1)):
            set_handle(which, msvcrt.get_osfhandle(descriptor))  # type: ignore[attr-defined]
        for descriptor in (commands, events):
            msvcrt.setmode(descriptor, os.O_BINARY)  # type: ignore[attr-defined]

    def stop_signals(self) -> tuple[int, ...]:
        return (signal.SIGINT, signal.SIGTERM, _SIGBREAK)

    def locale_name(self) -> str:
        return locale.setlocale(locale.LC_CTYPE)

    def peak_resident_bytes(self) -> int:
        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]

    def gpu_memory(self, pids: frozenset[int]) -> GpuMemory | None:
        return gpu_memory(pids)

    def commitment(self) -> Commitment | None:
        status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
        try:
            read = self._load("kernel32").GlobalMemoryStatusEx
        except OSError:
            return None
        read.restype, read.argtypes = ctypes.c_int32, (ctypes.c_void_p,)
        if not read(ctypes.addressof(status)):
            return None
        return Commitment(status.total_page_file, status.available_page_file)

    def native_paths_are_ascii(self) -> bool:
        return True

    def short_name(self, path: Path) -> str | None:
        """The 8.3 name, or None where the drive keeps none."""
        buffer = ctypes.create_unicode_buffer(32768)
        read = self._load("kernel32").GetShortPathNameW
        read.restype, read.argtypes = ctypes.c_uint32, (ctypes.c_wchar_p, ctypes.c_void_p, ctypes.c_uint32)
        length = read(str(path.absolute()), ctypes.addressof(buffer), len(buffer))
        return buffer.value if 0 < length < len(buffer) else None

    def longest_path(self) -> int | None:
        return None if self._setting(_FILE_SYSTEM, "LongPathsEnabled") == 1 else MAX_PATH

    def missing_runtimes(self) -> tuple[str, ...]:
        return tuple(name for name in _RUNTIMES if not self._loads(name))

    def graphics_adapters(self) -> tuple[str, ...]:
        found = (self._setting(f"{_ADAPTERS}\\{n:04d}", "DriverDesc") for n in range(8))
        return tuple(dict.fromkeys(str(name) for name in found if name))

    def _loads(self, name: str) -> bool:
        try:
            self._load(name)
        except OSError:
            return False
        return True

    def _setting(self, place: str, name: str) -> Any:
        """A value under HKEY_LOCAL_MACHINE, None where there is none."""
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:  # type: ignore[attr-defined]
                return winreg.QueryValueEx(key, name)[0]  # type: ignore[attr-defined]
        except OSError:
            return None
