"""The run log as blocks, before it is Markdown or HTML. All texts are plain: renderers escape them."""

from dataclasses import dataclass

from .phrases import Translate


@dataclass(frozen=True)
class Mark:
    """A verdict in a table: `status` is pass, fail, skipped, ok, warning, missing… and is drawn as sign and colour."""

    status: str
    text: str


Cell = str | Mark


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Table:
    """`numeric` are the columns set flush right; `long` tables are folded away where that is possible."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    fold_title: str = ""


@dataclass(frozen=True)
class Picture:
    """`name` is a figure's name; `alt` says what it shows."""

    name: str
    alt: str


@dataclass(frozen=True)
class Answer:
    """What the model said, verbatim."""

    question: str
    answer: str
    mark: Mark
    remark: str


@dataclass(frozen=True)
class Code:
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """A gap the reader must not overlook."""

    text: str


Block = Text | Table | Picture | Answer | Code | Missing


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    language: str
    title: str
    subtitle: str
    sections: tuple[Section, ...]


def gap(title: str, t: Translate) -> Section:
    return Section(title, (Missing(t("Nothing to show: this step has no finished result.")),))


def facts_table(rows: list[tuple[str, str]], t: Translate) -> Table:
    return Table((t("what"), t("value")), tuple(rows))
