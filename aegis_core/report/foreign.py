"""Texts that others wrote, made fit to be shown: nothing in them can act on the page, and nothing is hidden."""

import re

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e"  # marks of direction, line breaks of other kinds
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff\ufffe\uffff]"  # tags that nobody sees, half characters, no characters
)


def shown(text: str) -> str:
    """The text with what cannot be seen made visible: escape as ␛, others by number, as in ‹U+202E›."""
    return _INVISIBLE.sub(_name, str(text))  # what a file holds may be no text at all


def _name(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"
