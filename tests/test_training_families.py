"""Every family trains as the tiny Llama does: stopped and resumed, compared, ended early, with every option."""

import gc
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import FAMILIES
from tiny_training import beside, prepared, ritual, timeless, trained

from aegis_core.cancel import CancelToken
from aegis_core.events import Event, Metric, StepCancelled, StepFailed
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.plan import GOLDEN_RATIO
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.soul.gate import load_soul
from aegis_core.training import checkpoints
from aegis_core.training.arms import MAIN, Arm

HARD = {  # everything that draws random numbers or keeps something between steps
    "lora__dropout": 0.1,
    "train__batch_size": 2,
    "train__accumulation": 2,
    "train__gradient_checkpointing": "on",
    "train__evaluate_steps": 3,
    "soul__rotation_learning_rate": 1e-2,
}
ALONE = {"control__lora": False, "control__fixed": False}
LIGHT = {"train__accumulation": 1, "train__gradient_checkpointing": "off", "evaluation__kl_tokens": 0}

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module", autouse=True)
def garbage() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def torch_is_no_garbage(garbage: None) -> None:
    """Each step collects garbage; with all of torch among what is looked through that takes a quarter of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunDirectory]:
    """An undisturbed training of a family with both controls, made once."""

    @cache
    def made(family: str) -> RunDirectory:
        folder = tmp_path_factory.mktemp(f"家族 {family}")
        run = prepared(family, folder, **HARD, control__lora=True, control__fixed=True)
        ritual(run, "train")
        return run

    return made


@every_family
def test_a_training_that_broke_off_and_was_stopped_continues_to_the_same_bits(
    family: str, whole: Callable[[str], RunDirectory]
) -> None:
    run = beside(whole(family), "re sumed", **ALONE)
    assert isinstance(train_until(run, 4, breaks), StepFailed)
    assert checkpoints.step_of(checkpoints.newest(run.path / "train")) == 2  # the third step is made again
    assert isinstance(train_until(run, 5, CancelToken.cancel), StepCancelled)
    assert checkpoints.step_of(checkpoints.newest(run.path / "train")) == 5
    ritual(run, "train")
    assert trained(run) == trained(whole(family))


@every_family
def test_measuring_and_computing_activations_twice_change_no_bit(
    family: str, whole: Callable[[str], RunDirectory]
) -> None:
    run = beside(
        whole(family), "plain", train__evaluate_steps=0, train__gradient_checkpointing="off",
        evaluation__kl_tokens=0, **ALONE,
    )  # fmt: skip
    ritual(run, "train")
    plain, watched = trained(run), trained(whole(family))
    measured = [row.pop("held_out_loss") for row in watched["rows"] if "held_out_loss" in row]
    assert [row.pop("held_out_loss") for row in plain["rows"] if "held_out_loss" in row] == measured[-1:]
    assert len(measured) == 2
    assert plain == watched


@every_family
def test_a_family_is_compared_with_its_controls(family: str, whole: Callable[[str], RunDirectory]) -> None:
    train = whole(family).path / "train"
    found = read_json(train / "control.json")
    rows = {kind: timeless(Arm(kind, 0).metrics(train)) for kind in ("gated", "lora", "fixed")}
    for kind in ("lora", "fixed"):
        assert rows[kind][0]["loss"] == pytest.approx(rows["gated"][0]["loss"], abs=1e-5)  # calibrated, R = I
        assert rows[kind][-1]["loss"] != pytest.approx(rows["gated"][-1]["loss"], abs=1e-5)  # by now R has turned
        assert [row["tokens"] for row in rows[kind]] == [row["tokens"] for row in rows["gated"]]
        pairing = found["paired"][f"gated_minus_{kind}"]
        losses = [load_file(train / "control" / f"{k}-0" / "held_out.safetensors")["losses"] for k in ("gated", kind)]
        assert pairing["nats"] == pytest.approx((losses[0].double() - losses[1].double()).mean().item(), abs=1e-12)
        assert 0 < pairing["standard_error"] < 0.5 and pairing["n_tokens"] == len(losses[0])
    for kind, arm in rows.items():
        assert all(math.isfinite(row["loss"]) and 0 < row["grad_norm"] < math.inf for row in arm)
        # the last measurement on the way and the one for the comparison are made apart and of the same weights
        assert found["arms"][f"{kind}-0"]["loss"] == pytest.approx(arm[-1]["held_out_loss"], abs=1e-6)
    stages = read_json(train / "quality.json")
    assert stages["lora"]["loss"] == pytest.approx(found["arms"]["lora-0"]["loss"], abs=1e-5)


@every_family
def test_a_gate_is_lora_to_the_bit_while_it_is_shut_and_to_rounding_while_nothing_turns(
    family: str, whole: Callable[[str], RunDirectory]
) -> None:
    run = beside(
        whole(family), "still", train__steps=4, soul__alpha_start=-20.0, soul__schedule__warmup_fraction=0.5,
        soul__rotation_learning_rate=0.0, train__evaluate_steps=0, **LIGHT,
    )  # fmt: skip
    ritual(run, "train")
    gated, lora, fixed = (timeless(Arm(kind, 0).metrics(run.path / "train")) for kind in ("gated", "lora", "fixed"))
    shut = [(mine, other) for mine, other in zip(gated, lora, strict=True) if mine["alpha"] == -20]
    assert len(shut) >= 3  # 1 + σ(−20) is 1 in float32
    assert all(mine[name] == other[name] for mine, other in shut for name in ("loss", "grad_norm", "learning_rate"))
    for arm in (lora, fixed):
        assert [row["loss"] for row in arm] == pytest.approx([row["loss"] for row in gated], abs=2e-5)
    assert {row["rotation_angle"] for row in gated + fixed} == {0.0}


@every_family
def test_a_training_that_ends_early_is_fused_as_it_is(family: str, whole: Callable[[str], RunDirectory]) -> None:
    run = beside(
        whole(family), "ear ly", train__steps=20, train__learning_rate=1e-12, soul__rotation_learning_rate=0.0,
        train__evaluate_steps=2, train__early_stopping=1, soul__schedule__end_fraction=0.1, **LIGHT,
        control__fixed=False,
    )  # fmt: skip
    ritual(run, "train", "fuse")
    summary = read_json(run.path / "train" / "summary.json")
    assert summary["stopped_early"] and summary["steps_done"] == 6 and summary["steps_planned"] == 20
    assert {len(timeless(arm.metrics(run.path / "train"))) for arm in (MAIN, Arm("lora", 0))} == {6}
    assert abs(load_soul(run.path / "train" / "soul.safetensors").alpha - GOLDEN_RATIO) < 1e-6
    assert {step: states(run, run.plan())[step] for step in ("train", "fuse")} == dict.fromkeys(
        ("train", "fuse"), State.DONE
    )
    assert read_json(run.path / "fuse" / "proof.json")["passed"]


LEARNED = {
    "lora__rank_stabilised": True, "soul__inner_layers": [0, 1], "soul__train_norm": True,
    "soul__alpha": "learned", "soul__alpha_start": 0.5, "soul__rotation_waits": "scaled",
}  # fmt: skip
LENGTHS = {"lora__dora": True, "soul__rotation_waits": "frozen", "soul__calibrate": False}


@every_family
@pytest.mark.parametrize("options", [LEARNED, LENGTHS], ids=["rsLoRA, norm, inner, learned alpha", "DoRA, literal"])
def test_what_the_options_learn_is_fused_exactly(
    family: str, options: dict[str, Any], whole: Callable[[str], RunDirectory]
) -> None:
    run = beside(
        whole(family), "options " + "".join(sorted(options))[:12], **options, train__steps=2, train__warmup_steps=0,
        train__learning_rate=0.01, soul__rotation_learning_rate=0.05, train__evaluate_steps=0, **LIGHT, **ALONE,
    )  # fmt: skip
    ritual(run, "train", "fuse")
    proof = read_json(run.path / "fuse" / "proof.json")
    assert proof["passed"] and proof["max_abs_logit_diff"] < 1e-4, proof
    rows = timeless(run.path / "train" / "metrics.jsonl")
    soul = load_soul(run.path / "train" / "soul.safetensors")
    lengths = lengths_that_learned(run)
    assert soul.generator.abs().max() > 1e-3
    if options is LEARNED:
        assert soul.alpha == rows[-1]["alpha"] != 0.5
        assert (soul.norm_scale - 1).abs().max() > 1e-3
        assert sorted(soul.inner) == [0, 1] and all(inner.abs().max() > 1e-3 for inner in soul.inner.values())
        assert not lengths
    else:
        assert [row["rotation_angle"] > 0 for row in rows] == [False, True]  # shut, then open
        assert lengths and all(length > 1e-4 for length in lengths)


def lengths_that_learned(run: RunDirectory) -> list[float]:
    """By how much DoRA's learned lengths differ from those of the base's weights, per layer."""
    adapter = load_file(run.path / "train" / "adapter" / "adapter_model.safetensors")
    base = load_file(Path(run.plan().model.source) / "model.safetensors")
    pairs = {name: name.removeprefix("base_model.model.").replace("lora_magnitude_vector", "weight")
             for name in adapter if "magnitude" in name}  # fmt: skip
    return [
        (adapter[mine] - torch.linalg.norm(base[theirs].float(), dim=1)).abs().max().item()
        for mine, theirs in pairs.items()
    ]


def breaks(cancel: CancelToken) -> None:
    raise OSError("the disk is gone")


def train_until(run: RunDirectory, step: int, act: Callable[[CancelToken], None]) -> Event | None:
    """Train until the loss of `step` is told; then `act`. Returns the terminal event."""
    cancel = CancelToken()

    def sink(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "loss" and event.step == step:
            act(cancel)

    return run_steps(run, (BY_ID["train"],), sink, cancel)
