"""What is learned from: chats and plain texts, and what makes one useless."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
_ROLES = {
    USER: USER, "human": USER, "prompter": USER, "ユーザー": USER, "ユーザ": USER,
    ASSISTANT: ASSISTANT, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "chatgpt": ASSISTANT,
    "アシスタント": ASSISTANT,
    SYSTEM: SYSTEM, "システム": SYSTEM,
}  # fmt: skip


_HALVES = re.compile("[\ud800-\udfff]")  # JSON can hold one half of a pair alone, which no UTF-8 can


class Flaw(StrEnum):
    """Why a sample is left out."""

    NONE = ""
    BLANK = "blank"
    NO_ANSWER = "no_answer"
    FOREIGN_ROLE = "foreign_role"
    HALF_CHARACTER = "half_character"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is user, assistant or system."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A chat (`messages`, the last of them an answer) or plain text; nothing but its `flaw` if it is useless."""

    messages: tuple[Message, ...] = ()
    text: str = ""
    topic: str = ""
    flaw: Flaw = Flaw.NONE

    @property
    def key(self) -> str:
        """What two samples have in common that must not be separated: their topic, else their whole content."""
        return self.topic or self.content

    @property
    def content(self) -> str:
        if not self.messages:
            return f"\n{self.text}"
        return "\n".join(message.content for message in self.messages)


def plain(text: str, topic: str = "") -> Sample:
    """Text to be learned from its first to its last token."""
    return _whole(Sample(text=text, topic=topic)) if text.strip() else Sample(topic=topic, flaw=Flaw.BLANK)


def asked(question: str, answer: str, topic: str = "", system: str = "") -> Sample:
    """A question with its answer; blank without the one, useless without the other."""
    if not question.strip():
        return Sample(topic=topic, flaw=Flaw.BLANK)
    return chat([(SYSTEM, system), (USER, question), (ASSISTANT, answer)], topic)


def chat(turns: Iterable[tuple[str, str]], topic: str = "") -> Sample:
    """A chat from (role, content) pairs, roles as any of the usual formats name them.

    It begins with the first question (a system message may stand before it), ends with the last answer, and is cut
    at the first turn that is blank: nobody should learn to say nothing.
    """
    known = [(_ROLES.get(name.strip().lower(), ""), content.strip()) for name, content in turns]
    if not any(content for _, content in known):
        return Sample(topic=topic, flaw=Flaw.BLANK)
    if not all(role for role, _ in known):
        return Sample(topic=topic, flaw=Flaw.FOREIGN_ROLE)
    messages: list[Message] = []
    for role, content in known:
        if not content and role != SYSTEM:
            break
        greeting = role == ASSISTANT and all(message.role == SYSTEM for message in messages)
        if content and not greeting:
            messages.append(Message(role, content))
    while messages and messages[-1].role != ASSISTANT:
        messages.pop()
    if not messages:
        return Sample(topic=topic, flaw=Flaw.NO_ANSWER)
    return _whole(Sample(messages=tuple(messages), topic=topic))


def joined(sample: Sample) -> Sample:
    """A chat as plain text, its turns one after another; text stays as it is."""
    if not sample.messages:
        return sample
    return plain("\n\n".join(message.content for message in sample.messages), sample.topic)


def _whole(sample: Sample) -> Sample:
    """The sample, or its flaw where a character of it is only half there."""
    halved = _HALVES.search(sample.content) or _HALVES.search(sample.topic)
    return Sample(flaw=Flaw.HALF_CHARACTER) if halved else sample
