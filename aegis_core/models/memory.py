"""How much memory training will take at its peak, told before it starts. Free of torch: the window imports it.

The parts and their formulas, and on what they were fitted, are in memory_parts.py; one measured step corrects the parts
that grow with the batch (`Forecast.corrected`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..events import Log, Telemetry, note, warning
from ..plan import Plan
from ..run_directory import read_json, write_json
from .memory_parts import CONTEXT_BYTES, Device, fixed_parts, is_quantised, scaling_parts
from .shape import ModelShape

Verdict = Literal["fits", "tight", "too_large"]

MARGIN, MARGIN_CORRECTED = 0.15, 0.05  # how far off the forecast may be before and after one measured step
PARTS = ("weights", "adapters", "gradients", "optimiser", "activations", "logits", "allocator", "context", "others")
RECORD = "memory.json"
_SCALING = ("activations", "logits", "allocator")
_SMALLEST_LENGTH = 32


@dataclass(frozen=True)
class Capacity:
    """What there is to fill: a card's memory or the machine's RAM, and what other programs hold of it now."""

    device: Device
    total_bytes: int
    others_bytes: int = 0


@dataclass(frozen=True)
class Forecast:
    """The training's peak in parts, bytes each. `scale` is what a measured step made of the computed activations."""

    device: Device
    batch_size: int
    sequence_length: int
    weights: int
    adapters: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    allocator: int
    context: int
    others: int = 0
    scale: float | None = None

    @property
    def parts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in PARTS}

    @property
    def own_bytes(self) -> int:
        """What this training itself takes."""
        return sum(self.parts.values()) - self.others

    @property
    def total_bytes(self) -> int:
        """What is in use at the peak, other programs included."""
        return self.own_bytes + self.others

    def verdict(self, total_bytes: int) -> Verdict:
        """Against a card or machine of that size; it fits if it does so even with the forecast's error on top."""
        margin = MARGIN if self.scale is None else MARGIN_CORRECTED
        if self.own_bytes * (1 + margin) + self.others <= total_bytes:
            return "fits"
        return "tight" if self.total_bytes <= total_bytes else "too_large"

    def corrected(self, measured_peak_bytes: int) -> "Forecast":
        """The forecast that agrees with a measured peak, by scaling the parts that grow with the batch.

        `measured_peak_bytes` is what `models.peak` reads after the *second* optimiser step: the optimiser's state
        comes into being at the end of the first. On CUDA it is the allocator's peak, without context; on a CPU the
        process's peak RSS.
        """
        fixed = self.weights + self.adapters + self.gradients + self.optimiser
        if self.device == "cpu":
            fixed += self.context
        scaling = sum(self.parts[name] for name in _SCALING)
        factor = max(measured_peak_bytes - fixed, 0) / max(scaling, 1)
        return self._scaled(factor, (self.scale or 1.0) * factor)

    def _scaled(self, factor: float, scale: float) -> "Forecast":
        return replace(
            self,
            activations=round(self.activations * factor),
            logits=round(self.logits * factor),
            allocator=round(self.allocator * factor),
            scale=scale,
        )


def forecast(
    shape: ModelShape,
    plan: Plan,
    *,
    device: Device,
    quantised: bool | None = None,
    others_bytes: int = 0,
    batch_size: int | None = None,
    sequence_length: int | None = None,
    scale: float | None = None,
) -> Forecast:
    """The peak of one training step with the plan's settings; batch and length may be given instead of the plan's.

    `quantised`: whether the base is kept in NF4 (by default what the plan says on that device). `scale` is that of an
    earlier `Forecast.corrected`.
    """
    batch = plan.train.batch_size if batch_size is None else batch_size
    length = plan.data.sequence_length if sequence_length is None else sequence_length
    found = Forecast(
        device=device,
        batch_size=batch,
        sequence_length=length,
        others=others_bytes,
        context=CONTEXT_BYTES[device],
        **fixed_parts(shape, plan, device, is_quantised(plan, device) if quantised is None else quantised),
        **scaling_parts(shape, plan, device, batch * length),
    )
    return found if scale is None else found._scaled(scale, scale)


