"""Sentences of the run log in the user's language: the English template is the key, values are filled in afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

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


class Translate(Protocol):
    """What the renderers are given: a template or a phrase becomes a sentence; unknown templates stay English."""

    def __call__(self, template: str | Phrase, **values: object) -> str: ...


def translator(language: str) -> Translate:
    """Reads resources/report/<language>.json; English needs no table."""
    path = RESOURCES / "report" / f"{language}.json"
    table: dict[str, str] = {} if language == "en" else json.loads(path.read_text(encoding="utf-8"))

    def translate(template: str | Phrase, **values: object) -> str:
        if isinstance(template, Phrase):
            return table.get(template.template, template.template).format(**template.values)
        return table.get(template, template).format(**values)

    return translate
