"""A figure as matplotlib writes it, made fit for a page: in its colours and fonts, no style or name loose."""

import re
from xml.etree import ElementTree

from .curves import ALPHA, CONTROL, FAINT, HELD_OUT, INK, LOSS, MEMORY, PAPER, PHASE_SHADES

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
VARIABLES = {
    LOSS: "loss",
    CONTROL: "control",
    HELD_OUT: "held-out",
    MEMORY: "memory",
    ALPHA: "alpha",
    INK: "ink",
    FAINT: "grid",
    PAPER: "paper",
} | {shade: phase for phase, shade in PHASE_SHADES.items()}
"""Colour in the drawing -> the page's variable that says what it is in either theme."""
_COLOUR = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"font: (?:\d+ )?([\d.]+)px [^;\"]*")
_FAMILY_NAMED = re.compile(r"font-family: [^;\"]*;? ?")
_FAMILY = "'Segoe UI', 'Yu Gothic UI', 'Hiragino Sans', 'Noto Sans CJK JP', sans-serif"


def for_page(svg: str, name: str) -> str:
    """The drawing as one element without namespaces, metadata, style sheet and names that another figure may have.

    Colours become the page's variables with the drawn ones to fall back on; the font is the page's.
    """
    root = ElementTree.fromstring(svg)
    used = {value[1:] for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")}
    used |= {
        found for node in root.iter() for value in node.attrib.values() for found in re.findall(r"url\(#(.+?)\)", value)
    }
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.removeprefix(f"{{{SVG}}}")
        node.attrib = {
            key.removeprefix(f"{{{XLINK}}}"): _own(key, value, name)
            for key, value in node.attrib.items()
            if key not in ("id", "version") or value in used
        }
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img"}
    return ElementTree.tostring(root, encoding="unicode")


def standalone(element: str) -> str:
    """The same as a file that can be looked at by itself."""
    head = f'<svg xmlns="{SVG}" font-family="{_FAMILY}" style="background: #ffffff" '
    return '<?xml version="1.0" encoding="utf-8"?>\n' + element.replace("<svg ", head, 1) + "\n"


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    value = _FAMILY_NAMED.sub("", _FONT.sub(r"font-size: \1px", value))
    return _COLOUR.sub(lambda found: f"var(--{VARIABLES[found[0]]}, {found[0]})", value)
