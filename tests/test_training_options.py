"""What the plan's training options do: learned alpha, trained norm, inner rotations, waiting rotations, early stop."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from aegis_core.cancel import CancelToken
from aegis_core.data.packed import Packed, load_packed
from aegis_core.events import Event, Log, Metric
from aegis_core.failures import UserError
from aegis_core.models.loading import load_model
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.plan import LoraPlan, Plan, SoulPlan, changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.soul.gate import load_soul
from aegis_core.training import trainer
from aegis_core.training.gated_model import gated_for_training
from aegis_core.training.health import Health
from aegis_core.training.metrics import read_metrics
from aegis_core.training.trainer import Hooks, StepReport, fit


def settings(run: RunDirectory, **values: Any) -> None:
    run.write_plan(changed(run.plan(), {name.replace("__", "."): value for name, value in values.items()}))


def ritual(run: RunDirectory, *steps: str) -> list[Event]:
    events: list[Event] = []
    last = run_steps(run, tuple(BY_ID[step] for step in steps), events.append, CancelToken())
    assert type(last).__name__ == "StepFinished", last
    return events


@pytest.mark.parametrize(
    "options",
    [
        {"soul__train_norm": True},
        {"soul__inner_layers": [0, 1]},
        {"soul__inner_layers": [1], "soul__train_norm": True, "soul__calibrate": False},
        {"soul__alpha": "learned", "soul__alpha_start": 0.5},
        {"lora__rank_stabilised": True, "lora__targets": ["o_proj", "down_proj"]},
    ],
    ids=["norm", "inner", "inner, norm, literal", "learned alpha", "rsLoRA on two layers"],
)
def test_every_option_is_fused_into_exactly_what_was_trained(run: RunDirectory, options: dict[str, Any]) -> None:
    settings(run, soul__rotation_learning_rate=0.05, train__learning_rate=0.01, **options)
    ritual(run, "prepare", "train", "fuse")
    proof = read_json(run.path / "fuse" / "proof.json")
    assert proof["passed"] and proof["max_abs_logit_diff"] < 1e-3, proof
    soul = load_soul(run.path / "train" / "soul.safetensors")
    if options.get("soul__train_norm"):
        assert soul.norm_scale is not None and (soul.norm_scale - 1).abs().max() > 1e-3
    assert sorted(soul.inner) == options.get("soul__inner_layers", [])
    assert all(generator.abs().max() > 1e-3 for generator in soul.inner.values())
    if "soul__alpha" in options:
        rows = read_metrics(run.path / "train" / "metrics.jsonl")
        assert rows[-1]["alpha"] != rows[0]["alpha"]
        assert soul.alpha == rows[-1]["alpha"]


def test_an_inner_layer_that_the_model_does_not_have_is_refused(pico_model: Path) -> None:
    with pytest.raises(UserError, match="no layer 7"):
        gated_for_training(load_model(pico_model, torch.float32), LoraPlan(), SoulPlan(inner_layers=(7,)), 0)


def test_a_target_that_matches_nothing_is_refused_with_the_names_there_are(pico_model: Path) -> None:
    with pytest.raises(UserError, match=r"named qkv_proj; it has down_proj, gate_proj"):
        gated_for_training(load_model(pico_model, torch.float32), LoraPlan(targets=("qkv_proj",)), SoulPlan(), 0)


def test_a_shut_gate_is_plain_lora_with_the_same_adapter_at_the_start(pico_model: Path) -> None:
    def start(shut: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        model = load_model(pico_model, torch.float32)
        gated = gated_for_training(model, LoraPlan(), SoulPlan(alpha_start=1.0, calibrate=False), 3, shut=shut)
        adapter = {name: p.detach().clone() for name, p in gated.model.named_parameters() if p.requires_grad}
        ids = torch.arange(12)[None]
        with torch.no_grad():
            return adapter, gated.eval().logits(ids) - gated.model(input_ids=ids).logits

    (open_adapter, open_difference), (shut_adapter, shut_difference) = start(False), start(True)
    assert all(open_adapter[name].equal(shut_adapter[name]) for name in open_adapter | shut_adapter)
    assert shut_difference.abs().max() == 0
    assert open_difference.abs().max() > 0.01


def test_releasing_gives_the_base_model_back_as_it_was(pico_model: Path) -> None:
    model = load_model(pico_model, torch.float32)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        gated = gated_for_training(
            model, LoraPlan(targets=("o_proj",)), SoulPlan(inner_layers=(0,), alpha_start=2.0), 0
        )
        torch.nn.init.normal_(gated.gate.inner_rotation(0).generator)
        assert not gated.logits(ids).allclose(before)
        gated.release()
        assert model(input_ids=ids).logits.equal(before)
    assert not any(isinstance(module, PeftModel) for module in model.modules())


def short_training(run: RunDirectory, on_step: Callable[[Any, StepReport], None], **values: Any) -> None:
    if run.done("prepare") is None:
        ritual(run, "prepare")
    settings(run, **values)
    plan = run.plan()
    gated = gated_for_training(load_model(Path(plan.model.source), torch.float32), plan.lora, plan.soul, 0)
    data = load_packed(run.path / "prepare" / "train.safetensors")
    hooks = Hooks(lambda report: on_step(gated, report))
    fit(gated, plan, data, CancelToken(), hooks, run.path / "train", keep=False)


def test_a_frozen_rotation_stays_the_identity_until_the_gate_is_half_open(run: RunDirectory) -> None:
    seen: list[tuple[float, float]] = []
    short_training(
        run,
        lambda gated, report: seen.append((report.alpha, gated.gate.rotation.angle())),
        soul__rotation_waits="frozen", train__steps=8, train__warmup_steps=0,
    )  # fmt: skip
    assert all(angle == 0 for alpha, angle in seen if alpha < 0)
    assert all(angle > 0 for alpha, angle in seen if alpha >= 0)
    assert {alpha < 0 for alpha, _ in seen} == {True, False}


def test_a_scaled_rotation_moves_in_proportion_to_the_gate(run: RunDirectory) -> None:
    first: dict[str, float] = {}
    for waits in ("no", "scaled"):
        angles: list[float] = []
        short_training(
            run,
            lambda gated, report, angles=angles: angles.append(gated.gate.rotation.angle()),
            soul__rotation_waits=waits, train__warmup_steps=0,
        )  # fmt: skip
        first[waits] = angles[0]
    assert first["scaled"] / first["no"] == pytest.approx(0.0067, rel=0.02)


def test_rotation_has_a_weight_decay_of_its_own(run: RunDirectory) -> None:
    angles: dict[float, list[float]] = {}
    for decay in (0.0, 1.0):
        angles[decay] = []
        short_training(
            run,
            lambda gated, report, seen=angles[decay]: seen.append(gated.gate.rotation.angle()),
            soul__rotation_weight_decay=decay, soul__rotation_learning_rate=0.5, train__warmup_steps=0,
        )  # fmt: skip
    assert angles[1.0][-1] < 0.9 * angles[0.0][-1]


def test_training_stops_early_only_after_alpha_has_arrived_and_says_so(run: RunDirectory) -> None:
    settings(
        run, train__steps=40, train__learning_rate=1e-9, soul__rotation_learning_rate=0.0, train__evaluate_steps=1,
        train__early_stopping=3, soul__schedule__end_fraction=0.25,
    )  # fmt: skip
    ritual(run, "prepare", "train")
    summary = read_json(run.path / "train" / "summary.json")
    rows = read_metrics(run.path / "train" / "metrics.jsonl")
    assert summary["stopped_early"] and summary["steps_done"] == len(rows) < 40
    arrived = next(row["step"] for row in rows if abs(row["alpha"] - run.plan().soul.alpha_target) < 0.01)
    assert len(rows) >= arrived + 3
    assert load_soul(run.path / "train" / "soul.safetensors").alpha == rows[-1]["alpha"]


def test_an_early_stop_is_not_undone_by_running_the_step_again(run: RunDirectory) -> None:
    settings(
        run, train__steps=40, train__learning_rate=1e-9, soul__rotation_learning_rate=0.0, train__evaluate_steps=1,
        train__early_stopping=3, soul__schedule__end_fraction=0.25,
    )  # fmt: skip
    ritual(run, "prepare", "train")
    adapter = (run.path / "train" / "adapter" / "adapter_model.safetensors").read_bytes()
    (run.path / "train" / "done.json").unlink()
    events = ritual(run, "train")
    assert not [e for e in events if isinstance(e, Metric) and e.name == "loss"]
    assert (run.path / "train" / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


def warnings_of(losses: list[float], held_out: list[float] = ()) -> list[str]:
    health = Health(base_loss=3.0, chance_loss=10.0)
    logs: list[Log] = [log for step, loss in enumerate(losses, 1) for log in health.after_step(step, loss)]
    logs += [log for step, loss in enumerate(held_out, 1) for log in health.after_measurement(step, loss)]
    return [log.text for log in logs]


def test_a_loss_near_chance_a_divergence_and_a_model_worse_than_its_base_are_told_once_each() -> None:
    assert warnings_of([3.0, 2.9] * 20, [2.9, 2.8]) == []
    (near,) = warnings_of([9.5] * 30)
    assert "near chance" in near and "step 10" in near
    (diverged,) = warnings_of([2.0] * 20 + [4.0] * 20)
    assert "diverges" in diverged
    (worse,) = warnings_of([], [2.9, 3.1, 3.2])
    assert "above the base model's 3.000" in worse and "step 2" in worse


def test_one_wild_step_is_no_divergence() -> None:
    assert warnings_of([2.0] * 15 + [6.0] + [2.0] * 15) == []


def test_the_same_adapter_is_the_same_bytes_in_every_process(pico_model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from aegis_core.models.loading import load_model; "
        "from aegis_core.plan import LoraPlan, SoulPlan; "
        "from aegis_core.training.gated_model import gated_for_training; "
        "model = load_model(Path(sys.argv[1]), torch.float32); "
        "gated_for_training(model, LoraPlan(), SoulPlan(), 0).save_adapter(Path(sys.argv[2]), 'base')"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", code, str(pico_model), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    configs = [(tmp_path / seed / "adapter_config.json").read_bytes() for seed in ("1", "2")]
    assert configs[0] == configs[1]


def test_an_addition_that_is_cut_off_leaves_the_finished_training_as_it_was(run: RunDirectory) -> None:
    ritual(run, "prepare", "train")
    digest = run.done("train").digest
    settings(run, control__lora=True)
    cancel = CancelToken()

    def stop_in_the_control(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "lora_loss" and event.step == 2:
            cancel.cancel()

    run_steps(run, (BY_ID["train"],), stop_in_the_control, cancel)
    assert run.done("train").digest == digest  # whole, though less than what is asked for
    assert states(run, run.plan())["train"] is State.STALE
    settings(run, control__lora=False)
    assert states(run, run.plan())["train"] is State.DONE
    settings(run, control__lora=True)
    ritual(run, "train")
    assert run.done("train").digest == digest
    assert not (run.path / "train" / "done.before.json").exists()


def test_a_result_that_comes_back_is_added_to_and_not_made_again(run: RunDirectory) -> None:
    ritual(run, "prepare", "train")
    digest, rate = run.done("train").digest, run.plan().train.learning_rate
    settings(run, train__learning_rate=1e-3)
    cancel = CancelToken()
    run_steps(run, (BY_ID["train"],), lambda e: cancel.cancel() if isinstance(e, Metric) and e.step else None, cancel)
    settings(run, train__learning_rate=rate, control__lora=True)
    names = {e.name for e in ritual(run, "train") if isinstance(e, Metric)}
    assert "lora_loss" in names and "loss" not in names
    assert run.done("train").digest == digest


def test_a_step_that_fp16_skips_is_told_without_a_norm_and_too_many_end_the_training(
    pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fake scaler at accelerate's edge, since a CPU has none."""
    reports: list[StepReport] = []

    def broken_training(n_steps: int, n_broken: int) -> None:
        plan = changed(Plan(), {"train.steps": n_steps, "train.warmup_steps": 0})
        gated = gated_for_training(load_model(pico_model, torch.float32), plan.lora, plan.soul, 0)
        broken = iter([float("nan")] * n_broken)
        gated.gate.rotation.generator.register_hook(lambda gradient: gradient * next(broken, 1.0))
        ids = torch.arange(128).view(4, 32)
        hooks = Hooks(after_step=reports.append)
        fit(gated, plan, Packed(ids, ids.clone()), CancelToken(), hooks, tmp_path, keep=False)

    with pytest.raises(UserError, match="at step 1"):
        broken_training(3, 1)
    make_step = torch.optim.AdamW.step

    def skipping_step(self: torch.optim.AdamW, closure: None = None) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if all(gradient.isfinite().all() for gradient in gradients):
            make_step(self, closure)

    monkeypatch.setattr(trainer, "scales_loss", lambda accelerator: True)
    monkeypatch.setattr(torch.optim.AdamW, "step", skipping_step)
    broken_training(3, 1)
    assert [report.rotation_grad_norm is None for report in reports] == [True, False, False]
    with pytest.raises(UserError, match="at step 21"):
        broken_training(30, 30)
