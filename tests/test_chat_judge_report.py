"""The run log's section on the questions: readable with all of them, both sides, reasons, and the user's verdicts."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finished_run import edit_rows, finished_run, seal

from aegis_core.chat.overruling import overrule, overrules_path
from aegis_core.chat.questions import load_questions
from aegis_core.report import html, markdown
from aegis_core.report.phrases import translator
from aegis_core.report.record import Record, gather
from aegis_core.report.sections import compose
from aegis_core.run_directory import RunDirectory

N_ALL = len(load_questions("en"))
OWN = "chat/transcript.jsonl"


@pytest.fixture(scope="module")
def answered_once(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run with answers to all questions: meaningful ones by the base, and gibberish by the model."""
    run = finished_run(tmp_path_factory.mktemp("answers") / "run", chat__n_questions=N_ALL)
    for name, answer in (("transcript", "Blorf zanity quex ulamp tronded."), ("base_transcript", None)):
        edit_rows(run.path / "chat" / f"{name}.jsonl", lambda rows, answer=answer: _all_questions(rows[0], answer))
    seal(run, "chat")
    return run


def _all_questions(row: dict[str, Any], answer: str | None) -> list[dict[str, Any]]:
    about = "It is due to {} and to {}, as the laws of physics say."
    questions = load_questions("en")
    texts = {q.question: answer or about.format(q.concepts[0][0], q.concepts[1][0]) for q in questions}
    return [row | {"id": "", "question": question, "answer": text} for question, text in texts.items()]


@pytest.fixture
def answered(answered_once: RunDirectory, tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run 日本語")
    shutil.copytree(answered_once.path, run.path)
    return run


def record(run: RunDirectory) -> Record:
    return gather(run, run.plan())


def written(run: RunDirectory, language: str) -> tuple[str, str]:
    """The chapter on the questions as HTML and Markdown."""
    document = compose(record(run), translator(language))
    answers = replace(document, sections=tuple(s for s in document.sections if s.anchor == "answers"))
    return html.render(answers, {}), markdown.render(answers, {})


def test_a_line_for_each_question_and_everything_else_behind_a_fold(answered: RunDirectory) -> None:
    page, text = written(answered, "en")
    assert page.count('<details class="fold">') == N_ALL == text.count("\n### ")
    assert page.count('<div class="said">') == 2 * N_ALL, "both answers, side by side"
    section = text[text.index("0 of 23 answers are meaningful. Of the base model's answers") :]
    table = [line for line in section.split("\n\n| what |")[0].splitlines() if line.startswith("| ")]
    assert len(table) == N_ALL + 2 and "It has only 5 words; a statement needs 8." in table[2]
    assert "your verdict" not in table[0]


def test_every_check_has_its_reason_on_both_sides(answered: RunDirectory) -> None:
    _, text = written(answered, "en")
    fold = text.split("\n### ")[1]
    rows = [line for line in fold.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 9 and all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert any("The base model was not asked how likely this text is." in row and "– skipped" in row for row in rows)


def test_the_log_is_japanese_where_it_is_asked_for(answered: RunDirectory) -> None:
    _, text = written(answered, "ja")
    section = text[text.index("23 件中 0 件の回答が有意味です。") :]
    assert "素体モデル" in section and "5 語しかありません。" in section and "It has only" not in section


def test_an_overruled_verdict_stands_beside_the_measured_one_and_turns_nothing_green(answered: RunDirectory) -> None:
    for question in load_questions("en"):
        overrule(answered, question.id, True, "The zanity is | <b>clear</b>.", "花子")
    found = record(answered)
    indicator = found.row["indicators"]["answer_meaningful"]
    assert indicator["status"] == "fail" and indicator["measured"] == f"0 of {N_ALL} answers meaningful"
    assert indicator["remarks"] == [
        f"overruled by the user on {N_ALL} answers: by that {N_ALL} of {N_ALL} are meaningful"
    ]
    assert found.row["chat"]["overrules"]["gravity"]["by"] == "花子"
    page, text = written(answered, "en")
    assert text.count("overruled by the user: a meaningful answer") == 2 * N_ALL, "in the table and at the fold"
    assert text.count("✗ not a meaningful answer") >= 2 * N_ALL, "the measured verdict is still there"
    assert "Overruled by 花子 at " in page and "<b>clear</b>" not in page


def test_a_good_answer_that_the_user_rejects_stays_green_with_the_remark(answered: RunDirectory) -> None:
    good = answered.path / "chat" / "base_transcript.jsonl"
    (answered.path / OWN).write_bytes(good.read_bytes())
    seal(answered, "chat")
    overrule(answered, "gravity", False, "It says nothing of masses.")
    indicator = record(answered).row["indicators"]["answer_meaningful"]
    assert indicator["status"] == "pass"
    assert f"{N_ALL - 1} of {N_ALL} are meaningful" in indicator["remarks"][0]


def test_damaged_overrules_are_told_and_decide_nothing(answered: RunDirectory) -> None:
    overrules_path(answered).write_text(json.dumps({"question": "gravity"}) + "\n", encoding="utf-8")
    indicator = record(answered).row["indicators"]["answer_meaningful"]
    assert (indicator["status"], indicator["remarks"]) == ("fail", ["chat/overrules.jsonl is damaged"])
    written(answered, "ja")


def test_a_base_that_was_not_asked_is_a_visible_gap(answered: RunDirectory) -> None:
    (answered.path / "chat" / "base_transcript.jsonl").unlink()
    summary = answered.path / "chat" / "chat.json"
    summary.write_text(json.dumps({"base": {"why": "chat.compare_base is off"}}), encoding="utf-8")
    page, _ = written(answered, "en")
    assert "The base model was not asked the same questions (chat.compare_base is off)." in page
    assert page.count('<div class="said">') == N_ALL


def test_what_the_base_made_of_an_answer_is_judged_anew(answered: RunDirectory) -> None:
    """From the figures in the transcript, which is hashed; a claim of its own counts for nothing."""
    good = (answered.path / "chat" / "base_transcript.jsonl").read_bytes()
    (answered.path / OWN).write_bytes(good)
    loss = {"nats_per_token": 9.0, "n_tokens": 30, "prose": 3.8, "shuffled": 6.8}
    edit_rows(
        answered.path / OWN,
        lambda rows: [row | {"surprise": loss, "verdict": {"passed": True, "checks": []}} for row in rows],
    )
    seal(answered, "chat")
    assert record(answered).row["indicators"]["answer_meaningful"]["status"] == "fail"
