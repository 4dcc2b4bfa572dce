"""Loading tokenizer and model with transformers' own classes, in the number format the hardware wants."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..events import Log, note
from ..failures import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEASURING_BYTES = 2_000_000_000  # activations of one batch and the logits of one sequence
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, StrictDataclassError)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_for(n_bytes: int) -> torch.device:
    """Where weights of `n_bytes` are only read, not trained: `device()`, or the CPU if the GPU has no room for them.

    The GPU must have that much free, a tenth more, and what a batch takes.
    """
    chosen = device()
    if chosen.type == "cpu":
        return chosen
    free, _ = torch.cuda.mem_get_info()
    return chosen if 1.1 * n_bytes + MEASURING_BYTES <= free else torch.device("cpu")


def choose_dtype(name: str) -> torch.dtype:
    """The dtype a plan's name stands for; auto is bf16 on a GPU that has it, fp16 on an older one, fp32 on a CPU."""
    if name != "auto":
        return DTYPES[name]
    if not torch.cuda.is_available():
        return torch.float32
    # Older cards emulate bf16: possible, but slow.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def wants_nf4(quantisation: str) -> bool:
    """Whether the frozen base is kept in 4 bits while training; `quantisation` is the plan's auto, none or nf4.

    auto does so where there is an NVIDIA GPU and bitsandbytes. UserError if nf4 is asked for where it cannot be.
    """
    if quantisation == "none":
        return False
    if not torch.cuda.is_available():
        if quantisation == "nf4":
            raise UserError(
                "Keeping the base model in 4 bits needs an NVIDIA GPU, and torch sees none here.",
                "Set model.quantisation to auto or none.",
            )
        return False
    # Only looked for: imported on a CPU it silently cuts the gradients that follow an evaluation.
    installed = importlib.util.find_spec("bitsandbytes") is not None
    if quantisation == "nf4" and not installed:
        raise UserError(
            "Keeping the base model in 4 bits needs the package bitsandbytes, which is not installed.",
            "Install it (pip install bitsandbytes), or set model.quantisation to none.",
        )
    return installed


def describe_numbers(dtype: torch.dtype, quantised: bool) -> Log:
    """The log line that says in which numbers the model works while training."""
    name = str(dtype).removeprefix("torch.")
    if quantised:
        return note(
            "The frozen base is kept in 4 bits (NF4, double quantisation); head, embeddings and norms stay in {dtype}, "
            "which is computed in.",
            dtype=name,
        )
    return note("The model is kept and computed in {dtype} on the {device}.", dtype=name, device=device().type)


def load_tokenizer(folder: Path, *, own_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder; UserError if there is none or it is damaged.

    `own_code` lets it run the program code it brings along; only with the user's written consent (consent.py).
    """
    try:
        # Given the native configuration, transformers has no reason to run the folder's own one.
        known: dict[str, Any] = {"config": _native_config(folder)} if own_code else {}
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=own_code, **{k: v for k, v in known.items() if v}
        )
    except _UNREADABLE as error:
        if _needs_protobuf(folder):  # transformers would name another package, which does not help
            raise UserError(
                "The tokenizer in {folder} is there as tokenizer.model only, which cannot be read without the package "
                "protobuf.",
                "Install it (pip install protobuf), or put the model's tokenizer.json into the folder.",
                folder=folder,
            ) from error
        raise UserError(
            "The tokenizer in {folder} cannot be read: {problem}",
            "The folder needs tokenizer.json or tokenizer.model beside config.json; download the model again.",
            folder=folder,
            problem=_first_line(error),
        ) from error
    return tokenizer


def _needs_protobuf(folder: Path) -> bool:
    alone = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    try:
        return alone and importlib.util.find_spec("google.protobuf") is None
    except ModuleNotFoundError:  # not even its parent package
        return alone


def load_model(
    folder: Path,
    dtype: torch.dtype,
    quantise: bool = False,
    *,
    own_code: bool = False,
    place: torch.device | None = None,
) -> PreTrainedModel:
    """A causal language model of a local folder, evaluating, without a cache, on `place` or else on `device()`.

    With `quantise` (see `wants_nf4`) the linear layers of its blocks are NF4 with double quantisation, computing in
    `dtype`, always on the GPU. Only safetensors, and only transformers' own classes unless `own_code` (the user's
    written consent). UserError if the folder holds no model that fits, or lacks a part of one.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=own_code,  # unsaid, transformers would ask on the terminal
            output_loading_info=True,
            **(_nf4(dtype) if quantise else {}),
        )
    except torch.OutOfMemoryError:
        raise
    except _UNREADABLE as error:
        raise UserError(
            "The model in {folder} cannot be loaded: {problem}",
            "Choose a folder with config.json and *.safetensors of a causal language model.",
            folder=folder,
            problem=_first_line(error),
        ) from error
    model: PreTrainedModel = loaded[0]
    if lacking := sorted(loaded[1]["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(
            "The model in {folder} lacks the weight {name}.",
            "Download the model again, or choose another one.",
            folder=folder,
            name=lacking[0],
        )
    model.config.use_cache = False
    if not quantise:  # 4-bit layers were made on the GPU and stay there
        nn.Module.to(model, place or device())
    return model.eval()


def _nf4(dtype: torch.dtype) -> dict[str, Any]:
    """transformers leaves the head out by itself, also a tied one; embeddings and norms are no linear layers."""
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
        "device_map": {"": torch.cuda.current_device()},  # of several processes each has its own
    }


def _native_config(folder: Path) -> Any:
    """The configuration as transformers' own class, or None where it has none for this model."""
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
