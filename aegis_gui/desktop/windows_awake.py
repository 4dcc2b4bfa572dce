"""Windows: the thread's execution state says that the system is needed; the screen may still go dark.

Tested with a fake kernel32 only: no Windows machine was at hand.
"""

import ctypes
from typing import Any

CONTINUOUS, SYSTEM_REQUIRED = 0x80000000, 0x00000001


class ExecutionState:
    """Belongs to the thread that calls it (the window's), and ends with it however the program ends."""

    def __init__(self, kernel32: Any = None) -> None:
        self._set = (kernel32 or ctypes.WinDLL("kernel32")).SetThreadExecutionState  # type: ignore[attr-defined]
        self._set.argtypes, self._set.restype = (ctypes.c_uint32,), ctypes.c_uint32

    def hold(self) -> None:
        self._set(CONTINUOUS | SYSTEM_REQUIRED)

    def release(self) -> None:
        self._set(CONTINUOUS)
