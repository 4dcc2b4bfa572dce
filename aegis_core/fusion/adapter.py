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
    "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
    "task_type", "use_dora", "use_rslora",
})  # fmt: skip
_NEUTRAL_STARTS = (True, False, "gaussian", "orthogonal", "eva")


class Update:
    """What an adapter makes of one weight W (out, in): W + scale·B@A, computed as peft computes it.

    A (r, in) and B (out, r) are float32. DoRA stretches each row to its learned `length` m (out,):
    W' = m · (W + scale·B@A) / ‖W + scale·B@A‖.
    """

    def __init__(self, a: Tensor, b: Tensor, scale: float, length: Tensor | None) -> None:
        self._a, self._b, self._scale, self._length = a, b, scale, length
        self._room = a.new_empty(0)  # memory fresh from the system for every block would take most of the time

    def of(self, rows: Tensor, first: int = 0) -> Tensor:
        """What becomes of W's `rows` (n, in) from row `first` on, wide: float32, or float64 where they are.

        The result may be overwritten by the next call.
        """
        part = slice(first, first + len(rows))
        if self._room.numel() < rows.numel():
            self._room = rows.new_empty(rows.numel(), dtype=self._a.dtype)
        room = self._room[: rows.numel()].view(rows.shape)
        delta = torch.mm(self._b[part], self._a, out=room).mul_(self._scale)
        merged = rows + delta if rows.dtype == torch.float64 else delta.add_(rows)
        if self._length is None:
            return merged
        return (self._length[part] / torch.linalg.norm(merged, dim=1)).view(-1, 1) * merged


class Adapter:
    """`names` are the weights it changes; `update(name, shape)` is what it does to one."""

    def __init__(self, reader: Any, config: "_Config", names: frozenset[str], path: Path) -> None:
        self._reader, self._config, self._path = reader, config, path
        self.names = names

    def update(self, name: str, shape: tuple[int, ...]) -> Update:
        """For the weight of that shape (out, in); UserError if the adapter does not fit it or is not finite."""
        stem, rank = PREFIX + name.removesuffix(".weight"), self._config.rank
        a, b = (self._tensor(stem + suffix, name) for suffix in _SUFFIXES)
        length = self._tensor(stem + _MAGNITUDE, name) if self._config.dora else None
        fits = len(shape) == 2 and a.shape == (rank, shape[1]) and b.shape == (shape[0], rank)
        if not fits or (length is not None and length.shape != shape[:1]):
            raise UserError(
                "The adapter's update of {name} does not have the shape of the base model's tensor.",
                "Fuse into the model the adapter was trained on.",
                name=name,
            )
        return Update(a, b, self._config.scale, length)

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
