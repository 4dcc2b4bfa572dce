"""Reading a written GGUF file back, once, and comparing every tensor with the model folder it came from."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

from ..cancel import CancelToken
from .checks import Check
from .families import MappedTensor, mapped_tensors
from .gguf_file import GgufFile, TableRow, damaged, decoded
from .model_folder import ModelFolder
from .recipe import Recipe, tensor_types
from .tensor_errors import TensorError

BLOCK_VALUES = 1 << 22
_PIECE_BYTES = 1 << 24


def check_file(
    file: GgufFile,
    folder: ModelFolder,
    recipe: Recipe,
    cancel: CancelToken,
    on_bytes: Callable[[int, int], None],
    sha256: str | None = None,
    hash_check: str = "read back as written",
) -> list[Check]:
    """Size, tensor table, and every tensor against its source, with bounded memory.

    The hash of the whole file against `sha256` comes first, where it is given, under the name `hash_check`. Bounds of
    the errors are in tensor_errors.py. `on_bytes` hears bytes done and bytes in all.
    """
    mapped = mapped_tensors(folder)
    structure = [_check_size(file), _check_table(file, mapped, recipe, folder), _check_vocabulary(file, folder)]
    sound = all(check.passed for check in structure)
    errors: dict[Type, float] = {}
    bad: list[str] = []
    not_finite: list[str] = []
    with _Reading(file.path, cancel, lambda done: on_bytes(done, file.n_bytes)) as reading:
        for tensor in sorted(mapped, key=lambda tensor: file.table[tensor.name].offset) if sound else ():
            row = file.table[tensor.name]
            error, finite = _compared(reading, tensor, row, folder)
            if not finite:
                not_finite.append(tensor.name)
            share = error.share_of_bound()
            errors[row.type] = max(errors.get(row.type, 0.0), share)
            if not share <= 1:
                bad.append(tensor.name)
        found = reading.to_the_end() if sha256 else None
    checks = [Check(hash_check, found == sha256, str(found), str(sha256))] if sha256 else []
    checks += structure
    if sound:
        checks += [
            Check("values are finite", not not_finite, _amount(mapped, not_finite), "all tensors"),
            Check("tensors equal their source", not bad, _worst(errors, mapped, bad), "each within its format's bound"),
        ]
    return checks


class _Reading:
    """A file read from front to end, hashed on the way."""

    def __init__(self, path: Path, cancel: CancelToken, on_bytes: Callable[[int], None]) -> None:
        self._path, self._cancel, self._on_bytes = path, cancel, on_bytes
        self._digest = hashlib.sha256()
        self._done = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def rows(self, row: TableRow, n_values: int) -> Iterator[np.ndarray]:
        """The tensor's bytes as stored, whole rows of about `n_values` values at a time."""
        while self._done < row.offset:
            self._exactly(min(row.offset - self._done, _PIECE_BYTES))
        row_bytes = row.n_bytes // row.n_rows
        step = max(1, n_values // row.shape[-1])
        for first in range(0, row.n_rows, step):
            yield np.frombuffer(self._exactly(row_bytes * min(step, row.n_rows - first)), np.uint8)

    def to_the_end(self) -> str:
        """The SHA-256 of the whole file."""
        while self._read(_PIECE_BYTES):
            pass
        return self._digest.hexdigest()

    def _exactly(self, n_bytes: int) -> bytearray:
        data = self._read(n_bytes)
        if len(data) < n_bytes:  # it was long enough when its header was read
            raise damaged(self._path, "it ends too early")
        return data

    def _read(self, n_bytes: int) -> bytearray:
        self._cancel.check()
        data = bytearray(self._file.read(n_bytes))
        self._digest.update(data)
        self._done += len(data)
        self._on_bytes(self._done)
        return data


def _compared(reading: _Reading, tensor: MappedTensor, row: TableRow, folder: ModelFolder) -> tuple[TensorError, bool]:
    """The tensor's error, and whether all its values are finite."""
    error, finite = TensorError(row.type), True
    sources = tensor.row_blocks(folder, BLOCK_VALUES)
    for raw, source in zip(reading.rows(row, BLOCK_VALUES), sources, strict=True):
        stored = decoded(raw, row)
        finite = finite and all(torch.isfinite(end) for end in torch.aminmax(stored))
        error.add(stored, source.float())
    return error, finite


def _check_size(file: GgufFile) -> Check:
    return Check(
        "file size",
        file.n_bytes == file.expected_bytes,
        f"{file.n_bytes} bytes",
        f"{file.expected_bytes} bytes by the tensor table",
    )


def _check_table(file: GgufFile, mapped: list[MappedTensor], recipe: Recipe, folder: ModelFolder) -> Check:
    types = tensor_types(recipe, mapped, folder.config)
    wanted = {tensor.name: (tensor.shape, types[tensor.name]) for tensor in mapped}
    found = {row.name: (row.shape, row.type) for row in file.table.values()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return Check(
        "tensor table",
        not wrong,
        f"{len(found)} tensors" + (f", wrong or missing: {', '.join(wrong[:3])}" if wrong else ""),
        f"{len(wanted)} tensors of the planned shapes and formats",
    )


def _check_vocabulary(file: GgufFile, folder: ModelFolder) -> Check:
    rows = folder.config.vocab_size
    tokens, types = file.value("tokenizer.ggml.tokens"), file.value("tokenizer.ggml.token_type")
    return Check("vocabulary", tokens == types == rows, f"{tokens} tokens, {types} types", f"{rows} of each")


def _amount(mapped: list[MappedTensor], wrong: list[str]) -> str:
    text = f"{len(mapped) - len(wrong)} of {len(mapped)}"
    return text + (f", not {', '.join(wrong[:3])}" if wrong else "")


def _worst(errors: dict[Type, float], mapped: list[MappedTensor], bad: list[str]) -> str:
    shares = ", ".join(f"{kind.name} {share:.0%}" for kind, share in sorted(errors.items()))
    return f"{_amount(mapped, bad)}; largest error as a part of the bound: {shares}"
