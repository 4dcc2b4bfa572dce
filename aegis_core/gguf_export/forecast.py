"""How large the files will be and how long writing them will take, told before anything is written."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type

from ..failures import UserError
from .draft import Source, expected_bytes
from .families import mapped_tensors
from .quantiser import Quantiser, choose_quantiser, is_quantised
from .recipe import RECIPES, n_bytes, tensor_types

GB = 1e9
# Reading, rounding, hashing and writing, which go on while the quantiser works: a plain disk's rate.
_DISK_BYTES_PER_SECOND = 400e6
_SAMPLE_SHAPE = (256, 1024)


@dataclass(frozen=True)
class FileForecast:
    """One file: `kind` is a key of RECIPES, `n_bytes` its size rounded up, `formats` how many tensors get which."""

    kind: str
    n_bytes: int
    formats: dict[str, int]


@dataclass(frozen=True)
class Forecast:
    """All files together. `untied_bytes`, part of their sizes, is what a head of its own adds to a tied model.

    `seconds` is the time for writing them in one pass, without the checks that follow; `quantiser` does it.
    """

    files: tuple[FileForecast, ...]
    untied_bytes: int
    seconds: float
    quantiser: Quantiser

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def forecast(source: Source, types: Iterable[str], was_tied: bool = False) -> Forecast:
    """What writing these types of a model folder will take; a fraction of a second of quantising is tried for it.

    `was_tied`: the base model used its embedding as head, and the folder has both.
    """
    mapped, config = mapped_tensors(source.folder), source.folder.config
    formats = {kind: tensor_types(RECIPES[kind], mapped, config) for kind in types}
    needed = {kind for chosen in formats.values() for kind in chosen.values()}
    quantiser = choose_quantiser(needed)
    # Types that give a tensor the same format share the work.
    work = {(tensor.name, chosen[tensor.name]): tensor.shape for chosen in formats.values() for tensor in mapped}
    rates = {kind: _values_per_second(quantiser, kind) for kind in needed if is_quantised(kind)}
    quantising = sum(float(np.prod(shape)) / rates[kind] for (_, kind), shape in work.items() if kind in rates)
    files = tuple(
        FileForecast(kind, expected_bytes(source, RECIPES[kind]), _counted(chosen.values()))
        for kind, chosen in formats.items()
    )
    read_and_written = sum(file.n_bytes for file in files) + 2 * sum(int(np.prod(tensor.shape)) for tensor in mapped)
    head = [tensor for tensor in mapped if was_tied and tensor.name == "output.weight"]
    untied = sum(n_bytes(tensor, chosen[tensor.name]) for tensor in head for chosen in formats.values())
    return Forecast(files, untied, max(quantising, read_and_written / _DISK_BYTES_PER_SECOND), quantiser)


def require_space(folder: Path, needed: int) -> None:
    """UserError if the drive of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            "The GGUF files need {needed} GB, but only {free} GB are free in {folder}.",
            "Free some space there, or choose a folder on another drive for the GGUF files.",
            needed=f"{needed / GB:.2f}",
            free=f"{free / GB:.2f}",
            folder=folder,
        )


def _counted(kinds: Iterable[Type]) -> dict[str, int]:
    return dict(sorted(Counter(kind.name for kind in kinds).items()))


def _values_per_second(quantiser: Quantiser, kind: Type) -> float:
    rows = np.random.default_rng(7).standard_normal(_SAMPLE_SHAPE, dtype=np.float32)
    begun = time.perf_counter()
    quantiser.encode(rows, kind)
    return rows.size / max(time.perf_counter() - begun, 1e-6)
