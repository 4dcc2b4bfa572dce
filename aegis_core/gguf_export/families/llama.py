"""Llama and its relatives with the same blocks: SmolLM, Mistral."""

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ...failures import UserError
from ..model_folder import ModelFolder
from .family import Family, MappedTensor


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
    head_size = _head_size(config)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(_context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def tensors(folder: ModelFolder) -> list[MappedTensor]:
    config = folder.config
    _refuse_unknown_variants(config)
    embedding = (config.vocab_size, config.hidden_size)
    found = [MappedTensor("token_embd.weight", embedding, "model.embed_tokens.weight")]
    found += _rope_factors(config)
    for layer in range(config.num_hidden_layers):
        found += _block(folder, layer)
    found.append(MappedTensor("output_norm.weight", (config.hidden_size,), "model.norm.weight"))
    if "lm_head.weight" in folder.tensors or not config.tie_word_embeddings:
        found.append(MappedTensor("output.weight", embedding, "lm_head.weight"))
    return found


def _block(folder: ModelFolder, layer: int) -> list[MappedTensor]:
    config = folder.config
    hidden, inner, head = config.hidden_size, config.intermediate_size, _head_size(config)
    n_heads, n_kv_heads = config.num_attention_heads, config.num_key_value_heads
    projections = (
        ("attn_q", "self_attn.q_proj", n_heads * head, hidden, n_heads),
        ("attn_k", "self_attn.k_proj", n_kv_heads * head, hidden, n_kv_heads),
        ("attn_v", "self_attn.v_proj", n_kv_heads * head, hidden, 0),
        ("attn_output", "self_attn.o_proj", hidden, n_heads * head, 0),
        ("ffn_gate", "mlp.gate_proj", inner, hidden, 0),
        ("ffn_up", "mlp.up_proj", inner, hidden, 0),
        ("ffn_down", "mlp.down_proj", hidden, inner, 0),
    )
    there, here = f"blk.{layer}.", f"model.layers.{layer}."
    found = [
        MappedTensor(there + "attn_norm.weight", (hidden,), here + "input_layernorm.weight"),
        MappedTensor(there + "ffn_norm.weight", (hidden,), here + "post_attention_layernorm.weight"),
    ]
    for name, source, rows, columns, n_rotary_heads in projections:
        found.append(_projection(there + name + ".weight", here + source + ".weight", (rows, columns), n_rotary_heads))
        if here + source + ".bias" in folder.tensors:
            found.append(_projection(there + name + ".bias", here + source + ".bias", (rows,), n_rotary_heads))
    return found


def _projection(name: str, source: str, shape: tuple[int, ...], n_rotary_heads: int) -> MappedTensor:
    if not n_rotary_heads:
        return MappedTensor(name, shape, source)
    return MappedTensor(
        name,
        shape,
        source,
        pack=lambda weight: interleave(weight, n_rotary_heads),
        unpack=lambda weight: deinterleave(weight, n_rotary_heads),
    )


def _rope_factors(config: PretrainedConfig) -> list[MappedTensor]:
    """Llama 3's scaling as one divisor per rotary frequency, (D/2,)."""
    rope = config.rope_parameters
    if rope["rope_type"] != "llama3":
        return []
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    exponents = torch.arange(0, _head_size(config), 2, dtype=torch.float32) / _head_size(config)
    factors = rope["rope_theta"] ** -exponents / scaled
    return [MappedTensor("rope_freqs.weight", tuple(factors.shape), constant=factors)]


def _head_size(config: PretrainedConfig) -> int:
    size: int | None = config.head_dim
    return size or config.hidden_size // config.num_attention_heads


def _context_length(config: PretrainedConfig) -> int:
    """Up to here llama.cpp computes what transformers does: it has no sliding window for this family."""
    window: int | None = config.sliding_window if config.model_type == "mistral" else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


def _refuse_unknown_variants(config: PretrainedConfig) -> None:
    kind = config.rope_parameters["rope_type"]
    if kind not in ("default", "linear", "llama3"):
        raise UserError(
            "GGUF export does not know the rotary scaling {kind} for this architecture yet.",
            "Choose a base model without it, or with linear or llama3 scaling.",
            kind=kind,
        )
    if config.hidden_act != "silu":
        raise UserError(
            "llama.cpp computes this architecture with silu, but the model uses {activation}.",
            "Choose another base model.",
            activation=config.hidden_act,
        )


FAMILY = Family("llama", ("LlamaForCausalLM", "MistralForCausalLM"), describe, tensors)
