"""What the window's tests share: a window of its own with its own preferences, and a run that really happened.

tests/data/ritual holds events.jsonl and the small result files of a real demo ritual (80 steps), its weights left out.
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_desktop import FakeDesktop
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget

from aegis_core import events, freshness
from aegis_core.plan import Plan, demo_plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.app import build
from aegis_gui.elided import Elided
from aegis_gui.window import Window

BUSY_MACHINE = events.Telemetry(
    gpu_name="NVIDIA GeForce RTX 3060",
    vram_used_bytes=7_100_000_000,
    vram_total_bytes=12_000_000_000,
    vram_own_bytes=6_200_000_000,
    gpu_percent=96,
    gpu_celsius=71,
    gpu_watts=143,
    ram_used_bytes=9_800_000_000,
    ram_total_bytes=32_000_000_000,
    ram_own_bytes=3_100_000_000,
    disk_free_bytes=212_000_000_000,
)
"""An invented reading of a machine that has everything: the strip at its longest."""
RITUAL = Path(__file__).parent / "data" / "ritual"


@contextmanager
def open_window(app: QApplication, desktop: FakeDesktop | None = None) -> Iterator[Window]:
    """A shown window on a desktop of its own; no thread or process of it is left afterwards."""
    window = build(app, (desktop or FakeDesktop()).desktop())
    window.show()
    try:
        yield window
    finally:
        window.shut_down()
        window.close()
        for leftover in (window, window.language, window.appearance):
            leftover.deleteLater()
        app.setStyleSheet("")
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def recorded_run(path: Path, plan: Plan | None = None, last: str = "report") -> RunDirectory:
    """The recorded ritual as a run at `path`, done up to the step `last`."""
    plan = plan or demo_plan()
    run = RunDirectory.create(path, plan)
    steps = [step.id for step in freshness.STEPS]
    kept = steps[: steps.index(last) + 1]
    with run.events_path.open("w", encoding="utf-8") as file:
        for event in recorded_events():
            if event.stage in kept:
                file.write(events.encode(event) + "\n")
    for step in freshness.STEPS[: len(kept)]:
        if not (step.optional and not getattr(plan, step.id).enabled):
            mark_done(run, plan, step.id)
    return run


def mark_done(run: RunDirectory, plan: Plan, step: str) -> None:
    """Put the recorded small files of a step in place and its marker beside them."""
    folder = run.step_folder(step)
    if (RITUAL / step).is_dir():
        shutil.copytree(RITUAL / step, folder, dirs_exist_ok=True)
    folder.mkdir(exist_ok=True)
    if step == "report":
        shutil.copy(RITUAL / "report.json", run.path)
    by_id = freshness.BY_ID[step]
    digests = freshness.input_digests(run, plan, by_id)
    run.write_done(step, freshness.settings_of(plan, by_id), digests, [], 12.0)


def recorded_events(stage: str = "") -> list[events.Event]:
    """Every event of the recorded ritual, or of one of its steps."""
    with (RITUAL / "events.jsonl").open(encoding="utf-8") as lines:
        found = [events.decode(line) for line in lines]
    return [event for event in found if not stage or event.stage == stage]


def control_events(steps: int = 80) -> list[events.Event]:
    """What a comparison tells while it runs: invented losses of both controls, drawn beside the recorded training."""
    told = {"lora": "control: LoRA without gate", "fixed": "control: gate open from the start"}
    found: list[events.Event] = [stamped(events.StepStarted(resumed=True), "train")]
    for place, (kind, phase) in enumerate(told.items()):
        for step in range(1, steps + 1):
            loss = 3.32 - 0.3 * (1 - math.exp(-step / 40)) + 0.06 * place + 0.05 * math.sin(step * (place + 2))
            found.append(stamped(events.Metric(f"{kind}_loss", step, loss), "train"))
            if step % 20 == 0:
                held_out = 3.27 - 0.002 * step + 0.03 * place
                found.append(stamped(events.Metric(f"{kind}_held_out_loss", step, held_out), "train"))
            found.append(stamped(events.Progress(step, steps, "steps", phase), "train"))
    return found


def control_row(verdicts: tuple[str, str] = ("helped", "no_difference"), **transition: object) -> dict[str, Any]:
    """An invented control.json; without more its transition was not measured, for want of data orders."""
    found = {"outcome": "not_measured", "reason": "too_few_orders", "n_orders": 1, "n_agreeing": 0, "step": None}
    found |= {"tolerance": None, "sizes": {}, "pairs": {"lora": [], "fixed": []}}
    sizes = {"helped": -0.0123, "hurt": 0.0208, "no_difference": 0.0004}
    paired = {
        f"gated_minus_{kind}": {
            "nats": sizes[verdict], "standard_error": 0.0031, "n_tokens": 2032, "n_orders": 1, "verdict": verdict,
        }
        for kind, verdict in zip(("lora", "fixed"), verdicts, strict=True)
    }  # fmt: skip
    losses = {"gated-0": 2.9491, "lora-0": 2.9614, "fixed-0": 2.9487}
    arms = {name: {"loss": loss, "standard_error": 0.0211, "perplexity": 19.1} for name, loss in losses.items()}
    return {"arms": arms, "paired": paired, "transition": found | transition}


def stamped(event: events.Event, stage: str) -> events.Event:
    return replace(event, stage=stage, at=1_790_000_000.0)


def texts(widget: QWidget) -> str:
    """All that the visible labels say, once what was just drawn is on screen."""
    QApplication.processEvents()
    return "\n".join(label.text() for label in widget.findChildren(QLabel) if label.isVisibleTo(widget))


def japanese() -> dict[str, str]:
    path = Path(__file__).parent.parent / "resources" / "translations" / "ja.json"
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def clipped(window: QWidget) -> list[str]:
    """Texts on screen that have less room than they need, each with what it has and wants in px."""
    found = []
    for widget in window.findChildren(QWidget):
        if not widget.isVisible() or widget.visibleRegion().isEmpty():
            continue
        if isinstance(widget, QLabel) and not isinstance(widget, Elided) and widget.text():
            wanted = widget.heightForWidth(widget.width()) if widget.wordWrap() else widget.sizeHint().height()
            if not widget.wordWrap() and widget.width() < widget.sizeHint().width():
                found.append(f"{widget.text()!r}: {widget.width()} of {widget.sizeHint().width()} wide")
            elif widget.height() < wanted:
                found.append(f"{widget.text()!r}: {widget.height()} of {wanted} high")
        elif isinstance(widget, QAbstractButton) and widget.text() and widget.width() < widget.sizeHint().width():
            found.append(f"{widget.text()!r}: {widget.width()} of {widget.sizeHint().width()} wide")
    return found
