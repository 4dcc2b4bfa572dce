"""What chat templates do to the contents of messages, done beforehand, since Ollama's template language cannot.

Templates cut blanks off the ends of a message, and thoughts (<think> … </think>) off earlier answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from ..failures import UserError

Message = dict[str, str]
END_OF_THOUGHTS = "</think>"

_ENDS: dict[str, Callable[[str], str]] = {
    "keep": lambda text: text,
    "strip": str.strip,
    "rstrip": str.rstrip,
    "lstrip": str.lstrip,
    "lstrip newlines": lambda text: text.lstrip("\n"),
    "rstrip newlines": lambda text: text.rstrip("\n"),
    "strip newlines": lambda text: text.strip("\n"),
}
_THOUGHTS: dict[str, Callable[[str], str]] = {
    "keep": lambda text: text,
    "drop": lambda text: text.rpartition(END_OF_THOUGHTS)[2],
    "drop with newlines": lambda text: (
        text.rpartition(END_OF_THOUGHTS)[2].lstrip("\n") if END_OF_THOUGHTS in text else text
    ),
    "drop with blanks": lambda text: text.rpartition(END_OF_THOUGHTS)[2].strip() if END_OF_THOUGHTS in text else text,
}


@dataclass(frozen=True)
class Cleaning:
    """What happens to a message's content: first to its thoughts, then to its ends. Cleaning twice changes no more."""

    thoughts: str = "keep"
    ends: str = "keep"

    def __call__(self, content: str) -> str:
        return _ENDS[self.ends](_THOUGHTS[self.thoughts](content))


AS_IT_IS = Cleaning()
ALL_CLEANINGS = tuple(Cleaning(thoughts, ends) for thoughts, ends in product(_THOUGHTS, _ENDS))
"""Every known cleaning, the least intrusive first."""


def conversation(messages: list[Message]) -> list[Message]:
    """The messages as a question-and-answer conversation, the system message (if any) first, a question last.

    Neighbours of the same role (a question asked again after an answer that never came) become one message, joined
    by an empty line, as Ollama joins them. UserError for any other order: many templates refuse it, each differently.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"]:
            merged[-1] = {**merged[-1], "content": merged[-1]["content"] + "\n\n" + message["content"]}
        else:
            merged.append({"role": message["role"], "content": message["content"]})
    turns = merged[1:] if merged and merged[0]["role"] == "system" else merged
    expected = ["assistant" if place % 2 else "user" for place in range(len(turns))]
    if [turn["role"] for turn in turns] != expected or len(turns) % 2 == 0:
        raise UserError(
            "These messages are no conversation of questions and answers that ends with a question: {roles}.",
            "Start a new conversation.",
            roles=", ".join(message["role"] for message in messages) or "-",
        )
    return merged
