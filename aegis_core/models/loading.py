"""Loading tokenizer and model with transformers' own classes, in the number format the hardware wants."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..failures import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str) -> torch.dtype:
    """The dtype a plan's name stands for; auto is bf16 on a GPU that has it, fp16 on an older one, fp32 on a CPU."""
    if name != "auto":
        return DTYPES[name]
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder; UserError if there is none or it is damaged."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(
            "The tokenizer in {folder} cannot be read: {problem}",
            "The folder needs tokenizer.json or tokenizer.model beside config.json; download the model again.",
            folder=folder,
            problem=_first_line(error),
        ) from error
    return tokenizer


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model of a local folder on `device()`, evaluating, without a cache.

    Only safetensors and only transformers' own classes; UserError if the folder holds none that fits.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,  # unsaid, transformers would ask on the terminal
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "The model in {folder} cannot be loaded: {problem}",
            "Choose a folder with config.json and *.safetensors of a causal language model.",
            folder=folder,
            problem=_first_line(error),
        ) from error
    model.config.use_cache = False
    nn.Module.to(model, device())
    return model.eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
