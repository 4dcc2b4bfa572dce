"""Which number format each tensor gets: llama.cpp's mixes, with its fall-back for narrow rows.

Source: llama.cpp, src/llama-quant.cpp, llama_tensor_get_type_impl and tensor_type_fallback.
"""

import re
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type
from transformers import PretrainedConfig

from .families import MappedTensor

_FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
_VALUES = ("attn_v.weight", "attn_qkv.weight")  # fused projections hold the values too
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Recipe:
    """A file format: `label` in file names, `file_type` in the header, `default` for most matrices.

    `quantised` mixes K-quants by tensor and layer, otherwise every matrix gets the default.
    """

    label: str
    file_type: LlamaFileType
    default: Type
    quantised: bool


RECIPES: dict[str, Recipe] = {
    "f16": Recipe("F16", LlamaFileType.MOSTLY_F16, Type.F16, False),
    "q4_k_m": Recipe("Q4_K_M", LlamaFileType.MOSTLY_Q4_K_M, Type.Q4_K, True),
}


def tensor_types(recipe: Recipe, tensors: list[MappedTensor], config: PretrainedConfig) -> dict[str, Type]:
    """The format of every tensor by name; vectors and norms are always F32."""
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    return {tensor.name: _type(recipe, tensor, config, tied) for tensor in tensors}


def n_bytes(tensor: MappedTensor, kind: Type) -> int:
    """Size of the tensor's data in the file."""
    block, size = GGML_QUANT_SIZES[kind]
    n_values = 1
    for extent in tensor.shape:
        n_values *= extent
    return n_values // block * size


def _type(recipe: Recipe, tensor: MappedTensor, config: PretrainedConfig, tied: bool) -> Type:
    if len(tensor.shape) < 2 or tensor.name.endswith("_norm.weight"):
        return Type.F32
    if not recipe.quantised:
        return recipe.default
    return _fitting(_wanted(recipe, tensor, config, tied), tensor.shape[-1])


def _wanted(recipe: Recipe, tensor: MappedTensor, config: PretrainedConfig, tied: bool) -> Type:
    """Q4_K_M: six bits for the head and for part of the values and down projections, where errors cost most."""
    n_layers = config.num_hidden_layers
    layer = _LAYER.match(tensor.name)
    if tensor.name == "output.weight" or (tied and tensor.name == "token_embd.weight"):
        return Type.Q6_K
    if layer and tensor.name.endswith((*_VALUES, "ffn_down.weight")):
        if _uses_more_bits(int(layer[1]), n_layers):
            return Type.Q6_K
        if tensor.name.endswith(_VALUES) and _is_70b(config):
            return Type.Q5_K
    return recipe.default


def _uses_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers and every third in between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _is_70b(config: PretrainedConfig) -> bool:
    return config.num_hidden_layers == 80 and config.num_attention_heads != config.num_key_value_heads


def _fitting(kind: Type, n_columns: int) -> Type:
    """K-quants take rows of a multiple of 256, their stand-ins of 32; F16 takes any."""
    if n_columns % GGML_QUANT_SIZES[kind][0] == 0:
        return kind
    stand_in = _FALLBACK[kind]
    return stand_in if n_columns % GGML_QUANT_SIZES[stand_in][0] == 0 else Type.F16
