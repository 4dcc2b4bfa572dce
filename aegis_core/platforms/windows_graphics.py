"""Graphics memory of processes as Windows counts it, which NVML does not tell there: dedicated, and shared (RAM).

When a card is full, the Windows driver moves memory into RAM instead of refusing it, and training crawls. The figures
come from the performance counters that Task Manager shows ("GPU Process Memory"), through pdh.dll. Elsewhere, and where
the counters do not answer, there are none. Only the parsing is tested: no Windows machine with a card was at hand.
"""

import ctypes
import functools
import re
from collections.abc import Mapping
from typing import Any

from . import GpuMemory

_DEDICATED, _SHARED = r"\GPU Process Memory(*)\Dedicated Usage", r"\GPU Process Memory(*)\Shared Usage"
_INSTANCE = re.compile(r"pid_(\d+)_luid_\w+")
_FORMAT_LARGE, _MORE_DATA = 0x400, 0x800007D2
_VALID = (0, 1)  # PDH_CSTATUS_VALID_DATA and PDH_CSTATUS_NEW_DATA


def gpu_memory(pids: frozenset[int]) -> GpuMemory | None:
    """What these processes hold; None where it is not told."""
    counters = _counters()
    if counters is None:
        return None
    try:
        dedicated, shared = counters.read()
    except OSError:
        return None
    return GpuMemory(_of(dedicated, pids), _of(shared, pids))


def _of(instances: Mapping[str, int], pids: frozenset[int]) -> int:
    """The sum over the instances ("pid_4711_luid_0x00000000_0x0000C3A6_phys_0") of these processes."""
    found = ((_INSTANCE.match(name), size) for name, size in instances.items())
    return sum(size for match, size in found if match and int(match[1]) in pids)


class _Value(ctypes.Structure):
    _fields_ = (("name", ctypes.c_wchar_p), ("status", ctypes.c_uint32), ("large", ctypes.c_int64))


class _Counters:
    """An open query of both counters; OSError where Windows refuses one."""

    def __init__(self, pdh: Any) -> None:
        self._pdh = pdh
        self._query = ctypes.c_void_p()
        self._expect(self._pdh.PdhOpenQueryW(None, None, ctypes.byref(self._query)))
        self._handles = [self._add(path) for path in (_DEDICATED, _SHARED)]

    def read(self) -> tuple[dict[str, int], dict[str, int]]:
        """(dedicated, shared): instance → bytes."""
        self._expect(self._pdh.PdhCollectQueryData(self._query))
        dedicated, shared = (self._values(handle) for handle in self._handles)
        return dedicated, shared

    def _add(self, path: str) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        # the English name, whatever language Windows speaks
        self._expect(self._pdh.PdhAddEnglishCounterW(self._query, path, None, ctypes.byref(handle)))
        return handle

    def _values(self, handle: ctypes.c_void_p) -> dict[str, int]:
        size, count = ctypes.c_uint32(0), ctypes.c_uint32(0)
        arguments = (handle, _FORMAT_LARGE, ctypes.byref(size), ctypes.byref(count))
        code = self._pdh.PdhGetFormattedCounterArrayW(*arguments, None)
        if code & 0xFFFFFFFF == _MORE_DATA:
            buffer = ctypes.create_string_buffer(size.value)
            self._expect(self._pdh.PdhGetFormattedCounterArrayW(*arguments, buffer))
            rows = ctypes.cast(buffer, ctypes.POINTER(_Value))
            return {
                row.name: row.large for row in (rows[index] for index in range(count.value)) if row.status in _VALID
            }
        self._expect(code)
        return {}

    def _expect(self, code: int) -> None:
        if code:
            raise OSError(f"pdh.dll answered 0x{code & 0xFFFFFFFF:08X}")


@functools.cache
def _counters() -> _Counters | None:
    """Opened once and kept: opening takes longer than reading."""
    try:
        return _Counters(ctypes.WinDLL("pdh.dll"))  # type: ignore[attr-defined]
    except OSError:
        return None
