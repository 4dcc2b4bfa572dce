"""Whether every later step can work with a base model, asked before its weights are fetched and again with them."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from ..chat.prompt import ChatPrompts
from ..chat.template_trial import under_watch
from ..failures import UserError
from ..fusion.anatomy import read_anatomy
from ..gguf_export.families import family_of, mapped_tensors
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.vocabulary import read_vocabulary
from ..soul.rotation import SO8Rotation
from .source import read_config
from .weights import stored_tensors, weight_files

_QUESTION = {"role": "user", "content": "1"}


def require_usable(folder: Path, own_code: Collection[str] = ()) -> None:
    """UserError if a later step would refuse this model: better now than after hours of training.

    `own_code` as in BaseModel. The tensors are looked at as soon as the weights are in the folder.
    """
    _refuse_other_senses(folder)
    read_anatomy(folder)
    if "tokenizer" in own_code:
        raise UserError(
            "The tokenizer in {folder} needs program code of its own, which llama.cpp could not run.",
            "Choose a model whose files include tokenizer.json.",
            folder=folder,
        )
    model = ModelFolder(folder)
    family_of(model)
    config = model.config.get_text_config()
    SO8Rotation(config.hidden_size)
    prompts = ChatPrompts(folder)
    under_watch(lambda: _rendered_somehow(prompts))
    read_vocabulary(folder, config.vocab_size)
    if _weights_are_here(folder):
        stored_tensors(folder)
        mapped_tensors(model)


def _rendered_somehow(prompts: ChatPrompts) -> None:
    """Two turns; a template that refuses them says so where it is used."""
    with contextlib.suppress(UserError):
        prompts.text([_QUESTION, {"role": "assistant", "content": "2"}, _QUESTION])


def _refuse_other_senses(folder: Path) -> None:
    config = read_config(folder)
    if "vision_config" in config or "audio_config" in config:
        raise UserError(
            "The model in {folder} also takes pictures or sound, which this version cannot train.",
            "Choose a model for text alone, such as gemma-3-1b-it instead of gemma-3-4b-it.",
            folder=folder,
        )


def _weights_are_here(folder: Path) -> bool:
    try:
        return bool(weight_files(folder))
    except UserError:  # of a model on the hub only the index has come so far
        return False
