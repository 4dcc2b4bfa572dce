"""The run log as Markdown; figures are linked, foreign text can neither break a table nor become HTML."""

import re

from .document import Beside, Block, Cell, Code, Document, Fold, Mark, Missing, Picture, Said, Section, Table, Text
from .html import SIGNS

_SPECIAL = re.compile(r"([\\`*\[\]<>|#])")


def render(document: Document, figure_links: dict[str, str]) -> str:
    """The whole log; `figure_links` are paths of the figures by name, as seen from the log."""
    sections = "\n".join(_section(section, figure_links) for section in document.sections)
    return f"# {_escape(document.title)}\n\n{_escape(document.subtitle)}\n\n{sections}"


def _section(section: Section, figure_links: dict[str, str]) -> str:
    blocks = [text for block in section.blocks if (text := _block(block, figure_links))]
    return f"## {_escape(section.title)}\n\n" + "".join(f"{text}\n\n" for text in blocks)


def _block(block: Block, figure_links: dict[str, str]) -> str:
    match block:
        case Text(text):
            return _escape(text)
        case Missing(text):
            return f"> **! {_escape(text)}**"
        case Code(lines):
            return _fenced("\n".join(lines))
        case Picture(name, alt):
            return f"![{_escape(alt)}]({figure_links[name]})" if name in figure_links else ""
        case Beside(sides):
            return "\n\n".join(map(_said, sides))
        case Fold(title, marks, blocks):
            told = " · ".join(map(_cell, marks))
            inside = "\n\n".join(text for inner in blocks if (text := _block(inner, figure_links)))
            return f"### {_escape(title)}\n\n{told}\n\n{inside}"
        case Table():
            return _table(block)


def _said(said: Said) -> str:
    return f"**{_escape(said.who)}** {_cell(said.mark)}\n\n{_fenced(said.text)}\n\n{_escape(said.remark)}"


def _table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    rows = [[_escape(text) for text in table.header], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_escape(table.fold_title)}\n\n{lines}" if table.fold_title else lines


def _cell(cell: Cell) -> str:
    return f"{SIGNS.get(cell.status, '–')} {_escape(cell.text)}" if isinstance(cell, Mark) else _escape(cell)


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
