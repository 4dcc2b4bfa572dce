"""Which number format each tensor gets: llama.cpp's mixes, with its fall-back for narrow rows.

Source: llama.cpp, src/llama-quant.cpp, llama_tensor_get_type_impl and tensor_type_fallback.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type
from transformers import PretrainedConfig

from .families import MappedTensor
from .file_types import FILE_TYPES, FileType

_FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
_VALUES = ("attn_v.weight", "attn_qkv.weight")  # fused projections hold the values too
_DOWN = "ffn_down.weight"
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Recipe:
    """How a file of `type` is made: `file_type` stands in its header, `default` is what most matrices get.

    `finer` says which format the values' and down projections of some layers get instead: (suffix of the name, layer,
    number of layers) -> format, or None for the default.
    """

    type: FileType
    file_type: LlamaFileType
    default: Type
    finer: Callable[[str, int, int], Type | None] = lambda name, layer, n_layers: None

    @property
    def label(self) -> str:
        return self.type.label


def _six_bits_at_the_ends(name: str, layer: int, n_layers: int) -> Type | None:
    """The first and last eighth of the layers and every third in between."""
    eighth = n_layers // 8
    more = layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
    return Type.Q6_K if more else None


def _five_bits_at_the_start(name: str, layer: int, n_layers: int) -> Type | None:
    return Type.Q5_K if layer < (n_layers // 8 if name == _DOWN else 4) else None


RECIPES: dict[str, Recipe] = {
    "f32": Recipe(FILE_TYPES["f32"], LlamaFileType.ALL_F32, Type.F32),
    "bf16": Recipe(FILE_TYPES["bf16"], LlamaFileType.MOSTLY_BF16, Type.BF16),
    "f16": Recipe(FILE_TYPES["f16"], LlamaFileType.MOSTLY_F16, Type.F16),
    "q8_0": Recipe(FILE_TYPES["q8_0"], LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
    "q6_k": Recipe(FILE_TYPES["q6_k"], LlamaFileType.MOSTLY_Q6_K, Type.Q6_K),
    "q5_k_m": Recipe(FILE_TYPES["q5_k_m"], LlamaFileType.MOSTLY_Q5_K_M, Type.Q5_K, _six_bits_at_the_ends),
    "q4_k_m": Recipe(FILE_TYPES["q4_k_m"], LlamaFileType.MOSTLY_Q4_K_M, Type.Q4_K, _six_bits_at_the_ends),
    "q4_k_s": Recipe(FILE_TYPES["q4_k_s"], LlamaFileType.MOSTLY_Q4_K_S, Type.Q4_K, _five_bits_at_the_start),
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
    if not recipe.type.quantised:
        return recipe.default
    return _fitting(_wanted(recipe, tensor, config, tied), tensor.shape[-1])


def _wanted(recipe: Recipe, tensor: MappedTensor, config: PretrainedConfig, tied: bool) -> Type:
    """More bits for the head and for part of the values and down projections, where errors cost most."""
    if tensor.name == "output.weight" or (tied and tensor.name == "token_embd.weight"):
        return recipe.default if recipe.default == Type.Q8_0 else Type.Q6_K
    layer = _LAYER.match(tensor.name)
    name = next((end for end in (*_VALUES, _DOWN) if tensor.name.endswith(end)), None)
    if layer is None or name is None:
        return recipe.default
    kind = recipe.finer(name, int(layer[1]), config.num_hidden_layers) or recipe.default
    return Type.Q5_K if kind == Type.Q4_K and name in _VALUES and _is_70b(config) else kind


def _is_70b(config: PretrainedConfig) -> bool:
    """What llama.cpp takes for a model of that size, whose values are few and get more bits."""
    if config.num_hidden_layers != 80:
        return False
    shared = config.num_attention_heads != config.num_key_value_heads
    return config.model_type == "qwen2" or (config.model_type in ("llama", "mistral") and shared)


def _fitting(kind: Type, n_columns: int) -> Type:
    """K-quants take rows of a multiple of 256, their stand-ins of 32; F16 takes any."""
    if n_columns % GGML_QUANT_SIZES[kind][0] == 0:
        return kind
    stand_in = _FALLBACK.get(kind, Type.F16)
    return stand_in if n_columns % GGML_QUANT_SIZES[stand_in][0] == 0 else Type.F16
