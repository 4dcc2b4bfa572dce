"""The judge against answers labelled by hand, and the questions it knows."""

import json
import random

import pytest
from labelled_answers import LANGUAGES, confusion, labelled

from aegis_core.chat.judge import judge
from aegis_core.chat.questions import Question, load_questions, question_of
from aegis_core.chat.verdict import AnswerVerdict, Surprise
from aegis_core.resources import RESOURCES

SENSE = "Entropy grows because disordered states are far more probable, which is the second law of thermodynamics."


def bundled_answers(language: str) -> list[str]:
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


def question(language: str, id: str) -> Question:
    return next(q for q in load_questions(language) if q.id == id)


def failed_checks(verdict: AnswerVerdict) -> set[str]:
    return {check.name for check in verdict.failed}


def is_language(text: str, language: str) -> bool:
    """The verdict without the question's concepts."""
    verdict = judge(text, load_questions(language)[0], language)
    return failed_checks(verdict) <= {"concepts"}


@pytest.mark.parametrize(("with_base", "missed"), [(True, 0), (False, 3)])
def test_the_answers_the_limits_were_fixed_on(with_base: bool, missed: int) -> None:
    rows = labelled("fix")
    found = confusion(rows, with_base=with_base)
    assert len(rows) == 146 and found.pop("gibberish as good", 0) == missed
    assert found == {"good as good": 60, "gibberish as gibberish": 86 - missed}


@pytest.mark.parametrize(("with_base", "missed"), [(True, 0), (False, 3)])
def test_the_answers_that_were_held_out(with_base: bool, missed: int) -> None:
    """Looked at once, when the limits stood; nothing was changed after that."""
    rows = labelled("held_out")
    found = confusion(rows, with_base=with_base)
    assert len(rows) == 76 and found.pop("gibberish as good", 0) == missed
    assert found == {"good as good": 30, "gibberish as gibberish": 46 - missed}


@pytest.mark.parametrize(
    ("kind", "checks"),
    [
        ("word salad", {"language", "word order", "words"}),
        ("random tokens", {"language", "word order", "words"}),
        ("invented words", {"words"}),
        ("loop", {"repetition"}),
        ("wrong language", {"language"}),
        ("leaked markers", {"chat markers"}),
        ("off-topic", {"concepts"}),
        ("empty", {"length"}),
        ("punctuation", {"length"}),
    ],
)
def test_each_kind_of_gibberish_fails_for_its_own_reason(kind: str, checks: set[str]) -> None:
    rows = [row for row in labelled("fix") if not row.good and row.kind == kind]
    assert {row.language for row in rows} == set(LANGUAGES)
    for row in rows:
        assert checks & failed_checks(row.verdict(with_base=False)), row.answer


def test_shuffled_chunks_of_english_sentences_surprise_the_base_model() -> None:
    rows = [row for row in labelled("fix") if row.kind == "shuffled chunks" and row.language == "en"]
    assert [failed_checks(row.verdict(with_base=True)) for row in rows] == [{"base model"}] * 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_labelled_answers_are_as_many_and_as_different_as_promised(language: str) -> None:
    for part in ("fix", "held_out"):
        rows = [row for row in labelled(part) if row.language == language]
        assert sum(row.good for row in rows) >= 15 and sum(not row.good for row in rows) >= 23
        assert len({row.kind for row in rows if not row.good}) == 12


def test_what_could_not_be_measured_is_said_and_decides_nothing() -> None:
    first = question("en", "time-irreversible")
    for surprise in (None, Surprise(9.0, 20, 3.0, 3.2)):
        verdict = judge(SENSE, first, "en", surprise=surprise)
        check = next(check for check in verdict.checks if check.name == "base model")
        assert (verdict.passed, check.status, check.passed) == (True, "skipped", False)
        assert check.row()["status"] == "skipped" and "base model" in check.reason.english
    assert not judge(SENSE, first, "en", surprise=Surprise(9.0, 20, 3.8, 6.8)).passed


def test_every_check_gives_its_reason_with_what_was_measured() -> None:
    row = judge("Entropy entropy entropy.", question("en", "time-irreversible"), "en").row()
    reasons = {check["name"]: check["reason"] for check in row["checks"]}
    assert reasons["length"] == "It has only 3 words; a statement needs 8."
    assert reasons["concepts"] == "It is not about what was asked: of 11 ideas it touches entropy."
    assert all(c["reason"] == c["reason_template"].format(**c["reason_values"]) for c in row["checks"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_prose_is_accepted_and_its_shuffled_words_are_not(language: str) -> None:
    answers = bundled_answers(language)
    randomly = random.Random(0)
    apart = " " if language == "en" else ""
    pieces = [answer.split() if language == "en" else list(answer) for answer in answers]
    shuffled = [apart.join(randomly.sample(words, len(words))) for words in pieces]
    assert sum(is_language(answer, language) for answer in answers) >= 0.98 * len(answers)
    assert sum(is_language(answer, language) for answer in shuffled) <= 0.15 * len(answers)


def test_a_cut_off_answer_is_remarked_upon_but_can_pass() -> None:
    text = "Entropy grows because disordered states are far more probable, which is the second law, and so the"
    verdict = judge(text, question("en", "time-irreversible"), "en", "length")
    assert verdict.passed
    assert [check.name for check in verdict.checks if check.status == "fail"] == ["complete"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_are_many_distinct_and_give_no_concept_away(language: str) -> None:
    questions = load_questions(language)
    assert len(questions) >= 20
    assert len({q.id for q in questions}) == len({q.question for q in questions}) == len(questions)
    assert [q.question for q in questions if q.touched(q.question)] == []
    assert all(len(q.concepts) >= 5 for q in questions)


def test_the_first_question_is_that_of_the_ritual() -> None:
    assert load_questions("en")[0].question == "Why is time irreversible? Explain physically."
    assert load_questions("ja")[0].question == "時間はなぜ不可逆なのですか？物理的に説明してください。"


def test_both_languages_ask_the_same_questions_in_the_same_order() -> None:
    assert [q.id for q in load_questions("en")] == [q.id for q in load_questions("ja")]
    assert question_of("時間はなぜ不可逆なのですか？物理的に説明してください。") == load_questions("ja")[0]
    assert question_of("Why?") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_is_worded_like_one_of_the_training_set(language: str) -> None:
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [_trigrams(json.loads(line)["question"]) for line in lines]
    for asked in load_questions(language):
        grams = _trigrams(asked.question)
        assert max(len(grams & other) / len(grams | other) for other in trained) < 0.4, asked.question


def _trigrams(text: str) -> set[str]:
    letters = "".join(c for c in text.lower() if c.isalnum())
    return {letters[i : i + 3] for i in range(len(letters) - 2)}
