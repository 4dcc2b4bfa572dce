"""One answer of a backend, timed, within the bounds that the plan sets: for the chat child and the terminal alike."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..events import AnswerFinished
from ..failures import UserError
from ..plan import ChatPlan
from .backend import Backend, Sampling
from .template import Message


def answer_timed(
    backend: Backend,
    messages: list[Message],
    sampling: Sampling,
    on_token: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> AnswerFinished:
    """The backend's answer, streamed to `on_token`, and how it went: times, tokens, why it ended.

    UserError if it cannot be answered at all.
    """
    started = time.monotonic()
    first: float | None = None

    def pass_on(text: str) -> None:
        nonlocal first
        first = time.monotonic() - started if first is None else first
        on_token(text)

    answer = backend.answer(messages, sampling, pass_on, cancelled)
    n_read = answer.n_prompt_tokens or answer.n_expected_prompt_tokens
    return AnswerFinished("", answer.reason, answer.n_tokens, answer.seconds, answer.error, n_read, first)


def sampling_within(plan: ChatPlan, wanted: Any) -> Sampling:
    """The plan's sampling with what the message asks for, within the same bounds as the plan."""
    fields = asdict(Sampling.of(plan))
    given = wanted if isinstance(wanted, dict) else {}
    known = {name: value for name, value in given.items() if name in fields}
    try:
        return Sampling.of(ChatPlan.model_validate(plan.model_dump() | known))
    except ValueError as error:
        raise UserError(
            "These sampling settings are out of bounds: {names}.", "Choose other values.", names=", ".join(known)
        ) from error
