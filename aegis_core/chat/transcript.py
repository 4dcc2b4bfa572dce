"""Transcripts: one JSON row per answered question, on the disk before the next is asked.

chat/transcript.jsonl is the model's own, chat/base_transcript.jsonl the base's.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..journal import cut_torn_line
from ..sealed import damaged, sealed, unsealed

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The whole rows in order; a last line that a kill cut short is left out. Nothing if there is no file."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")  # the cut may go through a character
    return [json.loads(line) for line in whole.decode().split("\n") if line]  # splitlines would cut at U+2028


def read_answers(path: Path) -> list[Row]:
    """The whole rows of a transcript, which are sealed; UserError if one is not what was written."""
    try:
        return [unsealed(row) for row in read_rows(path)]
    except (ValueError, AttributeError) as error:
        raise damaged(path, error) from error


def rows_as_text(rows: list[Row]) -> str:
    """A whole transcript."""
    return "".join(json.dumps(sealed(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def append_row(path: Path, row: Row) -> None:
    """Add a row and force it to the disk; a torn last line is cut off first."""
    with path.open("ab+", buffering=0) as file:
        cut_torn_line(file.fileno())
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        os.fsync(file.fileno())
