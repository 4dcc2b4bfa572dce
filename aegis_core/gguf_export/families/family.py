"""What an architecture family has to say about itself so that its folders can be written as GGUF."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gguf
from torch import Tensor
from transformers import PretrainedConfig

from ..model_folder import ModelFolder


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class MappedTensor:
    """One tensor of the GGUF file: `name` there, `shape` rows first, `source` in the folder.

    `pack` turns the folder's order of rows into llama.cpp's, `unpack` is its inverse. `constant` stands for tensors
    that are computed from the config and have no source.
    """

    name: str
    shape: tuple[int, ...]
    source: str = ""
    pack: Callable[[Tensor], Tensor] = unchanged
    unpack: Callable[[Tensor], Tensor] = unchanged
    constant: Tensor | None = None

    def load(self, folder: ModelFolder) -> Tensor:
        """The values as float32 in llama.cpp's order."""
        if self.constant is not None:
            return self.constant.float()
        return self.pack(folder.read(self.source).float()).contiguous()

    def row_blocks(self, folder: ModelFolder, n_values: int) -> Iterator[Tensor]:
        """The values in llama.cpp's order, whole rows, about `n_values` at a time, in the dtype they are stored in.

        A vector comes whole and as float32. In memory are one block and, where rows are reordered, the tensor itself.
        """
        if self.constant is not None or len(self.shape) < 2:
            yield self.load(folder)
            return
        values = folder.read(self.source)
        if self.pack is not unchanged:
            values = self.pack(values).contiguous()
        yield from values.split(max(1, n_values // values.shape[-1]))


@dataclass(frozen=True)
class Family:
    """`architecture` is llama.cpp's name, `classes` the names in config.json's architectures.

    `require_known` raises UserError for a variant that llama.cpp would compute otherwise, from config.json alone;
    `describe` writes the architecture's settings into a header; `tensors` lists every tensor of a folder.
    """

    architecture: str
    classes: tuple[str, ...]
    require_known: Callable[[PretrainedConfig], None]
    describe: Callable[[gguf.GGUFWriter, ModelFolder], None]
    tensors: Callable[[ModelFolder], list[MappedTensor]]
