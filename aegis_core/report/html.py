"""The run log as one HTML file that needs nothing else: figures inside, no script, every text escaped."""

import base64
from html import escape

from .document import Beside, Block, Cell, Code, Document, Fold, Mark, Missing, Picture, Said, Section, Table, Text

SIGNS = {"pass": "✓", "ok": "✓", "done": "✓", "fail": "✗", "missing": "✗", "warning": "!", "stale": "!"}
GOOD, BAD = {"pass", "ok", "done"}, {"fail", "missing"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
CSS = """
:root { color-scheme: light dark; --ink: #2a2d33; --faint: #646973; --line: #dfe2e7; --paper: #ffffff;
  --shade: #f6f7f9; --gold: #7d5f12; --good: #1b6e3c; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --faint: #a3a8b2; --line: #3a3e46; --paper: #1b1d21;
  --shade: #24272c; --gold: #d9b65a; --good: #6fcf97; --bad: #ff8a80; --warn: #f0b860; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.6; font-size: 15px;
  font-family: "Segoe UI", "Yu Gothic UI", "Hiragino Sans", "Noto Sans CJK JP", "Noto Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 24px 24px 64px; }
h1 { font-size: 28px; font-weight: 600; margin: 24px 0 0; border-bottom: 2px solid var(--gold); padding-bottom: 8px; }
h2 { font-size: 20px; font-weight: 600; margin: 40px 0 12px; }
.subtitle, .remark { color: var(--faint); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; margin: 8px 0; }
th { text-align: left; font-weight: 600; color: var(--faint); }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; }
.number { text-align: right; white-space: nowrap; }
.mark { white-space: nowrap; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
figure { margin: 12px 0; background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
figure img { width: 100%; display: block; }
pre, blockquote { background: var(--shade); border-radius: 8px; padding: 12px 16px; margin: 8px 0; }
pre { overflow-x: auto; font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; }
blockquote { white-space: pre-wrap; border-left: 3px solid var(--gold); }
.missing { border: 1px dashed var(--warn); color: var(--warn); border-radius: 8px; padding: 8px 16px; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 0 24px; }
.said { min-width: 0; } .said blockquote { overflow-wrap: anywhere; }
.who { margin: 8px 0 0; font-weight: 600; font-size: 13px; }
.fold { border: 1px solid var(--line); border-radius: 8px; padding: 0 16px; margin: 8px 0; }
.fold > summary { color: var(--ink); font-size: 15px; padding: 4px 0; }
summary { cursor: pointer; color: var(--faint); font-size: 13px; margin: 8px 0; }
@media print { details { display: block; } main { max-width: none; } }
"""


def render(document: Document, figures: dict[str, str]) -> str:
    """The whole page; `figures` are SVG texts by name."""
    body = "".join(_section(section, figures) for section in document.sections)
    return (
        f'<!doctype html>\n<html lang="{escape(document.language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{CSS}</style>\n</head>\n<body><main>\n"
        f'<h1>{escape(document.title)}</h1>\n<p class="subtitle">{escape(document.subtitle)}</p>\n'
        f"{body}</main></body>\n</html>\n"
    )


def _section(section: Section, figures: dict[str, str]) -> str:
    blocks = "".join(_block(block, figures) for block in section.blocks)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}</section>\n"


def _block(block: Block, figures: dict[str, str]) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>\n"
        case Missing(text):
            return f'<p class="missing">{escape(text)}</p>\n'
        case Code(lines):
            return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>\n"
        case Picture(name, alt):
            return _picture(figures[name], alt) if name in figures else ""
        case Beside(sides):
            return f'<div class="beside">\n{"".join(map(_said, sides))}</div>\n'
        case Fold(title, marks, blocks):
            inside = "".join(_block(inner, figures) for inner in blocks)
            told = " ".join(map(_mark, marks))
            return f'<details class="fold"><summary>{escape(title)} {told}</summary>\n{inside}</details>\n'
        case Table():
            return _table(block)


def _said(said: Said) -> str:
    return (
        f'<div class="said"><p class="who">{escape(said.who)} {_mark(said.mark)}</p>\n'
        f'<blockquote>{escape(said.text)}</blockquote>\n<p class="remark">{escape(said.remark)}</p></div>\n'
    )


def _table(table: Table) -> str:
    numeric = [' class="number"' if i in table.numeric else "" for i in range(len(table.header))]
    head = "".join(f"<th{n}>{escape(text)}</th>" for n, text in zip(numeric, table.header, strict=True))
    rows = ("".join(f"<td{n}>{_cell(cell)}</td>" for n, cell in zip(numeric, row, strict=True)) for row in table.rows)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    html = f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'
    return f"<details><summary>{escape(table.fold_title)}</summary>\n{html}</details>\n" if table.fold_title else html


def _cell(cell: Cell) -> str:
    return _mark(cell) if isinstance(cell, Mark) else escape(cell)


def _mark(mark: Mark) -> str:
    colour = "good" if mark.status in GOOD else "bad" if mark.status in BAD else "warn"
    return f'<span class="mark {colour}">{SIGNS.get(mark.status, "–")} {escape(mark.text)}</span>'


def _picture(svg: str, alt: str) -> str:
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}"></figure>\n'
