"""The run log as Markdown; figures are linked, foreign text can neither break a table nor become HTML."""

import re

from .document import (
    Beside,
    Block,
    Cell,
    Code,
    Document,
    Figures,
    Fold,
    Mark,
    Missing,
    Mono,
    Picture,
    Said,
    Section,
    Table,
    Text,
    Words,
)
from .foreign import shown
from .html import SIGNS

_SPECIAL = re.compile(r"([\\`*_~\[\]<>|#$])|(&)(?=#?\w+;)")
_LINE_START = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=])")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp)(?=://)|\b(www)(?=\.)")


def render(document: Document, figure_links: dict[str, str]) -> str:
    """The whole log; `figure_links` are paths of the figures by name, as seen from the log."""
    title = f"# {escape(document.kicker)}: {escape(document.title)}\n\n{escape(document.subtitle)}\n\n"
    return title + blocks(document.lead, figure_links) + sections(document.sections, figure_links)


def sections(found: tuple[Section, ...], figure_links: dict[str, str]) -> str:
    return "\n".join(f"## {escape(each.title)}\n\n{blocks(each.blocks, figure_links)}" for each in found)


def blocks(found: tuple[Block, ...], figure_links: dict[str, str]) -> str:
    return "".join(f"{text}\n\n" for block in found if (text := _block(block, figure_links)))


def _block(block: Block, figure_links: dict[str, str]) -> str:
    match block:
        case Text(text):
            return _LINE_START.sub(lambda m: f"\\{m[3]}" if m[3] else f"{m[1]}\\{m[2]}", escape(text))
        case Missing(text):
            return f"> **! {escape(text)}**"
        case Code(lines, language):
            return _fenced("\n".join(lines), language)
        case Picture(name, alt):
            return f"![{escape(alt)}]({figure_links[name]})\n\n*{escape(alt)}*" if name in figure_links else ""
        case Beside(sides):
            return "\n\n".join(map(_said, sides))
        case Figures(figures):
            return "\n".join(f"- {escape(f.label)}: **{escape(f.value)}** ({escape(f.remark)})" for f in figures)
        case Fold(title, marks, inner):
            told = " · ".join(map(_cell, marks))
            return f"### {escape(title)}\n\n{told}\n\n{blocks(inner, figure_links)}".rstrip()
        case Table():
            return _table(block)


def _said(said: Said) -> str:
    return f"**{escape(said.who)}** {_cell(said.mark)}\n\n{_fenced(said.text, 'text')}\n\n{escape(said.remark)}"


def _table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    rows = [[escape(text) for text in table.header], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    title = table.fold_title or table.caption
    return f"{escape(title)}\n\n{lines}" if title else lines


def _cell(cell: Cell) -> str:
    match cell:
        case Mark(status, text):
            return f"{SIGNS.get(status, '–')} {escape(text)}"
        case Mono(text) | Words(text):
            return escape(text)
    return escape(cell)


def escape(text: str) -> str:
    """One line that is nothing but text: no markup, no entity, no address that becomes a link by itself."""
    line = _SPECIAL.sub(lambda m: f"\\{m[1]}" if m[1] else "&amp;", " ".join(shown(text).split()))
    return _ADDRESS.sub(r"\g<0>\\", line)


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown(text)}\n{fence}"
