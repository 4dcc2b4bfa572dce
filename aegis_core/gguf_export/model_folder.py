"""A plain Hugging Face folder as export reads it: its config, and its tensors one at a time."""

from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from ..failures import UserError
from ..models.weights import StoredTensor, damaged, stored_tensors


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
                "Run the fusion step again.",
                folder=self.path,
                problem=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            ) from error

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Every tensor by its name in the folder."""
        return {tensor.name: tensor for tensor in stored_tensors(self.path)}

    def read(self, name: str) -> Tensor:
        """One tensor in the dtype it is stored in."""
        file = self.tensors[name].file
        try:
            with safe_open(file, framework="pt") as shard:
                tensor: Tensor = shard.get_tensor(name)
        except SafetensorError as error:
            raise damaged(file, error) from error
        return tensor
