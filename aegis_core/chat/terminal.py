"""Chat in a terminal: a line in, an answer streaming out; conversations are kept with the run, as the window's are."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from ..events import AnswerFinished, Event, Log
from ..failures import UsageError, UserError, explain
from ..plan import parsed
from ..run_directory import RunDirectory, write_text
from . import history
from .answering import answer_timed, sampling_within
from .backend import Backend, Sampling
from .dialogue import MODELS, Dialogue, Exchange, Reply
from .session import open_backend, refuse_while_working

HELP = """/again            answer the last question again, drawn anew
/edit TEXT        put this in place of the last question
/system TEXT      what the model is told beforehand, from now on; alone: leave it to the model
/set NAME=VALUE   temperature, top_p, top_k, repeat_penalty, max_tokens, seed
/model NAME       aegis, base or both
/new              begin a new conversation
/save FILE        write this conversation as Markdown
//…               a question that begins with a slash
Ctrl-C stops an answer; an empty line or Ctrl-D leaves."""
ENDS = {"length": "cut off at the longest answer", "cancelled": "stopped"}


def talk(run: RunDirectory, models: Sequence[str], console: Console, go_on: bool = False) -> None:
    """Converse with the run's models until the user ends it; `go_on`: in the latest conversation there is.

    UserError if there is nothing to talk to.
    """
    refuse_while_working(run)
    latest = history.conversations(run)[:1] if go_on else []
    with ExitStack() as opened:
        chat = TerminalChat(run, Dialogue(run, latest[0].id if latest else ""), console, opened)
        chat.choose(models)
        for exchange in chat.dialogue.exchanges:
            chat.show(exchange)
        console.print("Ctrl-C stops an answer, Ctrl-D leaves, /help shows more", style="dim")
        while line := _asked(console):
            try:
                chat.obey(line)
            except (UserError, UsageError) as error:
                console.print(f"{error.reason} {error.advice}", style="red", markup=False)


class TerminalChat:
    """A conversation in a terminal; models are opened when they are first chosen and closed by `opened`."""

    def __init__(self, run: RunDirectory, dialogue: Dialogue, console: Console, opened: ExitStack) -> None:
        self.run, self.plan, self.dialogue, self.console = run, run.plan(), dialogue, console
        self.sampling: dict[str, Any] = asdict(Sampling.of(self.plan.chat))
        self._opened = opened
        self._backends: dict[str, Backend] = {}
        self._models: tuple[str, ...] = ()

    def obey(self, line: str) -> None:
        """Answer a question, or do what a line that begins with a slash says."""
        word, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/again": lambda _: self._again(),
            "/edit": self._edit,
            "/system": lambda text: self.dialogue.set_system(text or None),
            "/set": self._set,
            "/model": lambda name: self.choose(MODELS if name == "both" else (name,)),
            "/new": lambda _: self._begin(),
            "/save": self._save,
            "/help": lambda _: self.console.print(HELP, markup=False, highlight=False),
        }
        if line.startswith("/") and not line.startswith("//"):
            if word not in commands:
                raise UsageError("There is no command {word}.", "/help shows those there are.", word=word)
            commands[word](rest.strip())
        else:
            self.ask(line.removeprefix("/") if line.startswith("//") else line)

    def choose(self, models: Sequence[str]) -> None:
        """Talk to these from now on; UsageError if there is one that is none."""
        for model in models:
            if model not in MODELS:
                raise UsageError("There is no model {model}.", "It is base, aegis or both.", model=model)
        for model in models:
            if model not in self._backends:
                with self.console.status("…"):
                    backend = open_backend(self.run, self.plan, model, _printer(self.console))
                self._backends[model] = self._opened.enter_context(closing(backend))
                self.console.print(f"[bold]{backend.model}[/bold] · {backend.name}")
        self._models = tuple(models)

    def ask(self, question: str) -> None:
        """Put a question to the chosen models, one after the other."""
        exchange = self.dialogue.ask(question, self._models, self.sampling)
        for reply in exchange.replies:
            self._name(exchange, reply)
            self._answer(exchange, reply)
            self.dialogue.finish(reply)
            self.console.print()
            self._remark(reply)
        if self.dialogue.unkept:
            problem = f"This conversation cannot be kept: {self.dialogue.unkept}"
            self.console.print(problem, style="red", markup=False)

    def show(self, exchange: Exchange) -> None:
        """An exchange of before."""
        self.console.print(f"> {exchange.question}", style="bold", markup=False)
        for reply in exchange.replies:
            self._name(exchange, reply)
            self.console.print(reply.text, markup=False, highlight=False, soft_wrap=True)
            self._remark(reply)

    def _answer(self, exchange: Exchange, reply: Reply) -> None:
        messages = self.dialogue.messages(exchange, reply.model)
        sampling = sampling_within(self.plan.chat, reply.sampling)
        with _stoppable() as stopped:
            try:
                end = answer_timed(self._backends[reply.model], messages, sampling, self._writer(reply), stopped.is_set)
            except UserError as error:
                why = explain(error)
                end = AnswerFinished("", "error", 0, 0.0, why.reason, advice=why.advice)
        reply.end(end)

    def _again(self) -> None:
        last = self._last()
        seed = 1 + max(int(reply.sampling.get("seed", 0)) for reply in last.replies)
        self.dialogue.drop(len(self.dialogue.exchanges) - 1)
        self.sampling["seed"] = max(seed, self.sampling["seed"])
        self.ask(last.question)

    def _edit(self, question: str) -> None:
        self._last()
        if not question:
            raise UsageError("There is nothing to ask.", "Write the new question behind /edit.")
        self.dialogue.drop(len(self.dialogue.exchanges) - 1)
        self.ask(question)

    def _last(self) -> Exchange:
        if not self.dialogue.exchanges:
            raise UsageError("Nothing was asked yet.", "Write a question.")
        return self.dialogue.exchanges[-1]

    def _set(self, wish: str) -> None:
        name = wish.partition("=")[0].strip()
        if name not in self.sampling or "=" not in wish:
            raise UsageError(
                "“{wish}” sets nothing.",
                "Write e.g. /set temperature=0.3; there are {names}.",
                wish=wish,
                names=", ".join(self.sampling),
            )
        value = parsed(f"chat.{wish}")[1]
        self.sampling = asdict(sampling_within(self.plan.chat, self.sampling | {name: value}))

    def _begin(self) -> None:
        self.dialogue = Dialogue(self.run)

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("The file has no name.", "Write it behind /save.")
        path = Path(name).expanduser()
        try:
            write_text(path, history.as_markdown(history.conversation(self.run, self.dialogue.id)))
        except OSError as error:
            raise UserError("{path} cannot be written: {problem}.", "", path=path, problem=error.strerror) from error
        self.console.print(str(path), markup=False, soft_wrap=True)

    def _name(self, exchange: Exchange, reply: Reply) -> None:
        if len(exchange.replies) > 1:
            self.console.print(f"{reply.model}:", style="dim", markup=False)

    def _writer(self, reply: Reply) -> Callable[[str], None]:
        def write(text: str) -> None:
            reply.text += text
            self.console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

        return write

    def _remark(self, reply: Reply) -> None:
        """Speed, time to the first token, context used, how it ended: only what was measured."""
        parts = []
        if reply.tokens_per_second:
            parts.append(f"{reply.n_tokens} tokens, {reply.tokens_per_second:.1f} per second")
        if reply.first_token_seconds is not None:
            parts.append(f"first token after {reply.first_token_seconds:.1f} s")
        if reply.n_prompt_tokens:
            parts.append(f"{reply.n_prompt_tokens + reply.n_tokens:,} of {self.plan.chat.num_ctx:,} tokens of context")
        parts += [text for text in (ENDS.get(reply.reason, ""), f"{reply.error} {reply.advice}".strip()) if text]
        self.console.print(" · ".join(parts), style="red" if reply.error else "dim", markup=False, highlight=False)


def _asked(console: Console) -> str:
    try:
        return console.input("[bold]> [/bold]").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


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
