"""What the run log says is needed to hold the ritual again, and that it is enough."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finished_run import edit_json, finished_run
from report_parts import Page, chapter, written

from aegis_core import command_line
from aegis_core import plan as plans
from aegis_core.events import PlanChanged, encode
from aegis_core.plan import Plan
from aegis_core.report.history import History
from aegis_core.report.record import gather
from aegis_core.report.repeat import commands, differences
from aegis_core.run_directory import RunDirectory


def rebuilt(line: str, start: Plan | None = None) -> dict[str, Any]:
    """The plan that `aegis new` would write."""
    words = shlex.split(line)
    assignments = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    return plans.changed(start or Plan(), dict(map(plans.parsed, assignments))).model_dump(mode="json")


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "SHELLS", ("sh",))


AWKWARD = {
    "chat.system": 'It\'s "so"; $HOME `x` \\ 日本語\nand a second line',
    "data.source": "/home/花 子/質問.jsonl",
    "export.types": ["f16", "q8_0"],
    "search.ranks": [4, 8],
    "train.learning_rate": 1.2345678901234567e-4,
    "data.packing": False,
    "report.language": "en",
}


def test_the_commands_rebuild_the_plan_to_the_last_digit() -> None:
    plan = plans.changed(Plan(), AWKWARD)
    assert rebuilt(commands(plan, History(), None, None)[0]) == plan.model_dump(mode="json")


def test_a_demo_is_repeated_as_a_demo() -> None:
    plan = plans.changed(plans.demo_plan(), {"train.steps": 81})
    first = commands(plan, History(), None, None)[0]
    assert first == "aegis new REPEAT --demo --set train.steps=81 --set report.language=ja"
    assert rebuilt(first, plans.demo_plan()) == plan.model_dump(mode="json")


def test_what_a_search_wrote_is_taken_back_for_the_search_to_find_again(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", search__enabled=True, train__learning_rate=5e-4, train__batch_size=4)
    change = PlanChanged({"train.learning_rate": 1e-4}, {"train.learning_rate": 5e-4}, "search")
    with run.events_path.open("a", encoding="utf-8") as journal:
        journal.write(encode(change) + "\n")
    row = gather(run, run.plan()).row
    found = rebuilt(row["commands"][0])["train"]
    assert (found["learning_rate"], found["batch_size"]) == (1e-4, 4)
    by_name = {difference["name"]: difference for difference in row["differences"]}
    assert by_name["train.learning_rate"]["source"] == "search" and by_name["train.batch_size"]["source"] == ""
    edit_json(run.plan_path, lambda plan: plan["search"].update(enabled=False))  # nobody would find it again
    assert rebuilt(gather(run, run.plan()).row["commands"][0])["train"]["learning_rate"] == 5e-4


def test_a_moving_revision_becomes_the_commit_it_was() -> None:
    plan = plans.changed(Plan(), {"data.source": "owner/data"})
    found = rebuilt(commands(plan, History(), {"revision": "a" * 40}, {"commit": "b" * 40})[0])
    assert (found["model"]["revision"], found["data"]["revision"]) == ("a" * 40, "b" * 40)
    found = rebuilt(commands(plan, History(), {"revision": "local"}, {"commit": None})[0])
    assert (found["model"]["revision"], found["data"]["revision"]) == ("main", "main")


def test_folders_outside_the_run_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", export__directory="D:/モデル 置場")
    assert "D:/" not in gather(run, run.plan()).row["commands"][0]
    assert "Folders outside the run are left out" in Page(chapter(written(run)[0], "repeat")).text


def test_on_windows_the_commands_are_those_of_its_own_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake platform; what the shell makes of such a line is asked in test_command_line."""
    monkeypatch.setattr(command_line, "SHELLS", ("powershell", "cmd"))
    plan = plans.changed(Plan(), {"data.source": "D:\\my data\\質問.jsonl"})
    first = commands(plan, History(), None, None)[0]
    assert "--set 'data.source=D:\\my data\\質問.jsonl'" in first


def test_differences_come_first_and_every_setting_and_seed_is_there(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", lora__rank=8)
    row = gather(run, run.plan()).row
    assert {"name": "lora.rank", "value": 8, "default": 16, "source": ""} in row["differences"]
    assert row["seeds"] == {name: plans.get(run.plan(), name) for name in row["seeds"]} and len(row["seeds"]) >= 4
    page = chapter(written(run)[0], "plan")
    folded = page.index("<details>")
    assert page.index(">lora.rank<") < folded < page.index(">lora.dropout<")
    assert "2.13.0" in page[:folded] and "train.seed" in page[:folded]
    assert all(f">{name}<" in page[folded:] for name in ("chat.top_k", "export.types", "soul.schedule.kind"))
    assert differences(Plan(), History()) == []


@pytest.mark.timeout(900)
def test_the_commands_of_a_log_make_the_same_files_to_the_byte(tmp_path: Path, pico_plan: Plan) -> None:
    """The tiny model: a ritual, its log, and what the log says to type, typed."""
    first = RunDirectory.create(tmp_path / "erster 実行", plans.changed(pico_plan, {"report.language": "en"}))
    engine(tmp_path, "run", str(first.path), "--to", "export")
    engine(tmp_path, "report", str(first.path))
    page = (first.path / "report.html").read_text(encoding="utf-8")
    told = Page(chapter(page, "repeat")).text
    typed = [line for line in told.splitlines() if line.startswith("aegis ")]
    assert [shlex.split(line)[1] for line in typed] == ["new", "run", "verify"]
    engine(tmp_path, *shlex.split(typed[0])[1:])
    engine(tmp_path, *shlex.split(typed[1])[1:], "--to", "export")
    engine(tmp_path, *shlex.split(typed[2])[1:])
    made = {step: hashes(first, step) for step in ("prepare", "train", "fuse", "export")}
    again = {step: hashes(RunDirectory(tmp_path / "REPEAT"), step) for step in made}
    assert again == made and sum(map(len, made.values())) > 8


def hashes(run: RunDirectory, step: str) -> dict[str, str]:
    """Name -> SHA-256 of the weights, data and model files that a step recorded."""
    done = run.done(step)
    assert done is not None
    return {a.path: a.sha256 for a in done.outputs if Path(a.path).suffix in (".safetensors", ".gguf")}


def engine(folder: Path, *words: str) -> None:
    import os

    home = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "aegis_core", *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": home},
        check=False,
    )
    assert done.returncode == 0, done.stderr
