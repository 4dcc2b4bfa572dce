"""Adapter, gate and rotation folded into the base model's weights, tensor by tensor."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..cancel import CancelToken
from ..failures import UserError
from ..models.loading import DTYPES
from ..models.weights import INDEX, SINGLE, StoredTensor, damaged, stored_tensors
from ..run_directory import atomic_folder, sha256_of_file, write_json
from ..soul.gate import Soul
from .adapter import Adapter, open_adapter
from .anatomy import EMBEDDING, HEAD, NORM, Anatomy, output_name, read_anatomy, read_object
from .base_check import BaseHash
from .four_bits import kept_in_four_bits, round_trip
from .ingredients import RECORD, Ingredients
from .row_blocks import row_blocks
from .shard_writer import ITEM_BYTES, ShardWriter, TensorSpec
from .target import refuse_foreign

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHARD_BYTES = 2_000_000_000
_SPARE_BYTES = 1 << 26

# Other forms of the weights, and program code that nothing points at any more.
_NOT_CARRIED = frozenset({
    ".bin", ".ckpt", ".gguf", ".h5", ".lock", ".msgpack", ".onnx", ".ot", ".part", ".pt", ".pth", ".py", ".pyc",
    ".safetensors",
})  # fmt: skip
_CARRIED_FOLDERS = ("additional_chat_templates",)


@dataclass(frozen=True)
class Piece:
    """One tensor of the fused model: what the file says of it, where it comes from, and how its rows are made."""

    spec: TensorSpec
    source: StoredTensor
    make: Callable[[Any], Iterator[Tensor]]

    def blocks(self) -> Iterator[Tensor]:
        """The rows, block by block, all finite; UserError otherwise or if the source file is damaged."""
        try:
            with safe_open(self.source.file, framework="pt") as reader:
                for block in self.make(reader):
                    if not _is_finite(block):
                        raise _not_finite(self)
                    yield block
        except SafetensorError as error:
            raise damaged(self.source.file, error) from error


def merge(
    ingredients: Ingredients,
    target: Path,
    cancel: CancelToken,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the fused model as a plain Hugging Face folder that takes its name only when it is complete.

    W + scale·B@A as peft merges it, head W + σ(α)(W@R) and final norm × norm factor, each computed in float32; the
    norm is stored as float32, everything else in the base's own dtype. W is the base's own weight, or what 4 bits left
    of it where the ingredients say so. `on_progress` hears bytes written and in all.
    UserError if base, adapter and gate do not fit each other, anything in them is damaged or not finite, the base's
    files are not those of the training, or somebody else's work lies at `target`.
    """
    refuse_foreign(target, ingredients.run)
    whose = ingredients.origin | {"run": ingredients.run}
    base = ingredients.base.path
    anatomy = read_anatomy(base)
    with open_adapter(ingredients.adapter) as adapter, BaseHash(ingredients.base) as base_hash, _one_thread():
        pieces = _pieces(base, anatomy, adapter, ingredients.soul, ingredients.four_bits_in)
        shards = _shards(pieces)
        total = sum(piece.spec.n_bytes for piece in pieces)
        with atomic_folder(target) as draft:
            # Written first and last: even a folder left by a power cut says whose it is.
            write_json(draft / RECORD, whose)
            _refuse_small_disk(draft, total + _carried_bytes(base) + _SPARE_BYTES)
            hashes = _write_shards(draft, shards, cancel, lambda done: on_progress(done, total))
            _carry_over(base, draft, cancel)
            files = {file.relative_to(draft).as_posix(): file for file in sorted(draft.rglob("*")) if file.is_file()}
            del files[RECORD]
            facts = {
                name: {"bytes": file.stat().st_size, "sha256": hashes.get(name) or sha256_of_file(file)}
                for name, file in files.items()
            }
            write_json(draft / RECORD, whose | {"files": facts})
            base_hash.confirm(cancel)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Blocks that fit into a processor's cache gain nothing from more threads, which reading and hashing need."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def folded_norm(weight: Tensor, soul: Soul, norm_adds_one: bool) -> Tensor:
    """The final norm's weight (H,) with calibration and learned scale f in it, float32: w·f, or (1 + w)·f − 1 where w
    is stored so."""
    wide = weight.double()
    return (soul.fused_norm(1 + wide) - 1 if norm_adds_one else soul.fused_norm(wide)).float()


