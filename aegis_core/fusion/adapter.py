"""A LoRA adapter on disk, read pair by pair."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
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

# Fields of adapter_config.json that do not change what W + scale·B@A means; any other must be empty or false.
_HARMLESS = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
    "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
    "task_type", "use_rslora",
})  # fmt: skip
_NEUTRAL_STARTS = (True, False, "gaussian", "orthogonal", "eva")


class Adapter:
    """Plain LoRA: `names` are the weights it changes; `delta(name)` is scale·B@A in float32, as peft computes it."""

    def __init__(self, reader: Any, scale: float, names: frozenset[str], rank: int, path: Path) -> None:
        self._reader, self._scale, self._rank, self._path = reader, scale, rank, path
        self.names = names

    def delta(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The update of weight `name` of `shape` (out, in), float32.

        UserError if it does not fit that shape or is not finite.
        """
        stem = PREFIX + name.removesuffix(".weight")
        a, b = (self._reader.get_tensor(stem + suffix).float() for suffix in _SUFFIXES)
        if shape != (b.shape[0], a.shape[-1]) or a.shape != (self._rank, shape[1]) or b.shape != (shape[0], self._rank):
            raise UserError(
                "The adapter's update of {name} does not have the shape of the base model's tensor.",
                "Fuse into the model the adapter was trained on.",
                name=name,
            )
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise UserError(
                "{path} holds values for {name} that are not finite.",
                "Train again; see the run log for where it broke.",
                path=self._path,
                name=name,
            )
        return (b @ a).mul_(self._scale)


@contextmanager
def open_adapter(folder: Path) -> Iterator[Adapter]:
    """The adapter in `folder`, open for reading; UserError if it is missing, damaged or more than plain LoRA."""
    config = _config(folder / "adapter_config.json")
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError("The adapter is missing: {path}.", "Run the training step again.", path=path)
    rank, strength = config["r"], config["lora_alpha"]
    scale = strength / math.sqrt(rank) if config.get("use_rslora") else strength / rank
    try:
        with safe_open(path, framework="pt") as reader:
            yield Adapter(reader, scale, _weight_names(path, list(reader.keys())), rank, path)
    except SafetensorError as error:
        raise damaged(path, error) from error


def _config(path: Path) -> dict[str, Any]:
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
    return config


def _unreadable(path: Path) -> UserError:
    return UserError("{path} is not readable as a LoRA configuration.", "Run the training step again.", path=path)


def _weight_names(path: Path, keys: list[str]) -> frozenset[str]:
    """The names of the base model's weights that the adapter's tensors belong to, two tensors each."""
    names = set()
    for key in keys:
        suffix = next((s for s in _SUFFIXES if key.endswith(s)), None)
        twins = [key.removesuffix(suffix) + s for s in _SUFFIXES] if suffix else []
        if not key.startswith(PREFIX) or not twins or not set(twins) <= set(keys):
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
