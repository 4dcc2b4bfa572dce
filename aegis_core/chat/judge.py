"""Is this a meaningful answer? A verdict from measured figures, each with its reason.

The limits were fixed on tests/data/judged_answers.jsonl, written and labelled by hand before any answer of a trained
model was seen. The judge tells coherent language about the subject from gibberish; it does not mark physics.
"""

from dataclasses import dataclass
from typing import Any

from . import measures
from .questions import Question
from .word_order import order_gain

MIN_WORDS = 8
MIN_JAPANESE_LETTERS = 15
MAX_REPEATED_SHARE = 0.3
MAX_COMPRESSION_RATIO = 3.5
MAX_CHARACTER_RUN = 20
MIN_LATIN_SHARE = 0.9
MIN_KANA_SHARE = 0.25
MIN_JAPANESE_SHARE = 0.6
MIN_FUNCTION_WORDS = 0.22
MAX_FUNCTION_WORDS = 0.68
MIN_ORDER_GAIN = -0.35
MIN_PLAIN_TOKENS = 0.75
MIN_FAMILIAR_PAIRS = 0.6
MIN_CONCEPTS = 2


@dataclass(frozen=True)
class Check:
    """One figure against its limit. A check that does not `decide` is a remark: the verdict does not depend on it."""

    name: str
    passed: bool
    measured: str
    expected: str
    decides: bool = True


@dataclass(frozen=True)
class AnswerVerdict:
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks if check.decides)

    def row(self) -> dict[str, Any]:
        """As it stands in the transcript."""
        checks = [
            {"name": c.name, "passed": c.passed, "measured": c.measured, "expected": c.expected, "decides": c.decides}
            for c in self.checks
        ]
        return {"passed": self.passed, "checks": checks}


def judge(answer: str, question: Question, language: str, reason: str = "stop") -> AnswerVerdict:
    """The verdict on an answer in `language` (en or ja); `reason` is why it ended: stop, length, cancelled."""
    in_language = (_japanese, _japanese_order) if language == "ja" else (_english, _english_order)
    return AnswerVerdict(
        (
            _length(answer, language),
            _repetition(answer, language),
            *(check(answer) for check in in_language),
            _markers(answer),
            _concepts(answer, question),
            _ending(answer, reason),
        )
    )


def _length(answer: str, language: str) -> Check:
    if language == "ja":
        n = measures.n_letters(answer)
        return Check("length", n >= MIN_JAPANESE_LETTERS, f"{n} letters", f"{MIN_JAPANESE_LETTERS} or more")
    n = len(measures.words(answer)) or measures.n_letters(answer)
    return Check("length", n >= MIN_WORDS, f"{n} words", f"{MIN_WORDS} or more")


def _repetition(answer: str, language: str) -> Check:
    repeated = measures.repeated_share(answer, language)
    ratio = measures.compression_ratio(answer)
    run = measures.longest_character_run(answer)
    return Check(
        "repetition",
        repeated <= MAX_REPEATED_SHARE and ratio <= MAX_COMPRESSION_RATIO and run <= MAX_CHARACTER_RUN,
        f"{repeated:.0%} repeated, compresses {ratio:.1f} times, longest run {run}",
        f"at most {MAX_REPEATED_SHARE:.0%}, {MAX_COMPRESSION_RATIO} times, {MAX_CHARACTER_RUN}",
    )


def _english(answer: str) -> Check:
    latin = measures.share_of(measures.LATIN, answer)
    function = measures.function_word_share(answer)
    return Check(
        "language",
        latin >= MIN_LATIN_SHARE and function >= MIN_FUNCTION_WORDS,
        f"{latin:.0%} Latin letters, {function:.0%} English function words",
        f"at least {MIN_LATIN_SHARE:.0%} and {MIN_FUNCTION_WORDS:.0%}",
    )


def _english_order(answer: str) -> Check:
    """Words thrown together have too many function words, an unlikely order, or tokens that are no words."""
    function = measures.function_word_share(answer)
    gain = order_gain(answer)
    plain = measures.plain_token_share(answer)
    return Check(
        "word order",
        function <= MAX_FUNCTION_WORDS and gain >= MIN_ORDER_GAIN and plain >= MIN_PLAIN_TOKENS,
        f"{function:.0%} function words, order helps by {gain:+.2f} nats per word, {plain:.0%} plain tokens",
        f"at most {MAX_FUNCTION_WORDS:.0%}, at least {MIN_ORDER_GAIN} and {MIN_PLAIN_TOKENS:.0%}",
    )


def _japanese(answer: str) -> Check:
    kana = measures.share_of(measures.KANA, answer)
    japanese = kana + measures.share_of(measures.HAN, answer)
    return Check(
        "language",
        kana >= MIN_KANA_SHARE and japanese >= MIN_JAPANESE_SHARE,
        f"{kana:.0%} kana, {japanese:.0%} Japanese letters",
        f"at least {MIN_KANA_SHARE:.0%} and {MIN_JAPANESE_SHARE:.0%}",
    )


def _japanese_order(answer: str) -> Check:
    familiar = measures.familiar_pair_share(answer)
    return Check(
        "word order",
        familiar >= MIN_FAMILIAR_PAIRS,
        f"{familiar:.0%} of the hiragana pairs are familiar",
        f"at least {MIN_FAMILIAR_PAIRS:.0%}",
    )


def _markers(answer: str) -> Check:
    marker = measures.leaked_marker(answer)
    return Check("chat markers", not marker, marker or "none", "none")


def _concepts(answer: str, question: Question) -> Check:
    touched = question.touched(answer)
    return Check(
        "concepts",
        len(touched) >= MIN_CONCEPTS,
        f"{len(touched)} of {len(question.concepts)}: {', '.join(touched) or '–'}",
        f"{MIN_CONCEPTS} or more",
    )


def _ending(answer: str, reason: str) -> Check:
    whole = reason == "stop" or measures.ends_like_a_sentence(answer)
    return Check("complete", whole, "ended by itself" if whole else "cut off", "ended by itself", decides=False)
