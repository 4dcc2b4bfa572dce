"""Putting the physics questions to a model one by one: each answer is on the disk before the next is asked."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..context import StepContext
from ..events import Progress, Sample, Token, warning
from ..failures import UserError
from ..plan import Plan
from ..sealed import sealed
from .backend import Answer, Backend, Sampling
from .judge import judge
from .ollama_model import OllamaBackend
from .questions import Question
from .session import open_backend
from .template import Message
from .template_check import PromptCheck
from .transcript import append_row, read_answers
from .verdict import Surprise

Row = dict[str, Any]
PHASES = {"aegis": "", "base": "base model"}


def interview(plan: Plan, ctx: StepContext, model: str, questions: Sequence[Question], path: Path) -> list[Row]:
    """The transcript of a model, aegis or base, in the order of the questions; what was answered is not asked again.

    UserError if there is nothing to talk to, if its prompts are not the tokenizer's, or if an answer breaks off.
    """
    rows = read_answers(path)
    answered = {row["question"] for row in rows}
    ctx.emit(Progress(len(rows), len(questions), "answers", PHASES[model]))
    if missing := [question for question in questions if question.question not in answered]:
        backend = open_backend(ctx.run, plan, model, ctx.emit, ctx.cancel)
        try:
            check = _checked_prompts(ctx, backend).row()
            for question in missing:
                ctx.cancel.check()
                rows.append(_asked(plan, ctx, backend, model, question) | {"prompt_check": check})
                append_row(path, sealed(rows[-1]))
                ctx.emit(Progress(len(rows), len(questions), "answers", PHASES[model]))
            _free_memory(backend)
        finally:
            backend.close()
    return rows


def judged(row: Row, question: Question) -> Row:
    """The row with a verdict from what stands in it."""
    surprise = Surprise.of(row.get("surprise"))
    return row | {"verdict": judge(row["answer"], question, row["language"], row["reason"], surprise).row()}


def _checked_prompts(ctx: StepContext, backend: Backend) -> PromptCheck:
    """UserError if the answers would come from other prompts than those the model was trained on."""
    check = backend.check_prompts(ctx.cancel)
    if check.problem:  # here it is given the tokenizer's tokens; Ollama and others give it text
        ctx.emit(warning("llama.cpp reads prompts otherwise than the tokenizer: {problem}.", problem=check.problem))
    return check


def _asked(plan: Plan, ctx: StepContext, backend: Backend, model: str, question: Question) -> Row:
    """Ask one question; the transcript's row with its verdict as far as it can be known. UserError if it breaks off."""
    system: list[Message] = [{"role": "system", "content": plan.chat.system}] if plan.chat.system else []
    name = question.id if model == "aegis" else f"{model}/{question.id}"
    answer = backend.answer(
        [*system, {"role": "user", "content": question.question}],
        Sampling.of(plan.chat),
        lambda text: ctx.emit(Token(name, text)),
        lambda: ctx.cancel.cancelled,
    )
    ctx.cancel.check()
    if answer.reason == "error":
        raise UserError("The answer broke off: {problem}", "Run this step again.", problem=answer.error)
    if model == "aegis":
        ctx.emit(Sample(question.question, answer.text))
    return judged(_row(plan, backend, question, answer), question)


def _row(plan: Plan, backend: Backend, question: Question, answer: Answer) -> Row:
    return {
        "id": question.id,
        "question": question.question,
        "answer": answer.text,
        "reason": answer.reason,
        "n_tokens": answer.n_tokens,
        "seconds": round(answer.seconds, 3),
        "n_prompt_tokens": answer.n_prompt_tokens,
        "n_expected_prompt_tokens": answer.n_expected_prompt_tokens,
        "backend": backend.name,
        "model": backend.model,
        "language": plan.chat.questions,
        "ollama_loaded": _loaded_now(backend),
    }


def _loaded_now(backend: Backend) -> Row:
    """Whether a server holds this very file's model, asked right after an answer."""
    if not isinstance(backend, OllamaBackend):
        return {"status": "skipped", "measured": "answered by the built-in llama.cpp"}
    made = backend.made
    loaded = backend.client.is_loaded(made.name, made.digest)
    if loaded is None:
        return {"status": "fail", "measured": f"{made.name} is not among the loaded models"}
    size = f"{loaded.size_bytes / 1e6:.0f} MB"
    return {"status": "pass", "measured": f"{loaded.name}, {size}, from {made.file_digest[:19]}…"}


def _free_memory(backend: Backend) -> None:
    """What is asked next, the base or how likely it finds this, needs the room that a server would keep for minutes."""
    if isinstance(backend, OllamaBackend):
        with contextlib.suppress(UserError):  # it frees it by itself in the end
            backend.client.unload(backend.made.name)
