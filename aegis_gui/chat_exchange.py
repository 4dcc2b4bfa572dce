"""A question and its answer on the screen, live or from the history, and the quiet line that says how it went."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtWidgets import QToolButton

from aegis_core.events import AnswerFinished, Event, Log, Progress, StepFailed

from . import text
from .chat_message import Turn
from .failure_box import failure_advice, failure_reason
from .i18n import filled, mark, said, tr

FULL = 0.85  # of the context; beyond that it is said
REASONS = {
    "length": mark("cut at the longest length"),
    "cancelled": mark("stopped"),
    "error": mark("broken off"),
    "lost": mark("The connection to the model was lost; what came is kept."),
}


@dataclass
class Exchange:
    """A question and what came back, with the two widgets that show it."""

    question: str
    model: str
    asked: Turn
    answered: Turn
    answer: str = ""
    began: float = 0.0
    n_pieces: int = 0
    end: AnswerFinished | None = None
    failure: StepFailed | None = None
    notes: list[Event] = field(default_factory=list)
    n_rows: int = 0  # of it in the history
    sent: float = 0.0  # when the question went out; what came from the history has no times
    sampling: dict[str, Any] = field(default_factory=dict)
    actions: dict[str, QToolButton] = field(default_factory=dict)

    def remark(self, num_ctx: int) -> str:
        """The quiet line below the answer: loading, speed, context used of `num_ctx` tokens, how it ended."""
        end = self.end
        if self.failure:
            return f"▲ {failure_reason(self.failure)} {failure_advice(self.failure)}".strip()
        if end is None:
            if self.began:
                return _speed(self.n_pieces, time.monotonic() - self.began)
            return _loading(self.notes)
        parts = [_speed(end.n_tokens, end.seconds)] if end.n_tokens else []
        if self.began and self.sent:
            first = text.fixed(self.began - self.sent, 1)
            parts.append(filled("first token after {seconds} s", seconds=first))
        if end.n_prompt_tokens:
            used, room = end.n_prompt_tokens + end.n_tokens, num_ctx
            shape = "▲ " if used > FULL * room else ""
            parts.append(shape + filled("{used} of {room} tokens of context", used=f"{used:,}", room=f"{room:,}"))
        if end.reason in REASONS:
            shape = "▲ " if end.reason in ("error", "lost") else ""
            parts.append(shape + tr(REASONS[end.reason]))
        if end.error:
            parts.append(said(end.error))
        return " · ".join(parts)


def pairs(messages: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Each question with its answer, or None where none was written down."""
    waiting: dict[str, Any] | None = None
    for row in messages:
        if row["role"] == "assistant" and waiting:
            yield waiting, row
            waiting = None
        elif row["role"] == "user":
            if waiting:
                yield waiting, None
            waiting = row
    if waiting:
        yield waiting, None


def _speed(n_tokens: int, seconds: float) -> str:
    if seconds < 0.2 or n_tokens < 2:
        return ""
    return filled("{count} tokens, {speed} tokens/s", count=f"{n_tokens:,}", speed=text.number(n_tokens / seconds, 3))


def _loading(notes: list[Event]) -> str:
    match notes:
        case [Log() as log]:
            return filled(log.template, log.values) if log.template else tr(log.text)
        case [Progress() as progress] if progress.total > 0:
            done = filled("{part} % done", part=round(100 * progress.done / progress.total))
            return f"{tr(progress.phase)} · {done}" if progress.phase else done
    return tr("The model is being loaded…")
