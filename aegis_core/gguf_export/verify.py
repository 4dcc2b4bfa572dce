"""Reading a written GGUF file back and comparing every tensor with the model folder it came from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from ..cancel import CancelToken
from .checks import Check
from .families import MappedTensor, mapped_tensors
from .gguf_file import GgufFile
from .model_folder import ModelFolder
from .recipe import Recipe, tensor_types

# A scale below F16's normal range loses digits; this much never matters to a matrix product.
ABSOLUTE_ALLOWANCE = 8e-6


@dataclass(frozen=True)
class Bound:
    """`rms` relative to the tensor's own root mean square, `block` to the largest value of its block."""

    rms: float
    block: float


# About twice what Gaussian weights show, and far below what a wrong tensor or order of rows does (1.4).
BOUNDS: dict[Type, Bound] = {
    Type.F32: Bound(0.0, 0.0),
    Type.F16: Bound(2**-11, 2**-11),
    Type.Q8_0: Bound(0.015, 0.006),
    Type.Q6_K: Bound(0.04, 0.035),
    Type.Q5_K: Bound(0.08, 0.12),
    Type.Q5_1: Bound(0.08, 0.04),
    Type.Q5_0: Bound(0.10, 0.075),
    Type.Q4_K: Bound(0.15, 0.20),
}


def check_file(
    file: GgufFile,
    folder: ModelFolder,
    recipe: Recipe,
    cancel: CancelToken,
    on_bytes: Callable[[int, int], None],
    digests: dict[str, str] | None = None,
) -> list[Check]:
    """Size, tensor table, and every tensor against its source; `digests` are the writer's, where they are known.

    Bounds of the errors are in BOUNDS. `on_bytes` hears bytes done and bytes in all.
    """
    mapped = mapped_tensors(folder)
    structure = [_check_size(file), _check_table(file, mapped, recipe, folder), _check_vocabulary(file, folder)]
    if not all(check.passed for check in structure):
        return structure
    errors: dict[Type, float] = {}
    bad: list[str] = []
    altered: list[str] = []
    not_finite: list[str] = []
    done = 0
    for tensor in mapped:
        cancel.check()
        row = file.table[tensor.name]
        stored = file.values(tensor.name)
        if digests and hashlib.sha256(file.raw(tensor.name).data).hexdigest() != digests[tensor.name]:
            altered.append(tensor.name)
        if not np.isfinite(stored).all():
            not_finite.append(tensor.name)
        share = _share_of_bound(stored, tensor.load(folder).numpy(), row.type)
        errors[row.type] = max(errors.get(row.type, 0.0), share)
        if not share <= 1:
            bad.append(tensor.name)
        done += row.n_bytes
        on_bytes(done, file.n_bytes)
    checks = [
        *structure,
        Check("values are finite", not not_finite, _amount(mapped, not_finite), "all tensors"),
        Check("tensors equal their source", not bad, _worst(errors, mapped, bad), "each within its format's bound"),
    ]
    if digests:
        checks.append(Check("read back as written", not altered, _amount(mapped, altered), "all tensors"))
    return checks


def _share_of_bound(stored: np.ndarray, source: np.ndarray, kind: Type) -> float:
    """The error as a part of what its format allows; NaN if the values are not finite."""
    if kind == Type.F32:
        return 0.0 if np.array_equal(stored, source) else np.inf
    bound = BOUNDS[kind]
    difference = np.abs(stored - source)
    rms = float(np.sqrt(np.mean(difference**2, dtype=np.float64)))
    allowed_rms = bound.rms * float(np.sqrt(np.mean(source**2, dtype=np.float64))) + ABSOLUTE_ALLOWANCE
    block = GGML_QUANT_SIZES[kind][0]
    blocks = (-1, block)
    allowed = bound.block * np.abs(source).reshape(blocks).max(axis=1) + ABSOLUTE_ALLOWANCE
    return max(rms / allowed_rms, float((difference.reshape(blocks).max(axis=1) / allowed).max()))


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
