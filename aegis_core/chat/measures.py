"""Figures about a text that tell language from noise: shares between 0 and 1 unless said otherwise."""

import re
import zlib

from .word_order import FUNCTION_WORDS

WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]")
KANA = re.compile(r"[぀-ヿ]")
HAN = re.compile(r"[㐀-鿿々]")
PLAIN_TOKEN = re.compile(r"[\"'“‘(\[]*(?:[A-Z]?[a-z]+|[A-Z]+|[A-Z][a-z]+[A-Z]?[a-z]*)(?:['’/-]\w+)*[\"'”’)\].,;:!?…]*")
NUMBER_OR_SYMBOL = re.compile(r"[\d.,]+[%.,;:]?|[-–—=+×*/<>≈≤≥&:]|[A-Za-zα-ωΑ-Ω]\w{0,2}[.,;:)]?")
MARKERS = re.compile(
    r"<\|[^|<>]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>"
    r"|^\s*(?:user|assistant|system)\s*$|^###\s*(?:instruction|response|user|assistant)",
    re.MULTILINE | re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """Latin words in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def n_letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def share_of(pattern: re.Pattern[str], text: str) -> float:
    """The part of all letters that the pattern matches; 0 for a text without letters."""
    return len(pattern.findall(text)) / max(n_letters(text), 1)


def repeated_share(text: str, language: str) -> float:
    """The part of all runs of 5 words (Japanese: 12 letters) that occurred before in the text.

    Numbers and signs do not count: a list that says one thing over and over repeats itself however it is numbered.
    """
    if language == "ja":
        units, n = [character for character in text if character.isalpha()], 12
    else:
        units, n = [word for word in text.lower().split() if any(map(str.isalpha, word))], 5
    runs = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def compression_ratio(text: str) -> float:
    """Bytes before by bytes after deflation; about 1.5 to 2.2 for prose of this length, far more for a loop."""
    raw = text.encode(errors="surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 0.0


def longest_character_run(text: str) -> int:
    """Length of the longest run of one character, spaces left out."""
    return max((len(match[0]) for match in re.finditer(r"(\S)\1*", text)), default=0)


def function_word_share(text: str) -> float:
    """The part of the English words that hold sentences together: the, of, is, …"""
    found = words(text)
    return sum(word in FUNCTION_WORDS for word in found) / max(len(found), 1)


def plain_token_share(text: str) -> float:
    """The part of the space-separated tokens that look like words, numbers or symbols of prose."""
    tokens = [token.strip("*_`#") for token in text.split()]
    tokens = [token for token in tokens if token]
    plain = sum(bool(PLAIN_TOKEN.fullmatch(t) or NUMBER_OR_SYMBOL.fullmatch(t)) for t in tokens)
    return plain / max(len(tokens), 1)


def leaked_marker(text: str) -> str:
    """The first marker of a chat template in the text, or nothing."""
    match = MARKERS.search(text)
    return match[0].strip() if match else ""


def ends_like_a_sentence(text: str) -> bool:
    return text.rstrip().rstrip("*_`\"'”’)）」』").endswith((".", "!", "?", "。", "！", "？", ":", "…"))
