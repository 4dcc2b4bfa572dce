"""Chat in a terminal: a line in, an answer streaming out; Ctrl-C stops an answer, an empty line or Ctrl-D ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from ..events import Event, Log
from ..failures import UserError
from ..run_directory import RunDirectory
from .backend import Backend, Sampling
from .session import open_backend, refuse_while_working
from .template import Message


def talk(run: RunDirectory, model: str, console: Console) -> None:
    """Converse with the run's model until the user ends it; UserError if there is nothing to talk to."""
    refuse_while_working(run)
    plan = run.plan()
    with console.status("…"):
        backend = open_backend(run, plan, model, _printer(console))
    try:
        console.print(f"[bold]{backend.model}[/bold] · {backend.name} · Ctrl-C stops an answer, Ctrl-D leaves")
        system: list[Message] = [{"role": "system", "content": plan.chat.system}] if plan.chat.system else []
        _converse(backend, Sampling.of(plan.chat), system, console)
    finally:
        backend.close()


def _converse(backend: Backend, sampling: Sampling, messages: list[Message], console: Console) -> None:
    while line := _asked(console):
        messages.append({"role": "user", "content": line})
        with _stoppable() as stopped:
            try:
                answer = backend.answer(messages, sampling, lambda text: _write(console, text), stopped.is_set)
            except UserError as error:
                console.print(f"{error.reason} {error.advice}", style="red", markup=False)
                messages.pop()
                continue
        messages.append({"role": "assistant", "content": answer.text})
        console.print()
        remark = answer.error or {"length": "cut off at the longest answer", "cancelled": "stopped"}.get(answer.reason)
        figures = f"{answer.n_tokens} tokens, {answer.tokens_per_second:.1f} per second"
        console.print(f"{figures} · {remark}" if remark else figures, style="dim", markup=False)


def _asked(console: Console) -> str:
    try:
        return console.input("[bold]> [/bold]").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _write(console: Console, text: str) -> None:
    console.print(text, end="", markup=False, highlight=False, soft_wrap=True)


def _printer(console: Console) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        if isinstance(event, Log):
            console.print(event.text, style="dim", markup=False)

    return show


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """While an answer streams, Ctrl-C stops it instead of the program."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
