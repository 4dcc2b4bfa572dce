"""Samples from the bundled questions, a local file or the hub."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failures import UserError
from ..plan import PHYSICS, DataPlan
from ..resources import RESOURCES


@dataclass(frozen=True)
class Sample:
    """A question with its answer, or plain text (then `question` is empty). `topic` may be empty."""

    answer: str
    question: str = ""
    topic: str = ""

    @property
    def blank(self) -> bool:
        return not self.answer.strip()


def read_samples(plan: DataPlan) -> list[Sample]:
    """Every sample of the plan's source, blank ones included; UserError names the file and line of a bad one."""
    samples = [_sample(row, plan, where) for where, row in _rows(plan)]
    if not any(not sample.blank for sample in samples):
        raise UserError(
            "The dataset {source} is empty.", "Choose one that holds at least a few samples.", source=plan.source
        )
    return samples


def _rows(plan: DataPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    if plan.source == PHYSICS:
        for language in ("en", "ja"):
            if plan.language in (language, "both"):
                yield from _json_lines(RESOURCES / "physics" / f"{language}.jsonl")
        return
    path = Path(plan.source).expanduser()
    if path.is_file():
        yield from _file_rows(path, plan)
    elif path.suffix in _READERS or path.is_absolute():
        raise UserError(
            "There is no dataset file {path}.", "Choose an existing jsonl, txt, csv or parquet file.", path=path
        )
    else:
        yield from _hub_rows(plan)


def _file_rows(path: Path, plan: DataPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() not in _READERS:
        raise UserError(
            "{path} is of no known kind.", "Choose a file that ends in {kinds}.", path=path, kinds=", ".join(_READERS)
        )
    kind = _READERS[path.suffix.lower()]
    if kind == "jsonl":
        yield from _json_lines(path)
    elif kind == "txt":
        paragraphs = [part.strip() for part in _text(path).split("\n\n")]
        yield from (
            (f"{path.name}, paragraph {n}", {plan.text_field: part}) for n, part in enumerate(paragraphs, start=1)
        )
    else:
        from datasets import Dataset

        table = Dataset.from_parquet(str(path)) if kind == "parquet" else Dataset.from_csv(str(path))
        yield from ((f"{path.name}, row {n}", dict(row)) for n, row in enumerate(table, start=1))


_READERS = {".jsonl": "jsonl", ".json": "jsonl", ".txt": "txt", ".parquet": "parquet", ".csv": "csv"}


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):  # splitlines would cut inside texts, at U+2028
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            "{path} is not UTF-8 text (byte {position}).",
            "Save it as UTF-8; on Japanese Windows it is often Shift-JIS.",
            path=path,
            position=error.start,
        ) from error


def _hub_rows(plan: DataPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        table = load_dataset(plan.source, split=plan.split)
    except (DatasetNotFoundError, ConnectionError, FileNotFoundError, ValueError, OSError) as error:
        raise UserError(
            "The dataset {source} could not be fetched: {problem}",
            "Check its name and the connection, or choose a local file or physics.",
            source=plan.source,
            problem=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
        ) from error
    yield from ((f"row {n}", dict(row)) for n, row in enumerate(table, start=1))


def _sample(row: dict[str, Any], plan: DataPlan, where: str) -> Sample:
    """Question and answer, a list of messages, or the text column, whichever the row has."""
    if "question" in row and "answer" in row:
        return Sample(_string(row["answer"]), _string(row["question"]), _string(row.get("topic")))
    if "instruction" in row and "output" in row:
        question = "\n".join(part for part in (_string(row["instruction"]), _string(row.get("input"))) if part)
        return Sample(_string(row["output"]), question)
    if isinstance(row.get("messages"), list) and row["messages"]:
        texts = {message.get("role"): _string(message.get("content")) for message in row["messages"][-2:]}
        return Sample(texts.get("assistant", ""), texts.get("user", ""))
    if plan.text_field in row:
        return Sample(_string(row[plan.text_field]))
    raise UserError(
        "The dataset has no column {field} ({where}); its columns are {columns}.",
        "Set the text column, or use columns question and answer.",
        field=plan.text_field,
        where=where,
        columns=", ".join(map(str, row)),
    )


def _string(value: Any) -> str:
    return "" if value is None else str(value)
