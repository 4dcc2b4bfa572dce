"""Is this a meaningful answer? A verdict from measured figures, each with its reason.

Coherent language in the language of the question, about what was asked: that is meaningful. The judge does not mark
physics. Its limits were fixed on the part `fix` of tests/data/answers, written and labelled by hand before any answer
of a trained model was seen. How surprised the base model is by the answer is the strongest check against gibberish, and
the only one that needs a model: without it the judge says that this could not be measured.
"""

from collections.abc import Iterator

from ..report.phrases import Phrase, phrase
from . import measures
from .questions import Question
from .spelling import nats_per_character
from .verdict import AnswerVerdict, Check, Surprise
from .word_order import broken_ends, order_gain, stranded_words

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
MIN_ORDER_GAIN = -0.45
NATS_PER_STRANDED_WORD = 1.5
MAX_BROKEN_ENDS = 0.5
MIN_PLAIN_TOKENS = 0.75
MAX_NATS_PER_CHARACTER = {"en": 1.9, "ja": 3.4}
MIN_CONCEPTS = 2
MAX_SURPRISE = 0.3


def judge(
    answer: str, question: Question, language: str, reason: str = "stop", surprise: Surprise | None = None
) -> AnswerVerdict:
    """The verdict on an answer in `language` (en or ja).

    `reason` is why it ended: stop, length, cancelled; `surprise` what the base model made of it, where it was asked.
    """
    return AnswerVerdict(tuple(_checks(answer, question, language, reason, surprise)))


def _checks(answer: str, question: Question, language: str, reason: str, surprise: Surprise | None) -> Iterator[Check]:
    yield _length(answer, language)
    yield _repetition(answer, language)
    yield _language(answer, language)
    yield _japanese_order(answer) if language == "ja" else _english_order(answer)
    yield _letters(answer, language)
    yield _markers(answer)
    yield _concepts(answer, question)
    yield _base_model(surprise)
    yield _ending(answer, reason)


def _check(name: str, holds: bool, measured: str, expected: str, good: Phrase, bad: Phrase) -> Check:
    return Check(name, "pass" if holds else "fail", measured, expected, good if holds else bad)


def _length(answer: str, language: str) -> Check:
    if language == "ja":
        n, least = measures.n_letters(answer), MIN_JAPANESE_LETTERS
    else:
        n, least = len(measures.words(answer)) or measures.n_letters(answer), MIN_WORDS
    values = {"n": n, "least": least}
    if not answer.strip():
        bad = phrase("The answer is empty.")
    elif language == "ja":
        bad = phrase("It has only {n} letters; a statement needs {least}.", **values)
    else:
        bad = phrase("It has only {n} words; a statement needs {least}.", **values)
    good = (
        phrase("It is long enough to say something: {n} letters.", n=n)
        if language == "ja"
        else phrase("It is long enough to say something: {n} words.", n=n)
    )
    return _check(
        "length", n >= least, f"{n} letters" if language == "ja" else f"{n} words", f"{least} or more", good, bad
    )


def _repetition(answer: str, language: str) -> Check:
    repeated = measures.repeated_share(answer, language)
    ratio = measures.compression_ratio(answer)
    run = measures.longest_character_run(answer)
    values = {"share": f"{repeated:.0%}", "ratio": f"{ratio:.1f}", "run": run}
    return _check(
        "repetition",
        repeated <= MAX_REPEATED_SHARE and ratio <= MAX_COMPRESSION_RATIO and run <= MAX_CHARACTER_RUN,
        f"{repeated:.0%} repeated, compresses {ratio:.1f} times, longest run {run}",
        f"at most {MAX_REPEATED_SHARE:.0%}, {MAX_COMPRESSION_RATIO} times, {MAX_CHARACTER_RUN}",
        phrase("It does not go round in circles: {share} is said twice, and it compresses {ratio} times.", **values),
        phrase(
            "It repeats itself: {share} was said before, it compresses {ratio} times, one character comes {run} times "
            "in a row.",
            **values,
        ),
    )


def _language(answer: str, language: str) -> Check:
    if language == "ja":
        kana = measures.share_of(measures.KANA, answer)
        japanese = kana + measures.share_of(measures.HAN, answer)
        values = {"kana": f"{kana:.0%}", "letters": f"{japanese:.0%}"}
        return _check(
            "language",
            kana >= MIN_KANA_SHARE and japanese >= MIN_JAPANESE_SHARE,
            f"{kana:.0%} kana, {japanese:.0%} Japanese letters",
            f"at least {MIN_KANA_SHARE:.0%} and {MIN_JAPANESE_SHARE:.0%}",
            phrase("It is Japanese: {letters} of the letters are Japanese, {kana} kana.", **values),
            phrase("It is not Japanese: {letters} of the letters are Japanese, {kana} kana.", **values),
        )
    latin, function = measures.share_of(measures.LATIN, answer), measures.function_word_share(answer)
    values = {"letters": f"{latin:.0%}", "words": f"{function:.0%}"}
    return _check(
        "language",
        latin >= MIN_LATIN_SHARE and function >= MIN_FUNCTION_WORDS,
        f"{latin:.0%} Latin letters, {function:.0%} English function words",
        f"at least {MIN_LATIN_SHARE:.0%} and {MIN_FUNCTION_WORDS:.0%}",
        phrase("It is English: {letters} Latin letters, {words} words such as the, of, is.", **values),
        phrase("It is not English: {letters} Latin letters, {words} words such as the, of, is.", **values),
    )


