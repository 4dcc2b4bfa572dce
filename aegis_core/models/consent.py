"""Whether a model brings program code of its own, and the one sentence with which the user lets it run.

Where transformers has its own classes, those are used and a model's code stays unread, whatever config.json says.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from ..failures import UserError
from ..run_directory import sha256_of_file, sha256_of_json
from .source import read_config, read_object

Part = Literal["model", "tokenizer"]


def own_code(folder: Path) -> tuple[Part, ...]:
    """Which parts of the model in `folder` can only be loaded with program code that it brings along.

    UserError if that code lies in yet another repository, which no consent to this one could cover.
    """
    config, parts = read_config(folder), list[tuple[Part, Any]]()
    if _entry(config, "AutoModelForCausalLM") and not _native_model(config):
        parts.append(("model", [_entry(config, name) for name in ("AutoConfig", "AutoModelForCausalLM")]))
    tokenizer_code = _tokenizer_code(folder)
    if tokenizer_code:
        parts.append(("tokenizer", tokenizer_code))
    for _, references in parts:
        if "--" in str(references):  # as in owner/name--module.Class
            raise UserError(
                "Program code of the model in {folder} lies in another repository: {reference}.",
                "Choose a model that transformers knows, such as Phi-3, Llama, Mistral, Qwen or Gemma.",
                folder=folder,
                reference=references,
            )
    return tuple(part for part, _ in parts)


def sentence(source: str, commit: str) -> str:
    """What the user must write into model.remote_code_consent, for this source at this commit and no other."""
    return f"I trust the program code of {source} at {commit}"


def require_consent(consent: str, source: str, commit: str, parts: Collection[Part]) -> None:
    """UserError with the sentence to write, unless `consent` is that sentence or no part needs code."""
    if parts and consent.strip() != sentence(source, commit):
        raise UserError(
            "{source} brings program code of its own ({parts}), which runs only with your written consent.",
            "Better choose a model that transformers knows. Or read the code and write exactly this into "
            "model.remote_code_consent: {sentence} — a later check may still refuse the model.",
            source=source,
            parts=", ".join(sorted(parts)),
            sentence=sentence(source, commit),
        )


def code_hash(folder: Path) -> str:
    """Stands for the commit where a local folder has none: changes with every byte of the code in it."""
    return sha256_of_json({file.name: sha256_of_file(file) for file in sorted(folder.glob("*.py"))})[:40]


def _native_model(config: dict[str, Any]) -> bool:
    model_type = config.get("model_type")
    return model_type in CONFIG_MAPPING_NAMES and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _tokenizer_code(folder: Path) -> Any:
    """The class a tokenizer names as its own, unless transformers can read the tokenizer without it."""
    path = folder / "tokenizer_config.json"
    if not path.is_file() or (folder / "tokenizer.json").is_file():
        return None
    config = read_object(path)
    name = config.get("tokenizer_class")
    known = isinstance(name, str) and tokenizer_class_from_name(name) is not None
    return None if known else _entry(config, "AutoTokenizer")


def _entry(config: dict[str, Any], auto_class: str) -> Any:
    """What auto_map names for a class; the oldest form of the map is a bare list, of tokenizers."""
    auto_map = config.get("auto_map")
    if isinstance(auto_map, dict):
        return auto_map.get(auto_class)
    return auto_map if auto_class == "AutoTokenizer" else None
