"""RAM, and on Windows what it may promise: RAM and page file together."""

import psutil

from .. import hardware, platforms
from ..events import CheckRow

_GB = 1e9
_LITTLE_RAM_BYTES = 7.5 * _GB
_LITTLE_FREE_BYTES = 2 * _GB
_LITTLE_COMMIT_BYTES = 8 * _GB  # loading torch with CUDA alone asks for several


def ram_row() -> CheckRow:
    total = hardware.ram_total_bytes()
    if total is None:
        return CheckRow("RAM", "warning", "cannot be read", "Make sure that 8 GB are there.")
    if total < _LITTLE_RAM_BYTES:
        return CheckRow("RAM", "warning", f"{total / _GB:.1f} GB", "Close other programs; 8 GB are the least.")
    free = psutil.virtual_memory().available
    if free < _LITTLE_FREE_BYTES:
        found = f"{total / _GB:.1f} GB, of which only {free / _GB:.1f} GB are free"
        return CheckRow("RAM", "warning", found, "Close other programs before the training.")
    return CheckRow("RAM", "ok", f"{total / _GB:.1f} GB")


def page_file_rows() -> list[CheckRow]:
    """No row where the system has no such limit."""
    held = platforms.here().commitment()
    if held is None:
        return []
    left, limit = held.left_bytes / _GB, held.limit_bytes / _GB
    found = f"{left:.1f} of {limit:.1f} GB left to promise (RAM and page file)"
    if held.left_bytes < _LITTLE_COMMIT_BYTES:
        fix = (
            "Let Windows manage the size of the page file: System, Advanced system settings, Performance, Advanced, "
            "Virtual memory. Or close other programs."
        )
        return [CheckRow("page file", "warning", found, fix)]
    return [CheckRow("page file", "ok", found)]
