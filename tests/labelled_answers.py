"""The answers labelled by hand (data/answers/), with what the demo's base model made of them."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aegis_core.chat.judge import judge
from aegis_core.chat.questions import Question, load_questions
from aegis_core.chat.verdict import AnswerVerdict, Surprise

FOLDER = Path(__file__).parent / "data" / "answers"
LANGUAGES = ("en", "ja")


@dataclass(frozen=True)
class Labelled:
    """`surprise` is as benchmarks/judge.py measured it; None of an empty answer."""

    language: str
    part: str
    question: Question
    good: bool
    kind: str
    reason: str
    answer: str
    surprise: Surprise | None

    def verdict(self, *, with_base: bool) -> AnswerVerdict:
        return judge(self.answer, self.question, self.language, self.reason, self.surprise if with_base else None)


def labelled(part: str) -> list[Labelled]:
    """Every answer of a part, fix or held_out, in both languages."""
    return [row for language in LANGUAGES for row in _of(language) if row.part == part]


def confusion(rows: list[Labelled], *, with_base: bool) -> dict[str, int]:
    """How many were taken for what: "good as good", "good as gibberish", …"""
    names = {True: "good", False: "gibberish"}
    counts = Counter(f"{names[row.good]} as {names[row.verdict(with_base=with_base).passed]}" for row in rows)
    return dict(counts)


def _of(language: str) -> list[Labelled]:
    rows = [json.loads(line) for line in (FOLDER / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = json.loads((FOLDER / "surprise.json").read_text(encoding="utf-8"))
    prose, shuffled = measured["references"][language]
    questions = {question.id: question for question in load_questions(language)}
    return [
        Labelled(
            language,
            row["part"],
            questions[row["question"]],
            row["label"] == "good",
            row["kind"],
            row["reason"],
            row["answer"],
            Surprise(*loss, prose, shuffled) if loss else None,
        )
        for row, loss in zip(rows, measured["answers"][language], strict=True)
    ]
