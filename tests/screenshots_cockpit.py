"""`python -m tests.screenshots_cockpit OUT [--small]`: the training page in every state and look, with every plot.

All states come from recordings played into the page. --small is the smallest window; QT_SCALE_FACTOR=2 doubles
everything.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import snap
from gui_parts import BUSY_MACHINE, open_window, recorded_run
from PySide6.QtWidgets import QApplication

from aegis_core import events
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.soul import schedule
from aegis_gui.i18n import LANGUAGES
from aegis_gui.pages.train import CURVES, TrainPage
from aegis_gui.theme import THEMES
from aegis_gui.window import Window

START = 1_790_000_000.0
N_STEPS = 500
SETTLING_SECONDS, LONGEST_SETTLING, ROUNDS = 0.3, 20.0, 12
SETS = {  # every plot is in one of them
    "first": ("loss", "alpha", "memory", "rotation"),
    "second": ("loss", "portrait", "gradient", "learning_rate"),
    "third": ("load", "power", "speed", "orthogonality"),
}


def invented_training(plan: Plan, n_steps: int, *, card: bool = True) -> Iterator[events.Event]:
    """What a training with a card of 12 GB might tell, up to a step: invented, with everything that can be told."""
    total, noise = plan.train.steps, random.Random(0)
    alphas, phases = schedule.curve(total, plan.soul), schedule.phases(total, plan.soul)
    yield events.StepStarted(at=START, stage="train")
    for name, value in (("base_loss", 3.303), ("chance_loss", 10.376), ("forecast_bytes", 6.3e9 if card else 3.4e9)):
        yield events.Metric(name, 0, value, at=START, stage="train")
    for step in range(1, n_steps + 1):
        at, done = START + step * 2.2, step / total
        if step == 1 or phases[step - 1] != phases[step - 2]:
            yield events.PhaseChanged(step, phases[step - 1], at=at, stage="train")
        values = {
            "loss": 3.3 - 0.35 * (1 - math.exp(-step / 90)) + noise.gauss(0, 0.2),
            "alpha": alphas[step - 1],
            "gate": schedule.gate(alphas[step - 1]),
            "learning_rate": 2.7e-4 * min(step / 20, (1 + math.cos(math.pi * done)) / 2),
            "grad_norm": 0.6 + 2 * math.exp(-step / 30) + abs(noise.gauss(0, 0.2)),
            "rotation_grad_norm": 0.02 + 0.3 * schedule.gate(alphas[step - 1]) + abs(noise.gauss(0, 0.03)),
            "rotation_angle": 0.007 * (1 - math.exp(-step / 200)),
            "rotation_angle_largest": 0.019 * (1 - math.exp(-step / 170)),
            "orthogonality_error": 1e-15 * (1 + noise.random()),
            "tokens_per_second": 905 + noise.gauss(0, 25),
        }
        if card:
            values |= {"vram_resting_bytes": 2.6e9, "vram_peak_bytes": 4.7e9, "vram_reserved_bytes": 5.1e9}
        for name, value in values.items():
            yield events.Metric(name, step, value, at=at, stage="train")
        yield events.Progress(step, total, "steps", at=at, stage="train")
        reading = replace(BUSY_MACHINE, at=at + 1.0, stage="train", cpu_percent=22 + noise.random() * 20)
        reading = replace(
            reading,
            gpu_percent=94 + noise.random() * 6,
            gpu_celsius=71 - 25 * math.exp(-step / 60),
            gpu_watts=143 + noise.gauss(0, 6),
            vram_own_bytes=round(5.9e9),
            vram_used_bytes=round(7.1e9 + 2e8 * math.sin(step / 40)),
        )
        if not card:
            reading = events.Telemetry(
                at=reading.at, stage="train", cpu_percent=96 + noise.random() * 4, ram_total_bytes=16_000_000_000,
                ram_used_bytes=round(7.1e9 + step * 1e6), ram_own_bytes=round(3.3e9 + step * 5e5),
            )  # fmt: skip
        yield reading
        if step % 100 == 0:
            yield events.CheckpointSaved(step, at=at, stage="train")
        if step % 50 == 0:
            yield events.Metric("held_out_loss", step, 3.3 - 0.38 * (1 - math.exp(-step / 110)), at=at, stage="train")
            said = f"Time is irreversible because entropy grows. That is the {('first', 'second')[step // 50 % 2]} law."
            yield events.Sample("Why is time irreversible? Explain physically.", said, step, at=at, stage="train")
        if step == 170:
            yield events.Paused(True, at=at + 0.2, stage="train")
            yield events.Paused(False, at=at + 1.2, stage="train")
        if step == 230:
            yield replace(DIVERGES, at=at, stage="train")


DIVERGES = events.warning(
    "At step {step} the loss {loss} has risen {rise} nats above its lowest: the training diverges. "
    "Lower the learning rate.",
    step=230,
    loss="3.702",
    rise="0.713",
)
ENDS = {
    "done": events.StepFinished(1100.0, at=START + 1101, stage="train"),
    "failed": events.StepFailed(
        "", "", "", "The loss is not a finite number at step {step}; training stopped before that step was made.",
        "Lower the learning rate or choose float32; the last good checkpoint is kept.", {"step": "331"},
        at=START + 730, stage="train",
    ),
    "stopped": events.StepCancelled(at=START + 730, stage="train"),
}  # fmt: skip


def shoot(window: Window, runs: Path, out: Path) -> list[Path]:
    """Every picture of the training page, from runs made in `runs`."""
    out.mkdir(parents=True, exist_ok=True)
    plan = changed(demo_plan(), {"train.steps": N_STEPS})
    window.state.open(recorded_run(runs / "cockpit 計器", plan, last="prepare").path)
    page = window.step_page("train")
    assert isinstance(page, TrainPage)
    page.tabs.show_view(CURVES)
    found = _looks(window, out, "empty")
    window.state.begin()
    for event in invented_training(plan, 330):
        window.state.receive(event)
    for name, shown in SETS.items():
        _choose(page, shown)
        found += _looks(window, out, f"running-{name}")
    page.cockpit.loss.hovered.emit(171.0)
    found += _looks(window, out, "crosshair")
    page.cockpit.loss.hovered.emit(None)
    page.cockpit.loss.show_part(120, 240)
    page.cockpit.samples.slider.setValue(1)
    found += _looks(window, out, "zoomed-and-back-in-time")
    page.cockpit.loss.ask_for_everything()
    for state in ("failed", "stopped"):
        window.state.receive(replace(events.StepStarted(resumed=True), at=START + 727, stage="train"))
        window.state.receive(ENDS[state])
        window.state.end()
        found += _looks(window, out, state)
        window.state.begin()
    window.state.end()
    _choose(page, SETS["first"])
    window.state.open(recorded_run(runs / "cpu", plan, last="prepare").path)
    window.state.begin()
    for event in invented_training(plan, 200, card=False):
        window.state.receive(event)
    found += _looks(window, out, "running-cpu")
    _choose(page, SETS["third"])
    found += _looks(window, out, "running-cpu-third")
    window.state.end()
    _choose(page, SETS["first"])
    window.state.open(recorded_run(runs / "recorded", demo_plan()).path)
    found += _looks(window, out, "done")
    page.begin_replay()
    assert page.replay is not None
    page.replay.pause()
    page.replay.seek(page.replay.recording.seconds * 0.6)
    found += _looks(window, out, "replay")
    page.end_replay()
    return found


def settle(window: Window, seconds: float) -> None:
    """Let the window come to rest, also on a machine with so much to do that the time alone says nothing: every layout
    has several rounds to find its size, and the curves are drawn."""
    began, n_rounds = time.monotonic(), 0
    page = window.pages.get("train")
    while time.monotonic() - began < LONGEST_SETTLING:
        QApplication.processEvents()
        time.sleep(0.01)
        n_rounds += 1
        drawing = isinstance(page, TrainPage) and page.isVisible() and page.cockpit._timer.isActive()
        if time.monotonic() - began >= seconds and n_rounds >= ROUNDS and not drawing:
            break


def _choose(page: TrainPage, shown: tuple[str, ...]) -> None:
    for name, card in zip(shown, page.cockpit.board.cards, strict=True):
        page.cockpit.board.put(name, card)


def _looks(window: Window, out: Path, state: str) -> list[Path]:
    found = []
    for language in LANGUAGES:
        for theme in THEMES:
            if window.language.current != language:
                window._use_language(language)
            if window.appearance.theme.name != theme:
                window._use_theme(theme)
            window.show_page("train")
            window.strip.show_reading(BUSY_MACHINE)
            settle(window, SETTLING_SECONDS)
            path = out / f"cockpit-{state}-{language}-{theme}.png"
            found.append(snap(window, path))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots_cockpit", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    app = QApplication(sys.argv[:1])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEGIS_PREFERENCES"] = str(Path(scratch) / "window.ini")
        os.environ["AEGIS_RUNS"] = str(Path(scratch) / "AEGIS")
        with open_window(app) as window:
            window.machine.shut_down()
            window.resize(*((1100, 720) if options.small else (1280, 800)))
            pictures = shoot(window, Path(scratch) / "AEGIS", options.out)
    sys.stdout.write(f"{len(pictures)} pictures in {options.out}\n")


if __name__ == "__main__":
    main()
