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
class Said:
    """What a model said, verbatim; `remark` tells how it came about."""

    who: str
    text: str
    mark: Mark
    remark: str


@dataclass(frozen=True)
class Beside:
    """What several models said to the same, side by side where there is room."""

    sides: tuple[Said, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title and marks that say enough to pass them over; folded away where that is possible."""

    title: str
    marks: tuple[Mark, ...]
    blocks: "tuple[Block, ...]"


@dataclass(frozen=True)
class Code:
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """A gap the reader must not overlook."""

    text: str


Block = Text | Table | Picture | Beside | Fold | Code | Missing


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
