"""A model's chat template as data: renders conversations by itself, and as a Go template for Ollama.

`template_derive.py` learns it from the tokenizer's own renderings; it counts only where `template_verify.py` finds that
it agrees with the tokenizer, token by token.
"""

from dataclasses import dataclass

from ..failures import UserError
from .template_contents import AS_IT_IS, Cleaning, Message, conversation
from .template_go import go_template

__all__ = ["ChatFormat", "Message", "PromptMismatch", "SystemPlace", "no_system_place"]


@dataclass(frozen=True)
class SystemPlace:
    """Where the system text stands, and what stands around it.

    Before the first question: `before` leads from the start of the prompt to the system text, `after` from there to the
    question. With `late` (Mistral) it stands before the *last* question: `before` leads to it where that is also the
    first one, `late` (following `after_assistant`) where it is not. `optional`: an empty one counts as none.
    """

    before: str
    after: str
    late: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class ChatFormat:
    """The texts between the contents of a conversation that alternates user and assistant, system first or absent.

    `without_system` stands before the first question where there is no system text (it holds a default system prompt if
    the template has one); `system` is None where the template takes none. `opening` invites the answer. `bos` is the
    token that leads, empty if none does. The cleanings are what the template does to the contents themselves.
    """

    bos: str
    without_system: str
    system: SystemPlace | None
    after_user: str
    before_assistant: str
    after_assistant: str
    before_user: str
    opening: str
    stops: tuple[str, ...]
    clean_system: Cleaning = AS_IT_IS
    clean_user: Cleaning = AS_IT_IS
    clean_assistant: Cleaning = AS_IT_IS

    def cleaned(self, messages: list[Message]) -> list[Message]:
        """The conversation as the Go template must be given it; UserError if it is none, or its system has no place."""
        cleanings = {"system": self.clean_system, "user": self.clean_user, "assistant": self.clean_assistant}
        rows = [{**row, "content": cleanings[row["role"]](row["content"])} for row in conversation(messages)]
        if rows[0]["role"] == "system":
            if self.system is None:
                raise no_system_place()
            if self.system.optional and not rows[0]["content"]:
                return rows[1:]
        return rows

    def render(self, messages: list[Message]) -> str:
        """The prompt for an answer to the conversation; UserError as `cleaned`."""
        rows = self.cleaned(messages)
        told = rows[0]["content"] if rows[0]["role"] == "system" else None
        turns = rows[1:] if told is not None else rows
        parts = []
        for place, turn in enumerate(turns):
            if turn["role"] == "user":
                parts += [self._before_question(place == 0, place == len(turns) - 1, told)]
                parts += [turn["content"], self.after_user]
            else:
                parts += [self.before_assistant, turn["content"], self.after_assistant]
        return "".join(parts) + self.opening

    def _before_question(self, is_first: bool, is_last: bool, told: str | None) -> str:
        usual = self.without_system if is_first else self.before_user
        if self.system is None or told is None:
            return usual
        if self.system.late is None:
            return self.system.before + told + self.system.after if is_first else usual
        if not is_last:
            return usual
        return (self.system.before if is_first else self.system.late) + told + self.system.after

    def go_template(self, server_adds_bos: bool) -> str:
        """The same as a Go template for Ollama, over `.Messages`; without the leading token if the server adds it."""
        return go_template(self, server_adds_bos)


class PromptMismatch(UserError):
    """Ollama cannot be brought to make the prompts that the tokenizer makes; the built-in llama.cpp is offered."""

    def __init__(self, reason: str, advice: str, **values: object) -> None:
        super().__init__(reason, advice, changes={"chat.backend": "embedded"}, **values)


def no_system_place() -> UserError:
    return UserError("This model's chat template has no place for a system message.", "Leave the system prompt empty.")
