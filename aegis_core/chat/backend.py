"""What every chat backend offers: a conversation in, words out as they come, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ..cancel import CancelToken
from ..events import Event, warning
from ..failures import UserError
from ..plan import ChatPlan
from .template import Message
from .template_check import PromptCheck

ROLES = ("system", "user", "assistant")
# Ollama's and llama.cpp's defaults differ (min_p: 0 and 0.05), and a model file may bring its own: so all are told.
NEUTRAL = {"min_p": 0.0, "typical_p": 1.0, "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@dataclass(frozen=True)
class Sampling:
    """How words are drawn; the fields are those of the plan's chat section."""

    temperature: float
    top_p: float
    top_k: int
    repeat_penalty: float
    max_tokens: int
    seed: int

    @classmethod
    def of(cls, plan: ChatPlan) -> Self:
        return cls(plan.temperature, plan.top_p, plan.top_k, plan.repeat_penalty, plan.max_tokens, plan.seed)

    def options(self) -> dict[str, float | int]:
        """Everything that decides how a token is drawn, by the names that Ollama and llama.cpp share."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repeat_penalty": self.repeat_penalty,
            "seed": self.seed,
            **NEUTRAL,
        }


@dataclass(frozen=True)
class Answer:
    """`reason` is stop, length, cancelled or error; `error` says why an answer broke off, `text` keeps what came.

    n_prompt_tokens is what the backend says it read (0: nothing said), n_expected_prompt_tokens the tokenizer's count.
    """

    text: str
    reason: str
    n_tokens: int
    seconds: float
    n_prompt_tokens: int = 0
    n_expected_prompt_tokens: int = 0
    error: str = ""

    @property
    def tokens_per_second(self) -> float:
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0


class Backend(Protocol):
    """`name` is ollama or embedded, `model` what it calls the model."""

    name: str
    model: str

    def answer(
        self,
        messages: list[Message],
        sampling: Sampling,
        on_token: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Answer:
        """Stream an answer: `on_token` gets every piece of text, `cancelled` is asked between them.

        UserError if the conversation cannot be answered at all; an answer that breaks off is returned with its error.
        """

    def check_prompts(self, cancel: CancelToken) -> PromptCheck:
        """Whether this backend reads the tokenizer's own tokens; UserError if its answers would come from others."""

    def close(self) -> None:
        """Give the model's memory back as far as it is ours."""


def with_system(messages: list[Message], system: str) -> list[Message]:
    """The conversation with the model's own system text before it, unless it brings one: as Ollama does it."""
    if not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]


def tell_difference(backend: str, answer: Answer, emit: Callable[[Event], None]) -> Answer:
    """The answer as it is; a warning where the backend read another number of tokens than the tokenizer counts."""
    if answer.n_prompt_tokens and answer.n_prompt_tokens != answer.n_expected_prompt_tokens:
        emit(
            warning(
                "{backend} read {read} tokens where the tokenizer counts {expected}: the prompt differs from training.",
                backend=backend,
                read=answer.n_prompt_tokens,
                expected=answer.n_expected_prompt_tokens,
            )
        )
    return answer


def refuse_overflow(n_tokens: int, n_ctx: int) -> None:
    """UserError unless a prompt of `n_tokens` leaves room for an answer: asked before any backend would cut it off."""
    if n_tokens >= n_ctx:
        raise UserError(
            "The conversation of {n} tokens is longer than the {n_ctx} that the model sees.",
            "Start a new conversation, or raise chat.num_ctx.",
            n=n_tokens,
            n_ctx=n_ctx,
        )


def checked_messages(rows: Any) -> list[Message]:
    """Messages from JSON; UserError unless they are roles with text that end with the user's."""
    good = isinstance(rows, list) and rows and all(_is_message(row) for row in rows) and rows[-1]["role"] == "user"
    if not good:
        raise UserError("These messages are no conversation that ends with a question.", "Write something and send it.")
    return [{"role": row["role"], "content": row["content"]} for row in rows]


def _is_message(row: Any) -> bool:
    return isinstance(row, dict) and row.get("role") in ROLES and isinstance(row.get("content"), str)