def _pieces(base: Path, anatomy: Anatomy, adapter: Adapter, soul: Soul, four_bits_in: str | None) -> list[Piece]:
    stored = {tensor.name: tensor for tensor in stored_tensors(base)}
    for tensor in stored.values():
        if tensor.dtype not in ITEM_BYTES:
            raise UserError(
                "{name} of the base model is stored as {dtype}, which cannot be fused into.",
                "Choose the original, unquantised model as base.",
                name=tensor.name,
                dtype=tensor.dtype,
            )
    turned = {output_name(layer): layer for layer in soul.inner}
    for name in sorted(adapter.names | turned.keys() | {NORM, EMBEDDING if anatomy.tied else HEAD}):
        if name not in stored:
            raise UserError(
                "The base model has no tensor {name}, which is to be changed.",
                "Fuse into the model the adapter was trained on.",
                name=name,
            )
        if stored[name].dtype not in FLOATS:
            raise UserError(
                "{name} of the base model is stored as {dtype}, which cannot be fused into.",
                "Choose the original, unquantised model as base.",
                name=name,
                dtype=stored[name].dtype,
            )
    head = stored[EMBEDDING if anatomy.tied else HEAD]
    _refuse_other_width(stored[NORM], head, soul)
    if biased := [name for name in turned if name.replace(".weight", ".bias") in stored]:
        raise UserError(
            "{name} has a bias, so an inner rotation cannot be folded into it.",
            "Train again without soul.inner_layers.",
            name=biased[0],
        )
    four_bits = dict.fromkeys(kept_in_four_bits(stored.values()), DTYPES[four_bits_in]) if four_bits_in else {}
    pieces = [
        _piece(tensor, anatomy, adapter, soul, turned.get(name), four_bits.get(name))
        for name, tensor in stored.items()
        if name != HEAD
    ]
    return [*pieces, Piece(TensorSpec(HEAD, head.dtype, head.shape), head, _head_maker(head, soul))]


def _piece(
    tensor: StoredTensor,
    anatomy: Anatomy,
    adapter: Adapter,
    soul: Soul,
    inner_layer: int | None,
    four_bits_in: torch.dtype | None,
) -> Piece:
    spec = TensorSpec(tensor.name, tensor.dtype, tensor.shape)
    if tensor.name == NORM:
        as_float32 = TensorSpec(NORM, "F32", tensor.shape)
        return Piece(as_float32, tensor, lambda r: iter([folded_norm(r.get_tensor(NORM), soul, anatomy.norm_adds_one)]))
    if inner_layer is None and tensor.name not in adapter.names and not four_bits_in:
        return Piece(spec, tensor, lambda reader: row_blocks(reader, tensor))

    def changed(reader: Any) -> Iterator[Tensor]:
        update = adapter.update(tensor.name, tensor.shape) if tensor.name in adapter.names else None
        if inner_layer is not None or four_bits_in:
            # As a whole: turned, every row becomes a mixture of eight; and 4 bits share the scale of their scales.
            weight = reader.get_tensor(tensor.name)
            weight = round_trip(weight, four_bits_in) if four_bits_in else weight
            merged = update.of(weight) if update else weight
            turned = merged if inner_layer is None else soul.fused_output(inner_layer, merged)
            yield turned.to(weight.dtype, copy=True)
            return
        assert update
        first = 0
        for rows in row_blocks(reader, tensor):
            yield update.of(rows, first).to(rows.dtype, copy=True)  # wide, and cast back once, as peft merges
            first += len(rows)

    return Piece(spec, tensor, changed)


def _head_maker(head: StoredTensor, soul: Soul) -> Callable[[Any], Iterator[Tensor]]:
    def folded(reader: Any) -> Iterator[Tensor]:
        # Fresh memory for each block would leave the heap so full of holes that it grows with the vocabulary.
        room = torch.empty((2, 0))
        for rows in row_blocks(reader, head):
            if room.shape[1] < rows.numel():
                room = torch.empty((2, rows.numel()))
            yield soul.fused_head(rows, room).to(rows.dtype, copy=True)

    return folded


