"""The weight files of a model folder: which they are, what is in them, and their common hash. Light: no torch."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..cancel import CancelToken
from ..failures import UserError
from ..names import is_device
from ..run_directory import sha256_of_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_CHUNK_BYTES = 1 << 24
_NAME_BYTES = 255  # of a file, on every usual system


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a model folder: the file that holds it, its safetensors dtype ("BF16") and its shape."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, in the order of their names; UserError if it is not a whole model."""
    single, index = folder / SINGLE, folder / INDEX
    if index.is_file():
        names = sorted(set(_weight_map(index).values()))
        return [_shard(index, name) for name in names]
    if single.is_file():
        return [single]
    raise UserError(
        "{folder} holds no model: neither model.safetensors nor its index is there.",
        "Choose a folder with a Hugging Face model in safetensors format.",
        folder=folder,
    )


def weights_sha256(folder: Path, cancel: CancelToken, on_bytes: Callable[[int], None] = lambda n_bytes: None) -> str:
    """One hash for all weights: SHA-256 of the sorted list of [file name, SHA-256 of the file].

    `on_bytes` hears how many bytes were just read. UserError as for `weight_files`.
    """
    return combined_sha256(weight_hashes(folder, cancel, on_bytes))


def weight_hashes(
    folder: Path, cancel: CancelToken, on_bytes: Callable[[int], None] = lambda n_bytes: None
) -> dict[str, str]:
    """The SHA-256 of every weight file by its name; otherwise as `weights_sha256`."""
    return {file.name: _sha256(file, cancel, on_bytes) for file in weight_files(folder)}


def combined_sha256(hashes: dict[str, str]) -> str:
    """The common hash of weight files whose own hashes are known."""
    return sha256_of_json(sorted([name, sha256] for name, sha256 in hashes.items()))


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Every tensor of the model, file by file; UserError if a file is damaged or does not hold what the index says."""
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        for tensor in _tensors_of(file):
            if tensor.name in found:
                raise UserError(
                    "The tensor {name} is in two files of {folder}.",
                    "Download the model again.",
                    name=tensor.name,
                    folder=folder,
                )
            found[tensor.name] = tensor
    index = folder / INDEX
    if index.is_file():
        for name, file_name in _weight_map(index).items():
            if name not in found or found[name].file.name != file_name:
                raise UserError(
                    "{file} does not hold the tensor {name} that its index promises.",
                    "Download the model again.",
                    file=folder / file_name,
                    name=name,
                )
    return list(found.values())


def damaged(file: Path, error: SafetensorError) -> UserError:
    """The sentence for a safetensors file that cannot be read."""
    return UserError(
        "{file} is truncated or damaged: {problem}.",
        "Download or write that model again.",
        file=file,
        problem=" ".join(str(error).split())[:200],
    )


def _tensors_of(file: Path) -> list[StoredTensor]:
    try:
        with safe_open(file, framework="np") as reader:
            slices = {name: reader.get_slice(name) for name in reader.offset_keys()}
            return [StoredTensor(name, file, s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()]
    except SafetensorError as error:
        raise damaged(file, error) from error


def _shard(index: Path, name: str) -> Path:
    # The name alone counts: the files of a hub snapshot are links that lead out of the folder, and may.
    foreign = name != Path(name).name or "\\" in name or ":" in name or not name.endswith(".safetensors")
    foreign = foreign or is_device(name)
    if foreign or not name.isprintable() or len(name.encode()) > _NAME_BYTES:
        raise UserError(
            "{index} points at {name}, which is not a weight file in its own folder.",
            "Do not use this model; download it from a source you trust.",
            index=index,
            name=name if name.isprintable() and len(name) <= _NAME_BYTES else ascii(name)[:_NAME_BYTES],
        )
    path = index.with_name(name)
    if not path.is_file():
        raise UserError("The weight file {path} is missing.", "Download the model again.", path=path)
    return path


def _weight_map(index: Path) -> dict[str, str]:
    try:
        tree: Any = json.loads(index.read_text(encoding="utf-8"))
        entries = list(tree["weight_map"].items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_index(index) from error
    if not entries or not all(isinstance(name, str) for _, name in entries):
        raise _no_index(index)
    return dict(entries)


def _no_index(index: Path) -> UserError:
    return UserError("{index} is not readable as an index of weight files.", "Download the model again.", index=index)


def _sha256(file: Path, cancel: CancelToken, on_bytes: Callable[[int], None]) -> str:
    digest, room = hashlib.sha256(), memoryview(bytearray(_CHUNK_BYTES))
    with file.open("rb", buffering=0) as stream:
        while n_bytes := stream.readinto(room):
            cancel.check()
            digest.update(room[:n_bytes])
            on_bytes(n_bytes)
    return digest.hexdigest()
