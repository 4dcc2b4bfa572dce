"""`python -m benchmarks.faults.flood RUN SECONDS`: 10,000 events a second from a real child into a real window.

The child writes through the engine's own session: journal and pipe. The window reads through its own thread and inbox.
Prints one line of JSON: how many were sent, arrived, stand in the journal; growth of memory; the longest time for which
the window's loop did not turn.
"""

import json
import os
import sys
import time
from pathlib import Path

from aegis_core.events import Metric
from aegis_core.run_directory import RunDirectory

RATE, BATCH = 10_000, 100


def send(run: RunDirectory, seconds: float) -> None:
    """The child: evenly, as far as this machine manages; then how many it were, as the last metric."""
    from aegis_core import stdio
    from aegis_core.events import StepFinished, StepStarted
    from aegis_core.session import Session

    pipes = stdio.take_over()
    with Session(run, stdio.EventWriter(pipes.events, lambda: None), telemetry=False) as session:
        session(StepStarted(at=time.time(), stage="train"))
        began, n_sent = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            for _ in range(BATCH):
                n_sent += 1
                session(Metric("loss", n_sent, 2.0 + n_sent % 7 / 10, at=time.time(), stage="train"))
            time.sleep(max(0.0, n_sent / RATE - (time.monotonic() - began)))
        session(Metric("sent", n_sent, time.monotonic() - began, at=time.time(), stage="train"))
        session(StepFinished(seconds, at=time.time(), stage="train"))


def receive(run: RunDirectory, seconds: float) -> dict[str, float]:
    """The window, offscreen, on its training page."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import psutil
    from PySide6.QtWidgets import QApplication

    from aegis_core.child import Child
    from aegis_core.events import Event
    from aegis_gui.app import build
    from aegis_gui.inbox import Inbox
    from aegis_gui.worker import RunWorker

    app = QApplication(sys.argv[:1])
    window = build(app)
    window.machine.shut_down()
    window.show()
    window.state.open(run.path)
    window.show_page("train")
    heard: dict[str, list[int]] = {"loss": [], "sent": []}
    spent: dict[str, float] = {"longest_gap_seconds": 0.0}

    def deliver(event: Event) -> None:
        window.state.receive(event)
        if isinstance(event, Metric):
            heard[event.name].append(event.step)
            if event.name == "sent":
                spent["sending_seconds"] = event.value or 0.0

    before = psutil.Process().memory_info().rss
    inbox = Inbox(deliver)
    child = Child(
        [sys.executable, "-m", "benchmarks.faults.flood", str(run.path), str(seconds), "child"], run.stderr_path
    )
    worker = RunWorker(child, inbox.put)
    inbox.start()
    worker.start()
    turned = time.monotonic()
    while not heard["sent"] and (worker.isRunning() or inbox._waiting):
        app.processEvents()
        now = time.monotonic()
        spent["longest_gap_seconds"] = max(spent["longest_gap_seconds"], now - turned)
        turned = now
        time.sleep(0.001)
    worker.wait()
    inbox.stop()
    grown = psutil.Process().memory_info().rss - before
    window.shut_down()
    window.close()
    journal = sum(1 for line in run.events_path.open(encoding="utf-8") if '"name": "loss"' in line)
    in_order = heard["loss"] == list(range(1, len(heard["loss"]) + 1))
    n_sent = heard["sent"][0] if heard["sent"] else 0
    return {
        "sent": n_sent, "arrived": len(heard["loss"]), "in_order": in_order, "in_journal": journal,
        "grown_mb": grown / 1e6, **spent,
    }  # fmt: skip


if __name__ == "__main__":
    place = RunDirectory(Path(sys.argv[1]))
    if sys.argv[3:] == ["child"]:
        send(place, float(sys.argv[2]))
    else:
        print(json.dumps(receive(place, float(sys.argv[2]))))
