"""The proof that the fused folder is the gated model: both measured on the same held-out tokens, one at a time."""

import gc
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from peft import PeftModel
from torch import Tensor

from ..cancel import CancelToken
from ..data.packed import IGNORED, Packed, load_packed
from ..evaluation.quality import Quality, measure
from ..events import Verdict
from ..failures import UserError
from ..models.loading import device, load_model
from ..models.weights import stored_tensors
from ..run_directory import RunDirectory
from ..training.gated_model import GatedModel
from .anatomy import EMBEDDING, HEAD
from .head_check import HeadProbe, head_difference, worst
from .ingredients import Ingredients, check_base_unchanged, finished_files, fused_folder, gather
from .merge import FLOATS

LOSS_LIMIT = 1e-3
TOP1_LIMIT = 0.99
HEAD_LIMIT = 1e-4
LOGIT_LIMITS = {"float32": 1e-3, "float16": 0.15, "bfloat16": 1.0}
_SCRATCH_BYTES = 2_000_000_000
_FREE_SHARE = 4  # a quarter of the free space may be used
_FEWEST_POSITIONS = 32

Listener = Callable[[str, int, int], None]


def _silent(phase: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Proof:
    """How far the fused model is from the gated one; losses in nats, logits as they are, the rest as parts of 1.

    `dtype` is the checkpoint's and decides the limits, `computed_in` what both models ran in; the largest logit
    difference was taken over `n_positions`, loss and top-1 agreement over `n_tokens`. `head_difference` compares head
    and norm folded in float32, before the cast, on real hidden states: a part of the logits' range.
    """

    max_abs_logit_diff: float
    loss_difference: float
    top1_agreement: float
    head_difference: float
    dtype: str
    computed_in: str
    n_tokens: int
    n_positions: int
    gated: Quality
    fused: Quality

    @property
    def limits(self) -> dict[str, float]:
        return {
            "max_abs_logit_diff": LOGIT_LIMITS[self.dtype],
            "loss_difference": LOSS_LIMIT,
            "top1_agreement": TOP1_LIMIT,
            "head_difference": HEAD_LIMIT,
        }

    @property
    def passed(self) -> bool:
        return all(verdict.status == "pass" for verdict in self.verdicts())

    def verdicts(self) -> list[Verdict]:
        """One row per claim; a number that is not finite never passes."""
        limits = self.limits
        return [
            _verdict(
                "loss_difference", abs(self.loss_difference) <= LOSS_LIMIT, self.loss_difference, f"≤ {LOSS_LIMIT:g}"
            ),
            _verdict("top1_agreement", self.top1_agreement >= TOP1_LIMIT, self.top1_agreement, f"≥ {TOP1_LIMIT:g}"),
            _verdict(
                "max_abs_logit_diff",
                self.max_abs_logit_diff <= limits["max_abs_logit_diff"],
                self.max_abs_logit_diff,
                f"≤ {limits['max_abs_logit_diff']:g}",
            ),
            _verdict("head_difference", self.head_difference <= HEAD_LIMIT, self.head_difference, f"≤ {HEAD_LIMIT:g}"),
        ]

    def as_row(self, folder: str) -> dict[str, Any]:
        """proof.json; numbers that are not finite become null."""
        row = {name: value for name, value in asdict(self).items() if name not in ("gated", "fused")}
        row = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()}
        return row | {"limits": self.limits, "passed": self.passed, "folder": folder}


def prove(
    ingredients: Ingredients,
    folder: Path,
    held_out: Packed,
    scratch: Path,
    cancel: CancelToken,
    on_progress: Listener = _silent,
) -> Proof:
    """Run the gated model, then the fused folder, over every held-out token and compare them.

    The gated model is the base that was merged into, with unmerged adapter, gate and rotation. Its logits wait in the
    folder `scratch` (at most 2 GB of them, from sequences spread evenly). UserError if nothing is held out, or
    there is no room for even a few of them.
    """
    if not held_out.n_counted:
        raise UserError(
            "There are no held-out tokens to prove the fusion on.", "Prepare the data again with more held out."
        )
    dtype = checkpoint_dtype(ingredients.base.path)
    wide = computing_dtype(dtype, ingredients.base.n_parameters)
    with tempfile.TemporaryFile(dir=scratch) as file:
        record = _Record(file, _chosen(held_out, ingredients.base.vocabulary_size, scratch))
        walk = _Walk(held_out, cancel, on_progress)
        gated, head = _gated(ingredients, folder, wide, record, walk)
        _free_memory()
        fused = _fused(folder, wide, record, walk)
        _free_memory()
    return Proof(
        max_abs_logit_diff=record.largest,
        loss_difference=fused.loss - gated.loss,
        top1_agreement=record.agreement(held_out.labels),
        head_difference=head,
        dtype=_name(dtype),
        computed_in=_name(wide),
        n_tokens=gated.n_tokens,
        n_positions=record.n_positions,
        gated=gated,
        fused=fused,
    )


def verify(run: RunDirectory, cancel: CancelToken | None = None) -> list[Verdict]:
    """Prove the run's finished fusion again from its files; UserError if base or training are not there any more."""
    cancel = cancel or CancelToken()
    ingredients = gather(run)
    check_base_unchanged(ingredients.base, cancel)
    folder = fused_folder(run.plan(), run)
    if finished_files(folder, ingredients) is None:
        return [
            Verdict("fused_model", "fail", str(folder), "a whole model fused from this run's base, adapter and gate")
        ]
    held_out = load_packed(run.step_folder("prepare") / "held_out.safetensors")
    return prove(ingredients, folder, held_out, run.step_folder("fuse"), cancel).verdicts()


