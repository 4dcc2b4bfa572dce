"""What was measured of one stage, token by token, and what follows from it: means, their errors, paired differences."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..data.packed import Packed
from ..fixed_order import in_fixed_order
from ..run_directory import atomic
from ..sealed import KEY, UNSEALED, damaged, is_whole, seal


@dataclass(frozen=True)
class Measurement:
    """`losses` (n,) of every counted held-out token in nats and `divergences` (k,), KL(base ‖ stage) at some of them.

    Both float32 and in the order of the data; no divergences where none were measured. Every figure below is
    reckoned in float64 from exactly these numbers, so that a reader of the file can reckon it again.
    """

    losses: Tensor
    divergences: Tensor | None = None


class Paired(NamedTuple):
    """Mean of a difference in nats per token, the standard error of that mean, and over how many tokens."""

    difference: float
    standard_error: float
    n_tokens: int


def paired(one: Tensor, other: Tensor) -> Paired:
    """`one` minus `other`, token by token: losses (n,) of two stages. ValueError if they are not of the same tokens."""
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} tokens cannot be paired")
    return Paired(*mean_and_error(one.double() - other.double()), len(one))


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of (n,) and its standard error, s/√n with n − 1 in s; 0 for a single value."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return values.mean().item(), error


def save_measurement(path: Path, measurement: Measurement, made_of: dict[str, str]) -> None:
    """Keep a stage's numbers; `made_of` says of which tokens and weights they are and goes into the header."""
    tensors = {"losses": measurement.losses}
    if measurement.divergences is not None:
        tensors["divergences"] = measurement.divergences
    with atomic(path) as draft:
        draft.write_bytes(in_fixed_order(tensors, made_of | UNSEALED))
        seal(draft)


def load_measurement(path: Path) -> tuple[Measurement, dict[str, str]]:
    """The numbers of a stage and what they were made of; UserError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            made_of = dict(file.metadata() or {})
        losses = tensors["losses"]
    except (SafetensorError, KeyError) as error:
        raise damaged(path, error) from error
    if made_of.pop(KEY, None) and not is_whole(path):  # older versions sealed nothing
        raise damaged(path, "it does not say what was written")
    return Measurement(losses, tensors.get("divergences")), made_of


def tokens_sha256(held_out: Packed) -> str:
    """The hash of ids and labels: stages that have the same were measured on the same tokens."""
    digest = hashlib.sha256()
    for tensor in (held_out.input_ids, held_out.labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.long().contiguous().numpy().data)
    return digest.hexdigest()
