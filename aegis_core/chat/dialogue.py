"""One conversation with a run's models: what was asked, what each of them answered, and what they are told next."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..events import AnswerFinished
from ..run_directory import RunDirectory
from . import history

MODELS = ("aegis", "base")
LOST = "lost"

Messages = list[dict[str, str]]


@dataclass(eq=False)
class Reply:
    """What `model` says to a question. `reason` is empty until its answer has ended, then as in AnswerFinished; LOST
    where a kill or a broken child took it. `first_token_seconds` is None where nobody measured it."""

    model: str
    sampling: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    reason: str = ""
    n_tokens: int = 0
    n_prompt_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    error: str = ""
    advice: str = ""

    def end(self, event: AnswerFinished) -> None:
        """It has ended, and so."""
        self.reason, self.error, self.advice = event.reason, event.error, event.advice
        self.n_tokens, self.n_prompt_tokens = event.n_tokens, event.n_prompt_tokens
        self.seconds, self.first_token_seconds = event.seconds, event.first_token_seconds

    @property
    def tokens_per_second(self) -> float | None:
        """How fast it was written once it had begun; None where that says nothing: too few tokens, too short a time."""
        reading = self.first_token_seconds or 0.0
        n_written = self.n_tokens - 1 if self.first_token_seconds is not None else self.n_tokens
        writing = self.seconds - reading
        return n_written / writing if n_written > 1 and writing > 0.1 else None

    def facts(self) -> dict[str, Any]:
        """What the history keeps beside the words."""
        return {
            "model": self.model,
            "sampling": self.sampling,
            "reason": self.reason,
            "n_tokens": self.n_tokens,
            "n_prompt_tokens": self.n_prompt_tokens,
            "seconds": round(self.seconds, 3),
            "first_token_seconds": None if self.first_token_seconds is None else round(self.first_token_seconds, 3),
            "error": self.error,
            "advice": self.advice,
        }

    @classmethod
    def of(cls, row: history.Row) -> "Reply":
        """From the history; a field that an older row lacks has its default."""
        first = row.get("first_token_seconds")
        return cls(
            str(row.get("model", MODELS[0])),
            dict(row.get("sampling") or {}),
            row["content"],
            str(row.get("reason", "stop")),
            int(row.get("n_tokens", 0)),
            int(row.get("n_prompt_tokens", 0)),
            float(row.get("seconds", 0.0)),
            None if first is None else float(first),
            str(row.get("error", "")),
            str(row.get("advice", "")),
        )


@dataclass(eq=False)
class Exchange:
    """A question and a reply of each model it was put to; `n_rows` of it stand in the history."""

    question: str
    replies: list[Reply]
    n_rows: int = 0


class Dialogue:
    """A conversation of the run's history, or one that begins (`id` empty). UserError if its file is damaged.

    What is said is in the file at once. Where it cannot be written the talk goes on, and `unkept` says why.
    `system` is the conversation's own system text; None leaves it to the model, which has the plan's.
    """

    def __init__(self, run: RunDirectory, id: str = "") -> None:
        self.run, self.id = run, id or history.new_id()
        self.unkept: OSError | None = None
        found = history.conversation(run, self.id)
        self.system = found.system
        self.exchanges = list(_exchanges(found.messages))

    def messages(self, exchange: Exchange, model: str) -> Messages:
        """What `model` is told to answer this question of the conversation: every model hears its own earlier answers,
        and another's where it gave none. Questions that nobody answered are left out."""
        told: Messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for earlier in self.exchanges[: self.exchanges.index(exchange)]:
            if answer := _heard(earlier, model):
                told.append({"role": "user", "content": earlier.question})
                told.append({"role": "assistant", "content": answer})
        return [*told, {"role": "user", "content": exchange.question}]

    def ask(self, question: str, models: Sequence[str], sampling: dict[str, Any]) -> Exchange:
        """Put a question to these models; the replies are empty as yet."""
        exchange = Exchange(question, [Reply(model, dict(sampling)) for model in models])
        self.exchanges.append(exchange)
        self._write(exchange, "user", question, {"models": list(models)})
        return exchange

    def finish(self, reply: Reply) -> None:
        """A reply has ended, however it did."""
        exchange = next(exchange for exchange in self.exchanges if reply in exchange.replies)
        self._write(exchange, "assistant", reply.text, reply.facts())

    def drop(self, first: int) -> None:
        """Let the talk go on before exchange number `first`; what followed stays in the file alone."""
        n_kept = sum(exchange.n_rows for exchange in self.exchanges[:first])
        if any(exchange.n_rows for exchange in self.exchanges[first:]):
            self._keep(lambda: history.go_back(self.run, self.id, n_kept))
        del self.exchanges[first:]

    def set_system(self, text: str | None) -> None:
        """From the next question on the models are told this beforehand; None leaves it to them again."""
        if text != self.system:
            self.system = text
            self._keep(lambda: history.set_system(self.run, self.id, text))

    def _write(self, exchange: Exchange, role: str, content: str, facts: dict[str, Any]) -> None:
        if self._keep(lambda: history.add(self.run, self.id, role, content, **facts)):
            exchange.n_rows += 1

    def _keep(self, write: Callable[[], None]) -> bool:
        try:
            write()
            self.unkept = None
        except OSError as error:
            self.unkept = error
        return self.unkept is None


def _heard(exchange: Exchange, model: str) -> str:
    """The model's own answer, or that of the first who gave one; empty if nobody did."""
    said = [reply for reply in exchange.replies if reply.text.strip()]
    own = [reply for reply in said if reply.model == model]
    return (own or said)[0].text if said else ""


def _exchanges(messages: Iterable[history.Row]) -> Iterator[Exchange]:
    """Each question with its answers; an answer that a kill took away is there, empty and LOST."""
    found: Exchange | None = None
    asked: list[str] = []
    for row in messages:
        if row["role"] == "user":
            if found:
                yield _whole(found, asked)
            found = Exchange(row["content"], [], 1)
            asked = [str(model) for model in row.get("models", [])] or [str(row.get("model", MODELS[0]))]
        elif found:
            found.replies.append(Reply.of(row))
            found.n_rows += 1
    if found:
        yield _whole(found, asked)


def _whole(exchange: Exchange, asked: list[str]) -> Exchange:
    answered = {reply.model: reply for reply in exchange.replies}
    exchange.replies = [answered.pop(model, Reply(model, reason=LOST)) for model in asked] + list(answered.values())
    return exchange