def checkpoint_dtype(folder: Path) -> torch.dtype:
    """The dtype of the model's head, which is the one that fusion rounds to."""
    stored = {tensor.name: tensor.dtype for tensor in stored_tensors(folder)}
    dtype = FLOATS.get(stored.get(HEAD) or stored.get(EMBEDDING, ""), torch.float32)
    return torch.float32 if dtype == torch.float64 else dtype


def computing_dtype(checkpoint: torch.dtype, n_parameters: int) -> torch.dtype:
    """What both models run in: the checkpoint's own dtype, but float32 on a CPU with room for it.

    A CPU gains nothing from 16 bits, and without the rounding of every layer the weights themselves are compared.
    """
    if device().type != "cpu":
        return checkpoint
    return torch.float32 if 4 * n_parameters < 0.6 * psutil.virtual_memory().available else checkpoint


class _Record:
    """What one model said, so that the other can be compared after it: top choices of all positions, logits of some."""

    def __init__(self, file: Any, chosen: dict[int, int]) -> None:
        self._file, self._chosen = file, chosen
        self._top: list[Tensor] = []
        self._agree: list[Tensor] = []
        self.largest = 0.0
        self.n_positions = 0

    def keep(self, index: int, logits: Tensor) -> None:
        """Remember sequence `index`: logits (T, V)."""
        self._top.append(logits.argmax(-1).cpu())
        if index in self._chosen:
            kept = logits[: self._chosen[index]].float().cpu().contiguous()
            self._file.write(kept.numpy().data)

    def compare(self, index: int, logits: Tensor) -> None:
        """Hold sequence `index` of the other model against it; called in the same order."""
        if index == 0:
            self._file.seek(0)
        self._agree.append(self._top[index] == logits.argmax(-1).cpu())
        if index in self._chosen:
            other = logits[: self._chosen[index]].float().cpu()
            kept = torch.from_numpy(np.frombuffer(self._file.read(other.numel() * 4), dtype=np.float32).copy())
            difference = (kept.view_as(other) - other).abs().max().item()
            self.largest = worst(self.largest, difference)
            self.n_positions += len(other)

    def agreement(self, labels: Tensor) -> float:
        """The part of counted tokens (labels (n, T)) for which both models' first choice is the same."""
        counted = labels[:, 1:] != IGNORED
        return torch.stack(self._agree)[:, :-1][counted].double().mean().item()


@dataclass(frozen=True)
class _Walk:
    """One model's way through the held-out sequences."""

    held_out: Packed
    cancel: CancelToken
    on_progress: Listener

    def __call__(
        self, phase: str, logits_of: Callable[[Tensor], Tensor], record: Callable[[int, Tensor], None]
    ) -> Quality:
        """Quality as every stage is measured, while `record` sees the index and logits (T, V) of each sequence."""
        index = 0

        def observed(ids: Tensor) -> Tensor:
            nonlocal index
            logits = logits_of(ids)
            record(index, logits[0])
            index += 1
            return logits

        return measure(observed, self.held_out, self.cancel, lambda done, total: self.on_progress(phase, done, total))


def _gated(
    ingredients: Ingredients, folder: Path, dtype: torch.dtype, record: _Record, walk: _Walk
) -> tuple[Quality, float]:
    """The gated model's quality, its logits recorded, and the head's difference; the model is gone on return."""
    base = load_model(ingredients.base.path, dtype)
    adapted = PeftModel.from_pretrained(base, ingredients.adapter, torch_device=str(base.device))
    model = GatedModel(adapted, ingredients.soul.gate()).eval()
    with HeadProbe(model.causal.get_decoder().norm) as probe:
        quality = walk("gated", model.logits, record.keep)
    return quality, head_difference(model, ingredients.soul, folder, probe.states)


def _fused(folder: Path, dtype: torch.dtype, record: _Record, walk: _Walk) -> Quality:
    model = load_model(folder, dtype)
    return walk("fused", lambda ids: model(input_ids=ids.to(model.device), use_cache=False).logits, record.compare)


def _chosen(held_out: Packed, vocabulary_size: int, scratch: Path) -> dict[int, int]:
    """Sequence -> how many of its first positions are compared logit by logit, as many as scratch space allows.

    At least 32, or all there are; UserError if the disk has no room for these.
    """
    n, length = held_out.input_ids.shape
    position_bytes, fewest = 4 * vocabulary_size, min(_FEWEST_POSITIONS, n * length)
    budget = min(_SCRATCH_BYTES, shutil.disk_usage(scratch).free // _FREE_SHARE) // position_bytes
    if budget < fewest:
        raise UserError(
            "The proof of the fusion needs {needed} MB of free space in {folder}.",
            "Free some space on that drive and run this step again; the fused model is kept until then.",
            needed=math.ceil(fewest * position_bytes * _FREE_SHARE / 1e6),
            folder=scratch,
        )
    n_whole = min(n, budget // length)
    if n_whole * length >= fewest:
        return {i * n // n_whole: length for i in range(n_whole)}
    return {i: min(length, budget - i * length) for i in range(n_whole + 1) if budget > i * length}


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _verdict(name: str, passed: bool, measured: float, expected: str) -> Verdict:
    return Verdict(name, "pass" if passed else "fail", f"{measured:.3g}", expected)
