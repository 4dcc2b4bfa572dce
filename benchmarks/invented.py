"""Events of an invented training of any length, for measuring the window without training anything."""

import math
import random
from collections.abc import Iterator

from aegis_core.events import CheckpointSaved, Event, Metric, Progress, Sample, StepStarted, Telemetry
from aegis_core.plan import Plan
from aegis_core.soul import schedule

START = 1_790_000_000.0
SECONDS_PER_STEP = 2.0


def training(plan: Plan, n_steps: int) -> Iterator[Event]:
    """What the engine tells up to a step: about 15 events for each."""
    total, noise = plan.train.steps, random.Random(0)
    alphas = schedule.curve(total, plan.soul)
    yield StepStarted(at=START, stage="train")
    for name, value in (("base_loss", 3.303), ("chance_loss", 10.376), ("forecast_bytes", 6.3e9)):
        yield Metric(name, 0, value, at=START, stage="train")
    for step in range(1, n_steps + 1):
        at, alpha = START + step * SECONDS_PER_STEP, alphas[step - 1]
        values = {
            "loss": 3.3 - 0.35 * (1 - math.exp(-4 * step / total)) + noise.gauss(0, 0.2),
            "alpha": alpha,
            "gate": schedule.gate(alpha),
            "learning_rate": 2.7e-4 * (1 - step / total),
            "grad_norm": 0.8 + abs(noise.gauss(0, 0.2)),
            "rotation_grad_norm": 0.1 + abs(noise.gauss(0, 0.03)),
            "rotation_angle": 0.007 * step / total,
            "rotation_angle_largest": 0.02 * step / total,
            "orthogonality_error": 1e-15 * (1 + noise.random()),
            "tokens_per_second": 900 + noise.gauss(0, 25),
        }
        for name, value in values.items():
            yield Metric(name, step, value, at=at, stage="train")
        yield Progress(step, total, "steps", at=at, stage="train")
        yield Telemetry(
            at=at + 0.7,
            stage="train",
            vram_total_bytes=12_000_000_000,
            vram_used_bytes=round(7.1e9 + 2e8 * math.sin(step / 400)),
            vram_own_bytes=5_900_000_000,
            gpu_percent=94 + noise.random() * 6,
            gpu_celsius=71,
            gpu_watts=143 + noise.gauss(0, 6),
            cpu_percent=30 + noise.random() * 10,
        )
        if step % 250 == 0:
            yield CheckpointSaved(step, at=at, stage="train")
            yield Metric("held_out_loss", step, 3.1, at=at, stage="train")
            yield Sample("Why is time irreversible?", f"Because entropy grows, {step} times over.", step, at=at,
                         stage="train")  # fmt: skip
