"""Text files as they come: UTF-8 with or without a mark, Shift-JIS where the plan says so, everything else named."""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..failures import UserError

CODECS = {"utf-8": "utf-8-sig", "shift_jis": "cp932"}  # Windows means its own superset by Shift-JIS
LOOKED_AT_BYTES = 4 << 20
_LONGEST_QUOTE = 16
_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
# Kana, full-width signs, Japanese punctuation, and the kanji in daily use with some hundred more.
_JAPANESE = "ぁ-ヿ、。「」『』・ー！？（）～①-⑳々一-龠"


@contextmanager
def open_text(path: Path, encoding: str, newline: str | None = None) -> Iterator[TextIO]:
    """The file as text, read piece by piece; UserError, while it is read too, if it is not written in `encoding`.

    `encoding` is utf-8 (a byte order mark does no harm) or shift_jis.
    """
    with path.open("rb") as file:
        head = file.read(LOOKED_AT_BYTES)
    if name := _marked(head):
        raise UserError(
            "{path} is written in {encoding}, which is not read here.",
            "Open it in an editor and save it as UTF-8.",
            path=path,
            encoding=name,
        )
    if encoding == "shift_jis" and _is_utf8(head):
        raise UserError(
            "{path} is UTF-8 text, not Shift-JIS.",
            "Read it as UTF-8 (data.encoding=utf-8).",
            changes={"data.encoding": "utf-8"},
            path=path,
        )
    try:
        with path.open(encoding=CODECS[encoding], newline=newline) as text:
            yield text
    except UnicodeDecodeError as error:
        raise _misread(path, encoding) from error


def _marked(head: bytes) -> str:
    """The name of an encoding with two or four bytes for every character, "" for any other."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    sample = head[:2000]
    return "UTF-16" if len(sample) > 3 and sample.count(0) * 4 >= len(sample) else ""


def _is_utf8(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 and says so by more than plain ASCII."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, len(head) < LOOKED_AT_BYTES)
    except UnicodeDecodeError:
        return False
    return head.startswith(codecs.BOM_UTF8) or not text.isascii()


def _misread(path: Path, encoding: str) -> UserError:
    position, around = _first_bad(path, CODECS[encoding])
    if encoding == "utf-8" and (quote := _read_as_japanese(around)):
        return UserError(
            "{path} is not UTF-8, but reads as Shift-JIS: “{quote}”.",
            "Read it as Shift-JIS (data.encoding=shift_jis), or save it as UTF-8.",
            changes={"data.encoding": "shift_jis"},
            path=path,
            quote=quote,
        )
    name = "UTF-8" if encoding == "utf-8" else "Shift-JIS"
    return UserError(
        "{path} is not {encoding} text (byte {position}).",
        "Open it in an editor and save it as UTF-8.",
        path=path,
        encoding=name,
        position=position,
    )


def _first_bad(path: Path, codec: str) -> tuple[int, bytes]:
    """Where the file cannot be decoded, and the piece of it, from that place on, to guess from."""
    decoder = codecs.getincrementaldecoder(codec)()
    n_read = 0
    with path.open("rb") as file:
        while True:
            piece = file.read(LOOKED_AT_BYTES)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                place = max(error.start - held, 0)
                return n_read + error.start - held, piece[place:]
            n_read += len(piece)
            if not piece:  # mended in the meantime
                return n_read, b""


def _read_as_japanese(data: bytes) -> str:
    """The first words of Shift-JIS text in the data, "" if it is no Japanese in that encoding.

    Other encodings often decode too, but into half-width kana, rare kanji and single signs between Latin letters.
    """
    try:
        text = codecs.getincrementaldecoder("cp932")().decode(data)
    except UnicodeDecodeError:
        return ""
    foreign = sum(not character.isascii() for character in text)
    runs = re.findall(f"[{_JAPANESE}]{{2,}}", text)
    common = sum(_is_common(character) for run in runs for character in run)
    return max(runs[:20], key=len)[:_LONGEST_QUOTE] if runs and common >= 0.7 * foreign else ""


def _is_common(character: str) -> bool:
    """Kana, punctuation or a kanji of the first level: what most of any Japanese text consists of."""
    return character.encode("cp932", errors="replace")[0] < 0x99