def _shards(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces in their order, cut into files; in each file the widest numbers first, so that all are aligned."""
    shards: list[list[Piece]] = [[]]
    n_bytes = 0
    for piece in pieces:
        if shards[-1] and n_bytes + piece.spec.n_bytes > SHARD_BYTES:
            shards.append([])
            n_bytes = 0
        shards[-1].append(piece)
        n_bytes += piece.spec.n_bytes
    return [sorted(shard, key=lambda piece: -ITEM_BYTES[piece.spec.dtype]) for shard in shards]


def _write_shards(
    draft: Path, shards: list[list[Piece]], cancel: CancelToken, on_bytes: Callable[[int], None]
) -> dict[str, str]:
    """Write the weight files and, for more than one, their index; returns file name -> SHA-256."""
    n = len(shards)
    names = [SINGLE] if n == 1 else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    hashes = {}
    done = 0
    for name, shard in zip(names, shards, strict=True):
        with ShardWriter(draft / name, [piece.spec for piece in shard]) as writer:
            for piece in shard:
                cancel.check()
                writer.write(piece.spec, piece.blocks())
                done += piece.spec.n_bytes
                on_bytes(done)
        hashes[name] = writer.sha256
    if n > 1:
        places = {piece.spec.name: name for name, shard in zip(names, shards, strict=True) for piece in shard}
        write_json(draft / INDEX, {"metadata": {"total_size": done}, "weight_map": dict(sorted(places.items()))})
    return hashes


def _carry_over(base: Path, draft: Path, cancel: CancelToken) -> None:
    """Config, tokenizer, licence and the like as they are, less the pointers to foreign program code."""
    for file in _carried(base):
        cancel.check()
        copy = draft / file.relative_to(base)
        copy.parent.mkdir(exist_ok=True)
        if file.name.endswith("config.json"):
            _carry_config(file, copy)
        else:
            shutil.copyfile(file, copy)


def _carry_config(file: Path, copy: Path) -> None:
    tree = read_object(file)
    changed = {name: value for name, value in tree.items() if name != "auto_map"}
    if file.name == "config.json":
        changed["tie_word_embeddings"] = False
    if changed == tree:
        shutil.copyfile(file, copy)
    else:
        copy.write_text(json.dumps(changed, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def _carried(base: Path) -> list[Path]:
    places = [base, *(base / name for name in _CARRIED_FOLDERS if (base / name).is_dir())]
    files = [file for place in places for file in sorted(place.iterdir()) if file.is_file()]
    left = (INDEX, RECORD, "README.md")  # the base's card tells of the base; the fused model gets one of its own
    return [
        f for f in files if f.suffix.lower() not in _NOT_CARRIED and f.name not in left and not f.name.startswith(".")
    ]


def _carried_bytes(base: Path) -> int:
    return sum(file.stat().st_size for file in _carried(base))


def _refuse_other_width(norm: StoredTensor, head: StoredTensor, soul: Soul) -> None:
    widths = {norm.shape, head.shape[1:], (soul.generator.shape[0] * 8,)}
    if len(widths) > 1:
        raise UserError(
            "The rotation is made for another hidden size than the base model's.",
            "Fuse into the model the gate was trained on.",
        )


def _refuse_small_disk(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(
            "The fused model needs {needed} GB in {folder}, but only {free} GB are free.",
            "Free some space or choose a folder on another drive.",
            needed=f"{n_bytes / 1e9:.2f}",
            free=f"{free / 1e9:.2f}",
            folder=folder.parent,
        )


def _is_finite(block: Tensor) -> bool:
    """Both extremes are finite; NaN is its own extreme. Twenty times as fast as asking every number."""
    if not block.is_floating_point() or not block.numel():
        return True
    low, high = torch.aminmax(block)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _not_finite(piece: Piece) -> UserError:
    if piece.spec.name in (HEAD, NORM):
        return UserError(
            "Folding the gate into {name} gives numbers that are not finite in {dtype}.",
            "Look for NaN in the base model, or train again with calibration on.",
            name=piece.spec.name,
            dtype=piece.spec.dtype,
        )
    return UserError(
        "The tensor {name} from {file} is not finite.",
        "Download the base model again; if it stays so, train again.",
        name=piece.spec.name,
        file=piece.source.file,
    )
