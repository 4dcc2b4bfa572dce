"""Step 8: the model answers physics questions, streaming, and every answer is judged."""

import math
from typing import Any

from ..chat.backend import Answer, Backend, Sampling
from ..chat.judge import judge
from ..chat.ollama_model import OllamaBackend
from ..chat.questions import Question, load_questions
from ..chat.session import open_backend
from ..chat.template import Message
from ..chat.transcript import append_row, read_rows
from ..context import StepContext
from ..events import Progress, Sample, Token, Verdict, warning
from ..failures import UserError
from ..plan import Plan
from ..run_directory import write_json

Row = dict[str, Any]
LOADED_EXPECTED = "Ollama holds the model made from this file"


def run(plan: Plan, ctx: StepContext) -> None:
    questions = load_questions(plan.chat.questions)[: plan.chat.n_questions]
    path = ctx.folder / "transcript.jsonl"
    rows = read_rows(path)
    answered = {row["question"] for row in rows}
    ctx.emit(Progress(len(rows), len(questions), "answers"))
    if missing := [question for question in questions if question.question not in answered]:
        backend = open_backend(ctx.run, plan, "aegis", ctx.emit, ctx.cancel)
        try:
            for question in missing:
                ctx.cancel.check()
                rows.append(_asked(plan, ctx, backend, question))
                append_row(path, rows[-1])
                ctx.emit(Progress(len(rows), len(questions), "answers"))
        finally:
            backend.close()
    ctx.artifact(path)
    verdicts = [_meaningful(rows), _loaded(rows)]
    for verdict in verdicts:
        ctx.emit(verdict)
    write_json(ctx.folder / "chat.json", _summary(rows, *verdicts))
    ctx.artifact(ctx.folder / "chat.json")


def _asked(plan: Plan, ctx: StepContext, backend: Backend, question: Question) -> Row:
    """Ask one question; the transcript's row with its verdict. UserError if the answer breaks off."""
    system: list[Message] = [{"role": "system", "content": plan.chat.system}] if plan.chat.system else []
    answer = backend.answer(
        [*system, {"role": "user", "content": question.question}],
        Sampling.of(plan.chat),
        lambda text: ctx.emit(Token(question.id, text)),
        lambda: ctx.cancel.cancelled,
    )
    ctx.cancel.check()
    if answer.reason == "error":
        raise UserError("The answer broke off: {problem}", "Run this step again.", problem=answer.error)
    if answer.n_prompt_tokens and answer.n_prompt_tokens != answer.n_expected_prompt_tokens:
        ctx.emit(
            warning(
                "{backend} read {read} tokens where the tokenizer counts {expected}: the prompt differs from training.",
                backend=backend.name,
                read=answer.n_prompt_tokens,
                expected=answer.n_expected_prompt_tokens,
            )
        )
    ctx.emit(Sample(question.question, answer.text))
    return _row(plan, backend, question, answer)


def _row(plan: Plan, backend: Backend, question: Question, answer: Answer) -> Row:
    return {
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
        "verdict": judge(answer.text, question, plan.chat.questions, answer.reason).row(),
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


def _meaningful(rows: list[Row]) -> Verdict:
    """At least half of the answers, and one at the least, must pass the judge."""
    needed = max(1, math.ceil(len(rows) / 2))
    n_passed = sum(row["verdict"]["passed"] for row in rows)
    failed = [
        f"{row['question']} {check['name']}: {check['measured']}"
        for row in rows
        for check in row["verdict"]["checks"]
        if check["decides"] and check["status"] == "fail"
    ]
    return Verdict(
        "answer_meaningful",
        "pass" if n_passed >= needed else "fail",
        "; ".join([f"{n_passed} of {len(rows)} answers", *failed]),
        f"at least {needed} of {len(rows)} answers pass every check",
    )


def _loaded(rows: list[Row]) -> Verdict:
    last = rows[-1]["ollama_loaded"]
    return Verdict("ollama_loaded", last["status"], last["measured"], LOADED_EXPECTED)


def _summary(rows: list[Row], meaningful: Verdict, loaded: Verdict) -> Row:
    seconds = sum(row["seconds"] for row in rows)
    return {
        "backend": rows[-1]["backend"],
        "model": rows[-1]["model"],
        "n_questions": len(rows),
        "n_passed": sum(row["verdict"]["passed"] for row in rows),
        "tokens_per_second": sum(row["n_tokens"] for row in rows) / seconds if seconds else 0.0,
        "answer_meaningful": _claim(meaningful),
        "ollama_loaded": _claim(loaded),
    }


def _claim(verdict: Verdict) -> Row:
    return {"status": verdict.status, "measured": verdict.measured, "expected": verdict.expected}
