"""The gate: how much of the rotated hidden state joins the plain one, and the same thing folded into weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..failures import UserError
from ..fixed_order import in_fixed_order
from ..run_directory import atomic
from .rotation import BLOCK, N_FREE, SO8Rotation, blocks, rotate, rotate_columns

CONVENTION = "logits = W (h + sigmoid(alpha) R h)"
_METADATA = ("calibrate", "base_model", "base_revision", "base_sha256")
_NORM_SCALE = "norm_scale"
_INNER = "inner."


class Gate(nn.Module):
    """h (…, H) -> h + σ(α) R h, divided by 1 + σ(α) when calibrated.

    alpha is a float32 buffer that the schedule writes, or, if `learned`, a parameter that no schedule writes; never
    both. With `train_norm` h is first multiplied by a learned `norm_scale` (H,). Each of `inner_layers` gets a
    rotation of its own for the output of its MLP, under the same alpha.
    """

    alpha: Tensor
    norm_scale: Tensor | None
    inner: nn.ModuleDict

    def __init__(
        self,
        hidden_size: int,
        *,
        calibrate: bool,
        alpha: float,
        learned: bool = False,
        train_norm: bool = False,
        inner_layers: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.rotation = SO8Rotation(hidden_size)
        self.inner = nn.ModuleDict({str(layer): SO8Rotation(hidden_size) for layer in inner_layers})
        self.calibrate = calibrate
        self.norm_scale = nn.Parameter(torch.ones(hidden_size)) if train_norm else None
        value = torch.tensor(alpha, dtype=torch.float32)
        if learned:
            self.alpha = nn.Parameter(value)
        else:
            self.register_buffer("alpha", value)

    @property
    def learned(self) -> bool:
        return isinstance(self.alpha, nn.Parameter)

    def rotations(self) -> list[SO8Rotation]:
        """The one before the head, then the inner ones."""
        return [self.rotation, *(self.inner_rotation(int(layer)) for layer in self.inner)]

    def inner_rotation(self, layer: int) -> SO8Rotation:
        rotation = self.inner[str(layer)]
        assert isinstance(rotation, SO8Rotation)
        return rotation

    def forward(self, hidden: Tensor) -> Tensor:
        return gated(hidden, self.alpha, blocks(self.rotation.generator), self.calibrate, self.norm_scale)

    def turn(self, layer: int, output: Tensor) -> Tensor:
        """The output (…, H) of an inner layer's MLP, gated and rotated."""
        return gated(output, self.alpha, blocks(self.inner_rotation(layer).generator), self.calibrate)

    def soul(self, base_model: str, base_revision: str, base_sha256: str) -> "Soul":
        """What has been learned, for fusion."""
        scale = None if self.norm_scale is None else self.norm_scale.detach().cpu().float()
        inner = {int(name): self.inner_rotation(int(name)).generator.detach().cpu().float() for name in self.inner}
        generator = self.rotation.generator.detach().cpu().float()
        return Soul(self.alpha.item(), generator, self.calibrate, base_model, base_revision, base_sha256, scale, inner)


