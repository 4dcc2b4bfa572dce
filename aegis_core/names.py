"""Names that a folder or file can have on Windows and Linux alike."""

from pathlib import Path
from time import localtime, strftime

from .failures import UsageError

FORBIDDEN = '<>:"/\\|?*'
LONGEST_BYTES = 200  # in UTF-8: file systems take 255, and some files add to the name
DEVICES = {
    *("con", "prn", "aux", "nul", "conin$", "conout$"),
    *(f"{kind}{number}" for kind in ("com", "lpt") for number in "123456789¹²³"),
}
"""Names Windows keeps for devices, with any ending."""


def usable_name(name: str) -> str:
    """The name without blanks and dots at its ends; UsageError if no folder can be called so."""
    kept = name.strip().rstrip(". ")
    if not kept or any(sign in FORBIDDEN or ord(sign) < 32 for sign in kept):
        raise UsageError(
            "“{name}” cannot be the name of a folder.", "Leave out {characters}.", name=name, characters=FORBIDDEN
        )
    if is_device(kept):
        raise UsageError("Windows keeps the name “{name}” for itself.", "Choose another name.", name=kept)
    if len(kept.encode()) > LONGEST_BYTES:
        raise UsageError("“{name}…” is too long for a name.", "Choose a shorter one.", name=kept[:20])
    return kept


def is_device(name: str) -> bool:
    """Whether Windows would open a device instead of a file of that name, whatever its ending."""
    return name.partition(".")[0].rstrip().lower() in DEVICES


def fresh_name(folder: Path, stem: str) -> str:
    """A name no folder has yet: stem-2026-11-23, then stem-2026-11-23-2 and so on."""
    return free_name(folder, f"{stem}-{strftime('%Y-%m-%d', localtime())}")


def free_name(folder: Path, name: str) -> str:
    """The name itself where it is free in the folder, else with -2, -3 … behind it."""
    number, candidate = 2, name
    while (folder / candidate).exists():
        candidate, number = f"{name}-{number}", number + 1
    return candidate
