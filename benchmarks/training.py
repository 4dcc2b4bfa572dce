"""Training step, gated, against plain peft + transformers Trainer: time and peak memory, both sides in turn.

    python benchmarks/training.py [--dtype float32 bfloat16] [--checkpointing off on] [--steps 5] [--rounds 3]
                                  [--model FOLDER] [--quantisation none nf4] [--processor cpu]

Every measurement is a process of its own, so that its peak memory is its own. Both sides train the same LoRA on the
embedded demo model (V = 49152), or on a model in a folder, with the same tokens, optimiser and number format; ours has
the gate and rotation in the forward pass besides. On a CPU, time is processor time, all threads together, which other
programs on the machine disturb least, and memory the highest resident set of the process. Where torch sees an NVIDIA
GPU, time is the clock's and memory the most that torch's allocator had handed out; --quantisation nf4 keeps the base in
4 bits on both sides, with the paged 8-bit optimiser. The first step is left out. Prints a table; nothing is asserted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIDES = ("peft + Trainer", "AEGIS")


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_measure(options)))
        return
    name = options.model.name if options.model else "SmolLM2-135M-Instruct"
    print(f"{name}, LoRA r 16, batch {options.batch} x {options.length} tokens, {options.steps} steps,")
    print(f"median of {options.rounds} rounds. Seconds per step, peak memory in MB: {SIDES[0]} -> {SIDES[1]}, ratio")
    print()
    print("| numbers | activations | seconds per step | ratio | peak memory | ratio |")
    print("|---|---|---:|---:|---:|---:|")
    for quantisation, dtype, checkpointing in product(options.quantisation, options.dtype, options.checkpointing):
        case = {"quantisation": quantisation, "dtype": dtype, "checkpointing": checkpointing}
        rows = _rounds(argparse.Namespace(**vars(options) | case))
        cells = [_cells(rows, "seconds per step", 1.0, 4), _cells(rows, "peak memory", 1e6, 0)]
        kept = "computed twice" if checkpointing == "on" else "kept"
        numbers = dtype if quantisation == "none" else f"{quantisation}, {dtype}"
        print(f"| {numbers} | {kept} | {' | '.join(cells)} |", flush=True)


def _rounds(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    rows: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            rows[side].append(_in_a_process(options, side))
    return rows


def _cells(rows: dict[str, list[dict[str, float]]], name: str, scale: float, digits: int) -> str:
    theirs, ours = (statistics.median(row[name] for row in rows[side]) / scale for side in SIDES)
    return f"{theirs:.{digits}f} -> {ours:.{digits}f} | {ours / theirs:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpointing", nargs="+", choices=("on", "off"), default=["off", "on"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--quantisation", nargs="+", choices=("none", "nf4"), default=["none"])
    parser.add_argument("--processor", choices=("auto", "cpu"), default="auto", help="cpu: although there is a GPU")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        (options.dtype,), (options.checkpointing,) = options.dtype, options.checkpointing
        (options.quantisation,) = options.quantisation
    return options


def _in_a_process(options: argparse.Namespace, side: str) -> dict[str, float]:
    named = {name: str(value) for name, value in vars(options).items() if value and name not in ("side", "rounds")}
    command = [sys.executable, __file__, "--side", side]
    for name, value in named.items():
        command += [f"--{name}", value]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.processor == "cpu" else {}
    environment = os.environ | hidden
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    measured: dict[str, float] = json.loads(finished.stdout.strip().splitlines()[-1])
    return measured


def _measure(options: argparse.Namespace) -> dict[str, float]:
    import psutil
    import torch

    from aegis_core.cancel import CancelToken
    from aegis_core.data.packed import Packed
    from aegis_core.models.demo import ensure_demo
    from aegis_core.models.loading import DTYPES, load_model

    folder = options.model or ensure_demo(CancelToken(), lambda what: None)
    model = load_model(folder, DTYPES[options.dtype], options.quantisation == "nf4")
    highest = min(40000, model.config.vocab_size)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(highest // 40, highest, (8 * options.batch, options.length), generator=draw)
    marks: list[float] = []  # at the end of each step
    cuda = torch.cuda.is_available()
    watched = _AllocatorsPeak() if cuda else _PeakMemory(psutil.Process())
    with watched as memory, tempfile.TemporaryDirectory() as scratch:
        train = _ours if options.side == "AEGIS" else _theirs
        mark = _clock if cuda else time.process_time
        train(model, Packed(ids, ids.clone()), options, Path(scratch), lambda: marks.append(mark()))
    return {
        "seconds per step": (marks[-1] - marks[0]) / (len(marks) - 1),
        "peak memory": float(memory.peak),
    }


def _clock() -> float:
    """The time when the card has done what it was told to."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


class _AllocatorsPeak:
    """What torch had handed out at most."""

    def __enter__(self) -> "_AllocatorsPeak":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *unused: object) -> None:
        import torch

        self.peak = torch.cuda.max_memory_allocated()


class _PeakMemory:
    """Samples the resident set every few milliseconds."""

    def __init__(self, process: Any) -> None:
        self._process, self._running = process, True
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "_PeakMemory":
        self.peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._running = False
        self._thread.join()

    def _sample(self) -> None:
        while self._running:
            self.peak = max(self.peak, self._process.memory_info().rss)
            time.sleep(0.005)


def _ours(model: Any, data: Any, options: argparse.Namespace, folder: Path, mark: Callable[[], None]) -> None:
    from aegis_core.cancel import CancelToken
    from aegis_core.plan import Plan, changed
    from aegis_core.training.gated_model import gated_for_training
    from aegis_core.training.trainer import Hooks, fit

    settings = {
        "train.steps": options.steps,
        "train.batch_size": options.batch,
        "train.optimizer": "adamw" if options.quantisation == "none" else "auto",
        "train.gradient_checkpointing": options.checkpointing,
        "soul.alpha_start": 0.0,
    }
    plan = changed(Plan(), settings)
    gated = gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    hooks = Hooks(after_step=lambda report: mark())
    fit(gated, plan, data, CancelToken(), hooks, folder, keep=False)


def _theirs(model: Any, data: Any, options: argparse.Namespace, folder: Path, mark: Callable[[], None]) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from aegis_core.plan import Plan

    plan = Plan()

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            mark()

    lora = LoraConfig(
        r=plan.lora.rank,
        lora_alpha=plan.lora.alpha,
        lora_dropout=plan.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        learning_rate=plan.train.learning_rate,
        warmup_steps=plan.train.warmup_steps,
        lr_scheduler_type="cosine",
        optim="adamw_torch" if options.quantisation == "none" else "paged_adamw_8bit",
        bf16=options.dtype == "bfloat16",
        gradient_checkpointing=options.checkpointing == "on",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
        seed=plan.train.seed,
    )
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in zip(data.input_ids, data.labels, strict=True)]
    Trainer(model=get_peft_model(model, lora), args=arguments, train_dataset=rows, callbacks=[Clock()]).train()


if __name__ == "__main__":
    main()
