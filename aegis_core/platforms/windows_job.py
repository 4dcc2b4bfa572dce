"""Windows: a job object that ends all its processes as soon as nobody holds it any more, so that none trains on alone.

A handle is closed with the program that has it, however that ends. One that only this program has takes the bound
process along with this program. One that is shared with the bound process lets it save and leave when this program dies
(it hears of that by the end of its input), and takes along what it started, once it is gone itself. Jobs nest from
Windows 8 on, so it does not matter whether this program is in one itself. Structures and values as Microsoft documents
them in winnt.h, jobapi2.h and handleapi.h; tested with a fake kernel32 only: no Windows machine was at hand.
"""

import ctypes
from typing import Any

EXTENDED_LIMIT_INFORMATION = 9
KILL_ON_JOB_CLOSE, BREAKAWAY_OK = 0x2000, 0x0800
DUPLICATE_SAME_ACCESS = 0x0002
_ENDED_BY_US = 1


class BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_user_time_limit", ctypes.c_int64),
        ("per_job_user_time_limit", ctypes.c_int64),
        ("limit_flags", ctypes.c_uint32),
        ("minimum_working_set_size", ctypes.c_size_t),
        ("maximum_working_set_size", ctypes.c_size_t),
        ("active_process_limit", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    )


class IoCounters(ctypes.Structure):
    _fields_ = tuple(
        (f"{what}_{unit}", ctypes.c_uint64) for unit in ("count", "bytes") for what in ("read", "write", "other")
    )


class ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", BasicLimits),
        ("io", IoCounters),
        ("process_memory_limit", ctypes.c_size_t),
        ("job_memory_limit", ctypes.c_size_t),
        ("peak_process_memory_used", ctypes.c_size_t),
        ("peak_job_memory_used", ctypes.c_size_t),
    )


def declared(kernel32: Any) -> Any:
    """The same library, its functions told their types: handles are as wide as pointers."""
    handle, boolean, number = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32
    for name, result, arguments in (
        ("CreateJobObjectW", handle, (ctypes.c_void_p, ctypes.c_wchar_p)),
        ("SetInformationJobObject", boolean, (handle, ctypes.c_int, ctypes.c_void_p, number)),
        ("AssignProcessToJobObject", boolean, (handle, handle)),
        ("TerminateJobObject", boolean, (handle, number)),
        ("CloseHandle", boolean, (handle,)),
        ("GetCurrentProcess", handle, ()),
        ("DuplicateHandle", boolean, (handle, handle, handle, ctypes.c_void_p, number, boolean, number)),
    ):
        function = getattr(kernel32, name)
        function.restype, function.argtypes = result, arguments
    return kernel32


class Job:
    """One engine and its descendants. Where Windows refuses, `bound` is False and nothing is held."""

    def __init__(self, kernel32: Any, process: int) -> None:
        """`process` is a handle with the rights that CreateProcess gives."""
        self._kernel32 = kernel32
        self._handle = self._made()
        self.bound = bool(self._handle) and bool(kernel32.AssignProcessToJobObject(self._handle, process))
        if not self.bound:
            self.release()

    def share(self, process: int) -> None:
        """The process holds the job as well, unknowingly; where Windows refuses, it ends together with this program."""
        ours, theirs = self._kernel32.GetCurrentProcess(), ctypes.c_void_p()
        if self._handle:
            self._kernel32.DuplicateHandle(
                ours, self._handle, process, ctypes.addressof(theirs), 0, False, DUPLICATE_SAME_ACCESS
            )

    def end_all(self) -> None:
        if self._handle:
            self._kernel32.TerminateJobObject(self._handle, _ENDED_BY_US)
        self.release()

    def release(self) -> None:
        """Close the handle; Windows ends what is left of the job."""
        handle, self._handle = self._handle, None
        if handle:
            self._kernel32.CloseHandle(handle)

    def _made(self) -> int | None:
        """A job with its limits set, or None. Programs may leave it if they ask to: Ollama lives on (`outliving`)."""
        handle: int | None = self._kernel32.CreateJobObjectW(None, None)
        if not handle:
            return None
        limits = ExtendedLimits()
        limits.basic.limit_flags = KILL_ON_JOB_CLOSE | BREAKAWAY_OK
        size = ctypes.sizeof(limits)
        if self._kernel32.SetInformationJobObject(handle, EXTENDED_LIMIT_INFORMATION, ctypes.addressof(limits), size):
            return handle
        self._kernel32.CloseHandle(handle)
        return None
