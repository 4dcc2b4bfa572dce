"""Conversations as the model was trained to see them: text and token ids by the tokenizer's own chat template."""

from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from ..failures import UserError
from ..models.loading import load_tokenizer
from ..run_directory import read_json
from .template import ChatFormat, Message, no_system_place
from .template_clock import asks_for_date, can_be_stopped, readings, stopped
from .template_contents import conversation
from .template_derive import derive_format, takes_system, talk
from .template_verify import require_same, verify_format

OTHER_DAY = datetime(1999, 12, 31)


class ChatPrompts:
    """Prompts for one model folder; UserError if its tokenizer has no chat template.

    A template that states the date (Llama 3.2) states the one of `now`, for all prompts: by default the moment in which
    this object was made, so that a conversation that lasts past midnight keeps its beginning.
    """

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._folder = folder
        self.now = now or datetime.now()
        if not self._tokenizer.chat_template:
            raise UserError(
                "The model in {folder} has no chat template, so it cannot chat.",
                "Choose an instruction-tuned base model.",
                folder=folder,
            )

    def text(self, messages: list[Message], opening: bool = True) -> str:
        """What the template makes of exactly these messages, ending with the invitation to answer unless it is off.

        UserError if the template refuses them.
        """
        return self._rendered(messages, opening, self.now)

    def prompt(self, messages: list[Message]) -> str:
        """The text to be answered; UserError if it is no conversation or the model cannot be told a system message."""
        rows = conversation(messages)
        if rows[0]["role"] == "system" and not self.takes_system:
            raise no_system_place()
        return self.text(rows)

    def token_ids(self, messages: list[Message]) -> list[int]:
        """The same as token ids."""
        return self.encode(self.prompt(messages))

    def for_server(self, messages: list[Message]) -> list[Message]:
        """The messages with which Ollama, by the derived template, arrives at the tokenizer's own tokens.

        UserError, with both renderings, if it would not: a template may look into the contents for words of its own.
        """
        text = self.prompt(messages)
        require_same(self.format.render(messages), text, self.encode)
        return self.format.cleaned(messages)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text, nothing added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    @cached_property
    def template(self) -> str:
        """The tokenizer's own template for chats without tools, in Jinja."""
        return str(self._tokenizer.get_chat_template())

    @property
    def bos(self) -> str:
        """The token that begins a text, empty if the tokenizer has none."""
        return str(self._tokenizer.bos_token or "")

    @property
    def special_tokens(self) -> list[str]:
        """Every control token as text."""
        added = self._tokenizer.added_tokens_decoder.values()
        return sorted({token.content for token in added if token.special} | set(self._tokenizer.all_special_tokens))

    @property
    def eos(self) -> tuple[str, ...]:
        """The tokens that end a text, by the tokenizer and by the model's generation settings."""
        named = (self._tokenizer.eos_token, self._tokenizer.pad_token, *self._ends_of_generation())
        return tuple(dict.fromkeys(str(token) for token in named if token))

    @cached_property
    def states_date(self) -> bool:
        """Whether the template tells the model what day it is: Ollama's copy of it holds the day it was made on."""
        question = talk("?")
        if not can_be_stopped(self.template):
            return asks_for_date(self.template)
        return self._rendered(question, True, self.now) != self._rendered(question, True, OTHER_DAY)

    @cached_property
    def format(self) -> ChatFormat:
        """The template as data, checked against the tokenizer; UserError where it cannot be derived."""
        derived = derive_format(self.text, self.special_tokens, self.bos, self.eos)
        verify_format(derived, self.text, self.encode)
        return derived

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings at which an answer ends; from the end-of-text tokens alone where the template is of another kind."""
        try:
            return self.format.stops
        except UserError:
            return self.eos

    @cached_property
    def takes_system(self) -> bool:
        return takes_system(self.text)

    def _rendered(self, messages: list[Message], opening: bool, now: datetime) -> str:
        template = self.template
        clock: dict[str, Any] = {}
        try:
            if can_be_stopped(template):  # Windows lacks some forms of a date, such as %-d
                template, clock = stopped(template), readings(template, now)
            return str(
                self._tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=opening, **clock
                )
            )
        except (TemplateError, TypeError, ValueError) as error:  # whatever the template's author had in mind
            raise UserError(
                "The chat template of this model refuses the conversation: {problem}.",
                "Start a new conversation; if it stays, choose another base model.",
                problem=str(error).rstrip("."),
            ) from error

    def _ends_of_generation(self) -> list[str]:
        """Phi-3.5 ends its answers with another token than its texts, and says so here alone."""
        try:
            settings = read_json(self._folder / "generation_config.json")
        except (FileNotFoundError, ValueError):
            return []
        found = settings.get("eos_token_id") if isinstance(settings, dict) else None
        ids = found if isinstance(found, list) else [found]
        known = [id for id in ids if isinstance(id, int) and 0 <= id < len(self._tokenizer)]
        return [str(self._tokenizer.convert_ids_to_tokens(id)) for id in known]
