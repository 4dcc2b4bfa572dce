"""Windows: the progress bar on the taskbar button, through the COM interface ITaskbarList3.

Tested against a fake COM object with a real table of functions only: no Windows machine was at hand.
"""

import ctypes
import sys
from typing import Any

from . import Bar

if sys.platform == "win32":
    _METHOD = ctypes.WINFUNCTYPE
else:  # only a fake is ever called there
    _METHOD = ctypes.CFUNCTYPE
_IN_PROCESS = 1
_PARTS = 1000
# Places in the object's table: IUnknown 0-2, ITaskbarList 3-7, ITaskbarList2 8, ITaskbarList3 from 9.
_HR_INIT, _SET_VALUE, _SET_STATE = 3, 9, 10
STATES = {Bar.NONE: 0x0, Bar.UNKNOWN: 0x1, Bar.NORMAL: 0x2, Bar.FAILED: 0x4, Bar.PAUSED: 0x8}


class Guid(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_uint32),
        ("second", ctypes.c_uint16),
        ("third", ctypes.c_uint16),
        ("rest", ctypes.c_ubyte * 8),
    )


TASKBAR_LIST = Guid(0x56FDF344, 0xFD6D, 0x11D0, (0x95, 0x8A, 0x00, 0x60, 0x97, 0xC9, 0xA0, 0x90))
TASKBAR_LIST_3 = Guid(0xEA1AFB91, 0x9E28, 0x4B86, (0x90, 0xE9, 0x9E, 0x9F, 0x8A, 0x5E, 0xEF, 0xAF))


class TaskbarButton:
    """Must be used in the window's thread, where Qt has initialised COM. Where Windows refuses, nothing is shown."""

    def __init__(self, ole32: Any = None) -> None:
        self._ole32 = ole32
        self._object: ctypes.c_void_p | None = None
        self._refused = False

    def show(self, window: int, bar: Bar, fraction: float) -> None:
        if not self._ready():
            return
        if bar in (Bar.NORMAL, Bar.PAUSED, Bar.FAILED):
            part = round(_PARTS * min(max(fraction, 0.0), 1.0))
            self._call(_SET_VALUE, (ctypes.c_uint64, part), (ctypes.c_uint64, _PARTS), window=window)
        self._call(_SET_STATE, (ctypes.c_int, STATES[bar]), window=window)

    def _ready(self) -> bool:
        """Whether the object is there; it is asked for once."""
        if self._object is None and not self._refused:
            ole32 = self._ole32 or ctypes.WinDLL("ole32")  # type: ignore[attr-defined]
            made = ctypes.c_void_p()
            wanted = (ctypes.byref(TASKBAR_LIST), None, _IN_PROCESS, ctypes.byref(TASKBAR_LIST_3), ctypes.byref(made))
            self._refused = ole32.CoCreateInstance(*wanted) < 0 or not made
            if not self._refused:
                self._object = made
                self._refused = self._call(_HR_INIT) < 0
        return not self._refused

    def _call(self, place: int, *arguments: tuple[Any, int], window: int | None = None) -> int:
        """Call a method by its place in the object's table; returns its HRESULT."""
        assert self._object is not None
        table = ctypes.cast(self._object, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))).contents
        typed = [(ctypes.c_void_p, window)] if window is not None else []
        typed += arguments
        method = _METHOD(ctypes.c_int32, ctypes.c_void_p, *(kind for kind, _ in typed))(table[place])
        return int(method(self._object, *(value for _, value in typed)))
