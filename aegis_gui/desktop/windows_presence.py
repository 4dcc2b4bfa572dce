"""Windows: a named mutex that the installer and uninstaller look for (AppMutex in packaging/aegis.iss).

Tested against a fake kernel32 only: no Windows machine was at hand.
"""

import ctypes
from typing import Any

NAME = "AEGIS-window"


class NamedMutex:
    """Held from the beginning. Where Windows refuses, the installer will not know: files in use then stop it."""

    def __init__(self, kernel32: Any = None) -> None:
        self._kernel32 = kernel32 or ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
        self._kernel32.CreateMutexW.restype = ctypes.c_void_p
        self._kernel32.CloseHandle.argtypes = (ctypes.c_void_p,)
        self._handle: int | None = self._kernel32.CreateMutexW(None, False, NAME)

    def withdraw(self) -> None:
        if self._handle:
            self._kernel32.CloseHandle(self._handle)
        self._handle = None
