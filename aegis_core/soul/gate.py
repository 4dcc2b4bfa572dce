"""The gate: how much of the rotated hidden state joins the plain one, and the same thing folded into weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..failures import UserError
from ..run_directory import atomic
from .rotation import BLOCK, N_FREE, SO8Rotation, blocks, rotate, rotate_rows

CONVENTION = "logits = W (h + sigmoid(alpha) R h)"
_METADATA = ("calibrate", "base_model", "base_revision", "base_sha256")


class Gate(nn.Module):
    """h (…, H) -> h + σ(α) R h, divided by 1 + σ(α) when calibrated.

    alpha is a float32 buffer that the schedule writes; it is never in an optimiser.
    """

    alpha: Tensor

    def __init__(self, hidden_size: int, *, calibrate: bool, alpha: float) -> None:
        super().__init__()
        self.rotation = SO8Rotation(hidden_size)
        self.calibrate = calibrate
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float32))

    def forward(self, hidden: Tensor) -> Tensor:
        return gated(hidden, self.alpha, blocks(self.rotation.generator), self.calibrate)


def gated(hidden: Tensor, alpha: Tensor, r: Tensor, calibrate: bool) -> Tensor:
    """h + σ(α) R h for hidden (…, H), in hidden's dtype but computed in float32 at least, autocast or not.

    In bfloat16 σ alone would be off by up to 0.2 %, and R would be no rotation any more.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        wide = hidden if hidden.dtype == torch.float64 else hidden.float()
        openness = torch.sigmoid(alpha.to(wide.dtype))
        total = wide + openness * rotate(wide, r)
        return (total / (1 + openness) if calibrate else total).to(hidden.dtype)


@dataclass(frozen=True)
class Soul:
    """The trained gate: everything fusion needs besides the adapter.

    generator (H/8, 28) float32; base_* name the model it was trained on.
    """

    alpha: float
    generator: Tensor
    calibrate: bool
    base_model: str
    base_revision: str
    base_sha256: str

    @property
    def openness(self) -> float:
        return torch.sigmoid(torch.tensor(self.alpha, dtype=torch.float64)).item()

    def fused_head(self, head: Tensor) -> Tensor:
        """W + σ(α)(W @ R) in float32; head (V, H) -> (V, H) float32."""
        weight = head.float()
        return weight + self.openness * rotate_rows(weight, blocks(self.generator.to(weight.device)))

    def norm_factor(self) -> float:
        """What the final norm's scale is multiplied by: 1/(1 + σ(α)) when calibrated, else 1."""
        return 1 / (1 + self.openness) if self.calibrate else 1.0

    def gate(self) -> Gate:
        """The gate as a module, ready to be put between final norm and head."""
        gate = Gate(self.generator.shape[0] * BLOCK, calibrate=self.calibrate, alpha=self.alpha)
        with torch.no_grad():
            gate.rotation.generator.copy_(self.generator)
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
        with atomic(path) as draft:
            draft.write_bytes(_in_fixed_order(save(tensors, metadata)))


def _in_fixed_order(file: bytes) -> bytes:
    """The same safetensors file with its header sorted: by itself, safetensors orders metadata at random."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    padded = header.ljust(-(-len(header) // 8) * 8)  # the tensors stay aligned
    return len(padded).to_bytes(8, "little") + padded + file[end:]


def load_soul(path: Path) -> Soul:
    """Read soul.safetensors; UserError if it is missing, damaged, of another convention or not finite."""
    if not path.is_file():
        raise UserError("The gate and rotation are missing: {path}.", "Run the training step again.", path=path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            alpha, generator = file.get_tensor("alpha"), file.get_tensor("rotation")
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
    if not (torch.isfinite(alpha) and torch.isfinite(generator).all()):
        raise UserError(
            "{path} holds values that are not finite.", "Train again; see the run log for where it broke.", path=path
        )
    names = {name: metadata[name] for name in ("base_model", "base_revision", "base_sha256")}
    return Soul(alpha.item(), generator, metadata["calibrate"] == "true", **names)


def _damaged(path: Path, problem: str) -> UserError:
    return UserError("{path} is damaged: {problem}.", "Run the training step again.", path=path, problem=problem)
