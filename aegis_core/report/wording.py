"""How numbers, sizes, times and settings are written in the run log."""

import math
import re
from datetime import datetime
from typing import Any

from .phrases import Translate

NONE = "–"
MINUS = "−"
MONTHS = {
    1: "January",
    2: "February",
    3: "March",
    4: "April",
    5: "May",
    6: "June",
    7: "July",
    8: "August",
    9: "September",
    10: "October",
    11: "November",
    12: "December",
}
_HYPHEN = re.compile(r"(?<![\w./-])-(?=\d)|(?<=\de)-(?=\d)")
TINY = 1e-6  # below it decimals count noughts
INTERVAL = 1.96  # standard errors on either side that hold 95 % of a normal distribution


def number(value: Any) -> str:
    """At most five significant digits; a dash where there is no number."""
    return _signed(f"{value:.5g}") if is_number(value) else NONE


def rough(value: Any) -> str:
    """Two significant digits, as an error deserves."""
    return _signed(f"{value:.2g}") if is_number(value) else NONE


def with_error(value: Any, error: Any, *, sign: bool = False) -> str:
    """Four decimals, so that losses can be compared down a column, and the standard error where there is one.

    Where four decimals would call a difference and its error nothing, more are given.
    """
    if not is_number(value):
        return NONE
    if not is_number(error):
        return _signed(f"{value:+.4f}" if sign else f"{value:.4f}")
    if 0 < error < TINY and abs(value) < TINY:
        return f"{_signed(f'{value:+.2g}' if sign else f'{value:.2g}')} ± {rough(error)}"
    digits = _decimals(value, error)
    shown = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return f"{_signed(shown)} ± {error:.{digits}f}"


def interval(value: Any, error: Any) -> str:
    """The 95 % interval around a mean with this standard error."""
    if not is_number(value) or not is_number(error):
        return NONE
    ends = (value - INTERVAL * error, value + INTERVAL * error)
    digits = _decimals(value, error)
    return " … ".join(_signed(f"{end:+.{digits}f}") for end in ends)


def _decimals(value: float, error: float) -> int:
    large = abs(value) >= 5e-4 or error >= 5e-5 or error == 0
    return 4 if large else min(7, 1 - math.floor(math.log10(error)))


def is_number(value: Any) -> bool:
    """A finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else NONE


def size(n_bytes: Any) -> str:
    if not isinstance(n_bytes, int):
        return NONE
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


def duration(seconds: Any, t: Translate) -> str:
    """As a person would say it: seconds up to a minute and a half, then minutes, then hours."""
    if not is_number(seconds):
        return NONE
    if seconds < 90:
        return t("{seconds} s", seconds=f"{seconds:.1f}" if seconds < 10 else round(seconds))
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return t("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    return t("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)


def date(at: Any, t: Translate) -> str:
    """A moment (ISO 8601 with its offset, or seconds since 1970) by this machine's clock where it has no offset."""
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at).astimezone()
    except (ValueError, TypeError, OverflowError, OSError):
        return str(at)
    offset = moment.strftime("%z")
    zone = f"UTC{offset[:3]}:{offset[3:5]}" if offset else ""
    shown = t(
        "{day} {month} {year}, {clock} {zone}",
        day=moment.day,
        month=t(MONTHS[moment.month]),
        year=moment.year,
        clock=moment.strftime("%H:%M"),
        zone=zone,
    )
    return shown.strip()


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


def with_minus(text: str) -> str:
    """A sentence whose negative numbers have a real minus."""
    return _HYPHEN.sub(MINUS, text)


def _signed(shown: str) -> str:
    """With a real minus, and none before a zero."""
    if shown.startswith("-") and not any(digit in shown.partition("e")[0] for digit in "123456789"):
        return shown.replace("-", "", 1)
    return shown.replace("-", MINUS)
