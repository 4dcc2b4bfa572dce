"""Safetensors files written tensor by tensor, in blocks of rows: memory holds a block, never a file.

Format: u64 length of the header, header (JSON, padded with spaces to 8 bytes), then the tensors' bytes.
"""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_BYTES_BEHIND = 1 << 23  # of blocks that wait to be written; one that is larger waits alone


@dataclass(frozen=True)
class TensorSpec:
    """What the header says of one tensor; `dtype` is safetensors' name, e.g. "BF16"."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class ShardWriter:
    """Writes one file with exactly the tensors of `specs`, in that order; ValueError for anything else.

    Hashing and writing run in a thread of their own, 8 MiB behind. `sha256` is the file's hash, known once it
    is closed, and then the bytes are on the disk.
    """

    def __init__(self, path: Path, specs: list[TensorSpec]) -> None:
        self._waiting = list(specs)
        self._digest = hashlib.sha256()
        self._file = path.open("xb", buffering=0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.name)
        self._behind: deque[tuple[Future[None], int]] = deque()
        self._bytes_behind = 0
        header = file_header(specs)
        self._put(len(header).to_bytes(8, "little") + header)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._catch_up(0)
                os.fsync(self._file.fileno())
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._file.close()
        if kind is None and self._waiting:
            raise ValueError(f"the file lacks {self._waiting[0].name}")

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, spec: TensorSpec, blocks: Iterable[Tensor]) -> None:
        """Append one tensor, given as blocks that together are its rows."""
        if not self._waiting or self._waiting.pop(0) != spec:
            raise ValueError(f"{spec.name} is not the next tensor of this file")
        n_bytes = sum(self._put(_bytes_of(block)) for block in blocks)
        if n_bytes != spec.n_bytes:
            raise ValueError(f"{spec.name} has {n_bytes} bytes instead of {spec.n_bytes}")

    def _put(self, data: bytes | memoryview) -> int:
        self._catch_up(max(0, _BYTES_BEHIND - len(data)))
        self._behind.append((self._thread.submit(self._store, data), len(data)))
        self._bytes_behind += len(data)
        return len(data)

    def _store(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _catch_up(self, n_bytes: int) -> None:
        """Wait until at most so many bytes are on their way; raises what went wrong with one."""
        while self._bytes_behind > n_bytes:
            written, length = self._behind.popleft()
            self._bytes_behind -= length
            written.result()


def _bytes_of(block: Tensor) -> memoryview:
    return block.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def file_header(specs: list[TensorSpec], metadata: dict[str, str] | None = None) -> bytes:
    """The JSON header of a file with these tensors in this order, padded; its length comes before it."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"} | (metadata or {})}
    offset = 0
    for spec in specs:
        table[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.n_bytes],
        }
        offset += spec.n_bytes
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
