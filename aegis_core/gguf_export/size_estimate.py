"""How large GGUF files will be, from config.json alone: for a first look, before there is anything to write. No torch.

The step itself counts every tensor (`forecast`); here the same mixes are applied to the model's linear layers. A test
holds the result against files that were really written, F16 and Q4_K_M of rows of 576.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..models.shape import Linear, ModelShape

_BITS = {"F32": 32, "BF16": 16, "F16": 16, "Q8_0": 8.5, "Q6_K": 6.5625, "Q5_K": 5.5, "Q4_K": 4.5,
         "Q5_0": 5.5, "Q5_1": 6.0}  # fmt: skip
_DEFAULT = {"f32": "F32", "bf16": "BF16", "f16": "F16", "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K",
            "q4_k_m": "Q4_K", "q4_k_s": "Q4_K"}  # fmt: skip
_NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_SUPER_BLOCK, _BLOCK = 256, 32
_VALUES = ("v_proj", "qkv_proj")
_DOWN = "down_proj"
_BYTES_PER_TOKEN = 36  # text, score, type and merges: 1.8 MB for 49,152 tokens


@dataclass(frozen=True)
class SizeEstimate:
    """One file of type `kind`; `untied_bytes`, part of `n_bytes`, is the head that a tied model did not have."""

    kind: str
    n_bytes: int
    untied_bytes: int


def estimate_sizes(shape: ModelShape, kinds: Iterable[str]) -> list[SizeEstimate]:
    """What each type will take once fused, with a head of its own; KeyError for a type there is none of."""
    return [_estimate(shape, kind) for kind in kinds]


def _estimate(shape: ModelShape, kind: str) -> SizeEstimate:
    n_embedding = shape.vocabulary_size * shape.hidden_size
    head = n_embedding * _bits(_head(kind), shape.hidden_size)
    bits = head + n_embedding * _bits(_DEFAULT[kind], shape.hidden_size)
    for layer in range(shape.n_layers):
        bits += sum(
            linear.n_weights * _bits(_format(kind, linear, layer, shape.n_layers), linear.n_in)
            for linear in shape.linears
        )
    n_whole = (shape.n_layers * shape.n_norms + 1) * shape.hidden_size  # norms stay in F32
    n_bytes = bits / 8 + n_whole * 4 + shape.vocabulary_size * _BYTES_PER_TOKEN
    return SizeEstimate(kind, round(n_bytes), round(head / 8) if shape.tied else 0)


def _head(kind: str) -> str:
    return "Q6_K" if _DEFAULT[kind] in _NARROW else _DEFAULT[kind]


def _format(kind: str, linear: Linear, layer: int, n_layers: int) -> str:
    """llama.cpp's mixes: more bits for the values and down projections of some layers."""
    eighth = n_layers // 8
    if linear.name in (*_VALUES, _DOWN):
        ends = layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
        if kind in ("q4_k_m", "q5_k_m") and ends:
            return "Q6_K"
        if kind == "q4_k_s" and layer < (eighth if linear.name == _DOWN else 4):
            return "Q5_K"
    return _DEFAULT[kind]


def _bits(name: str, n_columns: int) -> float:
    """Bits per weight; rows too narrow for a format take its stand-in, F16 in the end."""
    if name in _NARROW and n_columns % _SUPER_BLOCK:
        name = _NARROW[name]
    return _BITS[name] if _BITS[name] >= 16 or n_columns % _BLOCK == 0 else _BITS["F16"]
