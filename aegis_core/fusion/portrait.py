"""A picture of the head before and after, from the two files: how each token's row moved, and the rotation's angles.

`fuse/head.json`, for the window and the run log (V rows, one for each entry of the vocabulary; H columns):

    rows, columns     V and H
    alpha, sigma      the gate's α and σ(α)
    norm_factor       what the final norm was multiplied by for calibration, 1 without it
    n_empty_rows      rows of length 0 in the base; they have no relative change and are left out of it
    relative_change   ‖n∘w' − w‖ / ‖w‖ for each row w (base) and w' (fused), with n (H,) what the final norm took over
                      (calibration, learned scale): 0 where the token's logit is what it was
                      {"quantiles": {"0", "5", "25", "50", "75", "95", "100"}, "histogram": {"edges", "counts"}}
    norms             ‖w‖ and ‖w'‖ as stored in the files, over the same edges
                      {"before": {"edges", "counts"}, "after": {"edges", "counts"}}
    most_changed      the 16 rows with the largest change, largest first
                      {"token": text, "id", "before": ‖w‖, "after": ‖w'‖, "change"}
    angles_degrees    the rotation's 4 plane angles in each of its H/8 blocks, 0…180: {"quantiles", "histogram"}

Quantiles go by percent; a histogram has one edge more than counts.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..cancel import CancelToken
from ..models.weights import StoredTensor, stored_tensors
from ..soul.gate import Soul
from ..soul.rotation import blocks
from .anatomy import EMBEDDING, HEAD
from .row_blocks import row_blocks

_PERCENTS = (0, 5, 25, 50, 75, 95, 100)
_N_BINS = 40
_N_MOST_CHANGED = 16


def portrait(
    base: Path, fused: Path, soul: Soul, token_of: Callable[[int], str], cancel: CancelToken
) -> dict[str, Any]:
    """What head.json says of the model in `base` and of the same fused with `soul`; `token_of` names a row.

    Reads both heads block by block, in about the time of copying them. UserError as for `stored_tensors`.
    """
    multiplier = soul.fused_norm(torch.ones(soul.generator.shape[0] * 8, dtype=torch.float64)).float()
    before, after, moved = (torch.cat(parts) for parts in _row_lengths(base, fused, multiplier, cancel))
    filled = before > 0
    change = moved[filled] / before[filled]
    rows = filled.nonzero().flatten()
    largest = change.argsort(descending=True, stable=True)[:_N_MOST_CHANGED]
    edges = _edges(torch.cat([before, after]))
    return {
        "rows": len(before),
        "columns": len(multiplier),
        "alpha": soul.alpha,
        "sigma": soul.openness,
        "norm_factor": soul.norm_factor(),
        "n_empty_rows": len(before) - len(rows),
        "relative_change": _described(change),
        "norms": {"before": _histogram(before, edges), "after": _histogram(after, edges)},
        "most_changed": [
            {
                "token": token_of(row),
                "id": row,
                "before": before[row].item(),
                "after": after[row].item(),
                "change": change[place].item(),
            }
            for place, row in zip(largest.tolist(), rows[largest].tolist(), strict=True)
        ],
        "angles_degrees": _described(plane_angles(soul.generator)),
    }


def plane_angles(generator: Tensor) -> Tensor:
    """The angles in degrees, 0…180, by which each block turns its four planes: generator (n, 28) -> (4n,) float64."""
    turns = torch.linalg.eigvals(blocks(generator.double())).angle().abs()  # each plane twice: e^iθ and e^-iθ
    return turns.sort(-1).values[:, ::2].flatten() * (180 / math.pi)


def _row_lengths(
    base: Path, fused: Path, multiplier: Tensor, cancel: CancelToken
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Of each block of rows: length before, length after, and length of the change, float64."""
    heads = _head_of(base), _head_of(fused)
    lengths: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for old, new in zip(*(_rows(head) for head in heads), strict=True):
        cancel.check()
        for found, rows in zip(lengths, (old, new, new * multiplier - old), strict=True):
            found.append(torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64))
    return lengths


def _rows(head: StoredTensor) -> Iterator[Tensor]:
    with safe_open(head.file, framework="pt") as reader:
        for rows in row_blocks(reader, head):
            yield rows.float()


def _head_of(folder: Path) -> StoredTensor:
    stored = {tensor.name: tensor for tensor in stored_tensors(folder)}
    return stored.get(HEAD) or stored[EMBEDDING]


def _described(values: Tensor) -> dict[str, Any]:
    ordered = values.sort().values
    places = {percent: round(percent / 100 * (len(ordered) - 1)) for percent in _PERCENTS} if len(ordered) else {}
    quantiles = {str(percent): ordered[place].item() for percent, place in places.items()}
    return {"quantiles": quantiles, "histogram": _histogram(values, _edges(values))}


def _edges(values: Tensor) -> Tensor:
    low, high = (values.min().item(), values.max().item()) if len(values) else (0.0, 1.0)
    return torch.linspace(low, high if high > low else low + max(abs(low), 1e-9), _N_BINS + 1, dtype=torch.float64)


def _histogram(values: Tensor, edges: Tensor) -> dict[str, list[Any]]:
    places = torch.bucketize(values, edges[1:-1], right=True)  # the last bin includes its upper edge
    return {"edges": edges.tolist(), "counts": torch.bincount(places, minlength=_N_BINS).tolist()}
