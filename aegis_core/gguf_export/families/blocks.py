"""What the families have in common: the tensors around and inside a block, and a model's sizes in the header."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import gguf
from torch import Tensor
from transformers import PretrainedConfig

from ...failures import UserError
from ..model_folder import ModelFolder
from .family import MappedTensor, unchanged


@dataclass(frozen=True)
class Projection:
    """A linear layer of a block: `name` in the file, `source` in the folder, shape (out, in).

    `pack` and `unpack` reorder its rows, weights and biases alike.
    """

    name: str
    source: str
    shape: tuple[int, int]
    pack: Callable[[Tensor], Tensor] = unchanged
    unpack: Callable[[Tensor], Tensor] = unchanged

    def reordered(self, pack: Callable[[Tensor], Tensor], unpack: Callable[[Tensor], Tensor]) -> "Projection":
        return replace(self, pack=pack, unpack=unpack)


def head_size(config: PretrainedConfig) -> int:
    """Width of one attention head; config.json may leave it to be the hidden size divided by the heads."""
    size: int | None = config.to_dict().get("head_dim")
    return size or config.hidden_size // config.num_attention_heads


def describe_sizes(writer: gguf.GGUFWriter, config: PretrainedConfig, context_length: int) -> None:
    """The sizes that llama.cpp asks of every family of this kind."""
    writer.add_context_length(context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def describe_heads(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    """The width of a head, which llama.cpp otherwise takes from the hidden size."""
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))


def around(folder: ModelFolder, blocks: Iterable[MappedTensor], norm: MappedTensor) -> list[MappedTensor]:
    """Embedding, what is given of blocks and constants, the final norm and, where the folder has one, the head."""
    config = folder.config
    shape = (config.vocab_size, config.hidden_size)
    found = [MappedTensor("token_embd.weight", shape, "model.embed_tokens.weight"), *blocks, norm]
    if "lm_head.weight" in folder.tensors or not config.tie_word_embeddings:
        found.append(MappedTensor("output.weight", shape, "lm_head.weight"))
    return found


def final_norm(config: PretrainedConfig) -> MappedTensor:
    return MappedTensor("output_norm.weight", (config.hidden_size,), "model.norm.weight")


def block_norms(layer: int, width: int, names: dict[str, str]) -> list[MappedTensor]:
    """Norms of a block by their names in the file and in the folder, (width,) each."""
    return [
        MappedTensor(f"blk.{layer}.{name}.weight", (width,), f"model.layers.{layer}.{source}.weight")
        for name, source in names.items()
    ]


def split_projections(config: PretrainedConfig) -> list[Projection]:
    """Query, key and value, gate and up as layers of their own."""
    hidden, inner, head = config.hidden_size, config.intermediate_size, head_size(config)
    n_query, n_key = config.num_attention_heads * head, config.num_key_value_heads * head
    return [
        Projection("attn_q", "self_attn.q_proj", (n_query, hidden)),
        Projection("attn_k", "self_attn.k_proj", (n_key, hidden)),
        Projection("attn_v", "self_attn.v_proj", (n_key, hidden)),
        Projection("attn_output", "self_attn.o_proj", (hidden, n_query)),
        Projection("ffn_gate", "mlp.gate_proj", (inner, hidden)),
        Projection("ffn_up", "mlp.up_proj", (inner, hidden)),
        Projection("ffn_down", "mlp.down_proj", (hidden, inner)),
    ]


def mapped_projections(folder: ModelFolder, layer: int, projections: Iterable[Projection]) -> list[MappedTensor]:
    """The weight of each projection, and its bias where the folder has one."""
    found = []
    for p in projections:
        there, here = f"blk.{layer}.{p.name}", f"model.layers.{layer}.{p.source}"
        found.append(MappedTensor(there + ".weight", p.shape, here + ".weight", p.pack, p.unpack))
        if here + ".bias" in folder.tensors:
            found.append(MappedTensor(there + ".bias", p.shape[:1], here + ".bias", p.pack, p.unpack))
    return found


def require_activation(name: str, expected: str = "silu") -> None:
    """UserError unless the model computes with the activation that llama.cpp computes its family with."""
    if name != expected:
        raise UserError(
            "llama.cpp computes this architecture with {expected}, but the model uses {activation}.",
            "Choose another base model.",
            expected=expected,
            activation=name,
        )


def require_rotary(config: PretrainedConfig, known: tuple[str, ...]) -> None:
    """UserError unless the model's rotary scaling is one of those that this program can write for its family."""
    kind = config.rope_parameters["rope_type"]
    if kind not in known:
        raise UserError(
            "GGUF export does not know the rotary scaling {kind} for this architecture yet.",
            "Choose a base model with one of these: {known}.",
            kind=kind,
            known=", ".join(known),
        )
