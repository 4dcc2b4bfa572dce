"""LoRA's dropout with less memory: the same numbers to the bit, fewer of them kept for the backward pass."""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn


def keep_less_of_dropout(model: PeftModel) -> None:
    """Let every plain LoRA layer keep its input, which its neighbours share, and a byte for what was dropped of it.

    As peft writes it, dropout(x) @ A keeps the dropped copy of x and, on the CPU, the noise, both as wide as the
    adapter: at 2 x 512 tokens of a model with 135M parameters that is a gigabyte. DoRA and layers of 4-bit weights,
    which peft computes otherwise, stay as they are.
    """
    for layer in model.modules():
        if type(layer) is not LoraLinear or layer.lora_variant:
            continue
        for name, dropout in layer.lora_dropout.items():
            down = layer.lora_A[name]
            if isinstance(dropout, nn.Dropout) and isinstance(down, nn.Linear):
                layer.lora_A[name] = DroppedLinear(down, dropout.p)
                layer.lora_dropout[name] = nn.Identity()
                layer.cast_input_dtype_enabled = False  # a cast copy would be kept instead of the shared input


class DroppedLinear(nn.Module):
    """dropout(x) @ A.T for x (…, in) and the weight A (rank, in) of `linear`, in the adapter's dtype or autocast's."""

    def __init__(self, linear: nn.Linear, p: float) -> None:
        super().__init__()
        self.weight, self.p = linear.weight, p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.linear(x.to(self.weight.dtype), self.weight)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.weight.dtype
        product: Tensor = _DroppedProduct.apply(x, self.weight, self.p, dtype)[0]
        return product


class _DroppedProduct(torch.autograd.Function):
    """The product, and a byte per number of x that says whether it was kept. Works under torch.func's transforms."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, p: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        dropped, kept = torch.native_dropout(x.to(weight.dtype), p, True)
        return nn.functional.linear(dropped.to(dtype), weight.to(dtype)), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, weight, p, ctx.dtype = inputs
        ctx.scale = 1 / (1 - p)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1], weight)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, kept, weight = ctx.saved_tensors
        gradient = outer[0]
        dropped = (x.to(weight.dtype) * kept * ctx.scale).to(ctx.dtype)
        of_weight = gradient.flatten(0, -2).T @ dropped.flatten(0, -2)
        of_x = (gradient @ weight.to(ctx.dtype)).to(weight.dtype) * kept * ctx.scale
        return of_x.to(x.dtype), of_weight.to(weight.dtype), None, None
