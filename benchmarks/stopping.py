"""From the wish to stop until the engine's process is gone: asked politely, by force, and when its window dies.

    python benchmarks/stopping.py [--rounds 5] [--demo]

A real training in a real engine process: a two-layer model (H = 64), or with --demo the embedded SmolLM2-135M, which is
fetched once. Each round starts it anew and waits until it has trained some steps. "Politely" saves a checkpoint and
exits; "by force" ends the whole family of processes; "window dies" is the end of the engine's input, nothing else.
Prints a table of seconds (median and worst) and whether the newest step is in a checkpoint; nothing is asserted.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from aegis_core.events import Event, Metric
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory

WAYS: dict[str, Callable[[Child], None]] = {
    "politely": Child.cancel,
    "by force": Child.kill,
    "window dies": lambda child: child._outbox.put(None),
}
TRAINED_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    print("| way | median s | worst s | newest step saved |\n|---|---:|---:|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for way, stop in WAYS.items():
            rows = [_once(_run(folder / f"{way} {n}", options.demo), stop) for n in range(options.rounds)]
            seconds = [row[0] for row in rows]
            saved = sum(row[1] for row in rows)
            cells = f"{statistics.median(seconds):.2f} | {max(seconds):.2f} | {saved} of {len(rows)}"
            print(f"| {way} | {cells} |", flush=True)


def _once(run: RunDirectory, stop: Callable[[Child], None]) -> tuple[float, bool]:
    """(seconds until the process was gone, whether the newest trained step is in a checkpoint)."""
    child = Child(engine_command("run", run.path, "--only", "train", "--events"), run.stderr_path)
    trained, newest = threading.Event(), [0]

    def listen() -> None:
        for event in child.events():
            _note(event, newest)
            if newest[0] >= TRAINED_STEPS or not child.running:
                trained.set()
        trained.set()

    listener = threading.Thread(target=listen)
    listener.start()
    trained.wait()
    if not child.running:
        raise SystemExit(child.stderr_tail())
    began = time.perf_counter()
    stop(child)
    child.wait()
    seconds = time.perf_counter() - began
    listener.join()
    saved = (int(path.name.removeprefix("checkpoint-")) for path in run.step_folder("train").glob("checkpoint-*"))
    return seconds, max(saved, default=0) == newest[0]


def _note(event: Event, newest: list[int]) -> None:
    if isinstance(event, Metric) and event.name == "loss":
        newest[0] = event.step


def _run(folder: Path, demo: bool) -> RunDirectory:
    """A run whose data is ready, far from its end."""
    settings: dict[str, object] = {"train.steps": 4000, "train.evaluate_steps": 0, "train.checkpoint_steps": 4000}
    if not demo:
        import pico

        folder.mkdir()
        data = folder / "data.jsonl"
        rows = ({"question": f"What is {n}?", "answer": f"It is wave {n} of atom {n % 3}."} for n in range(24))
        data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        settings |= {"model.source": str(pico.build(folder / "model", tied=False)), "data.source": str(data)}
        settings |= {"data.sequence_length": 32, "lora.rank": 4}
    run = RunDirectory.create(folder / "run", changed(demo_plan() if demo else Plan(), settings))
    child = Child(engine_command("run", run.path, "--only", "prepare", "--events"), run.stderr_path)
    for _ in child.events():
        pass
    return run


if __name__ == "__main__":
    main()
