"""Datasets of the hub, pinned to a commit; fetched whole or read piece by piece. Nothing of theirs is ever run."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..addresses import shown_address
from ..failures import UserError
from ..plan import DataPlan
from .files import Rows, Table

# Formats that hold rows of text. Others (archives, pictures, pickles) are refused before a byte of them is fetched.
_FORMATS = ("json", "csv", "parquet", "text", "arrow", "cache")
_BATCH_ROWS = 1000
_COMMIT_DIGITS = 40
_PATIENCE_SECONDS = 20.0


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
    """Look the dataset up; UserError says in a sentence what is missing: connection, access, name, subset or split.

    Where the hub does not answer, a copy that an earlier run fetched serves as well.
    """
    from datasets import config, disable_progress_bars, load_dataset_builder

    disable_progress_bars()
    commit, unreachable = _commit(plan)
    if unreachable:
        config.HF_HUB_OFFLINE = True  # else it would try for minutes before it looks into its cache
    try:
        with _explained(plan):
            builder = load_dataset_builder(plan.source, plan.subset or None, revision=commit or plan.revision)
    except UserError:
        if unreachable:
            raise unreachable from None
        raise
    fetched = str(builder.hash or "")
    if unreachable and len(plan.revision) == _COMMIT_DIGITS and fetched != plan.revision:
        raise unreachable  # the copy is another version
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in _FORMATS:
        raise UserError(
            "The dataset {source} holds {kind} files, which are not read here.",
            "Choose one with parquet, json, csv or text files.",
            source=plan.source,
            kind=kind,
        )
    splits = [str(split) for split in builder.config.data_files or builder.info.splits or ()]
    if plan.split not in splits:
        raise UserError(
            "The dataset {source} has no split {split}; it has {splits}.",
            "Set data.split to one of them.",
            changes={"data.split": splits[0]} if len(splits) == 1 else None,
            source=plan.source,
            split=plan.split,
            splits=", ".join(splits) or "–",
        )
    return HubDataset(plan, builder, commit or fetched)


def _commit(plan: DataPlan) -> tuple[str, UserError | None]:
    """The commit that the plan's revision means today; "" and the reason where the hub does not answer."""
    from huggingface_hub import HfApi

    from ..models.hub_errors import HUB_ERRORS, HubUnreachable, unusable_proxy

    try:
        info = HfApi().dataset_info(plan.source, revision=plan.revision, timeout=_PATIENCE_SECONDS)
    except HUB_ERRORS as error:
        sentence = _refusal(error, plan)
        if isinstance(sentence, HubUnreachable):
            return "", sentence
        raise sentence from error
    except (ImportError, ValueError):
        if proxy := unusable_proxy():
            return "", proxy
        raise
    return str(info.sha), None


def _batches(table: Any, columns: Sequence[str]) -> Rows:
    number = 0
    chosen = table.select_columns([name for name in columns if name in table.column_names])
    for batch in chosen.iter(_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"row {number}", dict(zip(batch, values, strict=True))


def _refusal(error: Exception, plan: DataPlan) -> UserError:
    from huggingface_hub.errors import GatedRepoError

    from ..models.hub_errors import refusal

    page = f"datasets/{plan.source}" if isinstance(error, GatedRepoError) else plan.source  # whose terms to accept
    return refusal(error, page, plan.revision)


@contextmanager
def _explained(plan: DataPlan) -> Iterator[None]:
    """Turn what the libraries raise about a dataset into a sentence."""
    from datasets.exceptions import DatasetsError

    from ..models.hub_errors import HUB_ERRORS

    try:
        yield
    except (DatasetsError, OSError, ValueError, RuntimeError, NotImplementedError, *HUB_ERRORS) as error:
        causes = list(_chain(error))
        for cause in causes:
            if isinstance(cause, HUB_ERRORS):
                raise _refusal(cause, plan) from error
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise cause from None  # the disk's fault, not the hub's
        raise _sentence(plan, causes) from error


def _sentence(plan: DataPlan, causes: list[BaseException]) -> UserError:
    from huggingface_hub import constants

    said = " ".join(map(str, causes))
    if "is a gated dataset" in said:
        return UserError(
            "{source} is only for people who accepted its licence on the hub.",
            "Accept it on {page}, then enter your token in the settings, or write aegis hub login in a terminal.",
            source=plan.source,
            page=f"{shown_address(constants.ENDPOINT)}/datasets/{plan.source}",
        )
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
