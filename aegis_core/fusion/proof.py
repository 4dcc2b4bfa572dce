"""The proof that the fused folder is the gated model: both measured on the same held-out tokens, one at a time."""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from ..cancel import CancelToken
from ..data.packed import Packed, load_packed
from ..evaluation.chain import free_memory
from ..evaluation.measurement import Measurement, paired, tokens_sha256
from ..evaluation.precision import checkpoint_dtype, computing_dtype, dtype_of_run, place_of
from ..evaluation.quality import Quality, quality_of, token_losses
from ..evaluation.reference import Distance
from ..events import Verdict
from ..failures import UserError
from ..models.loading import DTYPES, load_model
from ..models.weights import stored_tensors
from ..run_directory import RunDirectory, atomic_folder, settle, sha256_of_json
from ..training.gated_model import GatedModel
from .base_check import check_base_unchanged
from .four_bits import kept_in_four_bits, through_four_bits
from .head_check import HeadProbe, head_difference
from .ingredients import Ingredients, finished_files, fused_folder, gather
from .spoken import Dictation, Spoken, dictation_file, spoken_of

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
    difference was taken over `n_positions`, loss (paired token by token) and top-1 agreement over `n_tokens`.
    `head_difference` compares head and norm folded in float32, before the cast, on real hidden states: a part of the
    logits' range.
    """

    max_abs_logit_diff: float
    loss_difference: float
    loss_difference_standard_error: float
    top1_agreement: float
    head_difference: float
    dtype: str
    computed_in: str
    n_tokens: int
    n_positions: int
    measured_gated: Measurement
    measured_fused: Measurement

    @property
    def gated(self) -> Quality:
        return quality_of(self.measured_gated)

    @property
    def fused(self) -> Quality:
        return quality_of(self.measured_fused)

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

    @property
    def wants_tokens(self) -> bool:
        """Whether only the loss fails, and by less than twice its error: more held-out tokens may decide otherwise."""
        failed = [verdict.name for verdict in self.verdicts() if verdict.status != "pass"]
        least = abs(self.loss_difference) - 2 * self.loss_difference_standard_error
        return failed == ["loss_difference"] and least <= LOSS_LIMIT

    def verdicts(self) -> list[Verdict]:
        """One row per claim; a number that is not finite never passes."""
        limits = self.limits
        return [
            _verdict(
                "loss_difference",
                abs(self.loss_difference) <= LOSS_LIMIT,
                self.loss_difference,
                f"≤ {LOSS_LIMIT:g}",
                self.loss_difference_standard_error,
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
        names = [field.name for field in fields(self) if not field.name.startswith("measured_")]
        row = {name: vars(self)[name] for name in names}
        row = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()}
        return row | {"limits": self.limits, "passed": self.passed, "folder": folder}


def prove(
    ingredients: Ingredients,
    folder: Path,
    held_out: Packed,
    scratch: Path,
    cancel: CancelToken,
    on_progress: Listener = _silent,
    distance: Callable[[], Distance | None] = lambda: None,
    computed_in: torch.dtype | None = None,
) -> Proof:
    """Run the gated model, then the fused folder, over every held-out token and compare them.

    The gated model is the base that was merged into, with unmerged adapter, gate and rotation. What it says waits in
    the folder `scratch` (at most 2 GB of logits, from sequences spread evenly), where a later attempt finds it if
    this one is killed before the end. `distance` makes a fresh distance to the base for each of the two. Both run in
    `computed_in`, or in what suits this machine. UserError if nothing is held out, or there is no room for even a few
    logits.
    """
    if not held_out.n_counted:
        raise UserError(
            "There are no held-out tokens to prove the fusion on.", "Prepare the data again with more held out."
        )
    dtype = checkpoint_dtype(ingredients.base.path)
    wide = computed_in or computing_dtype(dtype, ingredients.base.n_parameters)
    walk = _Walk(held_out, cancel, on_progress)
    record = scratch / "gated"
    settle(record)
    to_base = distance()  # first of all: it may have to load the base
    of = sha256_of_json([
        ingredients.origin, finished_files(folder, ingredients), tokens_sha256(held_out), _name(wide), bool(to_base),
    ])  # fmt: skip
    if spoken_of(record) != of:
        shutil.rmtree(record, ignore_errors=True)  # of other models: its room is needed
        with atomic_folder(record) as draft:
            chosen = _chosen(held_out, ingredients.base.vocabulary_size, scratch)
            _dictate(ingredients, folder, wide, draft, chosen, walk, to_base, of)
        free_memory()
        to_base = distance()
    spoken = Spoken(record)
    try:
        fused = _fused(ingredients, folder, wide, spoken, walk, to_base)
    finally:
        spoken.close()
    free_memory()
    shutil.rmtree(record, ignore_errors=True)
    loss = paired(fused.losses, spoken.measured.losses)
    return Proof(
        max_abs_logit_diff=spoken.largest,
        loss_difference=loss.difference,
        loss_difference_standard_error=loss.standard_error,
        top1_agreement=spoken.agreement(held_out.labels),
        head_difference=spoken.head_difference,
        dtype=_name(dtype),
        computed_in=_name(wide),
        n_tokens=loss.n_tokens,
        n_positions=spoken.n_positions,
        measured_gated=spoken.measured,
        measured_fused=fused,
    )


def verify(run: RunDirectory, cancel: CancelToken | None = None) -> list[Verdict]:
    """Prove the run's finished fusion again from its files, writing none of them; what is kept aside is temporary.

    UserError if base or training are not there any more.
    """
    cancel = cancel or CancelToken()
    ingredients = gather(run)
    check_base_unchanged(ingredients.base, cancel)
    folder = fused_folder(run.plan(), run)
    if finished_files(folder, ingredients) is None:
        return [
            Verdict("fused_model", "fail", str(folder), "a whole model fused from this run's base, adapter and gate")
        ]
    held_out = load_packed(run.step_folder("prepare") / "held_out.safetensors")
    with tempfile.TemporaryDirectory(prefix="aegis-proof-") as scratch:
        wide = dtype_of_run(run, ingredients.base)
        return prove(ingredients, folder, held_out, Path(scratch), cancel, computed_in=wide).verdicts()


@dataclass(frozen=True)
class _Walk:
    """One model's way through the held-out sequences."""

    held_out: Packed
    cancel: CancelToken
    on_progress: Listener

    def __call__(
        self,
        phase: str,
        logits_of: Callable[[Tensor], Tensor],
        record: Callable[[int, Tensor], None],
        distance: Distance | None,
    ) -> Measurement:
        """Measured as every stage is, while `record` sees the index and logits (T, V) of each sequence."""
        index = 0

        def observed(ids: Tensor) -> Tensor:
            nonlocal index
            logits = logits_of(ids)
            record(index, logits[0])
            index += 1
            return logits

        def on_progress(done: int, total: int) -> None:
            self.on_progress(phase, done, total)

        return token_losses(observed, self.held_out, self.cancel, on_progress, distance)


