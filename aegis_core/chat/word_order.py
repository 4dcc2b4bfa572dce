"""Do the words of a text follow each other as in prose?

Every function word is a class of its own, content words fall into classes by their ending. The bundled physics answers
say how often each class follows each other; a text is measured by how much that knowledge helps to predict it. Words
that lead on to a noun must not stand before what cannot follow; Japanese sentences must not end on a particle.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from ..resources import RESOURCES
from .spelling import prose

TOKEN = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*|[.!?;:,]")
ENDINGS = ("ing", "ed", "ly", "tion", "s")
STOP, COMMA, OTHER = ".", ",", "*"
PRIOR_PAIRS = 5.0
_FUNCTION_WORDS = """
a about above after again against all also am an and another any are as at be because been before being below
between both but by can cannot could did do does doing down during each either else every few for from further had
has have having he her here hers him his how however i if in into is it its itself just let many may me might more
most much must my near neither no nor not of off on once one only onto or other our out over own same she should
since so some such than that the their them then there therefore these they this those though through thus to
together too toward towards under until up upon us very was we were what when where whether which while who whom
whose why will with within without would yet you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_ARTICLES = frozenset(["a", "an", "the"])
_LEADING = frozenset(["of", "into", "from", "between", "upon", "by", "at", "with", "than"])
_VERBS = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "am",
        "has",
        "have",
        "had",
        "does",
        "did",
        "do",
        "will",
        "would",
        "can",
        "could",
        "may",
        "might",
        "must",
    ]
)
_SUBJECTS = frozenset(["i", "he", "she", "we", "they"])
_NO_NOUN = (
    _VERBS
    | _SUBJECTS
    | _ARTICLES
    | frozenset([".", "and", "or", "but", "because", "that", "which", "who", "if", "when", "while"])
)
_NOT_AFTER_ARTICLE = _NO_NOUN | frozenset(
    ["of", "to", "in", "with", "from", "into", "by", "at", "for", "between", "through", "than", "under", "upon"]
)
_NOT_AFTER_LEADING = _VERBS | _SUBJECTS | frozenset([".", "and", "or", "but", "of", "because", "than"])
_PARTICLE_END = re.compile(r"(?:[はをがにへとのも]|ので|ながら|より|(?<!から)まで|(?<!ま)で)[。．]")
_SENTENCE_END = re.compile(r"[。．]")


@dataclass(frozen=True)
class Transitions:
    """How often each class occurs and follows each other in good prose."""

    singles: Counter[str]
    pairs: Counter[tuple[str, str]]

    def gain(self, before: str, after: str) -> float:
        """log p(after | before) - log p(after) in nats, pairs smoothed towards independence."""
        n = self.singles.total()
        alone = (self.singles[after] + 0.5) / (n + 0.5 * len(self.singles))
        following = (self.pairs[before, after] + PRIOR_PAIRS * alone) / (self.singles[before] + PRIOR_PAIRS)
        return math.log(following / alone)


def order_gain(text: str) -> float:
    """Nats per word by which the word before helps to predict the next; below zero where the order misleads."""
    found = [_transitions().gain(a, b) for a, b in pairwise(_classes(text))]
    return sum(found) / max(len(found), 1)


def stranded_words(text: str) -> tuple[int, int]:
    """How many articles and prepositions of an English text lead nowhere ("the of", "between."), and of how many."""
    tokens = [token.lower() for token in TOKEN.findall(prose(text))] + [STOP]
    tokens = [STOP if token in ".!?;:," else token for token in tokens]
    stranded = n = 0
    for word, following in pairwise(tokens):
        impossible = (
            _NOT_AFTER_ARTICLE if word in _ARTICLES else _NOT_AFTER_LEADING if word in _LEADING else frozenset()
        )
        n += bool(impossible)
        stranded += following in impossible
    return stranded, n


def broken_ends(text: str) -> tuple[int, int]:
    """How many sentences of a Japanese text end on a particle, which leaves them open, and of how many."""
    return len(_PARTICLE_END.findall(text)), len(_SENTENCE_END.findall(text))


def _classes(text: str) -> list[str]:
    return [STOP, *(_class(token.lower()) for token in TOKEN.findall(text))]


def _class(token: str) -> str:
    if token in ".!?;:":
        return STOP
    if token == COMMA or token in FUNCTION_WORDS:
        return token
    return next((f"-{ending}" for ending in ENDINGS if token.endswith(ending) and len(token) > 4), OTHER)


@cache
def _transitions() -> Transitions:
    lines = (RESOURCES / "physics" / "en.jsonl").read_text(encoding="utf-8").splitlines()
    sequences = [_classes(json.loads(line)["answer"]) for line in lines]
    singles = Counter(name for sequence in sequences for name in sequence)
    return Transitions(singles, Counter(pair for sequence in sequences for pair in pairwise(sequence)))
