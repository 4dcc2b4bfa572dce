"""Step 8: the model answers physics questions, streaming; so does its base; every answer is judged by the same code."""

import math
from typing import Any

from ..chat.interview import interview
from ..chat.questions import load_questions
from ..chat.second_opinion import ask_base, measure_surprise
from ..chat.template_check import summary as summary_of_prompts
from ..chat.transcript import read_answers
from ..context import StepContext
from ..events import Verdict
from ..plan import Plan
from ..run_directory import write_json

Row = dict[str, Any]
LOADED_EXPECTED = "Ollama holds the model made from this file"


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves transcript.jsonl, the base's base_transcript.jsonl where it could be asked, and chat.json, the summary."""
    questions = load_questions(plan.chat.questions)[: plan.chat.n_questions]
    own, base = ctx.folder / "transcript.jsonl", ctx.folder / "base_transcript.jsonl"
    rows = interview(plan, ctx, "aegis", questions, own)
    base_rows, why_not = ask_base(plan, ctx, questions, rows, base)
    measure_surprise(plan, ctx, [own, base] if base_rows else [own], questions)
    rows, base_rows = read_answers(own), read_answers(base) if base_rows else []
    ctx.artifact(own)
    if base_rows:
        ctx.artifact(base)
    verdicts = [_meaningful(rows, base_rows), _loaded(rows)]
    for verdict in verdicts:
        ctx.emit(verdict)
    write_json(ctx.folder / "chat.json", _summary(rows, base_rows, why_not, *verdicts))
    ctx.artifact(ctx.folder / "chat.json")


def _meaningful(rows: list[Row], base_rows: list[Row]) -> Verdict:
    """At least half of the answers, and one at the least, must pass the judge."""
    needed = max(1, math.ceil(len(rows) / 2))
    measured = f"{_n_passed(rows)} of {len(rows)} answers"
    if base_rows:
        measured += f" (base model: {_n_passed(base_rows)} of {len(base_rows)})"
    failed = [f"{row['id']}: {', '.join(_failed(row))}" for row in rows if _failed(row)]
    return Verdict(
        "answer_meaningful",
        "pass" if _n_passed(rows) >= needed else "fail",
        "; ".join([measured, *failed]),
        f"at least {needed} of {len(rows)} answers pass every check",
    )


def _loaded(rows: list[Row]) -> Verdict:
    last = rows[-1]["ollama_loaded"]
    return Verdict("ollama_loaded", last["status"], last["measured"], LOADED_EXPECTED)


def _summary(rows: list[Row], base_rows: list[Row], why_not: str, meaningful: Verdict, loaded: Verdict) -> Row:
    base = {row["id"]: row for row in base_rows}
    return {
        **_figures(rows),
        "answer_meaningful": _claim(meaningful),
        "ollama_loaded": _claim(loaded),
        "base": _figures(base_rows) if base_rows else {"why": why_not},
        "questions": [
            {
                "id": row["id"],
                "question": row["question"],
                "aegis": _side(row),
                "base": _side(base[row["id"]]) if row["id"] in base else None,
            }
            for row in rows
        ],
    }


def _figures(rows: list[Row]) -> Row:
    seconds = sum(row["seconds"] for row in rows)
    return {
        "backend": rows[-1]["backend"],
        "model": rows[-1]["model"],
        "n_questions": len(rows),
        "n_passed": _n_passed(rows),
        "seconds": round(seconds, 3),
        "tokens_per_second": sum(row["n_tokens"] for row in rows) / seconds if seconds else 0.0,
        "prompts": summary_of_prompts(rows),
    }


def _side(row: Row) -> Row:
    surprise = row.get("surprise") or {}
    return {
        "answer": row["answer"],
        "passed": row["verdict"]["passed"],
        "failed": _failed(row),
        "base_nats_per_token": surprise.get("nats_per_token"),
    }


def _n_passed(rows: list[Row]) -> int:
    return sum(row["verdict"]["passed"] for row in rows)


def _failed(row: Row) -> list[str]:
    return [check["name"] for check in row["verdict"]["checks"] if check["decides"] and check["status"] == "fail"]


def _claim(verdict: Verdict) -> Row:
    return {"status": verdict.status, "measured": verdict.measured, "expected": verdict.expected}
