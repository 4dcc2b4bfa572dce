"""The base model as a training in 4 bits saw it: its linear weights as NF4 with double quantisation, and wide again.

Fused into these instead of the original ones, the adapter meets the very weights it was trained on; what that is worth
is measured, not assumed.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..failures import UserError
from ..models.loading import device
from ..models.weights import StoredTensor

BLOCK_VALUES = 64  # what bitsandbytes takes for NF4 unless told otherwise, and transformers does not tell it
_IN_A_BLOCK = re.compile(r"^model\.layers\.\d+\..+\.weight$")


def kept_in_four_bits(tensors: Iterable[StoredTensor]) -> frozenset[str]:
    """Names of the weights that training turns into NF4: the matrices of the decoder's blocks, so neither head,
    embeddings nor norms."""
    return frozenset(tensor.name for tensor in tensors if len(tensor.shape) == 2 and _IN_A_BLOCK.match(tensor.name))


def round_trip(weight: Tensor, trained_in: torch.dtype) -> Tensor:
    """A matrix through NF4 with double quantisation and back, in its own dtype and place.

    Training cast it to `trained_in`, the dtype it computed in, before it went into 4 bits, and got it back in that.
    Computed by bitsandbytes, on the GPU where there is one, as training does. UserError if bitsandbytes is missing.
    """
    functional = _library()
    cast = weight.detach().to(device(), trained_in).contiguous()
    packed, state = functional.quantize_4bit(cast, blocksize=BLOCK_VALUES, compress_statistics=True, quant_type="nf4")
    wide: Tensor = functional.dequantize_4bit(packed, state)
    return wide.to(weight.device, weight.dtype)


@torch.no_grad()
def through_four_bits(
    model: PreTrainedModel, names: frozenset[str], stored: torch.dtype, trained_in: torch.dtype
) -> None:
    """Give those weights of a loaded model the values they have after the round trip in their `stored` dtype."""
    for name, weight in model.named_parameters():
        if name in names:
            weight.copy_(round_trip(weight.to(stored), trained_in))


def _library() -> Any:
    try:
        # Not before it is wanted: imported on a CPU it cuts the gradients of a training that follows an evaluation.
        from bitsandbytes import functional
    except ImportError as error:
        raise UserError(
            "Fusing into the dequantised 4-bit base needs the package bitsandbytes, which is not installed.",
            "Install it (pip install bitsandbytes), or set fuse.base to original.",
        ) from error
    return functional
