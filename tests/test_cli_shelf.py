"""The terminal's twin of the first page: runs, duplicate, compare, command, presets."""

import json
from pathlib import Path

import pytest
from home_runs import age, cut_off, damaged, finished

from aegis_core.cli import main
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs 実行"))
    monkeypatch.setenv("COLUMNS", "200")


def said(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> str:
    """What a command prints, stdout or else stderr."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out or err


def test_runs_are_listed_with_where_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs 実行"
    assert "There is no run in" in said(capsys, "runs")
    age(finished(folder / "done 完了"), 10)
    age(cut_off(folder / "killed"), 20)
    age(damaged(folder / "broken"), 30)
    table = said(capsys, "runs")
    assert "4.0116 → 3.3976 → 3.4554" in table
    assert "cut off: 5 Soul injection" in table
    assert "not readable as a plan" in table
    rows = json.loads(said(capsys, "runs", folder, "--json"))
    assert [(Path(row["run"]).name, row["standing"]) for row in rows] == [
        ("done 完了", "done"), ("killed", "cut_off"), ("broken", "damaged"),
    ]  # fmt: skip
    assert rows[0]["losses"]["q4_k_m"] == pytest.approx(3.455367)
    assert rows[1]["step"] == "train"


def test_a_duplicate_takes_settings_along_and_changes_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = finished(tmp_path / "source", {"lora.rank": 32})
    printed = said(capsys, "duplicate", source.path, tmp_path / "複製", "--set", "train.steps=90")
    assert printed.strip() == str(tmp_path / "複製")
    plan = RunDirectory.open(tmp_path / "複製").plan()
    assert (plan.lora.rank, plan.train.steps) == (32, 90)
    assert "already a run" in said(capsys, "duplicate", source.path, tmp_path / "複製", code=2)
    assert "train.steps" in said(capsys, "duplicate", source.path, tmp_path / "x", "--set", "train.steps=0", code=2)
    assert not (tmp_path / "x").exists()
    assert "There is no run" in said(capsys, "duplicate", tmp_path / "none", tmp_path / "y", code=2)


def test_a_comparison_shows_numbers_and_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = finished(tmp_path / "one"), finished(tmp_path / "other", {"lora.rank": 32}, -0.05)
    table = said(capsys, "compare", one.path, other.path)
    assert "3.39759" in table and "3.34759" in table
    assert "lora.rank" in table and "train.learning_rate" not in table
    found = json.loads(said(capsys, "compare", one.path, other.path, "--json"))
    assert found["settings"] == {"lora.rank": [16, 32]}
    assert found["numbers"]["bytes.q4_k_m"] == [124918656, 124918656]
    assert "two to 4" in said(capsys, "compare", one.path, code=2)
    broken = damaged(tmp_path / "broken")
    assert "not readable" in said(capsys, "compare", one.path, broken.path, code=2)


def test_the_printed_command_begins_the_same_run_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "source", {"lora.rank": 48})
    line = said(capsys, "command", run.path, "--shell", "sh").strip()
    program, *words = line.split()
    assert program == "aegis"
    assert main(words) == 0
    assert RunDirectory.open(tmp_path / "source-2").plan() == run.plan()
    assert "aegis new " in said(capsys, "command", run.path, "--shell", "cmd")
    assert "powershell" in said(capsys, "command", run.path, "--shell", "fish", code=2)


def test_presets_are_saved_listed_used_and_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "source", {"lora.rank": 48})
    assert said(capsys, "preset", "save", run.path, "夜間").strip().endswith("夜間.json")
    (tmp_path / "data" / "presets" / "bad.json").write_text("{", encoding="utf-8")
    listed = said(capsys, "preset", "list")
    assert "phi-3.5-12gb" in listed and "夜間" in listed
    assert "The preset bad is damaged" in listed
    said(capsys, "new", tmp_path / "from preset", "--preset", "夜間", "--set", "train.steps=70")
    plan = RunDirectory.open(tmp_path / "from preset").plan()
    assert (plan.lora.rank, plan.train.steps, plan.model.source) == (48, 70, "demo")
    said(capsys, "preset", "delete", "夜間")
    assert "There is no preset" in said(capsys, "new", tmp_path / "x", "--preset", "夜間", code=2)
    assert "is damaged" in said(capsys, "new", tmp_path / "x", "--preset", "bad", code=1)
    assert "comes along" in said(capsys, "preset", "delete", "demo", code=2)
    assert "cannot go together" in said(capsys, "new", tmp_path / "x", "--demo", "--preset", "demo", code=2)
    assert not (tmp_path / "x").exists()


def test_the_bundled_demo_preset_is_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "new", tmp_path / "run", "--preset", "demo", "--set", "report.language=ja")
    assert RunDirectory.open(tmp_path / "run").plan() == demo_plan()
