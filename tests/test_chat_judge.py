"""The judge against answers labelled by hand, and the questions it knows."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from aegis_core.chat.judge import AnswerVerdict, judge
from aegis_core.chat.questions import Question, load_questions
from aegis_core.resources import RESOURCES

LABELLED = Path(__file__).parent / "data" / "judged_answers.jsonl"


def labelled_answers() -> list[dict[str, str]]:
    return [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]


def question(language: str, id: str) -> Question:
    return next(q for q in load_questions(language) if q.id == id)


def bundled_answers(language: str) -> list[str]:
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


def failed_checks(verdict: AnswerVerdict) -> set[str]:
    return {check.name for check in verdict.checks if check.decides and not check.passed}


def is_language(text: str, language: str) -> bool:
    """The verdict without the question's concepts."""
    verdict = judge(text, load_questions(language)[0], language)
    return failed_checks(verdict) <= {"concepts"}


def test_verdicts_agree_with_the_labels() -> None:
    confusion: Counter[tuple[str, str]] = Counter()
    for row in labelled_answers():
        verdict = judge(row["answer"], question(row["language"], row["question"]), row["language"], row["reason"])
        confusion[row["label"], "pass" if verdict.passed else "fail"] += 1
    assert confusion == {("good", "pass"): 30, ("gibberish", "fail"): 38}


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("word salad", {"language", "word order"}),
        ("loop", {"repetition"}),
        ("wrong language", {"language"}),
        ("leaked", {"chat markers"}),
        ("off-topic", {"concepts"}),
        ("empty", {"length"}),
    ],
)
def test_each_kind_of_gibberish_fails_for_its_own_reason(kind: str, check: set[str]) -> None:
    rows = [row for row in labelled_answers() if row["kind"].startswith(kind)]
    assert rows
    for row in rows:
        verdict = judge(row["answer"], question(row["language"], row["question"]), row["language"])
        assert check & failed_checks(verdict), row["answer"]


@pytest.mark.parametrize("language", ["en", "ja"])
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
    assert [check.name for check in verdict.checks if not check.passed] == ["complete"]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_questions_are_many_distinct_and_give_no_concept_away(language: str) -> None:
    questions = load_questions(language)
    assert len(questions) >= 20
    assert len({q.id for q in questions}) == len({q.question for q in questions}) == len(questions)
    assert [q.question for q in questions if q.touched(q.question)] == []
    assert all(len(q.concepts) >= 5 for q in questions)


def test_the_first_question_is_that_of_the_ritual() -> None:
    assert load_questions("en")[0].question == "Why is time irreversible? Explain physically."
    assert load_questions("ja")[0].question == "時間はなぜ不可逆なのですか？物理的に説明してください。"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_question_is_worded_like_one_of_the_training_set(language: str) -> None:
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [_trigrams(json.loads(line)["question"]) for line in lines]
    for asked in load_questions(language):
        grams = _trigrams(asked.question)
        assert max(len(grams & other) / len(grams | other) for other in trained) < 0.4, asked.question


def _trigrams(text: str) -> set[str]:
    letters = "".join(c for c in text.lower() if c.isalnum())
    return {letters[i : i + 3] for i in range(len(letters) - 2)}
