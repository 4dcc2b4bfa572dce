"""A GGUF file's own tensors in transformers' architecture, so that its quality can be measured in torch."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from ..cancel import CancelToken
from ..models.loading import device_for
from .families import MappedTensor, mapped_tensors
from .gguf_file import GgufFile
from .model_folder import ModelFolder


def dequantised_model(file: GgufFile, folder: ModelFolder, cancel: CancelToken) -> PreTrainedModel:
    """The model that the file holds, evaluating: dequantised by gguf-py, order of rows undone.

    float32 wherever that fits; on a GPU too small for it float16; on the CPU if even that finds no room.
    """
    weights = dict(_weights(file, mapped_tensors(folder), cancel))
    place, dtype = _place_and_dtype(sum(weight.numel() for weight in weights.values()))
    kind = cast(type[PreTrainedModel], MODEL_FOR_CAUSAL_LM_MAPPING[type(folder.config)])
    model: PreTrainedModel = kind.from_pretrained(None, config=folder.config, state_dict=weights, dtype=dtype)
    model.config.use_cache = False
    model.to(place)  # type: ignore[arg-type]  # transformers wraps torch's own method
    return model.eval()


def _weights(file: GgufFile, mapped: list[MappedTensor], cancel: CancelToken) -> Iterator[tuple[str, Tensor]]:
    for tensor in mapped:
        cancel.check()
        if tensor.source:
            yield tensor.source, tensor.unpack(torch.from_numpy(file.values(tensor.name))).contiguous()


def _place_and_dtype(n_values: int) -> tuple[torch.device, torch.dtype]:
    for dtype in (torch.float32, torch.float16):
        place = device_for(dtype.itemsize * n_values)
        if place.type != "cpu":
            return place, dtype
    return torch.device("cpu"), torch.float32
