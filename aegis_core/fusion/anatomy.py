"""Where a family keeps its embedding, final norm and head, and how it stores the norm."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from ..failures import UserError

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"

# Families whose logits are head(norm(h)) and nothing more, with the three names above.
# True: the norm multiplies by 1 + w, so that w = 0 is the neutral element.
_NORM_ADDS_ONE = {
    "gemma": True,
    "gemma3_text": True,
    "llama": False,
    "mistral": False,
    "phi3": False,
    "qwen2": False,
    "qwen3": False,
    "smollm3": False,
}

# What transformers stumbles with over a value of the wrong kind, found by trying many.
_UNREADABLE = (
    ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, StrictDataclassError, TypeError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Anatomy:
    """`tied`: the head is the embedding, so that it has to be written as a tensor of its own."""

    model_type: str
    tied: bool
    norm_adds_one: bool


def read_anatomy(folder: Path) -> Anatomy:
    """What fusion must know of the model in `folder`; UserError if it is quantised or of an unknown family."""
    config = read_config(folder)
    if config.get("quantization_config"):
        raise UserError(
            "The model in {folder} is quantised; fusing into it would ruin it.",
            "Choose the original, unquantised model as base.",
            folder=folder,
        )
    model_type = str(config.get("model_type", ""))
    if model_type not in _NORM_ADDS_ONE:
        raise UserError(
            "Fusing models of the type {model_type} is not known to this version.",
            "Choose a model of one of these types: {known}.",
            model_type=model_type or "?",
            known=", ".join(sorted(_NORM_ADDS_ONE)),
        )
    native = _native_config(folder)
    if config.get("final_logit_softcapping"):
        raise UserError(
            "The model in {folder} caps its logits, which the gate is not made for.",
            "Choose another model.",
            folder=folder,
        )
    return Anatomy(model_type, bool(native.tie_word_embeddings), _NORM_ADDS_ONE[model_type])


def output_name(layer: int) -> str:
    """The weight whose output an inner rotation turns."""
    return f"model.layers.{layer}.mlp.down_proj.weight"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; UserError if it is missing or no JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError("There is no config.json in {folder}.", "Choose a whole model folder.", folder=folder)
    return read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a model's configuration file; UserError if it is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _damaged_config(path) from error
    if not isinstance(tree, dict):
        raise _damaged_config(path)
    return tree


def _native_config(folder: Path) -> PreTrainedConfig:
    """The config with the defaults of transformers' own class, e.g. whether Gemma ties when nothing is said."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise _damaged_config(folder / "config.json") from error
    return config


def _damaged_config(path: Path) -> UserError:
    return UserError("{path} is not readable as a model's configuration.", "Download the model again.", path=path)
