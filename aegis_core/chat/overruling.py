"""The user's own verdict on an answer, beside the measured one and never instead of it.

chat/overrules.jsonl, one row per decision, only ever added to: the question, the SHA-256 of the answer it is about,
`passed` (null takes an earlier decision back), why, who and when. A decision counts for that very answer alone: a new
answer to the same question is judged from nothing.
"""

import getpass
import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..failures import UserError
from ..run_directory import RunDirectory
from .questions import question_of
from .transcript import append_row, read_rows


@dataclass(frozen=True)
class Overrule:
    """`passed`: the user finds the answer meaningful or not; `at` is local time in ISO 8601 with its offset."""

    question: str
    answer_sha256: str
    passed: bool | None
    reason: str
    by: str
    at: str


def overrule(run: RunDirectory, question_id: str, passed: bool | None, reason: str, by: str = "") -> Overrule:
    """Write down the user's verdict on the answer to this question; None takes an earlier one back.

    `by` is the system's user name unless given. The run log counts as unwritten from then on. UserError without a
    reason, or where the run has no answer to that question.
    """
    if not reason.strip():
        raise UserError("A verdict is overruled for a reason.", "Write down in a few words why.")
    answered = {answered_id(row): row for row in read_rows(_folder(run) / "transcript.jsonl")}
    if question_id not in answered:
        raise UserError(
            "There is no answer to the question {question} in this run.",
            "The questions that were answered are: {known}.",
            question=question_id,
            known=", ".join(answered) or "–",
        )
    decision = Overrule(
        question_id,
        answer_sha256(str(answered[question_id]["answer"])),
        passed,
        " ".join(reason.split()),
        by.strip() or getpass.getuser(),
        datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    append_row(overrules_path(run), asdict(decision))
    (run.step_folder("report") / "done.json").unlink(missing_ok=True)  # it shows the verdicts as they were
    return decision


def overrules(run: RunDirectory) -> dict[str, Overrule]:
    """Question id -> the decision that counts now, for the answers that are in the run now."""
    return applying(read_rows(overrules_path(run)), read_rows(_folder(run) / "transcript.jsonl"))


def applying(decisions: list[dict[str, Any]], answers: list[dict[str, Any]]) -> dict[str, Overrule]:
    """The last decision about each of these answers, by question id, where it was not taken back."""
    about = {(answered_id(row), answer_sha256(str(row["answer"]))) for row in answers}
    last: dict[str, Overrule] = {}
    for row in decisions:
        decision = Overrule(**{name: row[name] for name in Overrule.__dataclass_fields__})
        if (decision.question, decision.answer_sha256) in about:
            last[decision.question] = decision
    return {name: decision for name, decision in last.items() if decision.passed is not None}


def overrules_path(run: RunDirectory) -> Path:
    return _folder(run) / "overrules.jsonl"


def answered_id(row: dict[str, Any]) -> str:
    """The id of the question that a transcript's row answers; the question itself where it is not a bundled one."""
    question = question_of(str(row["question"]))
    return question.id if question else str(row["question"])


def answer_sha256(answer: str) -> str:
    return hashlib.sha256(answer.encode("utf-8", errors="surrogatepass")).hexdigest()


def _folder(run: RunDirectory) -> Path:
    return run.step_folder("chat")
