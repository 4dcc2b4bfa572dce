"""Training on the tiny model: the loss, the schedule, checkpoints, resume."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.data.packed import IGNORED, load_packed
from aegis_core.events import CheckpointSaved, Event, Metric, PhaseChanged, Progress
from aegis_core.failures import UserError
from aegis_core.models.loading import load_model
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import GOLDEN_RATIO, LoraPlan, SoulPlan, changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.soul.gate import load_soul
from aegis_core.steps import train
from aegis_core.training import checkpoints
from aegis_core.training.gated_model import gated_for_training, linear_layers
from aegis_core.training.loss import CHUNK_TOKENS, next_token_loss
from aegis_core.training.metrics import MetricsFile, read_metrics
from aegis_core.training.trainer import Hooks, StepReport, fit


def test_the_chunked_loss_and_its_gradient_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, CHUNK_TOKENS + 7, 16, requires_grad=True)
    head = torch.randn(50, 16)
    labels = torch.randint(0, 50, hidden.shape[:2])
    labels[0, :20] = IGNORED
    (3 * next_token_loss(hidden, head, labels)).backward()
    ours, hidden.grad = hidden.grad, None
    plain = cross_entropy((hidden @ head.T)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    (3 * plain).backward()
    assert next_token_loss(hidden, head, labels).item() == pytest.approx(plain.item(), rel=1e-6)
    assert torch.allclose(ours, hidden.grad, atol=1e-5)


def test_every_linear_layer_of_the_blocks_is_adapted(pico_model: Path) -> None:
    model = load_model(pico_model, torch.float32)
    assert linear_layers(model) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    gated = gated_for_training(model, LoraPlan(), SoulPlan(), seed=0)
    learning = {name for name, p in gated.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name == "gate.rotation.generator" for name in learning)
    assert len(learning) == 2 * 7 * 2 + 1


def test_before_training_the_gated_model_is_the_base_model(pico_model: Path) -> None:
    ids = torch.arange(3, 23)[None]
    base = load_model(pico_model, torch.float32)(ids).logits
    gated = gated_for_training(load_model(pico_model, torch.float32), LoraPlan(), SoulPlan(), seed=0).eval()
    assert torch.allclose(gated.logits(ids), base, atol=1e-5)


def test_training_leaves_everything_the_next_steps_need(run: RunDirectory) -> None:
    events = ritual(run, "prepare", "train")
    rows = read_metrics(run.path / "train" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["alpha"] == -5
    soul = load_soul(run.path / "train" / "soul.safetensors")
    assert abs(soul.alpha - GOLDEN_RATIO) < 1e-6
    assert soul.generator.abs().sum() > 0
    assert soul.base_sha256 == json.loads((run.path / "prepare" / "base.json").read_text(encoding="utf-8"))["sha256"]
    assert run.done("train") is not None
    assert [e.phase for e in events if isinstance(e, PhaseChanged)] == ["latent", "critical", "settled"]
    names = {e.name for e in events if isinstance(e, Metric)}
    assert {"loss", "alpha", "gate", "held_out_loss", "base_loss", "chance_loss", "tokens_per_second"} <= names
    assert {"rotation_grad_norm", "rotation_angle", "rotation_angle_largest", "orthogonality_error"} <= names
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [2, 4]
    corrected = read_json(run.path / "train" / "memory.json")["corrected"]
    assert [e.value for e in events if isinstance(e, Metric) and e.name == "forecast_bytes"][-1] == sum(
        corrected.values()
    )


def test_a_training_that_was_cut_off_continues_to_the_same_bits(run: RunDirectory, tmp_path: Path) -> None:
    whole = RunDirectory.create(tmp_path / "whole", run.plan())
    ritual(whole, "prepare", "train")
    ritual(run, "prepare")
    cancel = CancelToken()

    def stop_after_three(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "loss" and event.step == 3:
            cancel.cancel()

    run_steps(run, (BY_ID["train"],), stop_after_three, cancel)
    assert run.done("train") is None
    assert checkpoints.step_of(checkpoints.newest(run.path / "train")) == 3
    ritual(run, "train")
    rows, expected = (read_metrics(r.path / "train" / "metrics.jsonl") for r in (run, whole))
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert timeless == [{k: v for k, v in row.items() if k != "seconds"} for row in expected]
    weights = [load_soul(r.path / "train" / "soul.safetensors").generator for r in (run, whole)]
    assert weights[0].equal(weights[1])
    adapters = [(r.path / "train" / "adapter" / "adapter_model.safetensors").read_bytes() for r in (run, whole)]
    assert adapters[0] == adapters[1]


def test_a_damaged_checkpoint_is_passed_over(run: RunDirectory) -> None:
    ritual(run, "prepare", "train")
    folder = run.path / "train"
    newest = checkpoints.newest(folder)
    weights = newest / "trainable.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert checkpoints.step_of(checkpoints.newest(folder)) < checkpoints.step_of(newest)


def test_only_the_newest_checkpoints_are_kept(run: RunDirectory) -> None:
    run.write_plan(changed(run.plan(), {"train.checkpoint_steps": 1, "train.keep_checkpoints": 2}))
    ritual(run, "prepare", "train")
    assert sorted(p.name for p in (run.path / "train").glob("checkpoint*")) == [
        "checkpoint-000003",
        "checkpoint-000004",
    ]


def test_rows_after_the_checkpoint_are_cut_off_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st', encoding="utf-8")
    metrics = MetricsFile(path, resumed_at=2)
    metrics.append({"step": 3, "loss": 0.1 + 0.2})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.1 + 0.2}]


def test_a_loss_that_is_not_finite_stops_before_the_step(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    ritual(run, "prepare")

    def poisoned(*args: object, **named: object) -> object:
        gated = gated_for_training(*args, **named)
        with torch.no_grad():
            gated.head.weight[0, 0] = float("nan")
        return gated

    monkeypatch.setattr(train, "gated_for_training", poisoned)
    ctx = StepContext(run, "train", lambda event: None, CancelToken())
    with pytest.raises(UserError, match="not a finite number at step 1"):
        train.run(run.plan(), ctx)
    assert not list((run.path / "train").glob("checkpoint-*"))
    assert read_metrics(run.path / "train" / "metrics.jsonl") == []


def test_a_cancelled_training_raises_and_keeps_its_checkpoint(run: RunDirectory) -> None:
    ritual(run, "prepare")
    cancel = CancelToken()
    ctx = StepContext(
        run, "train", lambda e: cancel.cancel() if isinstance(e, Metric) and e.step == 1 else None, cancel
    )
    with pytest.raises(Cancelled):
        train.run(run.plan(), ctx)
    assert checkpoints.newest(run.path / "train") is not None


def test_a_stop_during_a_measurement_keeps_the_step_that_was_made(run: RunDirectory) -> None:
    ritual(run, "prepare")
    cancel = CancelToken()

    def stop_before_measuring(event: Event) -> None:
        if isinstance(event, Progress) and event.unit == "steps" and event.done == 2:
            cancel.cancel()

    run_steps(run, (BY_ID["train"],), stop_before_measuring, cancel)
    assert checkpoints.step_of(checkpoints.newest(run.path / "train")) == 2
    assert [row["step"] for row in read_metrics(run.path / "train" / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("step", [2, 4])
def test_a_measurement_that_was_cut_off_is_caught_up_on_resume(run: RunDirectory, tmp_path: Path, step: int) -> None:
    whole = RunDirectory.create(tmp_path / "whole", run.plan())
    ritual(whole, "prepare", "train")
    ritual(run, "prepare")
    cancel = CancelToken()

    def stop_before_measuring(event: Event) -> None:
        if isinstance(event, Progress) and event.unit == "steps" and event.done == step:
            cancel.cancel()

    run_steps(run, (BY_ID["train"],), stop_before_measuring, cancel)
    assert checkpoints.step_of(checkpoints.newest(run.path / "train")) == step
    ritual(run, "train")
    rows = [read_metrics(r.path / "train" / "metrics.jsonl") for r in (run, whole)]
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in each] for each in rows]
    assert timeless[0] == timeless[1]


def test_the_reported_loss_is_the_mean_over_the_tokens_that_count(run: RunDirectory) -> None:
    ritual(run, "prepare")
    data = load_packed(run.path / "prepare" / "train.safetensors")
    plan = changed(run.plan(), {"train.batch_size": len(data), "lora.dropout": 0.0, "train.steps": 2})
    gated = gated_for_training(load_model(Path(plan.model.source), torch.float32), plan.lora, plan.soul, 0)
    with torch.no_grad():
        expected = gated(data.input_ids, data.labels)["loss"].item()
    reports: list[StepReport] = []
    fit(gated, plan, data, CancelToken(), Hooks(reports.append), run.path / "train", keep=False)
    assert reports[0].loss == pytest.approx(expected, rel=1e-5)


def test_phi_3_style_heads_with_a_bias_are_refused(pico_model: Path) -> None:
    model = load_model(pico_model, torch.float32)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.config.vocab_size))
    with pytest.raises(UserError, match="has a bias"):
        gated_for_training(model, LoraPlan(), SoulPlan(), 0)


def ritual(run: RunDirectory, *steps: str) -> list[Event]:
    events: list[Event] = []
    last = run_steps(run, tuple(BY_ID[step] for step in steps), events.append, CancelToken())
    assert type(last).__name__ == "StepFinished", last
    return events
