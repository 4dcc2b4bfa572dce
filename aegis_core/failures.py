"""Errors a user can act on, and the translation of foreign ones into such sentences."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class UserError(Exception):
    """What is wrong and what to do about it, each one sentence.

    `reason` and `advice` are format templates for `values`, so that the window can show them in the user's
    language: UserError("No config.json in {folder}.", "Choose a model folder.", folder=path). `changes` are settings
    ("section.field" → value) that would mend it: the window offers them at one click.
    """

    def __init__(
        self, reason: str, advice: str = "", *, changes: Mapping[str, Any] | None = None, **values: object
    ) -> None:
        self.reason_template, self.advice_template = reason, advice
        self.changes = dict(changes or {})
        self.values = {name: str(value) for name, value in values.items()}
        super().__init__(self.reason)

    @property
    def reason(self) -> str:
        return self.reason_template.format(**self.values)

    @property
    def advice(self) -> str:
        return self.advice_template.format(**self.values)


class UsageError(UserError):
    """The command itself cannot be understood (exit code 2)."""


@dataclass(frozen=True)
class Failure:
    """A failure as the user sees it; the templates are what gets translated."""

    reason: str
    advice: str
    reason_template: str
    advice_template: str
    values: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


def explain(error: BaseException) -> Failure:
    """The one sentence and the one piece of advice for any error a step can raise."""
    known = error if isinstance(error, UserError) else _foreign(error)
    return Failure(
        known.reason, known.advice, known.reason_template, known.advice_template, known.values, known.changes
    )


def _foreign(error: BaseException) -> UserError:
    if _is_disk_full(error):
        advice = "Free some space or choose another drive, then run this step again; earlier results are untouched."
        if isinstance(error, OSError) and error.filename:
            return UserError("The disk is full: {path} could not be written.", advice, path=error.filename)
        return UserError("The disk is full.", advice)
    if isinstance(error, PermissionError):
        return UserError(
            "{path} may not be written or read.",
            "Close programs that use it, or choose a folder of your own.",
            path=error.filename or "A file",
        )
    if _is_out_of_memory(error):
        return UserError(
            "The memory was not enough for this step.",
            "Choose a shorter sequence length or a smaller batch with more accumulation, and close other programs.",
        )
    return UserError(
        "Something unexpected happened: {kind}: {text}",
        "The full trace is in events.jsonl of this run; run the step again, and report it if it stays.",
        kind=type(error).__name__,
        text=" ".join(str(error).split())[:300],
    )


def _is_disk_full(error: BaseException) -> bool:
    """Also as told by SQLite, by safetensors (Rust: code 28, on Windows 112) and by torch's writers."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    signs = ("No space left on device", "StorageFull", "database or disk is full", "os error 28)", "os error 112)")
    return any(sign in str(error) for sign in signs)


def _is_out_of_memory(error: BaseException) -> bool:
    """torch's own class cannot be imported here; on the processor it raises a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
