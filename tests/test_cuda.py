"""What only a real NVIDIA GPU can show: 4 bits, 8-bit paged moments, 16-bit numbers, the driver's readings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import build
from tiny_training import beside, prepared, ritual, timeless
from torch import nn

from aegis_core.cancel import CancelToken
from aegis_core.data.packed import Packed
from aegis_core.events import Event, Log, StepFailed, Telemetry
from aegis_core.failures import OUT_OF_MEMORY
from aegis_core.hardware import reading
from aegis_core.journal import replay
from aegis_core.models.loading import choose_dtype, load_model, wants_nf4
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.training import checkpoints
from aegis_core.training.gated_model import GatedModel, gated_for_training
from aegis_core.training.trainer import Hooks, fit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A prepared run on a tiny Phi-3; a rank that makes adapters large enough for moments in 8 bits."""
    pytest.importorskip("bitsandbytes")
    return prepared("phi3", tmp_path_factory.mktemp("cuda 日本語"), lora__rank=64)


def stepped(folder: Path, base: Path, n_steps: int = 3, **settings: Any) -> GatedModel:
    """A training as the train step makes it, on one batch again and again."""
    plan = changed(Plan(), {"train.steps": n_steps, "train.warmup_steps": 0, "lora.rank": 64, **settings})
    model = load_model(base, choose_dtype(plan.model.dtype), wants_nf4(plan.model.quantisation))
    gated = gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    ids = torch.randint(0, 280, (2, 64), generator=torch.Generator().manual_seed(0))
    fit(gated, plan, Packed(ids, ids.clone()), CancelToken(), Hooks(), folder)
    return gated


def test_adapters_have_moments_in_8_bits_and_the_rotation_in_32(tmp_path: Path) -> None:
    gated = stepped(tmp_path, build("phi3", tmp_path / "base"))
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    saved = torch.load(newest / "optimizer.pt", weights_only=True, map_location="cpu")
    names = [name for group in _groups(gated) for name in group]
    kinds = {name: _moment(saved["state"][n]).dtype for n, name in enumerate(names)}
    assert kinds.pop("gate.rotation.generator") is torch.float32
    large = {kind for name, kind in kinds.items() if gated.get_parameter(name).numel() >= 4096}
    assert large == {torch.uint8}, kinds


def _moment(state: dict[str, Any]) -> torch.Tensor:
    """The first one, wherever this version of bitsandbytes keeps it."""
    inner = [value for value in state.values() if isinstance(value, dict)]
    return next(found["state1"] for found in [state, *inner] if "state1" in found)


