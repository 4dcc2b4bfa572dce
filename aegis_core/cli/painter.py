"""Progress on the terminal: one live line per step, or plain lines where the output is no terminal."""

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..events import (
    AnswerFinished,
    CheckRow,
    Event,
    Log,
    Metric,
    Paused,
    PhaseChanged,
    PlanChanged,
    Progress,
    Sample,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    TrialFinished,
    Verdict,
)

TITLES = {
    "check": "1 Environment check",
    "prepare": "2 Base model and data",
    "search": "3 Hyperparameter search",
    "schedule": "4 Alpha-gate schedule",
    "train": "5 Soul injection",
    "fuse": "6 Soul fusion",
    "export": "7 GGUF conversion",
    "chat": "8 Ollama test",
    "report": "9 Run log",
}
_SHOWN = {"loss": "loss", "alpha": "alpha", "held_out_loss": "held-out"}
_MARKS = {"pass": "[green]ok[/]", "fail": "[red]FAILED[/]", "skipped": "[yellow]skipped[/]"}
_QUIET_SECONDS = 15.0


def painter(console: Console) -> "Painter":
    return LivePainter(console) if console.is_terminal else Painter(console)


class Painter(AbstractContextManager["Painter"]):
    """Says each event worth a line; progress at most every 15 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._numbers: dict[str, float] = {}
        self._said_at = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(resumed=resumed):
                self._numbers.clear()
                self.start(event.stage, resumed)
            case StepSkipped(reason=reason):
                words = {"fresh": "done already", "disabled": "switched off"}.get(reason, reason)
                self._line(f"{_title(event.stage)}: [dim]{words}[/]")
            case Metric(name=name, value=value) if name in _SHOWN and value is not None:
                self._numbers[_SHOWN[name]] = value
            case Progress():
                self.progress(event)
            case StepFinished(seconds=seconds):
                self.end(event.stage, f"[green]done[/] in {_duration(seconds)}{self._figures()}")
            case StepFailed():
                self.end(event.stage, "[red]failed[/]")
            case StepCancelled():
                self.end(event.stage, "[yellow]stopped; aegis run continues it[/]")
            case _:
                if line := _worth_saying(event):
                    self._line(line)

    def start(self, stage: str, resumed: bool) -> None:
        self._line(f"{_title(stage)}{': continues' if resumed else ''}")

    def progress(self, event: Progress) -> None:
        now = time.monotonic()
        if now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            self._line(f"  {_amount(event)}{self._figures()}")

    def end(self, stage: str, how: str) -> None:
        self._line(f"{_title(stage)}: {how}")

    def stopping(self) -> None:
        self._line("[yellow]Saving and stopping … press Ctrl-C again to stop at once.[/]")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _figures(self) -> str:
        return "".join(f" · {name} {value:.4g}" for name, value in self._numbers.items())


class LivePainter(Painter):
    """A bar with rate and time left for the step that runs, moving in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None
        self._phase = ""

    def __enter__(self) -> "LivePainter":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, stage: str, resumed: bool) -> None:
        self._task = self._bars.add_task(_title(stage), total=None, amount="continues" if resumed else "")
        self._phase = ""

    def progress(self, event: Progress) -> None:
        if self._task is None:
            return
        if event.phase != self._phase:  # another thing is counted now: its rate starts anew
            self._phase = event.phase
            self._bars.reset(self._task)
        self._bars.update(
            self._task, completed=event.done, total=event.total or None, amount=escape(_amount(event) + self._figures())
        )

    def end(self, stage: str, how: str) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
            self._bars.refresh()
        super().end(stage, how)


def _worth_saying(event: Event) -> str:
    match event:
        case Log(level="warning", text=text):
            return f"  [yellow]{escape(text)}[/]"
        case Log(text=text):
            return f"  [dim]{escape(text)}[/]"
        case CheckRow(name=name, status=status, found=found, fix=fix) if status != "ok":
            sentence = f"{name}: {found.rstrip('.')}. {fix}"
            return f"  [yellow]{escape(sentence)}[/]"
        case Verdict(name=name, status=status, measured=measured, expected=expected):
            return f"  {_MARKS.get(status, status)} {escape(f'{name}: {measured} (expected {expected})')}"
        case TrialFinished(number=number, state=state, value=value, reason=reason):
            result = f" {value:.4g}" if value is not None else f", {reason}" if reason else ""
            return f"  [dim]trial {number + 1}: {escape(state + result)}[/]"
        case PhaseChanged(step=step, phase=phase):
            return f"  [dim]step {step}: {escape(phase)}[/]"
        case PlanChanged(old=old, new=new, source=source):
            found = ", ".join(f"{name} {old[name]} -> {value}" for name, value in new.items() if old[name] != value)
            return f"  {escape(f'{source} found {found}; written into the plan')}"
        case Sample(prompt=prompt, text=text):
            return f"  [dim]{escape(prompt)}[/]\n  {escape(text)}"
        case AnswerFinished(reason="error", error=error):
            return f"  [yellow]{escape(error)}[/]"
        case Paused(paused=paused):
            return "  paused" if paused else "  goes on"
    return ""


def _title(stage: str) -> str:
    return f"[bold]{TITLES.get(stage, stage)}[/]"


def _amount(event: Progress) -> str:
    phase = f"{event.phase} " if event.phase else ""
    if event.total <= 0:  # only the end will tell
        return f"{phase}{event.done:.0f} {event.unit}"
    if event.unit == "bytes":
        return f"{phase}{event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB"
    return f"{phase}{event.done:.0f} of {event.total:.0f} {event.unit}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
