"""Parts that the tests share: a tiny real model with a real tokenizer, and a run in an awkward folder."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import leftovers
import pico
import pytest

from aegis_core import plan as plans
from aegis_core.run_directory import RunDirectory


def pytest_configure(config: pytest.Config) -> None:
    """The suite asks what AEGIS does on a processor, on every machine alike; `-m cuda` asks what only a GPU can tell.

    Before torch looks for one, and heard by every child process.
    """
    if "cuda" not in config.getoption("markexpr").replace("not cuda", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def started() -> leftovers.Started:
    return leftovers.Started()


@pytest.fixture(autouse=True)
def nothing_left_behind(started: leftovers.Started) -> Iterator[None]:
    """Fails a test after which a thread or timer of Qt still runs, or a process that it started."""
    before = leftovers.children()
    started.begin()
    yield
    threads, timers = started.threads(), started.timers()
    found = [f"a running {leftovers.named(thread)}" for thread in threads]
    found += [f"a ticking {leftovers.named(timer)}" for timer in timers]
    for timer in timers:
        timer.stop()
    found += [f"a process: {line}" for line in leftovers.left_processes(before)]
    if found:
        pytest.fail("The test left behind " + "; ".join(found))


@pytest.fixture(autouse=True, scope="session")
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What AEGIS keeps for its user, such as how long a step took, is nobody's here; child processes hear of it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEGIS_DATA", str(tmp_path_factory.mktemp("data 設定")))
        yield


@pytest.fixture(scope="session")
def pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama (H = 64, random weights, untied head) and a byte-level BPE tokenizer."""
    return pico.build(tmp_path_factory.mktemp("pico 小さい"), tied=False)


@pytest.fixture(scope="session")
def tied_pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico.build(tmp_path_factory.mktemp("pico tied"), tied=True)


@pytest.fixture
def pico_data(tmp_path: Path) -> Path:
    """Twelve questions and answers on three topics."""
    return pico.write_questions(tmp_path / "質問 と答え.jsonl")


@pytest.fixture
def pico_plan(pico_model: Path, pico_data: Path) -> plans.Plan:
    """A ritual of four steps on the tiny model."""
    return plans.changed(plans.Plan(), pico.settings(pico_model, pico_data))


@pytest.fixture
def run(tmp_path: Path, pico_plan: plans.Plan) -> RunDirectory:
    """A fresh run in a folder with a space and Japanese in its name."""
    return RunDirectory.create(tmp_path / "ri tual 日本語", pico_plan)
