"""Writing a model as GGUF, in several types at once: every tensor is read once, block by block.

Memory is bounded by a few blocks of rows, whatever the size of the model. While one block is quantised, the next one is
read and the one before goes to the disk.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from ..cancel import CancelToken
from ..failures import UserError
from .draft import Draft, Source
from .families import MappedTensor, mapped_tensors
from .model_folder import ModelFolder
from .quantiser import Quantiser, choose_quantiser, is_quantised
from .recipe import Recipe

BLOCK_VALUES = 1 << 22  # 16 MiB as float32
_DTYPES = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}

__all__ = ["Source", "write_files", "write_gguf"]


class _Block(NamedTuple):
    tensor: MappedTensor
    rows: Tensor
    is_last: bool


def write_gguf(
    path: Path, source: Source, recipe: Recipe, cancel: CancelToken, on_bytes: Callable[[int, int], None]
) -> str:
    """One file, otherwise as `write_files`; returns its SHA-256 as it was handed to the disk."""
    with Draft(path, source, recipe) as draft:
        return write_files([draft], source.folder, cancel, on_bytes)[0]


def write_files(
    drafts: list[Draft],
    folder: ModelFolder,
    cancel: CancelToken,
    on_bytes: Callable[[int, int], None],
    quantiser: Quantiser | None = None,
) -> list[str]:
    """The data of all tensors into open drafts; returns the SHA-256 of each file as it was handed to the disk.

    `on_bytes` hears bytes done and bytes in all. UserError if a value does not fit a format.
    """
    quantiser = quantiser or choose_quantiser(kind for draft in drafts for kind in draft.types.values())
    done, total = 0, sum(draft.data_bytes for draft in drafts)
    with ExitStack() as stack:
        disk = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="write"))
        reader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read"))
        writing: Future[None] | None = None
        for block in _one_ahead(_blocks(folder), reader):
            cancel.check()
            data = _encoded(block, {draft.types[block.tensor.name] for draft in drafts}, quantiser)
            if writing:
                writing.result()
            writing = disk.submit(_append, drafts, block, data)
            done += sum(data[draft.types[block.tensor.name]].nbytes for draft in drafts)
            if block.is_last:
                on_bytes(done, total)
        if writing:
            writing.result()
    return [draft.finish() for draft in drafts]


def _blocks(folder: ModelFolder) -> Iterator[_Block]:
    for tensor in mapped_tensors(folder):
        n_left = tensor.shape[0]
        for rows in tensor.row_blocks(folder, BLOCK_VALUES):
            n_left -= len(rows)
            # Copied, so that the disk is read here and not when the numbers are first looked at.
            yield _Block(tensor, rows.clone(), n_left == 0)


def _one_ahead(blocks: Iterator[_Block], reader: ThreadPoolExecutor) -> Iterator[_Block]:
    """The same blocks, the next one always being read already."""
    coming = reader.submit(next, blocks, None)
    while block := coming.result():
        coming = reader.submit(next, blocks, None)
        yield block


def _encoded(block: _Block, kinds: Iterable[Type], quantiser: Quantiser) -> dict[Type, np.ndarray]:
    """The block in each of the formats, C-ordered bytes or numbers.

    Quantised formats are made from the values rounded to F16, as llama.cpp makes them from an F16 file.
    """
    found: dict[Type, np.ndarray] = {}
    rounded: dict[torch.dtype, Tensor] = {}
    for kind in sorted(kinds):
        dtype = _DTYPES.get(kind, torch.float16)
        if dtype not in rounded:
            rounded[dtype] = _finite(block.rows.to(dtype), block.tensor, dtype)
        if is_quantised(kind):
            found[kind] = quantiser.encode(rounded[dtype].float().contiguous().numpy(), kind)
        else:
            values = rounded[dtype].contiguous()
            found[kind] = (values.view(torch.int16) if kind == Type.BF16 else values).numpy()
    return found


def _finite(values: Tensor, tensor: MappedTensor, dtype: torch.dtype) -> Tensor:
    low, high = torch.aminmax(values)  # either is NaN where any value is
    if not torch.isfinite(low) or not torch.isfinite(high):
        raise UserError(
            "The tensor {name} holds values that are not finite or too large for {format}.",
            "Train and fuse again, with a smaller learning rate if the values came from training.",
            name=tensor.name,
            format={torch.float16: "F16", torch.bfloat16: "BF16"}.get(dtype, "F32"),
        )
    return values


def _append(drafts: list[Draft], block: _Block, data: dict[Type, np.ndarray]) -> None:
    for draft in drafts:
        draft.append(data[draft.types[block.tensor.name]])
        if block.is_last:
            draft.end_tensor()
