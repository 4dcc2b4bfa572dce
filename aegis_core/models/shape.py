"""A model's sizes read from its config.json alone: no weights, no torch, no transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failures import UserError

FAMILIES = ("phi3", "llama", "smollm3", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")
# What transformers' own config classes take where config.json is silent.
_TIED_UNLESS_SAID = ("gemma", "gemma3_text", "smollm3")
_HEAD_DIM_UNLESS_SAID = {"gemma": 256, "gemma3_text": 256, "qwen3": 128}
_BIAS_IN_QKV = ("qwen2",)
_NORMED_QUERIES = ("qwen3", "gemma3_text")
_FOUR_NORMS = ("gemma3_text",)
_FUSED = ("phi3",)


@dataclass(frozen=True)
class Linear:
    """One linear layer of a block; `n_in` inputs, `n_out` outputs."""

    name: str
    n_in: int
    n_out: int
    bias: bool = False

    @property
    def n_weights(self) -> int:
        return self.n_in * self.n_out


@dataclass(frozen=True)
class ModelShape:
    """The sizes that parameters and activations follow from."""

    family: str
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocabulary_size: int
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def n_norms(self) -> int:
        """Norms over the hidden state in one block."""
        return 4 if self.family in _FOUR_NORMS else 2

    @property
    def norms_queries(self) -> bool:
        """Whether queries and keys are normed as well, each over one head."""
        return self.family in _NORMED_QUERIES

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, named as transformers names them."""
        h, m = self.hidden_size, self.intermediate_size
        queries, keys = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        qkv_bias = self.attention_bias or self.family in _BIAS_IN_QKV
        output = Linear("o_proj", queries, h, self.attention_bias)
        if self.family in _FUSED:
            return (
                Linear("qkv_proj", h, queries + 2 * keys),
                Linear("o_proj", queries, h),
                Linear("gate_up_proj", h, 2 * m),
                Linear("down_proj", m, h),
            )
        return (
            Linear("q_proj", h, queries, qkv_bias),
            Linear("k_proj", h, keys, qkv_bias),
            Linear("v_proj", h, keys, qkv_bias),
            output,
            Linear("gate_proj", h, m, self.mlp_bias),
            Linear("up_proj", h, m, self.mlp_bias),
            Linear("down_proj", m, h, self.mlp_bias),
        )

    @property
    def n_linear_weights(self) -> int:
        """Weights of all blocks' linear layers, without biases: what 4-bit quantisation covers."""
        return self.n_layers * sum(linear.n_weights for linear in self.linears)

    @property
    def n_parameters(self) -> int:
        """Every parameter; a tied head counts once."""
        biases = sum(linear.n_out for linear in self.linears if linear.bias)
        norms = self.n_norms * self.hidden_size + (2 * self.head_dim if self.norms_queries else 0)
        embeddings = self.vocabulary_size * self.hidden_size * (1 if self.tied else 2)
        return self.n_linear_weights + self.n_layers * (biases + norms) + embeddings + self.hidden_size

    def n_lora_parameters(self, rank: int, targets: tuple[str, ...] = (), dora: bool = False) -> int:
        """r (n_in + n_out) for every adapted linear layer (`targets`, or all), and n_out more for DoRA's lengths."""
        adapted = self.adapted(targets)
        return self.n_layers * sum(rank * (part.n_in + part.n_out) + dora * part.n_out for part in adapted)

    def adapted(self, targets: tuple[str, ...] = ()) -> tuple[Linear, ...]:
        """The linear layers of a block that get an adapter: the named ones, or all."""
        return tuple(linear for linear in self.linears if not targets or linear.name in targets)


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in `folder`; UserError if its config.json is missing, damaged or of an unknown family."""
    path = folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
        return shape_of(tree)
    except FileNotFoundError:
        raise UserError("There is no config.json in {folder}.", "Choose a whole model folder.", folder=folder) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            "{path} is not readable as a model's configuration.", "Download the model again.", path=path
        ) from error


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape a config.json describes; KeyError, TypeError or ValueError if it lacks a size."""
    config = config.get("text_config") or config
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise UserError(
            "How much memory models of the type {model_type} need is not known to this version.",
            "Choose a model of one of these types: {known}.",
            model_type=family or "?",
            known=", ".join(sorted(FAMILIES)),
        )
    n_heads, hidden = _size(config, "num_attention_heads"), _size(config, "hidden_size")
    tied = config.get("tie_word_embeddings")
    return ModelShape(
        family=family,
        hidden_size=hidden,
        intermediate_size=_size(config, "intermediate_size"),
        n_layers=_size(config, "num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        head_dim=int(config.get("head_dim") or _HEAD_DIM_UNLESS_SAID.get(family, hidden // n_heads)),
        vocabulary_size=_size(config, "vocab_size"),
        tied=family in _TIED_UNLESS_SAID if tied is None else bool(tied),
        attention_bias=bool(config.get("attention_bias", False)) and family not in _FUSED,
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def _size(config: Mapping[str, Any], name: str) -> int:
    size = int(config[name])
    if size <= 0:
        raise ValueError(f"{name} is {size}")
    return size
