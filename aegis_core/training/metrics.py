"""metrics.jsonl: one row per optimiser step, numbers that read back to the same bits."""

import json
import os
from pathlib import Path
from typing import Any

from ..run_directory import write_text

METRICS = "metrics.jsonl"


class MetricsFile:
    """Appends rows; on resume it is first cut back to the checkpoint's step, so that no step stands twice."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        self._path = path
        rows = [row for row in read_metrics(path) if row["step"] <= resumed_at]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def append(self, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def complete_last(self, row: dict[str, Any]) -> None:
        """Put a fuller form of the last row in its place."""
        rows = [*read_metrics(self._path)[:-1], row]
        write_text(self._path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))

    def sync(self) -> None:
        """Force the rows to the disk, before a checkpoint that relies on them is named."""
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def restore_metrics(folder: Path, checkpoint: Path) -> None:
    """Put back the rows that the checkpoint holds, unless they stand in `folder`, the last perhaps more complete.

    Checkpoints of older versions hold none.
    """
    wanted, found = read_metrics(checkpoint / METRICS), read_metrics(folder / METRICS)
    n = len(wanted)
    if not n or (found[: n - 1] == wanted[:-1] and len(found) >= n and _completes(wanted[-1], found[n - 1])):
        return
    write_text(folder / METRICS, (checkpoint / METRICS).read_text(encoding="utf-8"))


def _completes(row: dict[str, Any], other: object) -> bool:
    return isinstance(other, dict) and row.items() <= other.items()
