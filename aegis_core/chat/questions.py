"""The physics questions that travel with AEGIS, and the concepts a good answer touches."""

import json
import re
from dataclasses import dataclass
from functools import cache

from ..resources import RESOURCES

CJK = re.compile(r"[぀-ヿ㐀-鿿]")
WHOLE_WORD_LENGTH = 4
LANGUAGES = ("en", "ja")


@dataclass(frozen=True)
class Question:
    """`concepts` are groups of synonyms in lower case: a group is touched when the answer has one of its terms."""

    id: str
    question: str
    topic: str
    concepts: tuple[tuple[str, ...], ...]

    def touched(self, answer: str) -> list[str]:
        """The first term found of every concept group that the answer touches."""
        lowered = answer.lower()
        found = [next((term for term in group if _occurs(term, lowered)), None) for group in self.concepts]
        return [term for term in found if term]


@cache
def load_questions(language: str) -> tuple[Question, ...]:
    """All questions of a language, en or ja, in the order in which they are asked."""
    lines = (RESOURCES / "questions" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(
        Question(row["id"], row["question"], row["topic"], tuple(tuple(group) for group in row["concepts"]))
        for row in rows
    )


def question_of(text: str) -> Question | None:
    """The bundled question with these very words, in either language; None where there is none."""
    return next((q for language in LANGUAGES for q in load_questions(language) if q.question == text), None)


def _occurs(term: str, lowered: str) -> bool:
    """Japanese terms anywhere; longer Latin terms at the start of a word, short ones as a whole word."""
    if CJK.search(term):
        return term in lowered
    ending = r"(?:e?s)?\b" if len(term) <= WHOLE_WORD_LENGTH else ""
    return re.search(rf"(?<!\w){re.escape(term)}{ending}", lowered) is not None
