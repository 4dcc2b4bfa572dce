"""What a training step really takes on an NVIDIA GPU, part by part, against the forecast.

    python benchmarks/cuda.py [--shape phi-3.5-mini] [--model FOLDER] [--room-gb 12.9] [--steps 12]
                              [--quantisation auto] [--dtype auto] [BATCHxLENGTH[k] …]

Without --model a model of that real shape with random weights is made under the system's folder for temporary files and
removed at the end. `k` keeps the activations instead of computing them twice. Every case is a process of its own: the
base loaded as training loads it, then aegis_core.training.trainer.fit on random tokens, gate open. --room-gb holds so
much of the card in this process that only so much is left: a smaller card, as far as memory goes. Prints Markdown:
one table of peaks and times, one of the parts. Parts are read from torch's allocator at the places named in the code;
"beside torch" is what the driver books to the process beyond that: CUDA's context, its libraries, paged moments.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from aegis_core import plan as plans  # noqa: E402
from aegis_core.hardware import gpu  # noqa: E402
from aegis_core.models.memory import Forecast, forecast  # noqa: E402
from aegis_core.models.shape import read_shape  # noqa: E402

CASES = ("1x512", "2x1024", "2x2048")
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "phi-3.5-mini": ("Phi3Config", {"pad_token_id": 0}),  # transformers' own defaults are its sizes
    "smollm2-135m": (
        "LlamaConfig",
        {
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
        },
    ),
    "tiny": (
        "LlamaConfig",
        {
            "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2,
        },
    ),
}  # fmt: skip


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(_measure(options.model, options.cases[0], options)))
        return
    with tempfile.TemporaryDirectory(prefix="aegis-cuda-") as scratch:
        folder = options.model or make(options.shape, Path(scratch) / options.shape)
        held = _ballast(options.room_gb)
        _head(folder, options)
        rows = {case: _in_a_process(folder, case, options) for case in options.cases}
        del held
    _peaks(rows)
    _parts(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--shape", choices=tuple(SHAPES), default="phi-3.5-mini")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--room-gb", type=float)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--quantisation", choices=("auto", "none", "nf4"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make(shape: str, folder: Path) -> Path:
    """A model of that shape with random bf16 weights, made where torch computes and written in shards."""
    import torch
    import transformers

    name, sizes = SHAPES[shape]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = getattr(transformers, name)(**sizes)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.AutoModelForCausalLM.from_config(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return folder


def _ballast(room_gb: float | None) -> Any:
    """Memory of the card held by this process, so that only so much is left to the cases."""
    if room_gb is None:
        return None
    import torch

    torch.cuda.init()
    held = torch.empty(1, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    del held
    return torch.empty(free - round(room_gb * 1e9), dtype=torch.uint8, device="cuda")


def _head(folder: Path, options: argparse.Namespace) -> None:
    import bitsandbytes
    import peft
    import torch
    import transformers

    card = gpu()
    assert card is not None, "no NVIDIA GPU"
    room = "" if options.room_gb is None else f", all but {options.room_gb} GB of it held by another process"
    print(f"{card.name}, {(card.vram_total_bytes or 0) / 1e9:.1f} GB{room}, driver {card.driver}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, ", end="")
    print(f"bitsandbytes {bitsandbytes.__version__}")
    print(f"{folder.name}, {read_shape(folder).n_parameters / 1e6:.0f} million parameters, {options.steps} steps")
    print(f"base: {options.quantisation}, numbers: {options.dtype}\n", flush=True)


def _in_a_process(folder: Path, case: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, case, "--measure", "--model", str(folder), "--steps", str(options.steps)]
    command += ["--quantisation", options.quantisation, "--dtype", options.dtype]
    run = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if run.returncode:
        return {}
    row: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    print(f"{case}: {json.dumps(row)}", file=sys.stderr, flush=True)
    return row


def plan_of(case: str, options: argparse.Namespace) -> plans.Plan:
    batch, _, length = case.rstrip("k").partition("x")
    return plans.changed(
        plans.Plan(),
        {
            "model.quantisation": options.quantisation,
            "model.dtype": options.dtype,
            "train.batch_size": int(batch),
            "data.sequence_length": int(length),
            "train.steps": options.steps,
            "train.gradient_checkpointing": "off" if case.endswith("k") else "auto",
            "soul.alpha_start": 0.0,
        },
    )


def _measure(folder: Path, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training in this very process, with the allocator read where one part ends and the next begins."""
    import torch

    from aegis_core.cancel import CancelToken
    from aegis_core.data.packed import Packed
    from aegis_core.failures import explain
    from aegis_core.models.loading import choose_dtype, load_model, wants_nf4
    from aegis_core.models.peak import PeakMemory
    from aegis_core.training import gated_model
    from aegis_core.training.trainer import Hooks, fit

    plan, cuda = plan_of(case, options), torch.cuda
    quantised = wants_nf4(plan.model.quantisation)
    expected = forecast(read_shape(folder), plan, device="cuda", quantised=quantised)
    row: dict[str, Any] = {"forecast": expected.parts}
    model = load_model(folder, choose_dtype(plan.model.dtype), quantised)
    row |= {"load_peak": cuda.max_memory_reserved(), "load_left": cuda.memory_reserved()}
    row["weights"] = cuda.memory_allocated()
    gated = gated_model.gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    row["adapters"] = cuda.memory_allocated() - row["weights"]
    loss_of = gated_model.next_token_loss
    walk: dict[str, list[int]] = {"forward": [], "kept": [], "loss": [], "backward": [], "between": []}

    def watched(*arguments: Any) -> Any:
        walk["forward"].append(cuda.max_memory_allocated())
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        loss = loss_of(*arguments)
        walk["kept"].append(before)
        walk["loss"].append(cuda.max_memory_allocated() - before)
        cuda.reset_peak_memory_stats()
        return loss

    steps: list[tuple[float, int]] = []

    def after_step(report: Any) -> None:
        steps.append((report.seconds, peak.n_bytes))
        walk["backward"].append(cuda.max_memory_allocated())
        walk["between"].append(cuda.memory_allocated())
        cuda.reset_peak_memory_stats()

    gated_model.next_token_loss = watched
    batch, length = plan.train.batch_size, plan.data.sequence_length
    ids = torch.randint(0, read_shape(folder).vocabulary_size, (batch * plan.train.steps, length))
    try:
        with PeakMemory() as peak, tempfile.TemporaryDirectory() as scratch:
            row["at_start"] = cuda.memory_reserved()
            fit(gated, plan, Packed(ids, ids.clone()), CancelToken(), Hooks(after_step), Path(scratch), keep=False)
    except torch.OutOfMemoryError as error:
        failure = explain(error)
        return row | {"failed": f"{failure.reason} {failure.advice}", "torch": str(error)[:300]}
    card = gpu(frozenset([os.getpid()]))
    own = None if card is None else card.vram_own_bytes
    row |= {name: max(numbers) for name, numbers in walk.items()}
    allocated = max(row["forward"], row["backward"], row["kept"] + row["loss"])
    seconds = statistics.median(second for second, _ in steps[2:])
    return row | {
        "second": steps[1][1], "reserved": steps[-1][1], "allocated": allocated, "own": own,
        "seconds": seconds, "tokens_per_second": batch * length / seconds,
        "seconds_of_steps": [round(second, 3) for second, _ in steps],
    }  # fmt: skip


