"""A stored tensor a few rows at a time, so that memory holds a block and never the tensor."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..models.weights import StoredTensor
from .shard_writer import TensorSpec

BLOCK_BYTES = 1 << 21  # what is made of a block still fits into a processor's cache
_STRIDE = 64  # a block with fewer rows would go through other multiplication code, whose last bits differ


def row_blocks(reader: Any, tensor: StoredTensor) -> Iterator[Tensor]:
    """The tensor's rows as views of the open file `reader`, about 2 MiB at a time; whole if it has no rows.

    No block has fewer than 64 rows unless the tensor does.
    """
    if len(tensor.shape) < 2 or 0 in tensor.shape:
        yield reader.get_tensor(tensor.name)
        return
    rows = reader.get_slice(tensor.name)
    row_bytes = TensorSpec(tensor.name, tensor.dtype, tensor.shape[1:]).n_bytes
    per_block = max(1, BLOCK_BYTES // row_bytes // _STRIDE) * _STRIDE
    n_blocks = max(1, (tensor.shape[0] + per_block - _STRIDE) // per_block)  # a rest of under 64 rows joins the last
    for block in range(n_blocks):
        last = None if block == n_blocks - 1 else (block + 1) * per_block
        yield rows[block * per_block : last]
