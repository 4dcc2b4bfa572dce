"""The run log as one HTML file that needs nothing else: figures inside, no script, every text escaped."""

import html

from ..resources import RESOURCES
from .document import (
    Beside,
    Block,
    Cell,
    Code,
    Document,
    Figure,
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

SIGNS = {"pass": "✓", "ok": "✓", "done": "✓", "fail": "✗", "missing": "✗", "warning": "!", "stale": "!"}
COLOURS = {"✓": "good", "✗": "bad", "!": "warn"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(document: Document, figures: dict[str, str]) -> str:
    """The whole page; `figures` are SVG elements by name."""
    lead = "".join(_block(block, figures) for block in document.lead)
    sections = "".join(_section(section, figures) for section in document.sections)
    style = (RESOURCES / "report" / "page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="{escape(document.language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(f'{document.title} – {document.kicker}')}</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body><a class="skip" href="#content">{escape(document.sections[0].title)}</a>\n<div class="page">\n'
        f'<header><p class="kicker">{escape(document.kicker)}</p>\n<h1>{escape(document.title)}</h1>\n'
        f'<p class="subtitle">{escape(document.subtitle)}</p>\n{lead}</header>\n'
        f'{_contents(document)}<main id="content">\n{sections}</main></div></body>\n</html>\n'
    )


def escape(text: str) -> str:
    """What cannot be seen is made visible, what HTML would take for its own is not."""
    return html.escape(shown(text))


def _contents(document: Document) -> str:
    """Where each section is, and which have a gap."""
    gap = '<span class="mark warn">!</span>'
    lines = "".join(
        f'<li><a href="#{escape(section.anchor)}">{escape(section.title)}</a>{gap if section.has_gap else ""}</li>\n'
        for section in document.sections
    )
    name = escape(document.contents)
    return f'<nav aria-label="{name}"><p>{name}</p>\n<ol>\n{lines}</ol></nav>\n'


def _section(section: Section, figures: dict[str, str]) -> str:
    blocks = "".join(_block(block, figures) for block in section.blocks)
    name = escape(section.anchor)
    title = f'<h2 id="{name}-title">{escape(section.title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{title}\n{blocks}</section>\n'


def _block(block: Block, figures: dict[str, str]) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>\n"
        case Missing(text):
            return f'<p class="missing">! {escape(text)}</p>\n'
        case Code(lines):
            return f'<pre tabindex="0"><code>{escape(chr(10).join(lines))}</code></pre>\n'
        case Picture(name, alt):
            return _picture(figures[name], alt) if name in figures else ""
        case Beside(sides):
            return f'<div class="beside">\n{"".join(map(_said, sides))}</div>\n'
        case Figures(found):
            return f'<dl class="figures">\n{"".join(map(_figure, found))}</dl>\n'
        case Fold(title, marks, blocks):
            inside = "".join(_block(inner, figures) for inner in blocks)
            told = " ".join(map(_mark, marks))
            return f'<details class="fold"><summary><bdi>{escape(title)}</bdi> {told}</summary>\n{inside}</details>\n'
        case Table():
            return _table(block)


def _figure(figure: Figure) -> str:
    return (
        f'<div><dt>{escape(figure.label)}</dt><dd class="value">{escape(figure.value)}</dd>'
        f'<dd class="remark">{escape(figure.remark)}</dd></div>\n'
    )


def _said(said: Said) -> str:
    return (
        f'<div class="said"><p class="who">{escape(said.who)} {_mark(said.mark)}</p>\n'
        f'<blockquote dir="auto">{escape(said.text)}</blockquote>\n<p class="remark">{escape(said.remark)}</p></div>\n'
    )


def _table(table: Table) -> str:
    classes = ["number" if i in table.numeric else "" for i in range(len(table.header))]
    head = "".join(
        f'<th scope="col"{_attribute("class", name)}>{escape(text)}</th>'
        for name, text in zip(classes, table.header, strict=True)
    )
    body = "".join(_row(table, row, classes) for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>\n" if table.caption else ""
    form = "" if table.numeric else ' class="stack"'
    name = escape(table.caption or table.fold_title or table.header[0])
    made = (
        f'<div class="wide" role="region" aria-label="{name}" tabindex="0"><table{form}>\n{caption}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
    return f"<details><summary>{escape(table.fold_title)}</summary>\n{made}</details>\n" if table.fold_title else made


def _row(table: Table, row: tuple[Cell, ...], classes: list[str]) -> str:
    """The first cell names the row; the others carry their column's name for screens too narrow for columns."""
    first, *others = row
    cells = f'<th scope="row"{_attribute("class", classes[0])}>{_cell(first)}</th>'
    for name, title, cell in zip(classes[1:], table.header[1:], others, strict=True):
        bare = "bare" if isinstance(cell, Mark) or not title else ""
        cells += f'<td data-label="{escape(title)}"{_attribute("class", name or bare)}>{_cell(cell)}</td>'
    return f"<tr>{cells}</tr>\n"


def _attribute(name: str, value: str) -> str:
    return f' {name}="{value}"' if value else ""


def _cell(cell: Cell) -> str:
    match cell:
        case Mark():
            return _mark(cell)
        case Mono(text):
            return f'<code class="mono">{escape(text)}</code>'
        case Words(text):
            return f"<bdi>{escape(text)}</bdi>"
    return escape(cell)


def _mark(mark: Mark) -> str:
    sign = SIGNS.get(mark.status, "–")
    return f'<span class="mark {COLOURS.get(sign, "none")}">{sign} {escape(mark.text)}</span>'


def _picture(svg: str, alt: str) -> str:
    named = svg.replace("<svg ", f'<svg aria-label="{escape(alt)}" ', 1)
    return f'<figure><figcaption>{escape(alt)}</figcaption>\n<div class="plot" tabindex="0">{named}</div></figure>\n'