def _forecast(case: str, row: dict[str, Any]) -> Forecast:
    """As the case's own process made it."""
    batch, _, length = case.rstrip("k").partition("x")
    return Forecast(device="cuda", batch_size=int(batch), sequence_length=int(length), **row["forecast"])


def _peaks(rows: dict[str, dict[str, Any]]) -> None:
    names = ("forecast GB", "driver GB", "ratio", "corrected GB", "torch reserved GB", "allocated GB")
    print(f"| batch × length | {' | '.join(names)} | s per step | tokens/s |\n|---|{'---:|' * 8}")
    for case, row in rows.items():
        if "reserved" not in row:
            print(f"| {case} | {row.get('failed', 'failed')} |")
            continue
        expected = _forecast(case, row)
        own = row["own"] or row["reserved"] + expected.context
        corrected = expected.corrected(row["second"]).own_bytes
        numbers = [expected.own_bytes, own, None, corrected, row["reserved"], row["allocated"]]
        cells = [f"{n / 1e9:.2f}" if n else f"{expected.own_bytes / own:.2f}" for n in numbers]
        print(f"| {case} | {' | '.join(cells)} | {row['seconds']:.3f} | {row['tokens_per_second']:.0f} |")
    print()


def _parts(rows: dict[str, dict[str, Any]]) -> None:
    """Forecast → measured, in MB."""
    names = ("weights", "adapters", "optimiser, gradients", "activations", "logits", "allocator", "beside torch")
    print(f"| batch × length | {' | '.join(names)} | peak while loading | left after it |\n|---|{'---:|' * 9}")
    for case, row in rows.items():
        if "reserved" not in row:
            continue
        parts = row["forecast"]
        fixed = row["weights"] + row["adapters"]
        pairs = [
            (parts["weights"], row["weights"]),
            (parts["adapters"], row["adapters"]),
            (parts["optimiser"] + parts["gradients"], row["between"] - fixed),
            (parts["activations"], row["allocated"] - row["between"]),
            (parts["logits"], row["loss"]),
            (parts["allocator"], row["reserved"] - row["allocated"]),
            (parts["context"], (row["own"] or row["reserved"]) - row["reserved"]),
        ]
        cells = [f"{expected / 1e6:.0f} → {measured / 1e6:.0f}" for expected, measured in pairs]
        cells += [f"{row[name] / 1e6:.0f}" for name in ("load_peak", "load_left")]
        print(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
