"""Qwen2 and Qwen3: Llama's blocks with half-split rotary pairs; Qwen2 has biases, Qwen3 norms of query and key."""

import gguf
from transformers import PretrainedConfig

from ..model_folder import ModelFolder
from .blocks import (
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
from .llama import NORMS

_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def require_known(config: PretrainedConfig) -> None:
    require_rotary(config, ("default", "linear"))
    require_activation(config.hidden_act)


def describe(writer: gguf.GGUFWriter, folder: ModelFolder) -> None:
    config = folder.config
    describe_sizes(writer, config, _context_length(config))
    describe_heads(writer, config)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def _qwen2_tensors(folder: ModelFolder) -> list[MappedTensor]:
    return _tensors(folder, {})


def _qwen3_tensors(folder: ModelFolder) -> list[MappedTensor]:
    return _tensors(folder, _HEAD_NORMS)


def _tensors(folder: ModelFolder, head_norms: dict[str, str]) -> list[MappedTensor]:
    config = folder.config
    blocks: list[MappedTensor] = []
    for layer in range(config.num_hidden_layers):
        blocks += block_norms(layer, config.hidden_size, NORMS)
        blocks += block_norms(layer, head_size(config), head_norms)
        blocks += mapped_projections(folder, layer, split_projections(config))
    return around(folder, blocks, final_norm(config))


def _context_length(config: PretrainedConfig) -> int:
    """Up to here llama.cpp computes what transformers does: it has no sliding window for these families."""
    window: int | None = config.sliding_window if config.use_sliding_window else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


QWEN2 = Family("qwen2", ("Qwen2ForCausalLM",), require_known, describe, _qwen2_tensors)
QWEN3 = Family("qwen3", ("Qwen3ForCausalLM",), require_known, describe, _qwen3_tensors)
