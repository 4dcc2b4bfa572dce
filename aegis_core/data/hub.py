"""Datasets of the hub, pinned to a commit; fetched whole or read piece by piece. Nothing of theirs is ever run."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..failures import UserError
from ..plan import DataPlan
from .files import Rows, Table

# Formats that hold rows of text. Others (archives, pictures, pickles) are refused before a byte of them is fetched.
_FORMATS = ("json", "csv", "parquet", "text", "arrow")
_BATCH_ROWS = 1000
_COMMIT_DIGITS = 40


@dataclass(frozen=True)
class HubDataset:
    """One split of a dataset; `commit` is the very version that will be read."""

    plan: DataPlan
    builder: Any
    commit: str

    @property
    def n_rows(self) -> int | None:
        """As the hub states it; None where it does not."""
        split = (self.builder.info.splits or {}).get(self.plan.split)
        return split.num_examples or None if split else None

    def fetched(self) -> Table:
        """All rows, downloaded once and kept in the cache of datasets."""
        with _explained(self.plan):
            self.builder.download_and_prepare()
            table = self.builder.as_dataset(split=self.plan.split)
        return Table(self.plan.source, tuple(table.column_names), partial(_batches, table), len(table))

    def streamed(self, n_rows: int) -> Table:
        """The first rows, at most `n_rows`, and no more of the files than they need."""
        with _explained(self.plan):
            stream = self.builder.as_streaming_dataset(split=self.plan.split).take(n_rows)
            rows = [(f"row {number}", dict(row)) for number, row in enumerate(stream, start=1)]
        columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
        return Table(self.plan.source, columns, lambda wanted: iter(rows), len(rows))


def open_hub(plan: DataPlan) -> HubDataset:
    """Look the dataset up; UserError says in a sentence what is missing: connection, access, name, subset or split."""
    from datasets import disable_progress_bars, load_dataset_builder

    disable_progress_bars()
    with _explained(plan):
        builder = load_dataset_builder(plan.source, plan.subset or None, revision=plan.revision)
    commit = str(builder.hash or "")
    if len(plan.revision) == _COMMIT_DIGITS and commit != plan.revision:
        raise _offline(plan)  # the cache held another version
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in _FORMATS:
        raise UserError(
            "The dataset {source} holds {kind} files, which are not read here.",
            "Choose one with parquet, json, csv or text files.",
            source=plan.source,
            kind=kind,
        )
    splits = list(builder.config.data_files or builder.info.splits or ())
    if plan.split not in splits:
        raise UserError(
            "The dataset {source} has no split {split}; it has {splits}.",
            "Set data.split to one of them.",
            changes={"data.split": str(splits[0])} if len(splits) == 1 else None,
            source=plan.source,
            split=plan.split,
            splits=", ".join(map(str, splits)),
        )
    return HubDataset(plan, builder, commit)


def _batches(table: Any, columns: Sequence[str]) -> Rows:
    number = 0
    chosen = table.select_columns([name for name in columns if name in table.column_names])
    for batch in chosen.iter(_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"row {number}", dict(zip(batch, values, strict=True))


@contextmanager
def _explained(plan: DataPlan) -> Iterator[None]:
    """Turn what the libraries raise into a sentence."""
    import httpx
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, httpx.HTTPError, ValueError, RuntimeError, NotImplementedError) as error:
        causes = list(_chain(error))
        for cause in causes:
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise cause from None  # the disk's fault, not the hub's
        raise _sentence(plan, causes) from error


def _sentence(plan: DataPlan, causes: list[BaseException]) -> UserError:
    import httpx
    from huggingface_hub import errors

    said = " ".join(map(str, causes))
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes) or "is a gated dataset" in said:
        return UserError(
            "The dataset {source} is only for people who accepted its terms.",
            "Accept them on the dataset's page and log in with your token, then run this step again.",
            source=plan.source,
        )
    if "Revision '" in said or any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return UserError(
            "The dataset {source} has no version {revision}.",
            "Set data.revision to main, or to a tag or commit that it has.",
            changes={"data.revision": "main"},
            source=plan.source,
            revision=plan.revision,
        )
    if "doesn't exist on the Hub" in said or any(isinstance(c, errors.RepositoryNotFoundError) for c in causes):
        return UserError(
            "The hub knows no dataset {source}.",
            "Check the spelling; a private one needs your token. A file on this machine needs its whole path.",
            source=plan.source,
        )
    if any(isinstance(cause, ConnectionError | httpx.TransportError | errors.OfflineModeIsEnabled) for cause in causes):
        return _offline(plan)
    if "scripts are no longer supported" in said:
        return UserError(
            "The dataset {source} comes as a program, which AEGIS never runs.",
            "Choose one that comes as parquet, json, csv or text files.",
            source=plan.source,
        )
    if "Config name is missing" in said or "BuilderConfig" in said:
        return UserError(
            "The dataset {source} comes in several subsets: {problem}",
            "Set data.subset to the one you want.",
            source=plan.source,
            problem=_first_words(next(str(c) for c in causes if "onfig" in str(c))),
        )
    return UserError(
        "The dataset {source} could not be read: {problem}",
        "Check its page on the hub, or choose a file on this machine.",
        source=plan.source,
        problem=_first_words(str(causes[-1])) or type(causes[-1]).__name__,
    )


def _offline(plan: DataPlan) -> UserError:
    return UserError(
        "The dataset {source} could not be fetched: the hub did not answer.",
        "Check the connection, or choose a file on this machine or the bundled questions (physics).",
        source=plan.source,
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it came from, the last first."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _first_words(text: str) -> str:
    return " ".join(text.split())[:200]
