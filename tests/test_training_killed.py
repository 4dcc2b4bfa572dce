"""kill -9 in a training of other families, in a control run, and while controls are added to a finished training."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import beside, compared, kill_at, prepared, ritual, set_plan, start, train, trained

from aegis_core.cancel import CancelToken
from aegis_core.events import Event, Metric, StepFinished, StepStarted
from aegis_core.journal import replay
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.run_directory import Done, RunDirectory

HARD: dict[str, Any] = {
    "train__steps": 12, "train__checkpoint_steps": 2, "train__evaluate_steps": 6, "train__accumulation": 2,
    "train__gradient_checkpointing": "on", "lora__dropout": 0.1, "soul__rotation_learning_rate": 1e-2,
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """Pairs of runs, the disturbed one first. `added` is as the kill in its control left it, and `marker` what its
    training's was before anything was added."""

    families: dict[str, tuple[RunDirectory, RunDirectory]]
    control: tuple[RunDirectory, RunDirectory]
    addition: tuple[RunDirectory, RunDirectory]
    added: RunDirectory
    marker: Done


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As the children have: sums of several threads are other sums."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Story:
    """Each child trains several runs until it is killed; the next one finishes what that left and goes on. What is not
    to be killed is trained in this process."""
    children = [start() for _ in range(4)]
    folder, chance = tmp_path_factory.mktemp("killed 強制終了"), random.Random(5)
    phi, gemma = (prepared(family, folder / family, **HARD) for family in ("phi3", "gemma3_text"))
    control = prepared("llama", folder / "llama", **HARD, control__lora=True)
    pairs = {"phi3": (phi, beside(phi, "whole")), "gemma3_text": (gemma, beside(gemma, "whole"))}
    whole, addition = beside(control, "whole"), beside(control, "addition", control__lora=False)
    for run in (*(other for _, other in pairs.values()), whole, addition):
        ritual(run, "train")
    marker = addition.done("train")
    set_plan(addition, control__lora=True)

    def kill(child: subprocess.Popen[str], metrics: Path) -> None:
        kill_at(child, metrics, chance.randint(3, 9), chance)

    kill(train(children[0], phi), phi.path / "train" / "metrics.jsonl")
    kill(train(children[1], phi, gemma), gemma.path / "train" / "metrics.jsonl")
    kill(train(children[2], gemma, control), arm(control))
    kill(train(children[3], control, addition), arm(addition))
    added = RunDirectory(folder / "llama" / "added")
    shutil.copytree(addition.path, added.path)
    ritual(addition, "train")
    return Story(pairs, (control, whole), (addition, whole), added, marker)


def arm(run: RunDirectory) -> Path:
    return run.path / "train" / "control" / "lora-0" / "metrics.jsonl"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["phi3", "gemma3_text"])
def test_a_killed_training_of_another_family_is_the_uninterrupted_one_to_the_bit(story: Story, family: str) -> None:
    killed, whole = story.families[family]
    assert [row["step"] for row in trained(killed)["rows"]] == list(range(1, 13))
    assert trained(killed) == trained(whole)
    assert n_attempts(killed) == 2


def test_a_kill_in_a_control_run_changes_no_bit_of_training_and_comparison(story: Story) -> None:
    killed, whole = story.control
    assert n_attempts(killed) == 2
    assert trained(killed) == trained(whole)
    assert compared(killed) == compared(whole)


def test_a_kill_in_an_added_control_run_changes_no_bit_of_training_and_comparison(story: Story) -> None:
    killed, whole = story.addition
    assert n_attempts(killed) == 1  # in a child: the one that was killed
    assert trained(killed) == trained(whole)
    assert compared(killed) == compared(whole)
    assert killed.done("train").digest == story.marker.digest == whole.done("train").digest
    assert not (killed.path / "train" / "done.before.json").exists()
    assert states(killed, killed.plan())["train"] is State.DONE


def test_a_kill_in_an_added_control_run_leaves_the_finished_training_to_be_seen_and_used(story: Story) -> None:
    run, (_, whole) = story.added, story.addition
    assert (run.path / "train" / "done.before.json").exists() and not (run.path / "train" / "done.json").exists()
    assert states(run, run.plan())["train"] is State.STALE  # a comparison is still asked for
    set_plan(run, control__lora=False)
    assert states(run, run.plan())["train"] is State.DONE
    heard: list[Event] = []
    assert isinstance(run_steps(run, (BY_ID["fuse"],), heard.append, CancelToken()), StepFinished)
    assert [event.stage for event in heard if isinstance(event, StepStarted)] == ["fuse"]
    assert states(run, run.plan())["fuse"] is State.DONE
    assert run.done("train").digest == story.marker.digest and run.done("train").extension == story.marker.extension
    assert not (run.path / "train" / "done.before.json").exists()
    assert trained(run) == trained(whole)
    assert run_steps(run, (BY_ID["train"],), heard.append, CancelToken()) is None  # fresh
    assert not [event for event in heard if isinstance(event, Metric) and event.name == "loss"]


def n_attempts(run: RunDirectory) -> int:
    return sum(isinstance(event, StepStarted) and event.stage == "train" for event in replay(run.events_path))
