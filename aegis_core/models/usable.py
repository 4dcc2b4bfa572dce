"""Whether every later step can work with a base model, asked before its weights are fetched."""

from pathlib import Path

from ..chat.prompt import ChatPrompts
from ..fusion.anatomy import read_anatomy
from ..gguf_export.families import family_of
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.vocabulary import read_vocabulary
from ..soul.rotation import SO8Rotation


def require_usable(folder: Path) -> None:
    """UserError if a later step would refuse this model: better now than after hours of training."""
    read_anatomy(folder)
    model = ModelFolder(folder)
    family_of(model)
    config = model.config.get_text_config()
    SO8Rotation(config.hidden_size)
    ChatPrompts(folder)
    read_vocabulary(folder, config.vocab_size)
