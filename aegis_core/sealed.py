"""Files that vouch for themselves: they hold the hash of all the rest they say.

A step's marker vouches for finished results. What an attempt leaves for the next one is read before there is a marker,
and a marker itself has nothing above it.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .failures import UserError

KEY = "self_sha256"
UNSEALED = {KEY: "0" * 64}
"""In the header of a safetensors file until `seal` has put the hash there."""
_BLOCK_BYTES = 1 << 24


def sealed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {KEY: sha256_of_json(row)}


def unsealed(row: dict[str, Any]) -> dict[str, Any]:
    """What was sealed, without its hash; ValueError if it is not that. Rows of older versions have none."""
    rest = {key: value for key, value in row.items() if key != KEY}
    if KEY in row and row[KEY] != sha256_of_json(rest):
        raise ValueError("it does not say what was written")
    return rest


def read_sealed(path: Path) -> dict[str, Any]:
    """A JSON object written sealed; UserError if it is damaged. Older versions wrote bare lists of rows."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"rows": found} if isinstance(found, list) else unsealed(found)
    except (ValueError, AttributeError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, problem: object) -> UserError:
    return UserError(
        "{path} is damaged: {problem}.", "Delete that file and run the step again.", path=path, problem=problem
    )


def seal(path: Path) -> None:
    """Put the hash into a safetensors file whose header holds UNSEALED."""
    place, _, found = _seal(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(found)


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is, byte for byte, what was sealed; one without a seal is not.

    It is read once for each size and time that it is seen with.
    """
    status = path.stat()
    return _is_whole(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _is_whole(path: Path, _size: int, _time: int) -> bool:
    _, stated, found = _seal(path)
    return stated == found


def _seal(path: Path) -> tuple[int, bytes, bytes]:
    """(where the hash stands in the file, the hash there, the hash of the file with zeros in its place)"""
    zeros = UNSEALED[KEY].encode()
    with path.open("rb") as file:
        length = file.read(8)
        head = length + file.read(int.from_bytes(length, "little"))
        before, mark, after = head.partition(f'"{KEY}":"'.encode())
        known = hashlib.sha256(before + mark + zeros + after[len(zeros) :])
        while block := file.read(_BLOCK_BYTES):
            known.update(block)
    return len(before) + len(mark), after[: len(zeros)], known.hexdigest().encode()


def sha256_of_json(value: Any) -> str:
    """Of its content, whatever the order of keys."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
