"""Writing one GGUF file tensor by tensor: memory is bounded by the largest tensor."""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import libgguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

from ..cancel import CancelToken
from ..failures import UserError
from .families import MappedTensor, family_of, mapped_tensors
from .metadata import Metadata
from .model_folder import ModelFolder
from .recipe import Recipe, n_bytes, tensor_types
from .vocabulary import Vocabulary

HEADER_BYTES_PER_TOKEN = 64  # generous: text, type and merge of one token


@dataclass(frozen=True)
class Source:
    """Everything that goes into the files of one model."""

    folder: ModelFolder
    vocabulary: Vocabulary
    metadata: Metadata


def expected_bytes(source: Source, recipe: Recipe) -> int:
    """Size of the finished file, with a generous header."""
    mapped = mapped_tensors(source.folder)
    types = tensor_types(recipe, mapped, source.folder.config)
    return sum(n_bytes(t, types[t.name]) for t in mapped) + HEADER_BYTES_PER_TOKEN * len(source.vocabulary.tokens)


def write_gguf(
    path: Path, source: Source, recipe: Recipe, cancel: CancelToken, on_bytes: Callable[[int, int], None]
) -> dict[str, str]:
    """Write the model under `path`; returns the SHA-256 of every tensor's data as it was handed to the disk.

    `on_bytes` hears bytes done and bytes in all. UserError if a value does not fit the format.
    """
    mapped = mapped_tensors(source.folder)
    types = tensor_types(recipe, mapped, source.folder.config)
    sizes = {tensor.name: n_bytes(tensor, types[tensor.name]) for tensor in mapped}
    writer = _with_header(path, source, recipe)
    for tensor in mapped:
        kind = types[tensor.name]
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), sizes[tensor.name], raw_dtype=kind)
    digests, done = {}, 0
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in mapped:
            cancel.check()
            data = encode(tensor, source.folder, types[tensor.name])
            _write(writer, data, path)
            digests[tensor.name] = hashlib.sha256(data.data).hexdigest()
            done += sizes[tensor.name]
            on_bytes(done, sum(sizes.values()))
    finally:
        writer.close()
    return digests


def encode(tensor: MappedTensor, folder: ModelFolder, kind: Type) -> np.ndarray:
    """The tensor's data in its format, C-ordered, rows first.

    Quantised formats are made from the values rounded to F16, as llama.cpp makes them from an F16 file.
    """
    values = tensor.load(folder)
    if kind != Type.F32:
        values = values.to(torch.float16)
    if not torch.isfinite(values).all():
        raise UserError(
            "The tensor {name} holds values that are not finite or too large for F16.",
            "Train and fuse again, with a smaller learning rate if the values came from training.",
            name=tensor.name,
        )
    if kind in (Type.F32, Type.F16):
        return values.numpy()
    return libgguf.quantize_rows(values.float().numpy(), kind)


def _with_header(path: Path, source: Source, recipe: Recipe) -> gguf.GGUFWriter:
    family = family_of(source.folder)
    writer = gguf.GGUFWriter(path, family.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    source.metadata.describe(writer, source.vocabulary)
    family.describe(writer, source.folder)
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    source.vocabulary.describe(writer)
    return writer


def _write(writer: gguf.GGUFWriter, data: np.ndarray, path: Path) -> None:
    try:
        writer.write_tensor_data(data)
    except OSError as error:
        if error.errno is not None:
            raise
        # numpy reports a short write without the system's reason, which is a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
