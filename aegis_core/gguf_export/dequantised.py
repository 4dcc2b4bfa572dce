"""A GGUF file's own tensors in transformers' architecture, so that its quality can be measured in torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import psutil
import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from ..cancel import CancelToken
from ..models.loading import MEASURING_BYTES, device_for
from .families import MappedTensor, mapped_tensors
from .gguf_file import GgufFile
from .model_folder import ModelFolder


@dataclass(frozen=True)
class Placement:
    """Where a file's model is computed with and in which dtype its matrices are kept; it computes in float32."""

    device: torch.device
    kept: torch.dtype


class WidenedLinear(nn.Linear):
    """A linear layer whose weight is kept in 16 bits and widened for as long as it is computed with."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(x, self.weight.float(), bias)


def placement_of(file: GgufFile) -> Placement:
    """float32 wherever there is room for it; otherwise 16 bits, on the GPU if it has room for those, else on the CPU.

    F16 holds the numbers of every type but BF16 and F32 files', to its own rounding.
    """
    n_values = sum(_n_values(row.shape) for row in file.table.values())
    half = torch.bfloat16 if any(row.type.name == "BF16" for row in file.table.values()) else torch.float16
    for kept in (torch.float32, half):
        device = device_for(kept.itemsize * n_values)
        if device.type != "cpu":
            return Placement(device, kept)
    roomy = 4.4 * n_values + MEASURING_BYTES <= psutil.virtual_memory().available
    return Placement(torch.device("cpu"), torch.float32 if roomy else half)


def dequantised_model(
    file: GgufFile, folder: ModelFolder, cancel: CancelToken, placement: Placement | None = None
) -> PreTrainedModel:
    """The model that the file holds, evaluating and computing in float32: dequantised, order of rows undone."""
    place = placement or placement_of(file)
    weights = dict(_weights(file, mapped_tensors(folder), cancel, place.kept))
    kind = cast(type[PreTrainedModel], MODEL_FOR_CAUSAL_LM_MAPPING[type(folder.config)])
    precise = {name: weight for name, weight in weights.items() if weight.dtype == torch.float32}
    model: PreTrainedModel = kind.from_pretrained(None, config=folder.config, state_dict=weights, dtype=place.kept)
    if place.kept != torch.float32:
        _widen(model, precise)
    model.config.use_cache = False
    model.to(place.device)  # type: ignore[arg-type]  # transformers wraps torch's own method
    return model.eval()


def _weights(
    file: GgufFile, mapped: list[MappedTensor], cancel: CancelToken, kept: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Matrices in the dtype they are kept in, everything else and the embedding in float32."""
    for tensor in mapped:
        cancel.check()
        if tensor.source:
            exact = len(tensor.shape) < 2 or tensor.name == "token_embd.weight"
            values = file.values(tensor.name).to(torch.float32 if exact else kept)
            yield tensor.source, tensor.unpack(values).contiguous()


def _widen(model: PreTrainedModel, precise: dict[str, Tensor]) -> None:
    """Let every linear layer widen its own weight, and keep everything else in float32."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = WidenedLinear
    for name, weight in precise.items():
        parameter = model.get_parameter(name)
        parameter.data = weight
    for name, buffer in model.named_buffers():
        owner, _, own_name = name.rpartition(".")
        if buffer.is_floating_point():
            setattr(model.get_submodule(owner), own_name, buffer.float())


def _n_values(shape: tuple[int, ...]) -> int:
    n = 1
    for extent in shape:
        n *= extent
    return n