def table(
    shape: ModelShape, plan: Plan, capacity: Capacity, scale: float | None = None
) -> dict[tuple[int, int], Forecast]:
    """(batch, length) → forecast around the plan's own choice, which is among them; lengths in ascending order."""
    batches = _around(plan.train.batch_size, smallest=1)
    lengths = _around(plan.data.sequence_length, smallest=_SMALLEST_LENGTH)
    return {
        (batch, length): forecast(
            shape,
            plan,
            device=capacity.device,
            others_bytes=capacity.others_bytes,
            batch_size=batch,
            sequence_length=length,
            scale=scale,
        )
        for batch in batches
        for length in lengths
    }


def capacity_in(reading: Telemetry) -> Capacity | None:
    """The card of a reading, without one the RAM; None where neither could be read.

    Where the driver does not say what is our own (Windows), everything in use counts as the others': right before a
    training, too much during one.
    """
    if reading.vram_total_bytes is not None:
        others = max((reading.vram_used_bytes or 0) - (reading.vram_own_bytes or 0), 0)
        return Capacity("cuda", reading.vram_total_bytes, others)
    if reading.ram_total_bytes is not None:
        others = max((reading.ram_used_bytes or 0) - (reading.ram_own_bytes or 0), 0)
        return Capacity("cpu", reading.ram_total_bytes, others)
    return None


def record(folder: Path, expected: Forecast, measured_peak_bytes: int, capacity: Capacity) -> Forecast:
    """Keep forecast, measurement and correction as memory.json in the folder of `train`; returns the corrected one."""
    corrected = expected.corrected(measured_peak_bytes)
    row = {
        "device": expected.device,
        "batch_size": expected.batch_size,
        "sequence_length": expected.sequence_length,
        "forecast": expected.parts,
        "measured_peak_bytes": measured_peak_bytes,
        "corrected": corrected.parts,
        "scale": corrected.scale,
        "total_bytes": capacity.total_bytes,
        "verdict": corrected.verdict(capacity.total_bytes),
    }
    write_json(folder / RECORD, row)
    return corrected


def recorded_scale(folder: Path, device: Device) -> float | None:
    """What an earlier step measured on such a device; None where nothing was recorded or it is not readable."""
    try:
        row: dict[str, Any] = read_json(folder / RECORD)
        return float(row["scale"]) if row["device"] == device else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def forecast_note(found: Forecast, capacity: Capacity) -> Log:
    """The forecast as one line of the log; a warning where it is tight or too large."""
    values = {
        "need": gigabytes(found.total_bytes),
        "room": gigabytes(capacity.total_bytes),
        "batch": found.batch_size,
        "length": found.sequence_length,
    }
    card = capacity.device == "cuda"
    match found.verdict(capacity.total_bytes):
        case "fits":
            return note(
                "Training {batch} × {length} tokens should take {need} of {room} graphics memory: it fits."
                if card
                else "Training {batch} × {length} tokens should take {need} of {room} RAM: it fits.",
                **values,
            )
        case "tight":
            return warning(
                "Training {batch} × {length} tokens should take {need} of {room} graphics memory: that is tight."
                if card
                else "Training {batch} × {length} tokens should take {need} of {room} RAM: that is tight.",
                **values,
            )
    return warning(
        "Training {batch} × {length} tokens should take {need}, more than the {room} of graphics memory."
        if card
        else "Training {batch} × {length} tokens should take {need}, more than the {room} of RAM.",
        **values,
    )


def gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def _around(chosen: int, smallest: int) -> Iterable[int]:
    lowest = max(chosen // 4, smallest) if chosen >= smallest else chosen
    found = [lowest]
    while len(found) < 5:
        found.append(found[-1] * 2)
    return sorted({*found, chosen})
