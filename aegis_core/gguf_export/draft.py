"""A GGUF file being written: the header at once, then the tensors' data in order and in pieces."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import gguf
import numpy as np

from .families import family_of, mapped_tensors
from .metadata import Metadata
from .model_folder import ModelFolder
from .recipe import Recipe, n_bytes, tensor_types
from .vocabulary import Vocabulary

_HEADER_BYTES_PER_TOKEN = 64  # generous: text, type and merge of one token


@dataclass(frozen=True)
class Source:
    """Everything that goes into the files of one model."""

    folder: ModelFolder
    vocabulary: Vocabulary
    metadata: Metadata


class Draft:
    """For use in a `with` block: entering writes header and tensor table, `append` the data, `finish` ends the file.

    `types` says which format each tensor must be appended in. Nothing is kept in memory.
    """

    def __init__(self, path: Path, source: Source, recipe: Recipe) -> None:
        self.path, self._source, self._recipe = path, source, recipe
        self._mapped = mapped_tensors(source.folder)
        self.types = tensor_types(recipe, self._mapped, source.folder.config)
        self.data_bytes = sum(n_bytes(tensor, self.types[tensor.name]) for tensor in self._mapped)
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        writer = _header(self.path, self._source, self._recipe)
        for tensor in self._mapped:
            kind = self.types[tensor.name]
            dtype, size = np.dtype(np.float32), n_bytes(tensor, kind)
            writer.add_tensor_info(tensor.name, tensor.shape, dtype, size, raw_dtype=kind)
        self._alignment = writer.data_alignment
        try:
            writer.write_header_to_file(self.path)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        with self.path.open("rb") as header:
            self._digest = hashlib.file_digest(header, "sha256")
        self._file = self.path.open("ab")
        self._pad()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, data: np.ndarray) -> None:
        """A piece of the tensor whose turn it is, C-ordered; OSError where the disk is full."""
        self._write(data.reshape(-1).view(np.uint8).data)

    def end_tensor(self) -> None:
        self._pad()

    def finish(self) -> str:
        """The SHA-256 of everything that was handed to the disk."""
        self._file.flush()
        return self._digest.hexdigest()

    def _pad(self) -> None:
        self._write(memoryview(bytes(-self._file.tell() % self._alignment)))

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)


def expected_bytes(source: Source, recipe: Recipe) -> int:
    """Size of the finished file, with a generous header."""
    mapped = mapped_tensors(source.folder)
    types = tensor_types(recipe, mapped, source.folder.config)
    return sum(n_bytes(t, types[t.name]) for t in mapped) + _HEADER_BYTES_PER_TOKEN * len(source.vocabulary.tokens)


def _header(path: Path, source: Source, recipe: Recipe) -> gguf.GGUFWriter:
    family = family_of(source.folder)
    writer = gguf.GGUFWriter(path, family.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    source.metadata.describe(writer, source.vocabulary)
    family.describe(writer, source.folder)
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    source.vocabulary.describe(writer)
    return writer
