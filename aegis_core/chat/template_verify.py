"""The comparison of a derived chat format with the tokenizer, token by token, on a set of conversations."""

import json
from collections.abc import Callable

from .template import ChatFormat, Message, PromptMismatch
from .template_derive import Render, talk

_CONTENTS = (
    "Why?",
    "時間はなぜ不可逆なのですか？",
    "Entropy.",
    "",
    "a\n\n  b = {x}",
    "乱雑さが増えます。",
    '1 < 2 "quoted" \\n {{ .Role }} {% x %}',
    "<think>\nIt must be entropy.\n</think>\n\nYes.",
    "  blanks at both ends \n",
    "\n```python\nprint('🌊')\n```\n",
)
_SYSTEMS = ("Be brief.", "簡潔に。\n\nPlease.", "", " \nblanks at both ends ")
_STARTS_AND_LENGTHS = ((0, 1), (1, 1), (3, 1), (8, 1), (1, 3), (2, 3), (2, 5), (4, 7), (3, 9), (1, 11))


def probe_conversations(with_system: bool) -> list[list[Message]]:
    """Conversations of one to six questions, with and without system text: Japanese, code, blanks, thoughts, nothing.

    Shortest first.
    """
    around = _CONTENTS * 3
    talks = [talk(*around[start : start + n]) for start, n in _STARTS_AND_LENGTHS]
    told = [[{"role": "system", "content": system}, *messages] for system in _SYSTEMS for messages in talks]
    return sorted(talks + (told if with_system else []), key=len)


def verify_format(derived: ChatFormat, render: Render, encode: Callable[[str], list[int]]) -> None:
    """PromptMismatch, both renderings shown, unless the format agrees with the tokenizer on every probe."""
    for messages in probe_conversations(with_system=derived.system is not None):
        require_same(derived.render(messages), render(messages, True), encode)


def require_same(ours: str, theirs: str, encode: Callable[[str], list[int]]) -> None:
    """PromptMismatch with both renderings unless the format's (ours) and the tokenizer's are the same tokens."""
    if ours != theirs or encode(ours) != encode(theirs):
        raise PromptMismatch(
            "Ollama cannot be given the chat template of this model: it renders {theirs}, derived was {ours}.",
            "Set chat.backend to embedded: the built-in llama.cpp uses the template as it is.",
            theirs=quoted(theirs),
            ours=quoted(ours),
        )


def quoted(text: str) -> str:
    """A rendering in a message: on one line, its blanks visible."""
    return json.dumps(text, ensure_ascii=False)
