"""Windows: which programs have files open, by its Restart Manager, which installers ask the same.

Structures as Microsoft documents them in restartmanager.h; tested with a fake rstrtmgr.dll only.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_KEY_CHARACTERS = 32 + 1
_SUCCESS = 0
_MOST_HOLDERS = 16


class UniqueProcess(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_uint32), ("start_low", ctypes.c_uint32), ("start_high", ctypes.c_uint32))


class ProcessInfo(ctypes.Structure):
    _fields_ = (
        ("process", UniqueProcess),
        ("application", ctypes.c_uint16 * 256),  # UTF-16, which c_wchar is on Windows alone
        ("service", ctypes.c_uint16 * 64),
        ("kind", ctypes.c_int),
        ("status", ctypes.c_uint32),
        ("session", ctypes.c_uint32),
        ("restartable", ctypes.c_int32),
    )


def holders(manager: Any, files: Sequence[Path]) -> tuple[str, ...]:
    """The names of the programs that have one of the files open, each once; empty where Windows does not tell."""
    session, key = ctypes.c_uint32(0), ctypes.create_unicode_buffer(_KEY_CHARACTERS)
    if not files or manager.RmStartSession(ctypes.byref(session), ctypes.c_uint32(0), key) != _SUCCESS:
        return ()
    try:
        names = (ctypes.c_wchar_p * len(files))(*map(str, files))
        nobody = (ctypes.c_uint32(0), None, ctypes.c_uint32(0), None)
        if manager.RmRegisterResources(session, ctypes.c_uint32(len(files)), names, *nobody) != _SUCCESS:
            return ()
        return _listed(manager, session)
    finally:
        manager.RmEndSession(session)


def _listed(manager: Any, session: ctypes.c_uint32) -> tuple[str, ...]:
    needed, n_found, reasons = ctypes.c_uint32(0), ctypes.c_uint32(_MOST_HOLDERS), ctypes.c_uint32(0)
    rows = (ProcessInfo * _MOST_HOLDERS)()
    found = [ctypes.byref(needed), ctypes.byref(n_found), rows, ctypes.byref(reasons)]
    if manager.RmGetList(session, *found) != _SUCCESS:  # among them ERROR_MORE_DATA: more than anybody would read
        return ()
    names = (bytes(rows[n].application).decode("utf-16-le", "replace").split("\0")[0] for n in range(n_found.value))
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
