"""Gemma 3, text only: norms stored as 1 + w, layers with a sliding window between those that see everything."""

from dataclasses import replace

import gguf
from torch import Tensor
from transformers import PretrainedConfig

from ...failures import UserError
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
    split_projections,
)
from .family import Family, MappedTensor

_BLOCK_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_USUAL_PERIOD = 6  # what llama.cpp takes where a file does not say
_LAYERS_OF_27B = 62  # llama.cpp knows the largest model by its depth and scales its queries otherwise


def describe(writer: gguf.GGUFWriter, folder: ModelFolder) -> None:
    config = folder.config
    everywhere, nearby = config.rope_parameters["full_attention"], config.rope_parameters["sliding_attention"]
    describe_sizes(writer, config, config.max_position_embeddings)
    describe_heads(writer, config)
    writer.add_rope_freq_base(everywhere["rope_theta"])
    writer.add_rope_freq_base_swa(nearby["rope_theta"])
    if everywhere["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(everywhere["factor"])
    writer.add_sliding_window(config.sliding_window)
    if (period := _period(config)) != _USUAL_PERIOD:
        writer.add_sliding_window_pattern(period)


def tensors(folder: ModelFolder) -> list[MappedTensor]:
    config = folder.config
    blocks: list[MappedTensor] = []
    for layer in range(config.num_hidden_layers):
        norms = block_norms(layer, config.hidden_size, _BLOCK_NORMS) + block_norms(
            layer, head_size(config), _HEAD_NORMS
        )
        blocks += [_shifted(norm) for norm in norms]
        blocks += mapped_projections(folder, layer, split_projections(config))
    return around(folder, blocks, _shifted(final_norm(config)))


def _shifted(norm: MappedTensor) -> MappedTensor:
    """The norm as the factor that it is: transformers stores what is added to 1."""
    return replace(norm, pack=_plus_one, unpack=_minus_one)


def _plus_one(weight: Tensor) -> Tensor:
    return weight + 1


def _minus_one(weight: Tensor) -> Tensor:
    return weight - 1


def _period(config: PretrainedConfig) -> int:
    """Every how many layers one sees everything; UserError for any other order of layers."""
    kinds = list(config.layer_types)
    for period in (_USUAL_PERIOD, *range(1, len(kinds) + 2)):
        if all((kind == "sliding_attention") == (n % period < period - 1) for n, kind in enumerate(kinds)):
            return period
    raise UserError(
        "llama.cpp has no word for the order of this model's sliding and full attention layers.",
        "Choose another base model.",
    )


def require_known(config: PretrainedConfig) -> None:
    require_activation(config.hidden_activation, "gelu_pytorch_tanh")
    _period(config)
    kinds = {name: rope["rope_type"] for name, rope in config.rope_parameters.items() if rope}
    if kinds["full_attention"] not in ("default", "linear") or kinds["sliding_attention"] != "default":
        raise UserError(
            "GGUF export does not know the rotary scaling {kind} for this architecture yet.",
            "Choose a base model with one of these: {known}.",
            kind=" + ".join(kinds.values()),
            known="default, linear",
        )
    of_heads = config.hidden_size // config.num_attention_heads
    scalar = of_heads if config.num_hidden_layers == _LAYERS_OF_27B else head_size(config)
    if config.query_pre_attn_scalar != scalar:
        raise UserError(
            "llama.cpp scales the queries of this model by {expected}, but the model by {found}.",
            "Choose another base model.",
            expected=scalar,
            found=config.query_pre_attn_scalar,
        )


FAMILY = Family("gemma3", ("Gemma3ForCausalLM",), require_known, describe, tensors)
