"""Control runs: identical but for the gate, run on demand, continued after a stop, compared in pairs."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aegis_core.cancel import CancelToken
from aegis_core.data.packed import IGNORED, Packed
from aegis_core.events import Event, Log, Metric, Progress, StepFailed, StepFinished, StepStarted
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.plan import Plan, changed
from aegis_core.report import markdown
from aegis_core.report.controls import read_curves
from aegis_core.report.evidence import Evidence
from aegis_core.report.facts import metrics
from aegis_core.report.figures import draw
from aegis_core.report.phrases import translator
from aegis_core.report.record import gather
from aegis_core.report.sections import compose
from aegis_core.report.wording import with_error
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.training.arms import MAIN, Arm, plan_of, wanted
from aegis_core.training.comparison import TIE_NATS, pair
from aegis_core.training.control import _sentence
from aegis_core.training.metrics import read_metrics


@pytest.fixture(scope="module")
def compared_once(tmp_path_factory: pytest.TempPathFactory, pico_model: Path) -> RunDirectory:
    """A tiny ritual whose training was finished first; then both controls were switched on."""
    folder = tmp_path_factory.mktemp("compared 対照")
    data = folder / "data.jsonl"
    rows = [{"question": f"What is {n}?", "answer": f"It is wave {n} of atom {n % 3}."} for n in range(24)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plan = changed(
        Plan(),
        {
            "model.source": str(pico_model), "data.source": str(data), "data.sequence_length": 32, "train.steps": 6,
            "train.evaluate_steps": 3, "train.checkpoint_steps": 2, "train.warmup_steps": 1, "lora.rank": 4,
            "evaluation.kl_tokens": 32,
        },
    )  # fmt: skip
    run = RunDirectory.create(folder / "ri tual", plan)
    ritual(run, "prepare", "train")
    assert not {"control", "control.json"} & {path.name for path in (run.path / "train").iterdir()}
    return run


@pytest.fixture(scope="module")
def events(compared_once: RunDirectory) -> list[Event]:
    run = compared_once
    before = contents(run.path / "train")
    digest = run.done("train").digest
    run.write_plan(changed(run.plan(), {"control.lora": True, "control.fixed": True}))
    assert states(run, run.plan())["train"] is State.STALE
    heard = ritual(run, "train")
    after = contents(run.path / "train")
    for name in ("metrics.jsonl", "soul.safetensors", "adapter/adapter_model.safetensors"):
        assert before[name] == after[name]  # the finished training was not made again
    assert run.done("train").digest == digest  # and what was built on it stays fresh
    return heard


@pytest.fixture
def train(compared_once: RunDirectory, events: list[Event]) -> Path:
    return compared_once.path / "train"


def test_controls_are_added_to_a_finished_training_and_told_of(events: list[Event]) -> None:
    curves = {e.name: [] for e in events if isinstance(e, Metric)}
    for e in events:
        if isinstance(e, Metric):
            curves[e.name].append(e.step)
    assert curves["lora_loss"] == curves["fixed_loss"] == [1, 2, 3, 4, 5, 6]
    assert curves["lora_held_out_loss"] == curves["fixed_held_out_loss"] == [3, 6]
    assert "loss" not in curves and "alpha" not in curves
    phases = {e.phase for e in events if isinstance(e, Progress)}
    assert {"control: LoRA without gate", "control: gate open from the start"} <= phases
    assert [e.resumed for e in events if isinstance(e, StepStarted)] == [True], "its curves stay on screen"
    texts = [e.text for e in events if isinstance(e, Log)]
    assert "Control run 2 of 2: fixed-0." in texts
    assert sum("Against LoRA alone the gate" in text for text in texts) == 1


def test_an_arm_differs_in_the_gate_alone(train: Path) -> None:
    gated, lora, fixed = (read_metrics(Arm(kind, 0).metrics(train)) for kind in ("gated", "lora", "fixed"))
    assert gated[0]["loss"] == pytest.approx(lora[0]["loss"], abs=1e-5)  # calibrated and R = I: the gate does nothing
    assert lora[0]["grad_norm"] == pytest.approx(gated[0]["grad_norm"], rel=1e-4)
    assert [row["learning_rate"] for row in gated] == [row["learning_rate"] for row in lora]
    assert [row["tokens"] for row in gated] == [row["tokens"] for row in fixed]
    assert {row["alpha"] for row in fixed} == {gated[-1]["alpha"]}
    assert {row["alpha"] for row in lora} == {None}
    assert gated[-1]["loss"] != lora[-1]["loss"] != fixed[-1]["loss"]


def test_the_comparison_is_the_paired_difference_of_held_out_losses(train: Path) -> None:
    row = read_json(train / "control.json")
    losses = {kind: load_file(train / "control" / f"{kind}-0" / "held_out.safetensors")["losses"].double()
              for kind in ("gated", "lora", "fixed")}  # fmt: skip
    assert set(row["arms"]) == {"gated-0", "lora-0", "fixed-0"}
    for control in ("lora", "fixed"):
        found = row["paired"][f"gated_minus_{control}"]
        assert found["nats"] == pytest.approx((losses["gated"] - losses[control]).mean().item(), abs=1e-12)
        assert found["nats"] == pytest.approx(row["arms"]["gated-0"]["loss"] - row["arms"][f"{control}-0"]["loss"])
        assert found["n_tokens"] == len(losses["gated"])
        assert 0 < found["standard_error"] < row["arms"]["gated-0"]["standard_error"]
    assert (row["transition"]["outcome"], row["transition"]["reason"]) == ("not_measured", "too_few_steps")


def test_lora_without_gate_becomes_a_stage_of_the_quality_chain(train: Path) -> None:
    stages = read_json(train / "quality.json")
    assert stages["lora"]["n_tokens"] == stages["base"]["n_tokens"]
    assert stages["lora"]["loss"] == pytest.approx(
        read_json(train / "control.json")["arms"]["lora-0"]["loss"], abs=1e-4
    )


def test_the_run_log_says_what_the_controls_found(compared_once: RunDirectory, train: Path) -> None:
    record = gather(compared_once, compared_once.plan())
    found = read_json(train / "control.json")
    assert record.row["control"] == found  # reckoned anew from the arms' files
    page = markdown.render(compose(record, translator("en")), {})
    pair = found["paired"]["gated_minus_lora"]
    assert "said of one data order" in page
    assert (
        "The rotation behind its gate" in page and with_error(pair["nats"], pair["standard_error"], sign=True) in page
    )
    assert "transition was not measured: it needs at least 40 steps" in page
    assert "LoRA のみ" in markdown.render(compose(record, translator("ja")), {})
    evidence = Evidence(compared_once)
    assert "controls" in draw(record.row, metrics(evidence), [], "en", read_curves(evidence))


def test_a_doctored_arm_is_not_compared(compared_once: RunDirectory, train: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "copy")
    shutil.copytree(compared_once.path, run.path)
    losses = run.path / "train" / "control" / "lora-0" / "held_out.safetensors"
    save_file({"losses": load_file(losses)["losses"] + 1}, losses)
    record = gather(run, run.plan())
    assert record.row["control"] is None
    page = markdown.render(compose(record, translator("en")), {})
    assert "the comparison cannot be shown" in page


def test_finished_arms_leave_evidence_and_no_checkpoints(compared_once: RunDirectory, train: Path) -> None:
    assert not list((train / "control").rglob("checkpoint*"))
    recorded = {Path(a.path).as_posix(): a.evidence for a in compared_once.done("train").outputs}
    below = {name: evidence for name, evidence in recorded.items() if "/control" in name}
    assert len(below) >= 9 and all(below.values())
    assert list(train.glob("checkpoint*"))  # the main training keeps its own


def test_a_finished_comparison_is_fresh_and_more_orders_only_add(compared_once: RunDirectory, train: Path) -> None:
    run = compared_once
    assert states(run, run.plan())["train"] is State.DONE
    before = contents(train / "control")
    run.write_plan(changed(run.plan(), {"control.orders": 2, "control.fixed": False}))
    heard = ritual(run, "train")
    after = contents(train / "control")
    assert before.items() <= after.items()
    assert {"gated-1/metrics.jsonl", "lora-1/metrics.jsonl"} <= after.keys() and "fixed-1/metrics.jsonl" not in after
    assert "lora_1_loss" in {e.name for e in heard if isinstance(e, Metric)}
    row = read_json(train / "control.json")
    assert (row["paired"]["gated_minus_lora"]["n_orders"], row["paired"]["gated_minus_fixed"]["n_orders"]) == (2, 1)
    first, second = (read_metrics(train / "control" / f"lora-{k}" / "metrics.jsonl") for k in (0, 1))
    assert first[0]["loss"] != second[0]["loss"]


def test_a_control_that_was_cut_off_continues_to_the_same_bits(run: RunDirectory, tmp_path: Path) -> None:
    run.write_plan(changed(run.plan(), {"control.lora": True, "train.checkpoint_steps": 1}))
    whole = RunDirectory.create(tmp_path / "whole", run.plan())
    ritual(whole, "prepare", "train")
    ritual(run, "prepare")
    cancel = CancelToken()

    def stop_in_the_control(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "lora_loss" and event.step == 2:
            cancel.cancel()

    run_steps(run, (BY_ID["train"],), stop_in_the_control, cancel)
    assert run.done("train") is None
    assert not (run.path / "train" / "control" / "lora-0" / "quality.json").exists()
    heard = ritual(run, "train")
    assert [e.step for e in heard if isinstance(e, Metric) and e.name == "lora_loss"] == [3, 4]
    assert not [e for e in heard if isinstance(e, Metric) and e.name == "loss"]
    results = [contents(r.path / "train" / "control") for r in (run, whole)]
    for name in ("lora-0/held_out.safetensors", "lora-0/adapter/adapter_model.safetensors", "lora-0/quality.json"):
        assert results[0][name] == results[1][name]


def test_a_control_ends_where_the_training_stopped_early(run: RunDirectory) -> None:
    settings = {
        "train.steps": 20, "train.learning_rate": 1e-9, "soul.rotation_learning_rate": 0.0, "train.evaluate_steps": 1,
        "train.early_stopping": 1, "soul.schedule.end_fraction": 0.2, "control.lora": True,
    }  # fmt: skip
    run.write_plan(changed(run.plan(), settings))
    ritual(run, "prepare", "train")
    n_rows = {arm: len(read_metrics(arm.metrics(run.path / "train"))) for arm in (MAIN, Arm("lora", 0))}
    assert n_rows[MAIN] == n_rows[Arm("lora", 0)] < 20


def test_which_arms_a_plan_asks_for() -> None:
    def asked(**control: Any) -> list[str]:
        return [arm.name for arm in wanted(changed(Plan(), {f"control.{k}": v for k, v in control.items()}))]

    assert asked() == asked(orders=3) == []
    assert asked(lora=True) == ["gated-0", "lora-0"]
    assert asked(lora=True, fixed=True, orders=2) == ["gated-0", "lora-0", "fixed-0", "gated-1", "lora-1", "fixed-1"]


def test_the_fixed_gate_is_scheduled_also_where_the_main_one_learns() -> None:
    plan = changed(Plan(), {"soul.alpha": "learned"})
    own = plan_of(Arm("fixed", 2), plan)
    assert (own.soul.alpha, own.soul.alpha_start) == ("scheduled", plan.soul.alpha_target)
    assert own.train.seed == plan.train.seed + 2
    assert plan_of(MAIN, plan) == plan


def test_a_difference_is_told_from_none_by_its_own_error() -> None:
    held_out = packed(200, 9)
    noise = torch.randn(200 * 8, generator=torch.Generator().manual_seed(0)) * 0.05
    noise -= noise.mean()
    assert pair([noise - 0.01], held_out).verdict == "helped"
    assert pair([noise + 0.01], held_out).verdict == "hurt"
    assert pair([noise + 0.9 * TIE_NATS], held_out).verdict == "no_difference"
    assert pair([100 * noise + 0.01], held_out).verdict == "no_difference"
    assert pair([noise + 0.02, noise - 0.01], held_out).verdict == "no_difference"  # the orders do not agree
    with pytest.raises(ValueError, match="1599 differences"):
        pair([noise[1:]], held_out)


def test_few_orders_need_more_than_two_errors_and_one_order_is_named() -> None:
    held_out = packed(200, 9)
    noise = torch.randn(200 * 8, generator=torch.Generator().manual_seed(0)) * 0.01
    noise -= noise.mean()
    two = pair([noise - 0.0115, noise - 0.0045], held_out)  # −0.008 ± 0.0035: 2.3 errors, and one degree of freedom
    assert two.nats < -2 * two.standard_error and two.verdict == "no_difference"
    assert pair([noise - 0.0084, noise - 0.0076], held_out).verdict == "helped"
    assert pair([noise - 0.012, noise - 0.004, noise - 0.008] * 3, held_out).verdict == "helped"
    one = pair([noise - 0.008], held_out)
    assert "the gate helped in this one data order: -0.0080" in _sentence("lora", one).text
    assert "one data order" not in _sentence("lora", replace(one, n_orders=2)).text


def test_the_error_counts_sequences_not_tokens() -> None:
    held_out = packed(100, 9)
    per_sequence = torch.randn(100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = pair([per_sequence.repeat_interleave(8)], held_out)
    assert found.standard_error == pytest.approx(per_sequence.std().item() / math.sqrt(100))
    assert pair([torch.tensor([0.5])], packed(1, 2)).standard_error == 0


def packed(n: int, length: int) -> Packed:
    ids = torch.ones(n, length, dtype=torch.long)
    labels = ids.clone()
    labels[:, 0] = IGNORED
    return Packed(ids, labels)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def ritual(run: RunDirectory, *steps: str) -> list[Event]:
    heard: list[Event] = []
    last = run_steps(run, tuple(BY_ID[step] for step in steps), heard.append, CancelToken())
    assert isinstance(last, StepFinished), last.traceback if isinstance(last, StepFailed) else last
    return heard
