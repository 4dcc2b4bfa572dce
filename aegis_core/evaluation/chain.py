"""The quality chain: every stage of a run measured on the same tokens, one model in memory at a time, never twice.

A measured stage leaves measured/<stage>.safetensors in its step's folder, with the hashes of tokens and weights in the
header; quality.json beside it sums up. After a kill a stage with these very hashes is taken from there.
"""

import gc
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from ..context import StepContext
from ..data.packed import Packed, load_packed
from ..events import Progress, note, warning
from ..models.identity import BaseModel, read_base
from ..models.loading import device, load_model
from ..plan import Plan
from ..run_directory import sha256_of_file, sha256_of_json
from ..sealed import is_whole
from ..soul.gate import Gate, load_soul
from ..training.gated_model import GatedModel
from .measurement import Measurement, load_measurement, save_measurement, tokens_sha256
from .precision import dtype_of_run, place_of
from .quality import Quality, finite, quality_of, token_losses, write_quality
from .reading import Decoder, LogitsOf, plain
from .reference import Distance, ToBase, chosen_places, made_of, recording

PHASES = {"base": "base model", "lora": "LoRA without gate", "gated_nf4": "gated, on 4-bit weights"}


@dataclass(frozen=True)
class Chain:
    """One step's share of it: stages are measured on `held_out` and kept in the step's folder.

    `n_kl` is how many tokens KL to the base is wanted at.
    """

    ctx: StepContext
    base_model: BaseModel
    held_out: Packed
    n_kl: int
    tokens_sha256: str = field(init=False)
    _told: set[str] = field(init=False, default_factory=set, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens_sha256", tokens_sha256(self.held_out))

    @classmethod
    def of(cls, ctx: StepContext, plan: Plan) -> "Chain":
        """Of what prepare left."""
        held_out = load_packed(ctx.run.step_folder("prepare") / "held_out.safetensors")
        return cls(ctx, read_base(ctx.run), held_out, plan.evaluation.kl_tokens)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What unquantised stages are computed in."""
        return dtype_of_run(self.ctx.run, self.base_model)

    def place(self) -> torch.device:
        """Where an unquantised stage is measured; says once in a step that the GPU is too small for it."""
        chosen = place_of(self.base_model, self.dtype)
        if chosen.type != device().type and "place" not in self._told:
            self._told.add("place")
            self.ctx.emit(
                note(
                    "The GPU has no room for the unquantised model ({needed} GB in {dtype}): "
                    "it is measured on the CPU, which takes longer.",
                    needed=f"{self.dtype.itemsize * self.base_model.n_parameters / 1e9:.1f}",
                    dtype=_name(self.dtype),
                )
            )
        return chosen

    def base(self) -> Quality:
        """The unquantised base, loaded for it and gone afterwards; its predictions stay for KL. Call it with no other
        model in memory."""
        of = self.made_of([], _name(self.dtype))
        measured = self.kept("base", of)
        if measured and not self._is_reference_harmed() and not self._has_room_for_more(measured):
            return quality_of(measured)
        return self.keep("base", self._base_measured(self._places()), of)

    def adapted(self, stage: str, adapter: Path, soul: Path | None = None) -> Quality:
        """The unquantised base with the adapter in a folder and, where one is given, the gate in a soul file.

        Loads the model itself: call it with no other in memory.
        """
        of = self.made_of(_hashes(adapter, soul), _name(self.dtype))
        if measured := self.kept(stage, of):
            return quality_of(measured)
        distance = self.distance()
        model = adapted_model(self.base_model, adapter, soul, self.dtype, self.place())
        measured = self.measure(stage, model, distance)
        del model
        free_memory()
        return self.keep(stage, measured, of)

    def trained(self, stage: str, gated: GatedModel, *, adapter: Path, soul: Path) -> Quality:
        """A model still in memory and evaluating, whose adapter and gate were saved in these files.

        KL only if the base's predictions are still there: no second model is loaded beside it.
        """
        of = self.made_of(_hashes(adapter, soul), "as trained") | {"trained_in": _name(gated.causal.dtype)}
        if measured := self.kept(stage, of):
            return quality_of(measured)
        return self.keep(stage, self.measure(stage, gated, self._stored()), of)

    def distance(self) -> Distance | None:
        """A fresh distance to the base for one more stage; None where KL is not wanted or the disk has no room.

        If the base's predictions are not there any more, the base is loaded and read again: call it with no other
        model in memory.
        """
        stored = self._stored()
        if stored or not self.n_kl:
            return stored
        places = self._places()
        if not len(places):
            return None
        self._base_measured(places)
        return self._stored()

    def measure(self, stage: str, model: Decoder | LogitsOf, distance: Distance | None) -> Measurement:
        """Losses and divergences of a model in memory, telling how far it is."""
        phase = PHASES.get(stage, stage)

        def on_progress(done: int, total: int) -> None:
            self.ctx.emit(Progress(done, total, "sequences", phase))

        return token_losses(model, self.held_out, self.ctx.cancel, on_progress, distance)

    def made_of(self, weights: list[str], dtype: str) -> dict[str, str]:
        """What a stage's numbers depend on besides the program; `weights` are hashes of what joins the base."""
        return {
            "tokens": self.tokens_sha256,
            "weights": sha256_of_json([self.base_model.sha256, *weights]),
            "dtype": dtype,
            "kl_tokens": str(self.n_kl),
        }

    def kept(self, stage: str, of: dict[str, str]) -> Measurement | None:
        """What an earlier attempt measured of this very stage."""
        path = self.path(stage)
        if not path.is_file():
            return None
        measured, found = load_measurement(path)
        if found != of:
            return None
        self._sum_up()  # what stands there may be damaged
        return measured

    def keep(self, stage: str, measured: Measurement, of: dict[str, str]) -> Quality:
        """Leave a stage's numbers on the disk and its quality in quality.json; UserError if the loss is no number."""
        quality = finite(quality_of(measured))
        save_measurement(self.path(stage), measured, of)
        self._sum_up()
        return quality

    def forget(self, stage: str) -> None:
        """Take back what was kept of a stage that this run no longer has."""
        if self.path(stage).is_file():
            self.path(stage).unlink()
            self._sum_up()

    def path(self, stage: str) -> Path:
        return self.ctx.folder / "measured" / f"{stage}.safetensors"

    def _sum_up(self) -> None:
        """quality.json from every stage that was measured in this step."""
        stages = {path.stem: quality_of(load_measurement(path)[0]) for path in self._measured()}
        write_quality(self.ctx.folder / "quality.json", stages)

    def _measured(self) -> list[Path]:
        return sorted((self.ctx.folder / "measured").glob("*.safetensors"))

    def files(self) -> list[Path]:
        """Everything that is kept in this step's folder, to be declared as evidence."""
        return [self.ctx.folder / "quality.json", *self._measured()]

    def forget_base(self) -> None:
        """Delete the base's predictions; whoever needs them again makes them again."""
        self._reference.unlink(missing_ok=True)

    @property
    def _reference(self) -> Path:
        return self.ctx.run.step_folder("train") / "base_logprobs.safetensors"

    def _is_reference_harmed(self) -> bool:
        return self.n_kl > 0 and self._reference.is_file() and self._stored() is None

    def _has_room_for_more(self, base: Measurement) -> bool:
        """Whether a full disk once held KL to fewer tokens than wanted, and holds it no more."""
        compared = 0 if base.divergences is None else len(base.divergences)
        return compared < min(self.n_kl, self.held_out.n_counted) == len(self._places())

    def _stored(self) -> ToBase | None:
        wanted, path = self.made_of([], _name(self.dtype)), self._reference
        fits = self.n_kl and made_of(path).items() >= wanted.items()
        return ToBase(path) if fits and is_whole(path) else None

    def _places(self) -> Tensor:
        """The counted tokens to compare at; says so where the disk has no room for all of them."""
        folder = self._reference.parent
        folder.mkdir(parents=True, exist_ok=True)
        n_counted = self.held_out.n_counted
        places = chosen_places(n_counted, self.n_kl, self.base_model.vocabulary_size, folder)
        if len(places) < min(self.n_kl, n_counted):
            self.ctx.emit(
                warning(
                    "There is too little free space in {folder}: "
                    "the distance to the base model (KL) is measured on {n} tokens instead of {wanted}.",
                    folder=folder,
                    n=len(places),
                    wanted=min(self.n_kl, n_counted),
                )
            )
        return places

    def _base_measured(self, places: Tensor) -> Measurement:
        """Its predictions at these places are written while it is measured."""
        of = self.made_of([], _name(self.dtype))
        model = _loaded(self.base_model, self.dtype, self.place())
        n_rows = len(model.get_output_embeddings().weight)
        with recording(self._reference, places, n_rows, of) if len(places) else nullcontext() as distance:
            measured = self.measure("base", plain(model, self.held_out.input_ids[0]), distance)
        del model
        free_memory()
        return measured


def adapted_model(
    base: BaseModel, adapter: Path, soul: Path | None, dtype: torch.dtype, place: torch.device | None = None
) -> GatedModel:
    """Base, unmerged adapter and gate; without a soul file the gate is shut, which is plain LoRA."""
    model = _loaded(base, dtype, place)
    adapted = PeftModel.from_pretrained(model, adapter, torch_device=str(model.device))
    if soul is None:
        shut = Gate(base.hidden_size, calibrate=True, alpha=0.0)
        return GatedModel(adapted, shut, shut=True).eval()
    return GatedModel(adapted, load_soul(soul).gate()).eval()


def _loaded(base: BaseModel, dtype: torch.dtype, place: torch.device | None) -> PreTrainedModel:
    return load_model(base.path, dtype, own_code="model" in base.own_code, place=place)


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _hashes(adapter: Path, soul: Path | None) -> list[str]:
    files = [adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    return [sha256_of_file(path) for path in [*files, *([soul] if soul else [])]]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