def _english_order(answer: str) -> Check:
    """Words thrown together have too many function words, an unlikely order, or tokens that are no words.

    Of the gain, every article or preposition that leads nowhere takes off its share of 1.5 nats.
    """
    function, plain, (stranded, n) = (
        measures.function_word_share(answer),
        measures.plain_token_share(answer),
        stranded_words(answer),
    )
    gain = order_gain(answer) - NATS_PER_STRANDED_WORD * stranded / max(n, 1)
    values = {"gain": f"{gain:+.2f}", "stranded": stranded, "n": n, "plain": f"{plain:.0%}"}
    return _check(
        "word order",
        function <= MAX_FUNCTION_WORDS and gain >= MIN_ORDER_GAIN and plain >= MIN_PLAIN_TOKENS,
        f"{gain:+.2f} nats per word, {stranded} of {n} articles and prepositions lead nowhere, {function:.0%} function "
        f"words, {plain:.0%} plain tokens",
        f"at least {MIN_ORDER_GAIN}, at most {MAX_FUNCTION_WORDS:.0%}, at least {MIN_PLAIN_TOKENS:.0%}",
        phrase(
            "Its words follow each other as in sentences: {gain} nats per word, {stranded} of {n} articles and "
            "prepositions lead nowhere.",
            **values,
        ),
        phrase(
            "Its words do not follow each other as in sentences: {gain} nats per word, {stranded} of {n} articles and "
            "prepositions lead nowhere, {plain} of it looks like words.",
            **values,
        ),
    )


def _japanese_order(answer: str) -> Check:
    broken, n = broken_ends(answer)
    values = {"n": n, "broken": broken}
    return _check(
        "word order",
        broken <= MAX_BROKEN_ENDS * n,
        f"{broken} of {n} sentences end on a particle",
        f"at most {MAX_BROKEN_ENDS:.0%}",
        phrase("Its sentences end as sentences do: {broken} of {n} break off after a particle.", **values),
        phrase("Its sentences do not end as sentences do: {broken} of {n} break off after a particle.", **values),
    )


def _letters(answer: str, language: str) -> Check:
    found, limit = nats_per_character(answer, language), MAX_NATS_PER_CHARACTER[language]
    if found is None:
        too_short = phrase("Too short to tell real words from invented ones.")
        return Check("words", "skipped", "not measured: too short", f"at most {limit} nats per character", too_short)
    values = {"nats": f"{found:.2f}", "limit": limit}
    return _check(
        "words",
        found <= limit,
        f"{found:.2f} nats per character",
        f"at most {limit}",
        phrase("Its letters make real words: {nats} nats per character.", **values),
        phrase("Its letters do not make real words: {nats} nats per character, prose has at most {limit}.", **values),
    )


def _markers(answer: str) -> Check:
    marker = measures.leaked_marker(answer)
    return _check(
        "chat markers",
        not marker,
        marker or "none",
        "none",
        phrase("No marker of the chat template leaked into it."),
        phrase("A marker of the chat template leaked into it: {marker}", marker=marker),
    )


def _concepts(answer: str, question: Question) -> Check:
    touched = question.touched(answer)
    n, found = len(question.concepts), ", ".join(touched) or "–"
    return _check(
        "concepts",
        len(touched) >= MIN_CONCEPTS,
        f"{len(touched)} of {n}: {found}",
        f"{MIN_CONCEPTS} or more",
        phrase("It is about what was asked: {found}.", found=found),
        phrase("It is not about what was asked: of {n} ideas it touches {found}.", n=n, found=found),
    )


def _base_model(surprise: Surprise | None) -> Check:
    expected = f"at most {MAX_SURPRISE} (0: good prose, 1: shuffled words)"
    if surprise is None:
        why = phrase("The base model was not asked how likely this text is.")
        return Check("base model", "skipped", "not measured", expected, why)
    nats = f"{surprise.nats_per_token:.2f} nats per token"
    if not surprise.tells:
        why = phrase("The base model hardly knows this language: shuffled words surprise it as little as prose.")
        return Check("base model", "skipped", f"{nats}, but it hardly tells prose from shuffled words", expected, why)
    values = {
        "nats": f"{surprise.nats_per_token:.2f}", "degree": f"{surprise.degree:.2f}",
        "prose": f"{surprise.prose:.2f}", "shuffled": f"{surprise.shuffled:.2f}",
    }  # fmt: skip
    return _check(
        "base model",
        surprise.degree <= MAX_SURPRISE,
        f"{surprise.degree:.2f}: {nats} (prose {surprise.prose:.2f}, shuffled words {surprise.shuffled:.2f})",
        expected,
        phrase(
            "To the base model it reads like language: {nats} nats per token (prose {prose}, shuffled {shuffled}).",
            **values,
        ),
        phrase(
            "To the base model it is no language: {nats} nats per token (prose {prose}, shuffled {shuffled}).",
            **values,
        ),
    )


def _ending(answer: str, reason: str) -> Check:
    whole = reason == "stop" or measures.ends_like_a_sentence(answer)
    good, bad = phrase("It came to its end."), phrase("It was cut off at the longest answer allowed.")
    said = "ended by itself" if whole else "cut off"
    return Check("complete", "pass" if whole else "fail", said, "ended by itself", good if whole else bad, False)
