"""The real engine (`aegis …`) with tiny steps in place of the nine: what each does is told by TINY_STEPS.

TINY_STEPS is JSON, e.g. {"check": "loop"}; a step that is not named just leaves one file.
"""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

from aegis_core.cli import main
from aegis_core.context import StepContext
from aegis_core.events import Progress
from aegis_core.failures import UserError
from aegis_core.plan import Plan
from aegis_core.run_directory import write_json

BEHAVIOUR = json.loads(os.environ.get("TINY_STEPS", "{}"))


def ok(plan: Plan, ctx: StepContext) -> None:
    path = ctx.folder / "result.txt"
    path.write_text(f"{ctx.stage} {plan.train.steps}", encoding="utf-8")
    ctx.artifact(path)


def loop(plan: Plan, ctx: StepContext) -> None:
    """Counts in a file, one number a tick; an attempt that was cut off goes on counting."""
    counter = ctx.folder / "count.txt"
    start = int(counter.read_text(encoding="utf-8")) if counter.exists() else 0
    for n in range(start + 1, 10_000):
        ctx.cancel.check()
        counter.write_text(str(n), encoding="utf-8")
        ctx.emit(Progress(n, 10_000, "ticks"))
        time.sleep(0.02)


def short_loop(plan: Plan, ctx: StepContext) -> None:
    for n in range(60):
        ctx.cancel.check()
        ctx.emit(Progress(n, 60, "ticks"))
        time.sleep(0.02)
    ok(plan, ctx)


def abort(plan: Plan, ctx: StepContext) -> None:
    os.write(2, "native library says さようなら\n".encode())
    os.abort()


def leave(plan: Plan, ctx: StepContext) -> None:
    os._exit(0)


def refuse(plan: Plan, ctx: StepContext) -> None:
    (ctx.folder / "half.txt").write_text("half", encoding="utf-8")
    raise UserError("No config.json in {folder}.", "Choose a model folder.", folder=ctx.folder)


def stumble(plan: Plan, ctx: StepContext) -> None:
    raise ValueError("two plus two")


def leave_by_exit(plan: Plan, ctx: StepContext) -> None:
    sys.exit("a library gave up")


def deaf(plan: Plan, ctx: StepContext) -> None:
    """Never listens, and has a child of its own, in a session of its own."""
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, stdout=nothing, stderr=nothing
    )
    ctx.emit(Progress(child.pid, 0, "pid"))
    time.sleep(600)


def noisy(plan: Plan, ctx: StepContext) -> None:
    print("a library prints")
    os.write(1, b"\x83e\x83X\x83g native print in cp932\n")
    subprocess.run([sys.executable, "-c", "print('a subprocess prints')"], check=True)
    subprocess.run([sys.executable, "-c", "import sys; assert sys.stdin.read() == ''"], check=True)
    ok(plan, ctx)


def chatty(plan: Plan, ctx: StepContext) -> None:
    os.write(2, b"native warning\n")
    print("{'train_runtime': 1}")
    sys.stderr.write("a warning of a library\n")
    ok(plan, ctx)


def fill(plan: Plan, ctx: StepContext) -> None:
    with (ctx.folder / "big.bin").open("wb") as file:
        for _ in range(64):
            file.write(bytes(1024 * 1024))


def judge(plan: Plan, ctx: StepContext) -> None:
    """A run log: training is green, alpha red when twelve steps were asked for."""
    reached = "fail" if plan.train.steps == 12 else "pass"
    rows = {
        "training_completed": {"status": "pass", "measured": "yes", "expected": "yes"},
        "alpha_reached": {"status": reached, "measured": "0.3", "expected": "1.618"},
    }
    write_json(ctx.run.path / "report.json", {"indicators": rows})
    ctx.artifact(ctx.run.path / "report.json")


for step in ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat", "report"):
    module = types.ModuleType(f"aegis_core.steps.{step}")
    module.run = globals()[BEHAVIOUR.get(step, "ok")]  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module

if __name__ == "__main__":
    assert Path(__file__).name == "tiny_engine.py"
    sys.exit(main())
