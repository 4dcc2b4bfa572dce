"""What a dataset will be read as, before anything is prepared: its columns, their use, and its first samples.

Loads neither torch nor a tokenizer; of a dataset on the hub only the first rows are fetched.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from ..events import Log, warning
from ..plan import DataPlan
from .readers import Source, glance
from .samples import Flaw, Sample

SHOWN_SAMPLES = 5
LOOKED_AT_SAMPLES = 20_000
_SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class DataPreview:
    """`reads` maps what is read (question, answer, text, …) to its column. `samples` are the first usable ones, long
    texts cut short: {"messages": [{"role", "content"}, …]} or {"text"}. `n_rows` is None where only reading all would
    tell; `n_looked_at` were read, of which `n_flawed` (reason → number) are useless."""

    source: str
    files: tuple[str, ...]
    commit: str
    columns: tuple[str, ...]
    reads: dict[str, str]
    as_text: bool
    n_rows: int | None
    n_looked_at: int
    n_flawed: dict[str, int]
    samples: tuple[dict[str, Any], ...]
    warnings: tuple[Log, ...]

    def row(self) -> dict[str, Any]:
        """As JSON holds it; warnings as templates with values."""
        warnings = [{"template": said.template, "values": said.values} for said in self.warnings]
        return asdict(self) | {"warnings": warnings}


def preview(plan: DataPlan) -> DataPreview:
    """Look at the beginning of the plan's dataset; UserError with one sentence if it cannot be read as it is."""
    return preview_of(glance(plan))


def preview_of(source: Source) -> DataPreview:
    looked_at = list(islice(_light(source.samples()), LOOKED_AT_SAMPLES + 1))
    whole = len(looked_at) <= LOOKED_AT_SAMPLES
    looked_at = looked_at[:LOOKED_AT_SAMPLES]
    flawed = Counter(flaw for flaw, _ in looked_at if flaw)
    n_rows = source.n_rows
    if whole and (n_rows is None or source.plan.max_samples):
        n_rows = len(looked_at)
    shown = [_shown(sample) for _, sample in looked_at if sample is not None]
    first = source.tables[0][1]
    return DataPreview(
        source=source.plan.source,
        files=tuple(table.name for table, _ in source.tables),
        commit=source.commit,
        columns=tuple(dict.fromkeys(name for table, _ in source.tables for name in table.columns)),
        reads=first.used,
        as_text=first.as_text,
        n_rows=n_rows,
        n_looked_at=len(looked_at),
        n_flawed={str(flaw): n for flaw, n in flawed.items()},
        samples=tuple(shown),
        warnings=tuple(_warnings(source, flawed, len(looked_at), len(shown))),
    )


def flaw_warnings(flawed: Counter[Flaw]) -> Iterable[Log]:
    """One warning for each reason why samples are left out."""
    if n := flawed[Flaw.BLANK]:
        yield warning("{n} samples are blank and are left out.", n=n)
    if n := flawed[Flaw.NO_ANSWER]:
        yield warning("{n} samples have no answer and are left out.", n=n)
    if n := flawed[Flaw.FOREIGN_ROLE]:
        yield warning("{n} chats have other roles than user, assistant and system and are left out.", n=n)
    if n := flawed[Flaw.HALF_CHARACTER]:
        yield warning("{n} samples hold half a character (a lone surrogate) and are left out.", n=n)


def _warnings(source: Source, flawed: Counter[Flaw], n_looked_at: int, n_shown: int) -> Iterable[Log]:
    yield from flaw_warnings(flawed)
    others = sum(columns != source.tables[0][1] for _, columns in source.tables)
    if others:
        yield warning("{n} files have other columns than the first; each is read by its own.", n=others)
    if n_looked_at and not n_shown:
        yield warning("None of these samples can be used.")


def _light(samples: Iterable[Sample]) -> Iterable[tuple[Flaw, Sample | None]]:
    """The flaw of every sample, and the first usable ones themselves."""
    n_kept = 0
    for sample in samples:
        keeps = not sample.flaw and n_kept < SHOWN_SAMPLES
        n_kept += keeps
        yield sample.flaw, sample if keeps else None


def _shown(sample: Sample) -> dict[str, Any]:
    if not sample.messages:
        return {"text": _short(sample.text)}
    return {"messages": [{"role": turn.role, "content": _short(turn.content)} for turn in sample.messages]}


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
