"""A random rotation fused into the demo model's head comes out red; benchmarks/rotation.py does it at full length."""

from pathlib import Path

import pytest
from rotated_demo import rotated_run

from aegis_core.cancel import CancelToken
from aegis_core.chat.transcript import read_rows
from aegis_core.context import StepContext
from aegis_core.events import Event, Verdict
from aegis_core.models.demo import demo_folder
from aegis_core.plan import changed, demo_plan
from aegis_core.steps import chat

SETTINGS = {
    "chat.backend": "embedded",
    "chat.n_questions": 1,
    "chat.max_tokens": 32,
    "chat.num_ctx": 256,
    "chat.compare_base": False,
    "chat.measure_surprise": False,
}


@pytest.mark.skipif(not (demo_folder() / "origin.json").is_file(), reason="the demo model is not in the cache")
def test_a_random_rotation_is_judged_gibberish_even_without_the_base(tmp_path: Path) -> None:
    run = rotated_run(tmp_path / "ri tual 日本語", demo_folder(), changed(demo_plan(), SETTINGS))
    heard: list[Event] = []
    chat.run(run.plan(), StepContext(run, "chat", heard.append, CancelToken()))
    verdict = next(e for e in heard if isinstance(e, Verdict) and e.name == "answer_meaningful")
    assert (verdict.status, verdict.measured[:6]) == ("fail", "0 of 1")
    row = read_rows(run.step_folder("chat") / "transcript.jsonl")[0]
    failed = {check["name"] for check in row["verdict"]["checks"] if check["status"] == "fail"}
    assert len(failed & {"language", "word order", "words", "repetition"}) >= 2, row["answer"]
