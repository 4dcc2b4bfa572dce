"""Architecture families by the class name in config.json; a new family is one module and one line here."""

from ...failures import UserError
from ..model_folder import ModelFolder
from . import gemma3, llama, phi3, qwen
from .family import Family, MappedTensor

FAMILIES: tuple[Family, ...] = (llama.FAMILY, phi3.FAMILY, qwen.QWEN2, qwen.QWEN3, gemma3.FAMILY)

__all__ = ["FAMILIES", "Family", "MappedTensor", "family_of", "mapped_tensors"]


def family_of(folder: ModelFolder) -> Family:
    """The family of a model folder, asked by its config.json alone.

    UserError naming the supported ones if there is none, or if the model is a variant that llama.cpp does not know.
    """
    names = folder.config.architectures or ["?"]
    for family in FAMILIES:
        if names[0] in family.classes:
            family.require_known(folder.config)
            return family
    supported = ", ".join(name for family in FAMILIES for name in family.classes)
    raise UserError(
        "GGUF export does not know the architecture {name} yet; it knows {supported}.",
        "Choose a base model of one of these architectures.",
        name=names[0],
        supported=supported,
    )


def mapped_tensors(folder: ModelFolder) -> list[MappedTensor]:
    """Every tensor the GGUF will hold; UserError if the folder lacks one or holds one that has no place."""
    mapped = family_of(folder).tensors(folder)
    sources = {tensor.source for tensor in mapped if tensor.source}
    missing = sorted(sources - folder.tensors.keys())
    unknown = sorted(name for name in folder.tensors.keys() - sources if not name.endswith("rotary_emb.inv_freq"))
    advice = "Run the fusion step again; if it stays, this variant of the architecture is not supported yet."
    if missing:
        raise UserError(
            "The model folder {folder} lacks the tensor {name}.", advice, folder=folder.path, name=missing[0]
        )
    if unknown:
        raise UserError(
            "The tensor {name} of {folder} has no place in a GGUF file.", advice, folder=folder.path, name=unknown[0]
        )
    for tensor in mapped:
        if 0 in tensor.shape:
            raise UserError("The tensor {name} would be empty.", advice, name=tensor.name)
        if tensor.source and folder.tensors[tensor.source].shape != tensor.shape:
            raise UserError(
                "The tensor {name} has the shape {found} where config.json asks for {expected}.",
                "The folder is damaged or mixed up; run the fusion step again.",
                name=tensor.source,
                found=folder.tensors[tensor.source].shape,
                expected=tensor.shape,
            )
    return mapped
