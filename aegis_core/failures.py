"""Errors a user can act on, and the translation of foreign ones into such sentences."""

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .addresses import shown_address

# The two ways in which a step runs out of memory: it is told so, or the system ends it.
OUT_OF_MEMORY = "The memory was not enough for this step."
KILLED = "The system ended the engine (signal 9, exit code {exit_code}), usually because the memory ran out."

_UNEXPECTED = "Something unexpected happened: {kind}: {text}"


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
    known = error if isinstance(error, UserError) else _known(error) or _unexpected_in_a_run(error)
    return Failure(
        known.reason, known.advice, known.reason_template, known.advice_template, known.values, known.changes
    )


def killed(exit_code: int) -> UserError:
    """Why a process was ended from outside (POSIX), as far as that can be known."""
    return UserError(
        KILLED,
        "Choose a smaller batch or a shorter sequence length, close other programs, and run the step again.",
        exit_code=exit_code,
    )


def sentence(error: BaseException, log: object) -> UserError:
    """The same for an error outside any run, whose trace stands in the file `log`."""
    return _known(error) or UserError(
        _UNEXPECTED,
        "The full trace is in {log}; try again, and report it if it stays.",
        kind=type(error).__name__,
        text=_words(error),
        log=log,
    )


def _known(error: BaseException) -> UserError | None:
    if any(map(_is_disk_full, _chain(error))):
        advice = "Free some space or choose another drive, then run this step again; earlier results are untouched."
        if isinstance(error, OSError) and error.filename:
            return UserError("The disk is full: {path} could not be written.", advice, path=error.filename)
        return UserError("The disk is full.", advice)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return UserError(
            "{path} lies on a disk that cannot be written to.",
            "Take off its write protection, or copy the run to another disk and open it there.",
            path=error.filename or "The folder",
        )
    if isinstance(error, PermissionError):
        return UserError(
            "{path} may not be written or read.",
            "Close programs that use it, or choose a folder of your own.",
            path=error.filename or "A file",
        )
    if any(map(_is_out_of_memory, _chain(error))):
        return _too_little_memory(error)
    if isinstance(error, SystemError):  # raised by Python itself for a library in C
        return UserError(
            "A library broke off without saying why, as happens when the memory is full: {text}.",
            "Close other programs and run the step again; report it if it stays.",
            text=error,
        )
    return None


def _unexpected_in_a_run(error: BaseException) -> UserError:
    return UserError(
        _UNEXPECTED,
        "The full trace is in events.jsonl of this run; run the step again, and report it if it stays.",
        kind=type(error).__name__,
        text=_words(error),
    )


def _words(error: BaseException) -> str:
    return shown_address(" ".join(str(error).split()))[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from: libraries put errors of the system into words of their own."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _is_disk_full(error: BaseException) -> bool:
    """Also as told by SQLite, by safetensors (Rust: code 28, on Windows 112) and by torch's writers.

    The last of these finds itself at another place than expected once a write was cut short, and says no more.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    signs = ("No space left on device", "StorageFull", "database or disk is full", "os error 28)", "os error 112)")
    said = str(error)
    return any(sign in said for sign in signs) or ("inline_container.cc" in said and "unexpected pos" in said)


def _is_out_of_memory(error: BaseException) -> bool:
    """torch's own class cannot be imported here; on the processor it raises a plain RuntimeError.

    Mapping a file asks for memory too (POSIX: code 12). Windows says that its page file is too small (1455): it
    promises no more memory than RAM and page file hold together.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error)
    systems = ("Cannot allocate memory", "os error 12)", "os error 1455)", "WinError 1455", "error code: <1455>")
    torchs = ("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return any(sign in said for sign in systems) or (
        isinstance(error, RuntimeError) and any(sign in said for sign in torchs)
    )


def _too_little_memory(error: BaseException) -> UserError:
    """What torch says of a fragmented card is passed on where it is the cause: enough is reserved, but in pieces."""
    if any("1455" in str(link) for link in _chain(error)):
        return UserError(
            OUT_OF_MEMORY,
            "Windows' page file is full: let Windows manage its size, close other programs, and run the step again.",
        )
    if _is_fragmented(str(error)):
        return UserError(
            OUT_OF_MEMORY,
            "Choose a shorter sequence length or a smaller batch with more accumulation; the memory is also in pieces, "
            "which the environment variable {variable} helps against on Linux.",
            variable="PYTORCH_ALLOC_CONF=expandable_segments:True",
        )
    return UserError(
        OUT_OF_MEMORY,
        "Choose a shorter sequence length or a smaller batch with more accumulation, and close other programs.",
    )


def _is_fragmented(message: str) -> bool:
    """Whether torch had more set aside unused than it was asked for, by its own words, and could not use it."""
    wanted = re.search(r"Tried to allocate ([\d.]+) ([KMG]iB)", message)
    unused = re.search(r"([\d.]+) ([KMG]iB) is reserved by PyTorch but unallocated", message)
    return bool(wanted and unused) and _bytes_in(unused) >= _bytes_in(wanted)


def _bytes_in(found: "re.Match[str] | None") -> float:
    return 0.0 if found is None else float(found[1]) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[found[2]]
