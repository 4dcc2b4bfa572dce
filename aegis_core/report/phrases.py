"""Sentences of the run log in the user's language: the English template is the key, values are filled in afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from ..recognise import Recogniser
from ..resources import RESOURCES

STEP_TITLES = {
    "check": "Environment check",
    "prepare": "Base model and data",
    "search": "Hyperparameter search",
    "schedule": "Alpha-gate schedule",
    "train": "Soul injection",
    "fuse": "Soul fusion",
    "export": "GGUF conversion",
    "chat": "Ollama test",
    "report": "Run log",
}


SHORT = ("{n_right} of {n_all}", "{n} bytes", "{rows} of each", "{n} GB")
"""Templates with hardly a letter of their own; the run log only asks about what checks said."""


@dataclass(frozen=True)
class Phrase:
    """A sentence not yet in a language: an English template and what goes into it."""

    template: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def english(self) -> str:
        return self.template.format(**self.values)


def phrase(template: str, **values: object) -> Phrase:
    return Phrase(template, {name: str(value) for name, value in values.items()})


class Translate:
    """Says a template or a phrase in one language; what has no translation stays English.

    The run log's own table comes first. What steps wrote into their files as finished English is recognised by the
    templates of the window's table.
    """

    def __init__(self, language: str, own: Mapping[str, str], told: Mapping[str, str]) -> None:
        self.language = language
        self._own = own
        self._recogniser = Recogniser({**told, **own}, SHORT)

    def __call__(self, template: str | Phrase, **values: object) -> str:
        if isinstance(template, Phrase):
            return self._own.get(template.template, template.template).format(**template.values)
        return self._own.get(template, template).format(**values)

    def together(self, *sentences: str) -> str:
        """Sentences one after the other; Japanese leaves no blank between them."""
        return ("" if self.language == "ja" else " ").join(sentence for sentence in sentences if sentence)

    def told(self, text: str) -> str:
        """What a step said in English with its values in it, such as the outcome of a check."""
        return self._recogniser.translated(text)


@cache
def translator(language: str) -> Translate:
    """Reads the tables in resources; English needs none."""
    own, told = ({} if language == "en" else _table(folder, language) for folder in ("report", "translations"))
    return Translate(language, own, told)


def _table(folder: str, language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((RESOURCES / folder / f"{language}.json").read_text(encoding="utf-8"))
    return found
