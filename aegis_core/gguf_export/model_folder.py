"""A plain Hugging Face folder as export reads it: its config, and its tensors one at a time."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from ..failures import UserError

INDEX = "model.safetensors.index.json"
ADVICE = "Run the fusion step again."


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies; shape as stored, rows first."""

    file: Path
    shape: tuple[int, ...]


class ModelFolder:
    """Config and tensors of a folder; only the tensor being read is in memory.

    UserError for a missing or damaged config, a missing or truncated shard, and an index that points elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def config(self) -> PretrainedConfig:
        try:
            return AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                "The model folder {folder} has no usable config.json: {problem}",
                ADVICE,
                folder=self.path,
                problem=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            ) from error

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Every tensor by its name in the folder."""
        found: dict[str, StoredTensor] = {}
        for file in self._shards():
            with _opened(file) as shard:
                names = list(shard.keys())
                found |= {name: StoredTensor(file, tuple(shard.get_slice(name).get_shape())) for name in names}
        return found

    def read(self, name: str) -> Tensor:
        """One tensor in the dtype it is stored in."""
        with _opened(self.tensors[name].file) as shard:
            tensor: Tensor = shard.get_tensor(name)
        return tensor

    def _shards(self) -> list[Path]:
        index = self.path / INDEX
        names = ["model.safetensors"]
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError("{file} is damaged: {problem}.", ADVICE, file=index, problem=error) from error
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise UserError("{file} points outside its folder: {name}.", ADVICE, file=index, name=name)
            if not (self.path / name).is_file():
                raise UserError("The model file {file} is missing.", ADVICE, file=self.path / name)
        return [self.path / name for name in names]


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise UserError("{file} is damaged: {problem}.", ADVICE, file=file, problem=error) from error
