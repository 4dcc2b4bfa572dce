"""How numbers, sizes and settings are written in the run log."""

from typing import Any


def number(value: Any) -> str:
    """At most five significant digits; a dash where there is no number."""
    if not isinstance(value, int | float) or value != value:
        return "–"
    return f"{value:.5g}"


def with_error(value: Any, error: Any, *, sign: bool = False) -> str:
    """Four decimals, so that losses can be compared down a column, and the standard error where there is one."""
    if not isinstance(value, int | float):
        return "–"
    shown = f"{value:+.4f}" if sign else f"{value:.4f}"
    return shown if not isinstance(error, int | float) else f"{shown} ± {error:.4f}"


def count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def size(n_bytes: Any) -> str:
    if not isinstance(n_bytes, int):
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


def plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        f"{value:.6g}"
        if isinstance(value, float)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def settings(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {plain(value)}" for name, value in params.items())
