"""Conversations as the model was trained to see them: text and token ids by the tokenizer's own chat template."""

from functools import cached_property
from pathlib import Path

from ..failures import UserError
from ..models.loading import load_tokenizer
from .template import ChatFormat, Message, derive_format, verify_format


class ChatPrompts:
    """Prompts for one model folder; UserError if its tokenizer has no chat template."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        if not self._tokenizer.chat_template:
            raise UserError(
                "The model in {folder} has no chat template, so it cannot chat.",
                "Choose an instruction-tuned base model.",
                folder=folder,
            )

    def text(self, messages: list[Message], opening: bool = True) -> str:
        """The rendered conversation, ending with the invitation to answer unless `opening` is off."""
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening))

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text, nothing added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def token_ids(self, messages: list[Message]) -> list[int]:
        return self.encode(self.text(messages))

    @property
    def special_tokens(self) -> list[str]:
        """Every control token as text."""
        added = self._tokenizer.added_tokens_decoder.values()
        return sorted({token.content for token in added if token.special} | set(self._tokenizer.all_special_tokens))

    @property
    def eos(self) -> tuple[str, ...]:
        """The tokens that end a text."""
        return tuple(str(token) for token in (self._tokenizer.eos_token, self._tokenizer.pad_token) if token)

    @cached_property
    def format(self) -> ChatFormat:
        """The template as data, checked against the tokenizer; UserError where it cannot be derived."""
        derived = derive_format(self.text, self.special_tokens, self._tokenizer.bos_token or "", self.eos)
        verify_format(derived, self.text, self.encode)
        return derived

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings at which an answer ends; from the end-of-text tokens alone where the template is of another kind."""
        try:
            return self.format.stops
        except UserError:
            return self.eos


def trimmed(messages: list[Message]) -> list[Message]:
    """Messages without blanks at their ends: some templates cut them off and Ollama's language cannot."""
    return [{"role": message["role"], "content": message["content"].strip()} for message in messages]
