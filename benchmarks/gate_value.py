"""Does the gate cost or bring quality? Held-out loss of LoRA alone, of LoRA with the gate, and of its options.

    python benchmarks/gate_value.py [--out FOLDER] [--seeds 42 43 44] [--arms lora gated …] [--list]

Every arm trains the demo plan on the embedded model: same data, and for the same seed the same order, dropout and
adapter at the start. Differences to LoRA alone are paired by held-out token; the error of their mean over seeds is that
of the seeds. Finished trainings are kept in FOLDER and not repeated; with --list nothing is trained, the table alone is
printed.
"""

import argparse
import gc
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LORA = "lora"
# What each arm changes in the demo plan; those named lora shut the gate.
ARMS: dict[str, dict[str, Any]] = {
    LORA: {},
    "lora, lr x 2": {"train.learning_rate": 5.4e-4},
    "gated": {},
    "fixed": {"soul.alpha_start": (1 + math.sqrt(5)) / 2},
    "waits scaled": {"soul.rotation_waits": "scaled"},
    "waits frozen": {"soul.rotation_waits": "frozen"},
    "rotation lr 1e-3": {"soul.rotation_learning_rate": 1e-3},
    "opens by 0.5": {"soul.schedule.end_fraction": 0.5},
    "inner layers": {"soul.inner_layers": [7, 15, 22]},
    "final norm": {"soul.train_norm": True},
    # the final norm learns behind a gate that never opens: what the norm brings without any rotation
    "norm, gate shut": {"soul.train_norm": True, "soul.alpha_start": -20.0, "soul.alpha_target": -20.0},
    "inner layers, norm": {"soul.inner_layers": [7, 15, 22], "soul.train_norm": True},
    "all inner layers": {"soul.inner_layers": list(range(30))},
    "all inner, lr 1e-3": {"soul.inner_layers": list(range(30)), "soul.rotation_learning_rate": 1e-3},
    # to be held against "lora, lr x 2": does the gain remain where LoRA learns faster?
    "all inner, lr x 2": {
        "soul.inner_layers": list(range(30)),
        "soul.rotation_learning_rate": 1e-3,
        "train.learning_rate": 5.4e-4,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gate-value"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.list:
        _train_all(options)
    _print_table(options)


def _train_all(options: argparse.Namespace) -> None:
    import torch

    from aegis_core.cancel import CancelToken
    from aegis_core.data.packed import load_packed
    from aegis_core.models.identity import read_base
    from aegis_core.models.loading import load_model
    from aegis_core.pipeline import BY_ID, run_steps
    from aegis_core.plan import demo_plan
    from aegis_core.run_directory import RunDirectory, write_json

    run = RunDirectory(options.out / "data")
    if not run.plan_path.exists():
        run = RunDirectory.create(run.path, demo_plan())
    run_steps(run, (BY_ID["prepare"],), lambda event: None, CancelToken())
    base = load_model(read_base(run).path, torch.float32)
    folder = run.step_folder("prepare")
    data, held_out = load_packed(folder / "train.safetensors"), load_packed(folder / "held_out.safetensors")
    if not (options.out / "base.json").exists():
        write_json(options.out / "base.json", _token_losses(lambda ids: base(ids).logits, held_out))
    for seed in options.seeds:
        for arm in options.arms:
            path = _path(options, arm, seed)
            if path.exists():
                continue
            started = time.monotonic()
            losses = _trained(base, arm, seed, data, held_out, options.out)
            write_json(path, losses)
            minutes = (time.monotonic() - started) / 60
            print(f"{arm}, seed {seed}: {statistics.fmean(losses):.4f} ({minutes:.1f} min)", flush=True)


def _trained(base: Any, arm: str, seed: int, data: Any, held_out: Any, folder: Path) -> list[float]:
    from aegis_core.cancel import CancelToken
    from aegis_core.plan import changed, demo_plan
    from aegis_core.training.gated_model import gated_for_training
    from aegis_core.training.trainer import Hooks, fit

    plan = changed(demo_plan(), ARMS[arm] | {"train.seed": seed})
    gated = gated_for_training(base, plan.lora, plan.soul, seed, shut=arm.startswith(LORA))
    fit(gated, plan, data, CancelToken(), Hooks(), folder, keep=False)
    losses = _token_losses(gated.eval().logits, held_out)
    gated.release()
    gc.collect()
    return losses


def _token_losses(logits_of: Any, held_out: Any) -> list[float]:
    """Loss in nats of every held-out token that counts."""
    import torch
    from torch.nn.functional import cross_entropy

    losses: list[float] = []
    with torch.no_grad():
        for ids, labels in zip(held_out.input_ids, held_out.labels, strict=True):
            each = cross_entropy(logits_of(ids[None])[0, :-1].float(), labels[1:], reduction="none")
            losses += each[labels[1:] != -100].tolist()
    return losses


def _print_table(options: argparse.Namespace) -> None:
    def read(path: Path) -> list[float] | None:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    base = read(options.out / "base.json")
    if base is None:
        print("Nothing has been trained yet.")
        return
    print(f"{len(base)} held-out tokens; base {statistics.fmean(base):.4f} nats")
    print(f"{'arm':20}{'seeds':>6}{'held-out loss':>16}{'minus LoRA alone':>22}")
    for arm in options.arms:
        runs = {seed: read(_path(options, arm, seed)) for seed in options.seeds}
        means = {seed: statistics.fmean(losses) for seed, losses in runs.items() if losses}
        if not means:
            continue
        lora = {seed: read(_path(options, LORA, seed)) for seed in means}
        pairs = [means[seed] - statistics.fmean(losses) for seed, losses in lora.items() if losses]
        shown = f"{statistics.fmean(pairs):+.4f} ± {_error(pairs)}" if pairs and arm != LORA else "–"
        print(f"{arm:20}{len(means):>6}{statistics.fmean(means.values()):>16.4f}{shown:>22}")


def _error(values: list[float]) -> str:
    """Standard error of the mean over seeds."""
    return f"{statistics.stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else "?"


def _path(options: argparse.Namespace, arm: str, seed: int) -> Path:
    return Path(options.out) / f"{arm.replace(' ', '-').replace(',', '')}-{seed}.json"


if __name__ == "__main__":
    main()
