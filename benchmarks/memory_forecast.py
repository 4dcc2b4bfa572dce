"""Forecast and truth: the peak memory of real training steps, each in a process of its own.

    python benchmarks/memory_forecast.py [--model FOLDER] [--steps 3] [BATCHxLENGTH[c] …]

Without --model the embedded demo model is taken (fetched once); `c` turns gradient checkpointing on. The training is
aegis_core.training.trainer.fit on random tokens. Prints a Markdown table: predicted, measured, predicted / measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aegis_core import plan as plans  # noqa: E402
from aegis_core.cancel import CancelToken  # noqa: E402
from aegis_core.models.memory import forecast  # noqa: E402
from aegis_core.models.shape import read_shape  # noqa: E402

CASES = ("1x128", "2x128", "4x128", "2x256", "2x128c", "4x256c")


def plan_of(case: str, n_steps: int) -> plans.Plan:
    batch, _, length = case.rstrip("c").partition("x")
    return plans.changed(
        plans.Plan(),
        {
            "train.batch_size": int(batch),
            "data.sequence_length": int(length),
            "train.steps": n_steps,
            "train.warmup_steps": 0,
            "train.gradient_checkpointing": "on" if case.endswith("c") else "auto",
        },
    )


def measure(folder: Path, case: str, n_steps: int) -> dict[str, object]:
    """Train for a few steps in this very process; the peak after the second step and after the last."""
    import torch

    from aegis_core.data.packed import Packed
    from aegis_core.models.loading import choose_dtype, load_model
    from aegis_core.models.peak import PeakMemory
    from aegis_core.training.gated_model import gated_for_training
    from aegis_core.training.trainer import Hooks, fit

    plan = plan_of(case, n_steps)
    model = load_model(folder, choose_dtype(plan.model.dtype))
    gated = gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    device = gated.model.device.type
    batch, length = plan.train.batch_size, plan.data.sequence_length
    ids = torch.randint(0, read_shape(folder).vocabulary_size, (batch * n_steps, length))
    peaks = []
    with PeakMemory() as peak, tempfile.TemporaryDirectory() as scratch:
        hooks = Hooks(after_step=lambda report: peaks.append(peak.n_bytes))
        fit(gated, plan, Packed(ids, ids.clone()), CancelToken(), hooks, Path(scratch), keep=False)
    return {"device": device, "second": peaks[min(1, n_steps - 1)], "last": peaks[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.model
    if folder is None:
        from aegis_core.models.demo import ensure_demo

        folder = ensure_demo(CancelToken(), lambda what: None)
    if options.measure:
        sys.stdout.write(json.dumps(measure(folder, options.cases[0], options.steps)) + "\n")
        return
    write = sys.stdout.write
    write(f"{folder.name}, peak of {options.steps} steps in MB\n\n")
    write("| batch × length | predicted | measured | ratio | after step 2 | corrected by it, ratio |\n")
    write("|---|---|---|---|---|---|\n")
    for case in options.cases:
        command = [sys.executable, __file__, case, "--measure", "--model", str(folder), "--steps", str(options.steps)]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        row = json.loads(run.stdout.splitlines()[-1])
        expected = forecast(read_shape(folder), plan_of(case, options.steps), device=row["device"])
        own = expected.own_bytes - (expected.context if row["device"] == "cuda" else 0)
        corrected = expected.corrected(row["second"])
        write(
            f"| {case} | {own / 1e6:.0f} | {row['last'] / 1e6:.0f} | {own / row['last']:.2f} "
            f"| {row['second'] / 1e6:.0f} | {corrected.own_bytes / row['last']:.2f} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
