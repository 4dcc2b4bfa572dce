"""The base model's own predictions on disk, so that KL(base ‖ stage) needs no second model in memory.

base_logprobs.safetensors: `places` (k,) int64, which of the counted held-out tokens (0, 1, … in the order of the data)
are compared, evenly spread; `log_probabilities` (k, V) float16, the base's distribution there. Read back, each row
is normalised again in float64, so that it is a distribution and no divergence is negative. No marker vouches for the
file, for it may be deleted and made again at any time: its own header holds the hash of all the rest.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..fusion.shard_writer import TensorSpec, file_header
from ..run_directory import atomic
from ..sealed import UNSEALED, seal

MOST_BYTES = 2_000_000_000
FREE_SHARE = 4  # a quarter of the free space may be used
FEWEST_TOKENS = 32
_ROWS = 32  # at once in float64: 100 MB for a vocabulary of 400,000


class Distance(Protocol):
    """Something that hears every prediction of a model and knows at the end how far it was from the base.

    `see` gets the number of the first of these counted tokens and logits (n, V); chunks come in order.
    `divergences` are then KL(base ‖ model) at each of the places, (k,) float32.
    """

    def see(self, first: int, logits: Tensor) -> None: ...

    def divergences(self) -> Tensor: ...


class ToBase:
    """The distance to the base whose predictions lie in a file."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")  # mapped: a row is read when it is compared
        self._places = self._file.get_tensor("places")
        self._rows = self._file.get_slice("log_probabilities")
        self._found: list[Tensor] = []

    def see(self, first: int, logits: Tensor) -> None:
        for part, wanted in _blocks(self._places, first, len(logits)):
            stored = self._rows[part].to(logits.device)
            self._found.append(divergence(normalised(stored), normalised(logits[wanted])))

    def divergences(self) -> Tensor:
        return torch.cat(self._found)


class Recording:
    """Writes the base's own predictions; its distance to itself is what storing them in 16 bits costs."""

    def __init__(self, file: BinaryIO, places: Tensor) -> None:
        self._file, self._places = file, places
        self._found: list[Tensor] = []

    def see(self, first: int, logits: Tensor) -> None:
        for _, wanted in _blocks(self._places, first, len(logits)):
            exact = normalised(logits[wanted])
            stored = exact.to(torch.float16)
            self._file.write(stored.cpu().contiguous().view(torch.uint8).numpy().data)
            self._found.append(divergence(normalised(stored), exact))

    def divergences(self) -> Tensor:
        return torch.cat(self._found)


@contextmanager
def recording(path: Path, places: Tensor, vocabulary_size: int, made_of: dict[str, str]) -> Iterator[Recording]:
    """A base's predictions at `places` (k,), kept as `path` if the measurement comes to its end.

    ValueError if it did not see all of them.
    """
    specs = [
        TensorSpec("places", "I64", (len(places),)),
        TensorSpec("log_probabilities", "F16", (len(places), vocabulary_size)),
    ]
    with atomic(path) as draft:
        with draft.open("wb") as file:
            header = file_header(specs, made_of | UNSEALED)
            file.write(len(header).to_bytes(8, "little") + header + places.numpy().tobytes())
            yield Recording(file, places)
        missing = 8 + len(header) + sum(spec.n_bytes for spec in specs) - draft.stat().st_size
        if missing:
            raise ValueError(f"the base's predictions lack {missing} bytes")
        seal(draft)


def chosen_places(n_counted: int, n_wanted: int, vocabulary_size: int, folder: Path) -> Tensor:
    """(k,) int64, spread evenly over the counted tokens: as many as wanted and as the disk of `folder` has room for.

    None of them where there is not even room for 32.
    """
    n_wanted = min(n_wanted, n_counted)
    n_room = min(MOST_BYTES, shutil.disk_usage(folder).free // FREE_SHARE) // (2 * vocabulary_size)
    n = min(n_wanted, n_room)
    return torch.arange(n if n >= min(FEWEST_TOKENS, n_wanted) else 0) * n_counted // max(n, 1)


def made_of(path: Path) -> dict[str, str]:
    """What a reference file was made of; empty if there is none that can be read."""
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        return {}


def normalised(scores: Tensor) -> Tensor:
    """Log probabilities (n, V) float64 of logits or rounded log probabilities."""
    return scores.double().log_softmax(-1)


def divergence(base: Tensor, model: Tensor) -> Tensor:
    """KL(base ‖ model) of log probabilities (n, V) -> (n,) float32, in nats."""
    terms = base.exp() * (base - model)
    summed: Tensor = torch.where(base > -torch.inf, terms, 0).sum(-1)
    return summed.clamp_min(0).float().cpu()  # of two equal rows it is ±1e-17


def _blocks(places: Tensor, first: int, n: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the file and the positions in a chunk that belong together: for the places in [first, first + n)."""
    start, end = torch.searchsorted(places, torch.tensor([first, first + n])).tolist()
    for row in range(start, end, _ROWS):
        part = slice(row, min(row + _ROWS, end))
        yield part, places[part] - first
