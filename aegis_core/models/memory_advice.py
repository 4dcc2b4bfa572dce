"""Settings with which a training that ran out of memory should fit. Free of torch: the window imports it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .. import hardware
from ..events import Log, StepFailed, Telemetry, note
from ..failures import KILLED, OUT_OF_MEMORY, UserError
from ..plan import Plan, changed
from ..run_directory import RunDirectory
from .identity import read_base
from .memory import MARGIN_CORRECTED, Capacity, Forecast, capacity_in, forecast, gigabytes, recorded_scale
from .memory_parts import Device, can_quantise, checkpoints, is_quantised
from .shape import ModelShape, read_shape

_STEP = "train"
_MOST_ACCUMULATION = 1024  # the plan's own bound
_SHORTEST = 128  # tokens; below that a chat hardly fits one sequence


@dataclass(frozen=True)
class Suggestion:
    """Settings to change, and what training should take with them."""

    changes: dict[str, Any]
    forecast: Forecast


def smaller(plan: Plan, shape: ModelShape, capacity: Capacity, scale: float | None = None) -> list[Suggestion]:
    """Ever smaller settings, those first that change the least; the tokens of one optimiser step stay the same.

    In turn, each on top of the one before: a smaller batch with more accumulation, which is the same training;
    activations computed twice, which is slower; 4 bits, where there is a GPU; half the sequence length, for which the
    data are prepared again.
    """
    suggestions = []
    for changes in _ever_smaller(plan, capacity.device):
        found = forecast(
            shape, changed(plan, changes), device=capacity.device, others_bytes=capacity.others_bytes, scale=scale
        )
        suggestions.append(Suggestion(changes, found))
    return suggestions


def first_that_fits(plan: Plan, shape: ModelShape, capacity: Capacity, scale: float | None = None) -> Suggestion | None:
    """After the memory ran out: the first smaller settings that leave room, at worst the smallest that are tight; None
    if all are too large.

    A forecast by which the plan itself has room was proved too low: it is then taken to be so everywhere.
    """
    now = forecast(shape, plan, device=capacity.device, others_bytes=capacity.others_bytes, scale=scale)
    proved = max((capacity.total_bytes - now.others) / now.own_bytes, 1.0)
    possible = []
    for suggestion in smaller(plan, shape, capacity, scale):
        found = suggestion.forecast
        verdict = found.verdict(capacity.total_bytes)
        grown = found.own_bytes * proved * (1 + MARGIN_CORRECTED) + found.others
        if verdict == "fits" and grown <= capacity.total_bytes:
            return suggestion
        if verdict == "tight":
            possible.append(suggestion)
    return possible[-1] if possible else None


def with_smaller_settings(failed: StepFailed, run: RunDirectory, plan: Plan) -> StepFailed:
    """The failure with settings that should fit, if the memory of the training ran out and the model is known."""
    if failed.stage != _STEP or failed.changes or failed.reason_template not in (OUT_OF_MEMORY, KILLED):
        return failed
    capacity = _capacity_without_us(hardware.reading())
    try:
        shape = read_shape(read_base(run).path)
    except (UserError, OSError, ValueError, TypeError):
        return failed
    if capacity is None:
        return failed
    found = first_that_fits(plan, shape, capacity, recorded_scale(run.step_folder(_STEP), capacity.device))
    room = gigabytes(capacity.total_bytes)
    if found is None:
        return _advised(
            failed,
            note(
                "No smaller batch or length would fit {room}: choose a smaller base model, or close other programs.",
                room=room,
            ),
        )
    settings = ", ".join(f"{name} = {value}" for name, value in found.changes.items())
    need = gigabytes(found.forecast.total_bytes)
    advice = note("With {settings} it should fit: about {need} of {room}.", settings=settings, need=need, room=room)
    return replace(_advised(failed, advice), changes=found.changes)


def _capacity_without_us(reading: Telemetry) -> Capacity | None:
    """What there is once the failed training has gone. Where the driver does not say whose memory is whose, what is in
    use is mostly that very training: nothing then counts as the others'."""
    capacity = capacity_in(reading)
    if capacity and capacity.device == "cuda" and reading.vram_own_bytes is None:
        return replace(capacity, others_bytes=0)
    return capacity


def _advised(failed: StepFailed, advice: Log) -> StepFailed:
    values = {**failed.values, **advice.values}
    return replace(failed, advice=advice.text, advice_template=advice.template, values=values)


def _ever_smaller(plan: Plan, device: Device) -> Iterator[dict[str, Any]]:
    batch, accumulation, length = plan.train.batch_size, plan.train.accumulation, plan.data.sequence_length
    changes: dict[str, Any] = {}
    while batch > 1:
        batch, before = batch // 2, batch
        accumulation = min(accumulation * before // batch, _MOST_ACCUMULATION)
        changes |= {"train.batch_size": batch, "train.accumulation": accumulation}
        yield dict(changes)
    if not checkpoints(plan, device):
        changes["train.gradient_checkpointing"] = "on"
        yield dict(changes)
    if can_quantise(device) and not is_quantised(plan, device):
        changes["model.quantisation"] = "nf4"
        yield dict(changes)
    while length >= 2 * _SHORTEST:
        length, accumulation = length // 2, min(accumulation * 2, _MOST_ACCUMULATION)
        changes |= {"data.sequence_length": length, "train.accumulation": accumulation}
        yield dict(changes)
