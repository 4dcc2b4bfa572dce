"""Are these the letters of real words? Nats per character under a small model of the bundled physics answers.

Characters are predicted from the few before them, with Witten-Bell smoothing (Bell, Cleary, Witten: Text Compression,
1990). English is read as letters and single blanks. Of Japanese only hiragana and the two commonest marks are
predicted, each from whatever stands before it: that is grammar, while kanji would say which subject was learnt.
"""

import json
import math
import re
from collections import Counter, defaultdict
from functools import cache

from ..resources import RESOURCES

ORDERS = {"en": 5, "ja": 4}  # characters per n-gram
FEWEST_CHARACTERS = 12  # less says nothing
_ALPHABET = 5000  # so many characters are thinkable: an unseen one is as likely as any
_START = "\x02"
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|`[^`]*`", re.DOTALL)
_JAPANESE = re.compile(r"[ぁ-んァ-ヶー㐀-鿿々。、]")
_GRAMMAR = re.compile(r"[ぁ-ん。、]")
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def prose(text: str) -> str:
    """The text without formulae and code, which follow rules of their own."""
    return _FORMULA.sub(" ", text)


def nats_per_character(text: str, language: str) -> float | None:
    """Mean surprise of the characters, about 1.4 in English and 2.5 in Japanese prose; None where they are too few."""
    order, characters = ORDERS[language], _characters(text, language)
    counted = [i for i, c in enumerate(characters) if language != "ja" or _GRAMMAR.match(c)]
    if len(counted) < FEWEST_CHARACTERS:
        return None
    padded, model = _START * (order - 1) + characters, _model(language)
    surprises = [-math.log(model.probability(padded[i : i + order - 1], padded[i + order - 1])) for i in counted]
    return sum(surprises) / len(surprises)


class LetterModel:
    """How likely each character is after the ones before it, in texts whose n-grams were counted."""

    def __init__(self, texts: list[str], order: int) -> None:
        self._counts: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        followers: defaultdict[str, set[str]] = defaultdict(set)
        for text in texts:
            padded = _START * (order - 1) + text
            for end in range(order, len(padded) + 1):
                for n in range(1, order + 1):
                    gram = padded[end - n : end]
                    self._counts[gram] += 1
                    self._after[gram[:-1]] += 1
                    followers[gram[:-1]].add(gram[-1])
        self._kinds = {history: len(found) for history, found in followers.items()}

    def probability(self, history: str, character: str) -> float:
        """p(character | history), from the shortest history to the longest that was ever seen."""
        p = 1 / _ALPHABET
        for n in range(len(history) + 1):
            known = history[len(history) - n :]
            if seen := self._after[known]:
                kinds = self._kinds[known]
                p = (self._counts[known + character] + kinds * p) / (seen + kinds)
        return p


def _characters(text: str, language: str) -> str:
    if language == "ja":
        return "".join(_JAPANESE.findall(prose(text)))
    return f" {' '.join(_WORD.findall(prose(text).lower().replace('’', chr(39))))} "


@cache
def _model(language: str) -> LetterModel:
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [_characters(row[part], language) for row in rows for part in ("question", "answer")]
    return LetterModel(texts, ORDERS[language])
