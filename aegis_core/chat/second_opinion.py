"""What the base model says to the same questions, and how likely it finds each answer: all of it may be impossible.

Nothing here fails the step. What could not be had is told, and stands as a reason where the figures would be.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..context import StepContext
from ..events import Progress, note, warning
from ..failures import UserError
from ..models.identity import read_base
from ..plan import Plan
from ..run_directory import write_text
from .base_gguf import base_gguf
from .interview import Row, interview, judged
from .questions import Question
from .session import exported_gguf
from .transcript import read_answers, rows_as_text

BYTES_PER_PARAMETER = 2  # F16


def ask_base(
    plan: Plan, ctx: StepContext, questions: Sequence[Question], own: list[Row], path: Path
) -> tuple[list[Row], str]:
    """The base's transcript beside the model's own; no rows and the reason why where it could not be asked."""
    if not plan.chat.compare_base:
        return [], "chat.compare_base is off"
    if len(read_answers(path)) < len(questions):
        _tell_cost(ctx, own)
    try:
        return interview(plan, ctx, "base", questions, path), ""
    except UserError as problem:
        ctx.emit(warning("The base model could not be asked the same: {problem}", problem=problem.reason))
        return [], problem.reason


def measure_surprise(plan: Plan, ctx: StepContext, transcripts: Iterable[Path], questions: Sequence[Question]) -> None:
    """Put the base's loss on every answer into the transcripts, with the verdicts that follow; once for each answer."""
    found = {path: read_answers(path) for path in transcripts}
    known = {question.question: question for question in questions}
    waiting = [(path, i) for path, rows in found.items() for i, row in enumerate(rows) if not _measured(row)]
    if not waiting:
        return
    if not plan.chat.measure_surprise:
        return
    try:
        _measure(ctx, plan.chat.questions, found, waiting)
    except UserError as problem:
        ctx.emit(
            warning("How likely the base model finds the answers was not measured: {problem}", problem=problem.reason)
        )
        for path, i in waiting:
            found[path][i].setdefault("surprise", {"why": problem.reason})
    for path, rows in found.items():
        write_text(path, rows_as_text([judged(row, known[row["question"]]) for row in rows]))


def _measure(ctx: StepContext, language: str, found: dict[Path, list[Row]], waiting: list[tuple[Path, int]]) -> None:
    from .surprise import N_REFERENCES, base_reader  # loads torch

    n_all = N_REFERENCES + len(waiting)

    def show(done: int) -> None:
        ctx.emit(Progress(done, n_all, "texts", "how likely the base finds them"))

    show(0)
    reader = base_reader(ctx.run, ctx.cancel)
    try:
        reader.references(language, lambda done, total: show(done))
        for n_done, (path, i) in enumerate(waiting, start=1):
            row = found[path][i]
            surprise = reader.surprise(row["question"], row["answer"], language)
            row["surprise"] = surprise.row() if surprise else {"why": "the answer is empty"}
            show(N_REFERENCES + n_done)
    finally:
        reader.close()


def _measured(row: dict[str, Any]) -> bool:
    return "nats_per_token" in row.get("surprise", {}) or not row["answer"].strip()


def _tell_cost(ctx: StepContext, own: list[Row]) -> None:
    """What asking the base costs, before it is asked: its file is larger, so it is slower in proportion."""
    base = read_base(ctx.run)
    n_bytes = BYTES_PER_PARAMETER * base.n_parameters
    slower = max(1.0, n_bytes / exported_gguf(ctx.run).stat().st_size)
    minutes = sum(row["seconds"] for row in own) * slower / 60
    there = base_gguf(base).is_file()
    ctx.emit(
        note(
            "The base model answers the same {n} questions, to be put beside: about {minutes} minutes.",
            n=len(own),
            minutes=f"{minutes:.1f}",
        )
        if there
        else note(
            "The base model answers the same {n} questions, to be put beside: about {minutes} minutes, and {size} GB "
            "on the disk for its GGUF, which is kept for later chats.",
            n=len(own),
            minutes=f"{minutes:.1f}",
            size=f"{n_bytes / 1e9:.1f}",
        )
    )
