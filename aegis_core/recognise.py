"""A text that was put together in English, recognised by its template and said in another language."""

import re
from collections.abc import Iterable, Mapping
from string import Formatter


class Recogniser:
    """Knows the templates of a catalogue, English -> other language; the most telling template is tried first.

    A template in which two values touch tells nothing and is left out. `short` are templates with so few letters of
    their own that they would take foreign texts for theirs anywhere else: who names them asks of one kind only.
    """

    def __init__(self, catalogue: Mapping[str, str], short: Iterable[str] = ()) -> None:
        self._catalogue, welcome = catalogue, frozenset(short)
        found: list[tuple[int, re.Pattern[str], str]] = []
        for template in catalogue:
            parts = list(Formatter().parse(template))
            literal = "".join(part for part, *_ in parts)
            names = [name for _, name, *_ in parts if name]
            telling = sum(map(str.isalpha, literal)) >= 4 or template in welcome
            apart = all(before or place == 0 for place, (before, name, *_) in enumerate(parts) if name)
            if not names or not telling or not apart or len(set(names)) < len(names):
                continue
            expression = "".join(re.escape(part) + (f"(?P<{name}>.+)" if name else "") for part, name, *_ in parts)
            found.append((len(literal), re.compile(expression, re.DOTALL), template))
        self._patterns = [(pattern, template) for _, pattern, template in sorted(found, key=lambda row: -row[0])]

    def translated(self, text: str) -> str:
        """The text in the other language; the text itself where no template is its own."""
        if text in self._catalogue:
            return self._catalogue[text]
        for pattern, template in self._patterns:
            if found := pattern.fullmatch(text):
                return self._catalogue[template].format(**found.groupdict())
        return text
