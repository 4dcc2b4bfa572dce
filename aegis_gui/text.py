"""Numbers, durations and sizes as a person would say them; four significant digits at most."""

import math

from .flow import Status
from .i18n import filled, mark, tr

STEP_TITLES = {
    "home": mark("Runs"),
    "check": mark("Environment check"),
    "prepare": mark("Base model and data"),
    "search": mark("Hyperparameter search"),
    "schedule": mark("Alpha-gate schedule"),
    "train": mark("Soul injection"),
    "fuse": mark("Soul fusion"),
    "export": mark("GGUF conversion"),
    "chat": mark("Ollama test"),
    "report": mark("Run log"),
}
STATUS_WORDS = {
    Status.EMPTY: mark("no run"),
    Status.WAITING: mark("waiting"),
    Status.READY: mark("ready"),
    Status.DISABLED: mark("skipped"),
    Status.DONE: mark("done"),
    Status.STALE: mark("outdated"),
    Status.RUNNING: mark("running"),
    Status.PAUSED: mark("paused"),
    Status.FAILED: mark("failed"),
    Status.CANCELLED: mark("stopped"),
}
STATUS_ICONS = {
    Status.EMPTY: "circle",
    Status.WAITING: "circle",
    Status.READY: "circle",
    Status.DISABLED: "dash",
    Status.DONE: "check",
    Status.STALE: "stale",
    Status.RUNNING: "running",
    Status.PAUSED: "pause",
    Status.FAILED: "cross",
    Status.CANCELLED: "stop",
}


def number(value: float | None, digits: int = 4) -> str:
    """At most `digits` significant digits, in scientific notation only where plain figures would not fit."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) < 1e-3 or abs(value) >= 1e9:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{decimals}f}"


def fixed(value: float, decimals: int) -> str:
    """With so many decimals, and no minus before a zero."""
    shown = f"{value:,.{decimals}f}"
    return shown.removeprefix("-") if not any(figure in shown for figure in "123456789") else shown


def size(n_bytes: float | None) -> str:
    """In GB with one decimal; smaller things in MB or KB."""
    if n_bytes is None:
        return "–"
    if n_bytes >= 0.95e9:
        return f"{n_bytes / 1e9:,.1f} GB"
    if n_bytes >= 0.95e6:
        return f"{n_bytes / 1e6:,.1f} MB"
    return f"{max(n_bytes, 0) / 1e3:,.1f} KB"


def duration(seconds: float) -> str:
    """Exact enough for something that is over: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return filled("{seconds} s", seconds=number(seconds, 2) if seconds < 10 else whole)
    if whole < 3600:
        return filled("{minutes} min {seconds} s", minutes=whole // 60, seconds=whole % 60)
    return filled("{hours} h {minutes} min", hours=whole // 3600, minutes=whole % 3600 // 60)


def clock(seconds: float) -> str:
    """As a player shows it: 0:07, 12:30, 2:05:00."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def roughly(seconds: float) -> str:
    """A length of time that nobody knows to the second: 1 min, 11 min, 2.5 h."""
    minutes = max(round(seconds / 60), 1)
    if minutes < 100:
        return filled("{minutes} min", minutes=minutes)
    return filled("{hours} h", hours=number(round(minutes / 30) / 2, 3))


def remaining(seconds: float) -> str:
    """Rounded as a person would say it."""
    if seconds < 20:
        return tr("a few seconds left")
    if seconds < 50:
        return tr("less than a minute left")
    minutes = seconds / 60
    if minutes < 1.5:
        return tr("about a minute left")
    if minutes < 10:
        return filled("about {minutes} minutes left", minutes=round(minutes))
    if minutes < 57:
        return filled("about {minutes} minutes left", minutes=5 * round(minutes / 5))
    hours = round(minutes / 30) / 2
    if hours == 1:
        return tr("about an hour left")
    return filled("about {hours} hours left", hours=f"{hours:g}")
