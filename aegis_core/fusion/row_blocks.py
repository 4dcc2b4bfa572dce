"""A stored tensor a few rows at a time, so that memory holds a block and never the tensor."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..models.weights import StoredTensor
from .shard_writer import TensorSpec

BLOCK_BYTES = 1 << 24


def row_blocks(reader: Any, tensor: StoredTensor) -> Iterator[Tensor]:
    """The tensor's rows as views of the open file `reader`, about 16 MiB at a time; whole if it has no rows."""
    if len(tensor.shape) < 2 or 0 in tensor.shape:
        yield reader.get_tensor(tensor.name)
        return
    rows = reader.get_slice(tensor.name)
    row_bytes = TensorSpec(tensor.name, tensor.dtype, tensor.shape[1:]).n_bytes
    per_block = max(1, BLOCK_BYTES // row_bytes)
    for first in range(0, tensor.shape[0], per_block):
        yield rows[first : first + per_block]
