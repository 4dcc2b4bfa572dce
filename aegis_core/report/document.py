"""The run log as blocks, before it is Markdown or HTML. All texts are plain: renderers escape them."""

from dataclasses import dataclass

from .phrases import Translate


@dataclass(frozen=True)
class Mark:
    """A verdict in a table: `status` is pass, fail, skipped, ok, warning, missing… and is drawn as sign and colour."""

    status: str
    text: str


@dataclass(frozen=True)
class Mono:
    """A hash, a path or a setting: set in letters of one width, broken anywhere."""

    text: str


@dataclass(frozen=True)
class Words:
    """What a step, a package or a person wrote, in whatever language that is."""

    text: str


Cell = str | Mark | Mono | Words


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Table:
    """`numeric` are the columns set flush right; `long` tables are folded away where that is possible.

    `caption` says what the table shows where the text before it does not.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    fold_title: str = ""
    caption: str = ""


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
class Figure:
    """A number that counts, large: what it is, the number, and what stands beside it."""

    label: str
    value: str
    remark: str


@dataclass(frozen=True)
class Figures:
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title and marks that say enough to pass them over; folded away where that is possible."""

    title: str
    marks: tuple[Mark, ...]
    blocks: "tuple[Block, ...]"


@dataclass(frozen=True)
class Code:
    """Lines to be copied; `language` is what Markdown calls it."""

    lines: tuple[str, ...]
    language: str = "text"


@dataclass(frozen=True)
class Missing:
    """A gap the reader must not overlook."""

    text: str


Block = Text | Table | Picture | Beside | Figures | Fold | Code | Missing


@dataclass(frozen=True)
class Section:
    """`anchor` names its place in the page, the same in every language."""

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""

    @property
    def has_gap(self) -> bool:
        return any(isinstance(block, Missing) for block in self.blocks)


@dataclass(frozen=True)
class Document:
    """`kicker` says what kind of document it is, `lead` stands before the first section, `contents` is the heading of
    the table of contents.
    """

    language: str
    title: str
    subtitle: str
    sections: tuple[Section, ...]
    kicker: str = ""
    lead: tuple[Block, ...] = ()
    contents: str = ""


def gap(title: str, t: Translate) -> Section:
    return Section(title, (Missing(t("Nothing to show: this step has no finished result.")),))


def facts_table(rows: list[tuple[str, Cell]], t: Translate) -> Table:
    return Table((t("what"), t("value")), tuple(rows))
