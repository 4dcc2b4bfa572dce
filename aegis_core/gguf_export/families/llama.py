"""Llama and its relatives with the same blocks: SmolLM, Mistral."""

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ..model_folder import ModelFolder
from .blocks import (
    Projection,
    around,
    block_norms,
    describe_heads,
    describe_sizes,
    final_norm,
    head_size,
    mapped_projections,
    require_activation,
    require_rotary,
    split_projections,
)
from .family import Family, MappedTensor

NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def interleave(weight: Tensor, n_heads: int) -> Tensor:
    """Rows of a query or key projection from half-split to interleaved rotary pairs: (n_heads·D, …) -> same shape.

    transformers rotates row i of a head with row i + D/2, llama.cpp row 2i with row 2i + 1.
    """
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def deinterleave(weight: Tensor, n_heads: int) -> Tensor:
    """The inverse of `interleave`."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def describe(writer: gguf.GGUFWriter, folder: ModelFolder) -> None:
    config = folder.config
    writer.add_vocab_size(config.vocab_size)
    describe_sizes(writer, config, _context_length(config))
    describe_heads(writer, config)
    writer.add_rope_dimension_count(head_size(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def require_known(config: PretrainedConfig) -> None:
    require_rotary(config, ("default", "linear", "llama3"))
    require_activation(config.hidden_act)


def tensors(folder: ModelFolder) -> list[MappedTensor]:
    config = folder.config
    blocks = [tensor for layer in range(config.num_hidden_layers) for tensor in _block(folder, layer)]
    return around(folder, [*_rope_factors(config), *blocks], final_norm(config))


def _block(folder: ModelFolder, layer: int) -> list[MappedTensor]:
    config = folder.config
    projections = [_rotated(p, config) for p in split_projections(config)]
    return block_norms(layer, config.hidden_size, NORMS) + mapped_projections(folder, layer, projections)


def _rotated(projection: Projection, config: PretrainedConfig) -> Projection:
    n_heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(projection.name)
    if n_heads is None:
        return projection
    return projection.reordered(
        lambda weight: interleave(weight, n_heads), lambda weight: deinterleave(weight, n_heads)
    )


def _rope_factors(config: PretrainedConfig) -> list[MappedTensor]:
    """Llama 3's scaling as one divisor per rotary frequency, (D/2,)."""
    rope = config.rope_parameters
    if rope["rope_type"] != "llama3":
        return []
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    exponents = torch.arange(0, head_size(config), 2, dtype=torch.float32) / head_size(config)
    factors = rope["rope_theta"] ** -exponents / scaled
    return [MappedTensor("rope_freqs.weight", tuple(factors.shape), constant=factors)]


def _context_length(config: PretrainedConfig) -> int:
    """Up to here llama.cpp computes what transformers does: it has no sliding window for this family."""
    window: int | None = config.sliding_window if config.model_type == "mistral" else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


FAMILY = Family("llama", ("LlamaForCausalLM", "MistralForCausalLM"), require_known, describe, tensors)
