"""Rows of local files, one after another: jsonl, json, csv, tsv, parquet and txt. Nothing is held but the row at hand
(and a whole file only where JSON leaves no choice)."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ..failures import UserError
from ..plan import DataPlan
from .columns import Row
from .encodings import open_text
from .place import KINDS

Rows = Iterator[tuple[str, Row]]
LOOKED_AT_ROWS = 100
_LONGEST_CELL = 2**31 - 1  # what a C long holds everywhere
_PARQUET_ROWS = 512


@dataclass(frozen=True)
class Table:
    """Rows under common columns. `rows(columns)` begins anew at each call, gives the same rows each time, each with
    the words for its place, and may leave out other columns; `n_rows` is None where only reading would tell."""

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Rows]
    n_rows: int | None = None
    plain: bool = False  # a text without columns; the one that it gets says nothing


def local_tables(path: Path, plan: DataPlan) -> tuple[Table, ...]:
    """The tables of a file, or of every file of a known kind in a folder, in the order of their names.

    UserError if the path is nothing of that kind, or a file's beginning cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_data(file))
        if not files:
            raise UserError(
                "There is no dataset file in {folder}.",
                "Choose a folder with files that end in {kinds}.",
                folder=path,
                kinds=", ".join(KINDS),
            )
        return tuple(_table(file, plan) for file in files)
    if path.suffix.lower() not in KINDS:
        raise UserError(
            "{path} is of no known kind.", "Choose a file that ends in {kinds}.", path=path, kinds=", ".join(KINDS)
        )
    return (_table(path, plan),)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in KINDS and not path.name.startswith(".")


def _table(path: Path, plan: DataPlan) -> Table:
    kind = KINDS[path.suffix.lower()]
    if kind == "parquet":
        return _parquet_table(path)
    if kind == "txt":
        return Table(path.name, ("text",), lambda columns: _paragraphs(path, plan.encoding), plain=True)
    if kind in ("csv", "tsv"):
        header = _header(path, plan.encoding)
        return Table(path.name, header, lambda columns: _cells(path, plan.encoding))
    if kind == "json" and not _is_one_object_a_line(path, plan.encoding):
        found = _whole_json(path, plan)
        return Table(path.name, _seen(iter(found)), lambda columns: iter(found), len(found))
    rows = partial(_json_lines, path, plan.encoding)
    return Table(path.name, _seen(rows()), lambda columns: rows())


def _seen(rows: Rows) -> tuple[str, ...]:
    """Every column that the first rows have."""
    names: dict[str, None] = {}
    for _, (_, row) in zip(range(LOOKED_AT_ROWS), rows, strict=False):
        names.update(dict.fromkeys(row))
    return tuple(names)


def _json_lines(path: Path, encoding: str) -> Rows:
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):  # ends only at line ends, not at U+2028 inside a text
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    "Line {line} of {path} is not JSON: {problem}.",
                    "Mend that line; each line must be one JSON object.",
                    line=number,
                    path=path,
                    problem=error,
                ) from error
            if not isinstance(row, dict):
                raise UserError(
                    "Line {line} of {path} is not a JSON object.",
                    "Each line must be one JSON object.",
                    line=number,
                    path=path,
                )
            yield f"{path.name}, line {number}", row


def _is_one_object_a_line(path: Path, encoding: str) -> bool:
    """Whether a .json file is really JSON lines: its first line is a whole object and not the only line."""
    with open_text(path, encoding) as file:
        lines = (line for line in file if line.strip())
        first, second = next(lines, ""), next(lines, "")
    if not first.lstrip().startswith("{") or not second:
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _whole_json(path: Path, plan: DataPlan) -> list[tuple[str, Row]]:
    """The rows of a JSON file that is a list of objects, or an object that holds such a list (by the split's name,
    if there are several)."""
    with open_text(path, plan.encoding) as file:
        text = file.read()
    try:
        content = json.loads(text) if text.strip() else []
    except ValueError as error:
        raise UserError(
            "{path} is not JSON: {problem}.", "Mend it, or save it as JSON lines.", path=path, problem=error
        ) from error
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if _is_rows(value) and value}
        content = lists.get(plan.split) or (next(iter(lists.values())) if len(lists) == 1 else None)
    if content is None or not _is_rows(content):
        raise UserError(
            "{path} holds no list of JSON objects.",
            "It must be a list of objects, an object with one such list, or one object in each line.",
            path=path,
        )
    return [(f"{path.name}, entry {number}", row) for number, row in enumerate(content, start=1)]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _header(path: Path, encoding: str) -> tuple[str, ...]:
    with open_text(path, encoding, newline="") as file:
        return tuple(name for name in next(_records(path, file), []) if name)


def _cells(path: Path, encoding: str) -> Rows:
    with open_text(path, encoding, newline="") as file:
        records = _records(path, file)
        header = next(records, [])
        for number, cells in enumerate(records, start=1):
            if not cells:
                continue
            if len(cells) > len(header):
                raise UserError(
                    "Row {row} of {path} has {n} cells, but the first line names {columns} columns.",
                    "Put cells that hold the separator into double quotes, and name every column in the first line.",
                    row=number,
                    path=path,
                    n=len(cells),
                    columns=len(header),
                )
            yield f"{path.name}, row {number}", dict(zip(header, cells, strict=False))


def _records(path: Path, file: TextIO) -> Iterator[list[str]]:
    """The cells of every record; quoted cells may hold separators, quotes and line ends."""
    csv.field_size_limit(_LONGEST_CELL)
    start = file.readline()
    file.seek(0)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=start.count)
    reader = csv.reader(file, delimiter=separator, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                "Line {line} of {path} is no valid row: {problem}.",
                "Mend its quotes; a quote inside a quoted cell is written twice.",
                line=reader.line_num,
                path=path,
                problem=error,
            ) from error
        yield [cell.strip() for cell in cells] if reader.line_num == 1 else cells


def _paragraphs(path: Path, encoding: str) -> Rows:
    """Texts between blank lines."""
    with open_text(path, encoding) as file:
        lines: list[str] = []
        number = 0
        for line in file:
            if line.strip():
                lines.append(line)
            elif lines:
                number += 1
                yield f"{path.name}, paragraph {number}", {"text": "".join(lines).strip()}
                lines = []
        if lines:
            yield f"{path.name}, paragraph {number + 1}", {"text": "".join(lines).strip()}


def _parquet_table(path: Path) -> Table:
    from pyarrow import ArrowException, parquet

    try:
        with path.open("rb") as file, parquet.ParquetFile(file) as table:
            names, n_rows = tuple(table.schema_arrow.names), table.metadata.num_rows
    except ArrowException as error:
        raise UserError(
            "{path} is no readable parquet file: {problem}",
            "Write or download it again.",
            path=path,
            problem=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
        ) from error
    return Table(path.name, names, partial(_parquet_rows, path), n_rows)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Rows:
    from pyarrow import parquet

    number = 0
    with path.open("rb") as file, parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=list(columns)):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", row
