"""Reading a GGUF file back: its tensor table checked against its size, its tensors one at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import libgguf
import numpy as np
import torch
from torch import Tensor

from ..failures import UserError

_PLAIN = {
    gguf.GGMLQuantizationType.F32: torch.float32,
    gguf.GGMLQuantizationType.F16: torch.float16,
    gguf.GGMLQuantizationType.BF16: torch.bfloat16,
}


@dataclass(frozen=True)
class TableRow:
    """One tensor's place in the file; shape rows first, offset from the start of the file."""

    name: str
    type: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    n_bytes: int

    @property
    def n_rows(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1


def decoded(raw: np.ndarray, row: TableRow) -> Tensor:
    """Whole rows of a tensor as float32 (…, columns) from their bytes as stored: uint8, one-dimensional."""
    shape = (-1, *row.shape[1:]) if len(row.shape) > 1 else row.shape
    dtype = _PLAIN.get(row.type)
    if dtype:
        return torch.from_numpy(raw).view(dtype).float().reshape(shape)
    n_columns = row.shape[-1]
    block, size = gguf.GGML_QUANT_SIZES[row.type]
    rows = libgguf.dequantize_rows(raw.reshape(-1, n_columns // block * size), row.type)
    return torch.from_numpy(rows).reshape(shape)


class GgufFile:
    """A GGUF file on disk, not held open.

    Opening raises UserError unless magic, header and tensor table are sound and the file is exactly as long as the
    table says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = _header(path)
        self._metadata = header.metadata
        self.table = {
            t.name: TableRow(
                t.name, gguf.GGMLQuantizationType(t.qtype_value), tuple(reversed(t.shape)), t.data_offset, t.nbytes
            )
            for t in header.tensors
        }
        self.n_bytes = header.file_size
        end = max(row.offset + row.n_bytes for row in self.table.values())
        self.expected_bytes = end + -end % header.alignment

    def value(self, key: str) -> Any:
        """A value of the header; for a list its length, None if it is not there."""
        found = self._metadata.get(key)
        if found is None:
            return None
        return found.length if found.value_type == "ARRAY" else found.value

    def values(self, name: str) -> Tensor:
        """A tensor as float32, in llama.cpp's order of rows."""
        row = self.table[name]
        raw = np.fromfile(self.path, dtype=np.uint8, count=row.n_bytes, offset=row.offset)
        return decoded(raw, row)

    def tensor_types(self) -> dict[str, int]:
        """How many tensors have which format."""
        counts: dict[str, int] = {}
        for row in self.table.values():
            counts[row.type.name] = counts.get(row.type.name, 0) + 1
        return dict(sorted(counts.items()))


def _header(path: Path) -> Any:
    if not path.is_file():
        raise UserError("{path} is not there.", "Run the export step again.", path=path)
    try:
        result = libgguf.validate_gguf(path)
    except (OverflowError, MemoryError, ValueError) as error:
        raise damaged(path, "its header makes no sense") from error
    if result.errors or result.file is None:
        raise damaged(path, result.errors[0].message)
    header = result.file
    if not header.tensors:
        raise damaged(path, "it holds no tensors")
    if unknown := [tensor.name for tensor in header.tensors if tensor.nbytes is None]:
        raise damaged(path, f"the number format of {unknown[0]!r} is unknown or does not fit its rows")
    return header


def damaged(path: Path, problem: str) -> UserError:
    """The sentence for a GGUF file that cannot be read."""
    return UserError("{path} is damaged: {problem}.", "Run the export step again.", path=path, problem=problem)