def _dictate(
    ingredients: Ingredients,
    folder: Path,
    dtype: torch.dtype,
    draft: Path,
    chosen: dict[int, int],
    walk: _Walk,
    distance: Distance | None,
    of: str,
) -> None:
    """Write down in the folder `draft` what the gated model says; the model is gone on return."""
    place, own_code = place_of(ingredients.base, dtype), "model" in ingredients.base.own_code
    base = load_model(ingredients.base.path, dtype, own_code=own_code, place=place)
    if ingredients.four_bits_in:
        weights = kept_in_four_bits(stored_tensors(ingredients.base.path))
        through_four_bits(base, weights, checkpoint_dtype(ingredients.base.path), DTYPES[ingredients.four_bits_in])
    adapted = PeftModel.from_pretrained(base, ingredients.adapter, torch_device=str(base.device))
    model = GatedModel(adapted, ingredients.soul.gate()).eval()
    with dictation_file(draft).open("wb") as file, HeadProbe(model.causal.get_decoder().norm) as probe:
        dictation = Dictation(file, chosen)
        measured = walk("gated", model.logits, dictation.keep, distance)
    difference = head_difference(model, ingredients.soul, folder, probe.states)
    dictation.finish(draft, measured, difference, of)


def _fused(
    ingredients: Ingredients,
    folder: Path,
    dtype: torch.dtype,
    spoken: Spoken,
    walk: _Walk,
    distance: Distance | None,
) -> Measurement:
    model = load_model(folder, dtype, place=place_of(ingredients.base, dtype))

    def logits_of(ids: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits
        return logits

    return walk("fused", logits_of, spoken.compare, distance)


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


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _verdict(name: str, passed: bool, measured: float, expected: str, error: float | None = None) -> Verdict:
    shown = f"{measured:.3g}" + ("" if error is None else f" ± {error:.1g}")
    return Verdict(name, "pass" if passed else "fail", shown, expected)
