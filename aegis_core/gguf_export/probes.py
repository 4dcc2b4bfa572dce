"""Texts that tokenizers stumble over."""

import random

PROBES: tuple[str, ...] = (
    "The entropy of an isolated system never decreases.",
    "don't won't it's I'M WE'LL they'Ve",
    "3.14159 1,000,000 2026-11-23 x2y3 007 ½ ² ٣",
    "  leading",
    "trailing  ",
    "a  b   c    d",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    "line\nline\r\nline\n \n",
    "\ttab\t\ttabs",
    " \n \t ",
    "時間はなぜ不可逆なのですか？物理的に説明してください。",
    "ｶﾀｶﾅ カタカナ ひらがな 漢字、。「」",
    "Größe naïve café cafe\u0301 a\u0300\u0301 ﬁ ſ",
    "E = mc², ∂ψ/∂t = −iĤψ/ħ, ∑∫√∞≠≈",
    "😀😅 👩‍👩‍👧‍👦 🇯🇵 👍🏽",
    "Привет, мир! مرحبا שלום 안녕하세요 ไทย हिन्दी",
    "def f(x):\n    return x ** 2  # square\n",
    '{"key": [1, 2.5e-3, null], \'a\': "\\u00e9"}',
    "https://example.org/a_b?c=d&e=%20#f",
    "!!!??? ... --- *** ### $$$ ___ ~~~ <<>>",
    "\u00a0\u2003\u3000\u200b\ufeff",
    "\u0000\u0001\u007f",
    "CamelCaseWord snake_case_word kebab-case-word ALLCAPS",
    "<|im_start|>user\nWhat is entropy?<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|> and <|im_end|>text",
    "a" * 100,
    "the the the the the the the the",
)

N_RANDOM = 1000
MOST_CONTROL_TOKENS = 200
_ALPHABETS = (
    (0x20, 0x7F),
    (0xA1, 0x250),
    (0x300, 0x370),
    (0x400, 0x530),
    (0x3041, 0x30FF),
    (0x4E00, 0x9FA6),
    (0xAC00, 0xD7A4),
)
_BITS = (
    "the",
    "Time",
    " of",
    "entropy",
    "'s",
    " I",
    "x²",
    "😀",
    "👩‍👩‍👧",
    "🇯🇵",
    "👍🏽",
    "\t",
    "\u3000",
    "\u00a0",
    "\r\n",
)


def hard_texts(control_tokens: list[str]) -> list[str]:
    """The probes, control tokens in front of, between and behind words, and 1,000 random strings, always the same.

    No blank beyond ASCII follows a control token: some tokenizers swallow it there and llama.cpp does not.
    """
    step = 1 + len(control_tokens) // MOST_CONTROL_TOKENS  # some models have thousands, all but a few of them unused
    control_tokens = control_tokens[::step]
    around = [f"{place}{token}{after}" for token in control_tokens for place, after in (("", "\nhi"), ("a ", " b"))]
    draw = random.Random(7)
    return [*PROBES, *around, *(_random_text(draw, control_tokens) for _ in range(N_RANDOM))]


def _random_text(draw: random.Random, control_tokens: list[str]) -> str:
    return "".join(_random_part(draw, control_tokens) for _ in range(draw.randrange(1, 16)))


def _random_part(draw: random.Random, control_tokens: list[str]) -> str:
    kind = draw.randrange(6)
    if kind == 0:
        return draw.choice(_BITS)
    if kind == 1:
        return draw.choice((" ", "\n")) * draw.randrange(1, 9)
    if kind == 2:
        return str(draw.randrange(10 ** draw.randrange(1, 9)))
    if kind == 3 and control_tokens:
        return draw.choice(control_tokens) + draw.choice(("", " ", "\n", "  ")) + "x"
    return "".join(chr(draw.randrange(*draw.choice(_ALPHABETS))) for _ in range(draw.randrange(1, 4)))
