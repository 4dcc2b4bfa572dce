"""From the plan's data source to samples: the bundled questions, local files, or the hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..failures import UserError
from ..plan import PHYSICS, DataPlan
from ..resources import RESOURCES
from .columns import Columns, find_columns
from .files import Table, local_tables
from .hub import open_hub
from .place import on_the_hub
from .samples import Sample

PREVIEWED_ROWS = 100


@dataclass(frozen=True)
class Source:
    """A dataset that can be gone through again and again, each time giving the same samples in the same order.

    `tables` are its files with the columns that are read from each; `commit` is the hub's, else ""; `n_rows` is None
    where only reading would tell.
    """

    plan: DataPlan
    tables: tuple[tuple[Table, Columns], ...]
    commit: str = ""
    n_rows: int | None = None

    def samples(self) -> Iterator[Sample]:
        """Every sample, useless ones included, but no more than the plan's; UserError names the place of a bad one."""
        read = (
            columns.sample(row, where)
            for table, columns in self.tables
            for where, row in table.rows(tuple(columns.used.values()))
        )
        return islice(read, self.plan.max_samples) if self.plan.max_samples else read


def open_source(plan: DataPlan, say: Callable[[str], None] = lambda what: None) -> Source:
    """Find the dataset and its columns, fetching it if need be; UserError with one sentence if it cannot be read.

    `say` hears "fetch" before something is fetched.
    """
    tables = _local(plan)
    if tables is not None:
        return _source(plan, tables)
    if plan.streaming and not plan.max_samples:
        raise UserError(
            "A dataset that is read piece by piece needs a number of samples.",
            "Say how many samples to take (data.max_samples), or fetch it whole (data.streaming=false).",
            changes={"data.max_samples": 10_000},
        )
    say("fetch")
    found = open_hub(plan)
    table = found.streamed(plan.max_samples) if plan.streaming else found.fetched()
    return _source(plan, (table,), found.commit)


def glance(plan: DataPlan) -> Source:
    """The same for a look at its beginning: of a dataset on the hub only the first rows are fetched."""
    tables = _local(plan)
    if tables is not None:
        return _source(plan, tables)
    found = open_hub(plan)
    return _source(plan, (found.streamed(PREVIEWED_ROWS),), found.commit, found.n_rows)


def _source(plan: DataPlan, tables: tuple[Table, ...], commit: str = "", n_rows: int | None = None) -> Source:
    mapped = tuple((table, _columns(table, plan)) for table in tables if table.columns)
    if not mapped:
        raise empty(plan)
    known = [table.n_rows for table in tables if table.n_rows is not None]
    if n_rows is None and not commit and len(known) == len(tables):
        n_rows = sum(known)
    return Source(plan, mapped, commit, n_rows)


def empty(plan: DataPlan) -> UserError:
    return UserError(
        "The dataset {source} is empty.", "Choose one that holds at least a few samples.", source=plan.source
    )


def _columns(table: Table, plan: DataPlan) -> Columns:
    if not table.plain:
        return find_columns(table.columns, plan, table.name)
    if plan.format == "chat":
        raise UserError(
            "{source} is plain text, in which no questions and answers can be told apart.",
            "Set data.format to text, or choose a file with columns such as question and answer.",
            changes={"data.format": "auto"},
            source=table.name,
        )
    return Columns(text=table.columns[0])


def _local(plan: DataPlan) -> tuple[Table, ...] | None:
    """The tables of the bundled questions or of something on this machine; None if the source means the hub."""
    if plan.source == PHYSICS:
        bundled = plan.model_copy(update={"encoding": "utf-8"})
        languages = [language for language in ("en", "ja") if plan.language in (language, "both")]
        return tuple(
            table
            for language in languages
            for table in local_tables(RESOURCES / "physics" / f"{language}.jsonl", bundled)
        )
    if on_the_hub(plan.source):
        return None
    path = Path(plan.source).expanduser()
    if not path.exists():
        raise UserError(
            "There is no dataset file {path}.",
            "Choose an existing jsonl, json, csv, tsv, txt or parquet file, or a folder of such files.",
            path=path,
        )
    return local_tables(path, plan)
