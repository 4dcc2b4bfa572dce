"""A LoRA or DoRA adapter on disk, read weight by weight."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..failures import UserError
from ..models.weights import damaged
from .anatomy import EMBEDDING, HEAD

PREFIX = "base_model.model."
_SUFFIXES = (".lora_A.weight", ".lora_B.weight")
_MAGNITUDE = ".lora_magnitude_vector"  # DoRA: the length of each row of a weight, (out,)

# Fields of adapter_config.json whose meaning is known here or does not matter; any other must be empty or false.
_HARMLESS = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
    "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
    "task_type", "use_dora", "use_rslora",
})  # fmt: skip
_NEUTRAL_STARTS = (True, False, "gaussian", "orthogonal", "eva")


class Adapter:
    """`names` are the weights it changes; `updated(name, W)` is what becomes of one, computed as peft computes it."""

    def __init__(self, reader: Any, config: "_Config", names: frozenset[str], path: Path) -> None:
        self._reader, self._config, self._path = reader, config, path
        self.names = names

    def updated(self, name: str, weight: Tensor) -> Tensor:
        """W + scale·B@A for the weight W (out, in), wide: float32, or float64 where W is.

        DoRA stretches each row of it to the learned length m: W' = m · (W + scale·B@A) / ‖W + scale·B@A‖.
        UserError if the adapter does not fit that shape or is not finite.
        """
        stem = PREFIX + name.removesuffix(".weight")
        merged = weight + self._delta(name, stem, tuple(weight.shape))
        if not self._config.dora:
            return merged
        length = self._tensor(stem + _MAGNITUDE, name)
        if length.shape != merged.shape[:1]:
            raise _misfit(name)
        return (length / torch.linalg.norm(merged, dim=1)).view(-1, 1) * merged

    def _delta(self, name: str, stem: str, shape: tuple[int, ...]) -> Tensor:
        a, b = (self._tensor(stem + suffix, name) for suffix in _SUFFIXES)
        rank = self._config.rank
        if shape != (b.shape[0], a.shape[-1]) or a.shape != (rank, shape[1]) or b.shape != (shape[0], rank):
            raise _misfit(name)
        return (b @ a).mul_(self._config.scale)

    def _tensor(self, key: str, name: str) -> Tensor:
        tensor: Tensor = self._reader.get_tensor(key).float()
        if not torch.isfinite(tensor).all():
            raise UserError(
                "{path} holds values for {name} that are not finite.",
                "Train again; see the run log for where it broke.",
                path=self._path,
                name=name,
            )
        return tensor


@dataclass(frozen=True)
class _Config:
    """What adapter_config.json says: B@A counts `scale` times; `dora` adds a length for every row."""

    rank: int
    scale: float
    dora: bool


@contextmanager
def open_adapter(folder: Path) -> Iterator[Adapter]:
    """The adapter in `folder`, open for reading; UserError if it is missing, damaged or more than LoRA or DoRA."""
    config = _config(folder / "adapter_config.json")
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError("The adapter is missing: {path}.", "Run the training step again.", path=path)
    try:
        with safe_open(path, framework="pt") as reader:
            yield Adapter(reader, config, _weight_names(path, list(reader.keys()), config.dora), path)
    except SafetensorError as error:
        raise damaged(path, error) from error


def _config(path: Path) -> _Config:
    if not path.is_file():
        raise UserError("The adapter is missing: {path}.", "Run the training step again.", path=path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        readable = config["peft_type"] == "LORA" and config["r"] >= 1 and math.isfinite(config["lora_alpha"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path) from error
    if not readable:
        raise _unreadable(path)
    unknown = [name for name, value in config.items() if name not in _HARMLESS and value]
    if config.get("init_lora_weights", True) not in _NEUTRAL_STARTS:
        unknown.append("init_lora_weights")
    unknown += [name for name in ("rank_pattern", "alpha_pattern") if config.get(name)]
    if config.get("bias", "none") != "none":
        unknown.append("bias")
    if unknown:
        raise UserError(
            "The adapter uses {names}, which this version cannot fuse exactly.",
            "Train the adapter with AEGIS.",
            names=", ".join(sorted(unknown)),
        )
    rank, strength = config["r"], config["lora_alpha"]
    scale = strength / math.sqrt(rank) if config.get("use_rslora") else strength / rank
    return _Config(rank, scale, bool(config.get("use_dora")))


def _misfit(name: str) -> UserError:
    return UserError(
        "The adapter's update of {name} does not have the shape of the base model's tensor.",
        "Fuse into the model the adapter was trained on.",
        name=name,
    )


def _unreadable(path: Path) -> UserError:
    return UserError("{path} is not readable as a LoRA configuration.", "Run the training step again.", path=path)


def _weight_names(path: Path, keys: list[str], dora: bool) -> frozenset[str]:
    """The names of the base model's weights that the adapter's tensors belong to, two or three tensors each."""
    suffixes = (*_SUFFIXES, _MAGNITUDE) if dora else _SUFFIXES
    names = set()
    for key in keys:
        suffix = next((s for s in suffixes if key.endswith(s)), None)
        siblings = [key.removesuffix(suffix) + s for s in suffixes] if suffix else []
        if not key.startswith(PREFIX) or not siblings or not set(siblings) <= set(keys):
            raise UserError(
                "{path} holds {name}, which is no part of a plain LoRA.",
                "Train the adapter with AEGIS.",
                path=path,
                name=key,
            )
        names.add(key.removeprefix(PREFIX).removesuffix(str(suffix)) + ".weight")
    if not names:
        raise UserError("{path} holds no update at all.", "Run the training step again.", path=path)
    if names & {HEAD, EMBEDDING}:
        raise UserError(
            "The adapter changes the LM head or the embedding, where only the gate may be folded in.",
            "Train the adapter with AEGIS.",
        )
    return frozenset(names)