def _groups(gated: GatedModel) -> list[list[str]]:
    learning = [name for name, parameter in gated.named_parameters() if parameter.requires_grad]
    return [[n for n in learning if n.startswith("model.")], [n for n in learning if n.startswith("gate.")]]


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_the_base_made_wide_again_is_the_one_that_training_kept_in_four_bits(tmp_path: Path, stored: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from aegis_core.fusion.four_bits import through_four_bits

    folder = build("phi3", tmp_path / "base", dtype=stored)
    trained = load_model(folder, torch.bfloat16, quantise=True)
    wide = load_model(folder, getattr(torch, stored))
    kept = {name: m for name, m in trained.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    through_four_bits(wide, frozenset(f"{name}.weight" for name in kept), getattr(torch, stored), torch.bfloat16)
    for name, module in kept.items():
        seen = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        assert torch.equal(wide.get_parameter(f"{name}.weight").to(seen.dtype), seen), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("quantisation", ["nf4", "none"])
def test_a_training_in_these_numbers_learns_its_batch(tmp_path: Path, dtype: str, quantisation: str) -> None:
    settings = {"model.dtype": dtype, "model.quantisation": quantisation, "train.learning_rate": 3e-3}
    gated = stepped(tmp_path, build("phi3", tmp_path / "base"), 12, **settings).eval()
    ids = torch.randint(0, 280, (2, 64), generator=torch.Generator().manual_seed(0)).cuda()
    with torch.no_grad():
        after = gated(ids, ids)["loss"].item()
        for name, parameter in gated.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
        assert after < gated(ids, ids)["loss"].item() - 0.1


def test_a_training_that_continues_makes_the_steps_of_one_that_was_never_cut_off(run: RunDirectory) -> None:
    whole, halved = beside(run, "whole"), beside(run, "halved")
    ritual(whole, "train")
    script = (
        f"import sys, os; sys.path.insert(0, {str(ROOT)!r})\n"
        "from aegis_core.training import watch\n"
        "real = watch.Watch.after_step\n"
        "def after_step(self, report):\n"
        "    real(self, report)\n"
        "    if report.step == 5: os._exit(9)\n"  # the checkpoint of step 4 is there, step 5 is lost
        "watch.Watch.after_step = after_step\n"
        "from aegis_core.cli import main\n"
        f"main(['run', {str(halved.path)!r}, '--only', 'train'])\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.PIPE)
    assert killed.returncode == 9, killed.stderr.decode()[-2000:]
    ritual(halved, "train")
    rows = [timeless(each.path / "train" / "metrics.jsonl") for each in (whole, halved)]
    assert [row["step"] for row in rows[1]] == [row["step"] for row in rows[0]]
    for one, other in zip(*rows, strict=True):
        assert one == other, one["step"]


def test_too_little_memory_is_one_sentence(run: RunDirectory) -> None:
    small = beside(run, "too small", train__batch_size=8)
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import torch; torch.cuda.set_per_process_memory_fraction(3e6 / torch.cuda.mem_get_info()[1])\n"
        "from aegis_core.cli import main\n"
        f"sys.exit(main(['run', {str(small.path)!r}, '--only', 'train']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    failed = [event for event in replay(small.events_path) if isinstance(event, StepFailed)]
    assert [event.reason_template for event in failed] == [OUT_OF_MEMORY] and "Traceback" not in done.stderr


def test_the_forecast_is_set_right_by_the_measured_step_and_the_driver_is_read(run: RunDirectory) -> None:
    events: list[Event] = ritual(beside(run, "measured"), "train")
    said = [event.text for event in events if isinstance(event, Log) and "graphics memory" in event.text]
    assert len(said) == 2
    row = read_json(run.path.with_name("measured") / "train" / "memory.json")
    assert row["device"] == "cuda" and row["measured_peak_bytes"] > row["forecast"]["weights"]


def test_the_driver_tells_of_this_card_and_this_process() -> None:
    held = torch.ones(50_000_000, device="cuda")
    found: Telemetry = reading()
    assert found.gpu_name == torch.cuda.get_device_name()
    assert found.vram_total_bytes and found.vram_used_bytes and found.gpu_celsius and found.gpu_watts
    assert found.gpu_percent is not None
    if found.vram_own_bytes is not None:  # a container may hide whose memory it is
        assert held.nbytes <= found.vram_own_bytes <= found.vram_used_bytes


def test_dropout_with_less_kept_gives_pefts_gradients(tmp_path: Path) -> None:
    """The same noise, so the same numbers but for the rounding of a fused kernel."""
    from peft import LoraConfig, get_peft_model

    from aegis_core.training.lean_dropout import keep_less_of_dropout

    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Linear(64, 64)).cuda()
        config = LoraConfig(r=8, lora_dropout=0.2, target_modules=["0"], init_lora_weights=False)
        model = get_peft_model(plain, config)  # type: ignore[arg-type]
        if lean:
            keep_less_of_dropout(model)  # type: ignore[arg-type]
        x = torch.randn(32, 64, device="cuda", requires_grad=True)
        torch.manual_seed(1)
        model.train()(x).square().sum().backward()
        assert x.grad is not None
        found.append([x.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    for theirs, ours in zip(*found, strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-4)
