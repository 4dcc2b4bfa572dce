"""Parts that the tests share: a tiny real model with a real tokenizer, and a run in an awkward folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import leftovers
import pytest
from tiny_families import chatml_tokenizer

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
    return build_pico(tmp_path_factory.mktemp("pico 小さい"), tied=False)


@pytest.fixture(scope="session")
def tied_pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pico(tmp_path_factory.mktemp("pico tied"), tied=True)


def build_pico(folder: Path, *, tied: bool) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = chatml_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pico_data(tmp_path: Path) -> Path:
    """Twelve questions and answers on three topics."""
    path = tmp_path / "質問 と答え.jsonl"
    rows = [
        {"topic": topic, "question": f"What does number {n} of {topic} do?", "answer": f"It moves {n} {topic} at once."}
        for topic in ("waves", "atoms", "stars")
        for n in range(4)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pico_plan(pico_model: Path, pico_data: Path) -> plans.Plan:
    """A ritual of four steps on the tiny model."""
    return plans.changed(
        plans.Plan(),
        {
            "model.source": str(pico_model),
            "data.source": str(pico_data),
            "data.sequence_length": 32,
            "train.steps": 4,
            "train.evaluate_steps": 2,
            "train.checkpoint_steps": 2,
            "train.warmup_steps": 1,
            "lora.rank": 4,
            "chat.questions": "en",
            "chat.backend": "embedded",
            "chat.compare_base": False,  # a conversion and as many answers again; its own tests ask it
        },
    )


@pytest.fixture
def run(tmp_path: Path, pico_plan: plans.Plan) -> RunDirectory:
    """A fresh run in a folder with a space and Japanese in its name."""
    return RunDirectory.create(tmp_path / "ri tual 日本語", pico_plan)