def gated(hidden: Tensor, alpha: Tensor, r: Tensor, calibrate: bool, scale: Tensor | None = None) -> Tensor:
    """s·h + σ(α) R (s·h) for hidden (…, H), in hidden's dtype but computed in float32 at least, autocast or not.

    `scale` s (H,) is 1 where it is not given. In bfloat16 σ alone would be off by up to 0.2 %, and R would be no
    rotation any more.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        wide = hidden if hidden.dtype == torch.float64 else hidden.float()
        if scale is not None:
            wide = wide * scale
        openness = torch.sigmoid(alpha.to(wide.dtype))
        total = wide + openness * rotate(wide, r)
        return (total / (1 + openness) if calibrate else total).to(hidden.dtype)


@dataclass(frozen=True)
class Soul:
    """The trained gate: everything fusion needs besides the adapter.

    generator (H/8, 28) float32; base_* name the model it was trained on. `norm_scale` (H,) multiplies the final norm's
    output; `inner` maps layers to generators (H/8, 28) of rotations on the output of their MLP.
    """

    alpha: float
    generator: Tensor
    calibrate: bool
    base_model: str
    base_revision: str
    base_sha256: str
    norm_scale: Tensor | None = None
    inner: dict[int, Tensor] = field(default_factory=dict)

    @property
    def openness(self) -> float:
        return torch.sigmoid(torch.tensor(self.alpha, dtype=torch.float64)).item()

    @cached_property
    def _blocks(self) -> Tensor:
        """R (H/8, 8, 8): a head is folded in many small parts, each of which needs it."""
        return blocks(self.generator)

    def fused_head(self, head: Tensor, room: Tensor | None = None) -> Tensor:
        """W + σ(α)(W @ R) in float32; head (V, H) -> (V, H) float32.

        `room` (2, at least V·H), float32, is memory to compute in: the result lies there until it is used again.
        """
        wide, turned = head.new_empty((2, head.numel()), dtype=torch.float32) if room is None else room
        weight = wide[: head.numel()].view(head.shape).copy_(head)
        r = self._blocks.to(weight.device)
        parts = weight.unflatten(1, (len(r), BLOCK))
        by_block = turned[: head.numel()].view(len(r), len(head), BLOCK)  # (H/8, V, 8), as bmm wants its batches
        torch.bmm(parts.transpose(0, 1), r, out=by_block)
        parts.add_(by_block.mul_(self.openness).transpose(0, 1))
        return weight

    def norm_factor(self) -> float:
        """What a calibrated gate divides by: 1/(1 + σ(α)), else 1."""
        return 1 / (1 + self.openness) if self.calibrate else 1.0

    def fused_norm(self, scale: Tensor) -> Tensor:
        """The final norm's multiplier (H,) with the calibration and what it learned in it, in the dtype given."""
        learned = 1.0 if self.norm_scale is None else self.norm_scale.to(scale)
        return scale * learned * self.norm_factor()

    def fused_output(self, layer: int, weight: Tensor) -> Tensor:
        """(W + σ(α) R W) / (1 + σ(α)) in float32: the last MLP weight (H, M) of an inner layer -> (H, M)."""
        wide = weight.float()
        turned = rotate_columns(wide, blocks(self.inner[layer].to(wide.device)))
        return (wide + self.openness * turned) * self.norm_factor()

    def gate(self) -> Gate:
        """The gate as a module, ready to be put between final norm and head."""
        gate = Gate(
            self.generator.shape[0] * BLOCK,
            calibrate=self.calibrate,
            alpha=self.alpha,
            train_norm=self.norm_scale is not None,
            inner_layers=tuple(self.inner),
        )
        with torch.no_grad():
            gate.rotation.generator.copy_(self.generator)
            if gate.norm_scale is not None and self.norm_scale is not None:
                gate.norm_scale.copy_(self.norm_scale)
            for layer, generator in self.inner.items():
                gate.inner_rotation(layer).generator.copy_(generator)
        return gate

    def save(self, path: Path) -> None:
        metadata = {
            "convention": CONVENTION,
            "calibrate": "true" if self.calibrate else "false",
            "base_model": self.base_model,
            "base_revision": self.base_revision,
            "base_sha256": self.base_sha256,
        }
        tensors = {
            "alpha": torch.tensor(self.alpha, dtype=torch.float32),
            "rotation": self.generator.float().contiguous(),
        }
        if self.norm_scale is not None:
            tensors[_NORM_SCALE] = self.norm_scale.float().contiguous()
        tensors |= {f"{_INNER}{layer}": generator.float().contiguous() for layer, generator in self.inner.items()}
        with atomic(path) as draft:
            draft.write_bytes(in_fixed_order(tensors, metadata))


def load_soul(path: Path) -> Soul:
    """Read soul.safetensors; UserError if it is missing, damaged, of another convention or not finite."""
    if not path.is_file():
        raise UserError("The gate and rotation are missing: {path}.", "Run the training step again.", path=path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            alpha, generator = file.get_tensor("alpha"), file.get_tensor("rotation")
            extras = {name: file.get_tensor(name) for name in list(file.keys()) if name not in ("alpha", "rotation")}
    except SafetensorError as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    if metadata.get("convention") != CONVENTION:
        raise UserError(
            "{path} follows another convention than this version.", "Train again with this version.", path=path
        )
    if missing := [name for name in _METADATA if name not in metadata]:
        raise _damaged(path, f"{missing[0]} is not recorded")
    if metadata["calibrate"] not in ("true", "false"):
        raise _damaged(path, "calibrate is neither true nor false")
    if alpha.dtype != torch.float32 or generator.dtype != torch.float32 or alpha.dim() or generator.dim() != 2:
        raise _damaged(path, "alpha and rotation do not have the expected form")
    if generator.shape[0] == 0 or generator.shape[1] != N_FREE:
        raise _damaged(path, f"a block of the rotation has {generator.shape[1]} numbers instead of {N_FREE}")
    inner = _inner_of(path, extras, generator)
    if not all(torch.isfinite(tensor).all() for tensor in (alpha, generator, *extras.values())):
        raise UserError(
            "{path} holds values that are not finite.", "Train again; see the run log for where it broke.", path=path
        )
    names = {name: metadata[name] for name in ("base_model", "base_revision", "base_sha256")}
    scale = extras.get(_NORM_SCALE)
    return Soul(alpha.item(), generator, metadata["calibrate"] == "true", **names, norm_scale=scale, inner=inner)


def _inner_of(path: Path, extras: dict[str, Tensor], generator: Tensor) -> dict[int, Tensor]:
    """The inner rotations among the optional tensors, by layer; UserError for one of an unknown name or form."""
    inner = {}
    for name, tensor in sorted(extras.items()):
        layer = name.removeprefix(_INNER)
        if name == _NORM_SCALE:
            expected: tuple[int, ...] = (len(generator) * BLOCK,)
        elif name.startswith(_INNER) and layer.isascii() and layer.isdigit():
            expected = tuple(generator.shape)
            inner[int(layer)] = tensor
        else:
            raise _damaged(path, f"nothing is known of {name}")
        if tensor.dtype != torch.float32 or tuple(tensor.shape) != expected:
            raise _damaged(path, f"{name} does not have the expected form")
    return dict(sorted(inner.items()))


def _damaged(path: Path, problem: str) -> UserError:
    return UserError("{path} is damaged: {problem}.", "Run the training step again.", path=path, problem=problem)
