"""Phi-3 and Phi-3.5: fused projections, and rotary factors of their own for short and for long contexts."""

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ...failures import UserError
from ..model_folder import ModelFolder
from .blocks import (
    Projection,
    around,
    block_norms,
    describe_sizes,
    final_norm,
    head_size,
    mapped_projections,
    require_activation,
    require_rotary,
)
from .family import Family, MappedTensor
from .llama import NORMS


def describe(writer: gguf.GGUFWriter, folder: ModelFolder) -> None:
    """llama.cpp takes the short factors for contexts up to the original length, the long ones for larger contexts.

    transformers decides by the tokens that are there: in a larger context the two differ on short texts.
    """
    config = folder.config
    describe_sizes(writer, config, config.max_position_embeddings)
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    writer.add_rope_dimension_count(_n_rotary(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    # A window of 0 is how llama.cpp's own files say that there is none. Where there is one, it is not used yet.
    writer.add_sliding_window(config.sliding_window or 0)
    if config.rope_parameters["rope_type"] == "longrope":
        _, attention_factor = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))
        writer.add_rope_scaling_attn_factors(attention_factor)


def require_known(config: PretrainedConfig) -> None:
    require_rotary(config, ("default", "longrope"))
    require_activation(config.hidden_act)
    if head_size(config) * config.num_attention_heads != config.hidden_size:
        raise UserError(
            "llama.cpp takes Phi-3 models only with heads that add up to the hidden size {hidden}.",
            "Choose another base model.",
            hidden=config.hidden_size,
        )


def tensors(folder: ModelFolder) -> list[MappedTensor]:
    config = folder.config
    hidden, inner, head = config.hidden_size, config.intermediate_size, head_size(config)
    n_rows = (config.num_attention_heads + 2 * config.num_key_value_heads) * head
    projections = [
        Projection("attn_qkv", "self_attn.qkv_proj", (n_rows, hidden)),
        Projection("attn_output", "self_attn.o_proj", (hidden, hidden)),
        Projection("ffn_up", "mlp.gate_up_proj", (2 * inner, hidden)),
        Projection("ffn_down", "mlp.down_proj", (hidden, inner)),
    ]
    blocks: list[MappedTensor] = []
    for layer in range(config.num_hidden_layers):
        blocks += block_norms(layer, hidden, NORMS) + mapped_projections(folder, layer, projections)
    return around(folder, [*_rope_factors(config), *blocks], final_norm(config))


def _rope_factors(config: PretrainedConfig) -> list[MappedTensor]:
    """What the rotary frequencies are divided by, (rotary/2,) each."""
    if config.rope_parameters["rope_type"] != "longrope":
        return []
    return [_factors(config, "long"), _factors(config, "short")]


def _factors(config: PretrainedConfig, which: str) -> MappedTensor:
    factors: Tensor = torch.tensor(config.rope_parameters[f"{which}_factor"], dtype=torch.float32)
    return MappedTensor(f"rope_factors_{which}.weight", tuple(factors.shape), constant=factors)


def _n_rotary(config: PretrainedConfig) -> int:
    """How many values of a head are rotated."""
    return int(head_size(config) * config.rope_parameters.get("partial_rotary_factor", 1.0))


FAMILY = Family("phi3", ("Phi3ForCausalLM",), require_known, describe, tensors)
