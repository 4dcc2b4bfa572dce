"""The commands as a shell sees them: output, exit codes, and one sentence when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_core.journal import replay
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory

ENGINE = Path(__file__).with_name("tiny_engine.py")
posix = pytest.mark.skipif(os.name == "nt", reason="signals and mounts are POSIX")
Shell = subprocess.CompletedProcess[str]


@pytest.fixture
def cli_run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "ri tual 日本語", demo_plan())


def aegis(*arguments: str | Path, steps: str = "{}", **environment: str) -> Shell:
    return subprocess.run(
        [sys.executable, str(ENGINE), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TINY_STEPS": steps, **environment},
        timeout=120,
    )


def started(run: RunDirectory, steps: str) -> subprocess.Popen[bytes]:
    """aegis run in a process group of its own, as a shell would start it; returns once the step works."""
    n_before = len(list(replay(run.events_path)))
    process = subprocess.Popen(
        [sys.executable, str(ENGINE), "run", str(run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TINY_STEPS": steps},
        start_new_session=True,
    )
    while len(list(replay(run.events_path))) < n_before + 2:
        assert process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["run"], ["run", "nowhere"], ["new"], ["run", ".", "--step", "x"], ["chat", "nowhere"]]
)
def test_bad_usage_exits_2_without_a_trace(arguments: list[str], tmp_path: Path) -> None:
    done = aegis(*arguments)
    assert done.returncode == 2
    assert done.stderr or done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_the_module_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "aegis_core", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for command in ("check", "new", "run", "set", "status", "verify", "report", "chat", "demo"):
        assert command in done.stdout


def test_listing_settings_loads_no_model_library() -> None:
    code = """
import sys
from aegis_core.cli import main
main(["set", "--list"])
heavy = {"torch", "transformers", "peft", "datasets", "optuna", "gguf", "xllamacpp"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "train.steps=500" in done.stdout


def test_new_writes_a_plan_and_set_changes_it_or_refuses_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new 日本語"
    assert aegis("new", folder, "--demo", "--set", "train.steps=30").returncode == 0
    run = RunDirectory.open(folder)
    assert run.plan().train.steps == 30
    assert run.plan().model.source == "demo"
    assert aegis("new", folder).returncode == 2
    assert aegis("set", folder, "train.steps=31", "lora.rank=8").returncode == 0
    assert (run.plan().train.steps, run.plan().lora.rank) == (31, 8)
    refused = aegis("set", folder, "train.steps=32", "lora.rank=0")
    assert refused.returncode == 2
    assert "lora.rank" in refused.stderr
    assert run.plan().train.steps == 31


def test_settings_cannot_change_while_a_program_works_on_the_run(cli_run: RunDirectory) -> None:
    with cli_run.lock():
        for command in (["set", cli_run.path, "train.steps=31"], ["run", cli_run.path]):
            refused = aegis(*command)
            assert refused.returncode == 1
            assert refused.stderr.startswith("Another AEGIS is working on")
    assert cli_run.plan() == demo_plan()


def test_run_does_everything_once_and_status_and_verify_agree(cli_run: RunDirectory) -> None:
    done = aegis("run", cli_run.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Soul fusion" in done.stdout
    status = json.loads(aegis("status", cli_run.path, "--json").stdout)
    assert [row["state"] for row in status["steps"]] == ["done"] * 2 + ["disabled"] * 2 + ["done"] * 5
    assert status["running"] is False
    assert "done already" in aegis("run", cli_run.path).stdout


def test_status_names_what_changed(cli_run: RunDirectory) -> None:
    aegis("run", cli_run.path, "--to", "train")
    aegis("set", cli_run.path, "train.steps=31")
    (train,) = [r for r in json.loads(aegis("status", cli_run.path, "--json").stdout)["steps"] if r["id"] == "train"]
    assert (train["state"], train["because"]) == ("stale", ["train.steps"])
    assert "train.steps" in aegis("status", cli_run.path).stdout


def test_verify_names_the_file_that_differs(cli_run: RunDirectory) -> None:
    aegis("run", cli_run.path, "--to", "train")
    assert aegis("verify", cli_run.path).returncode == 0
    path = cli_run.path / "train" / "result.txt"
    path.write_text(path.read_text(encoding="utf-8")[::-1], encoding="utf-8")  # same size
    done = aegis("verify", cli_run.path, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["passed"] is False
    assert [c["name"] for c in found["checks"] if c["status"] == "fail"] == [f"train: {path}"]
    path.unlink()
    done = aegis("verify", cli_run.path)
    assert done.returncode == 1
    assert str(path) in done.stderr


def test_verify_recomputes_nothing_for_a_step_that_a_change_has_overtaken(cli_run: RunDirectory) -> None:
    aegis("run", cli_run.path, "--to", "fuse")
    aegis("set", cli_run.path, "train.steps=31")
    done = aegis("verify", cli_run.path, "--json")
    assert done.returncode == 0, done.stderr
    assert {c["name"]: c["status"] for c in json.loads(done.stdout)["checks"]}["fuse"] == "skipped"


def test_a_failed_step_is_one_sentence_and_one_advice_and_the_trace_only_on_request(cli_run: RunDirectory) -> None:
    done = aegis("run", cli_run.path, steps='{"prepare": "refuse"}')
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"No config.json in {cli_run.path / 'prepare'}.",
        "Choose a model folder.",
    ]
    assert cli_run.done("check") is not None
    done = aegis("run", cli_run.path, "--debug", steps='{"prepare": "stumble"}')
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "two plus two" in done.stderr
    assert "ValueError" in cli_run.events_path.read_text(encoding="utf-8")


def test_what_libraries_print_stays_out_of_the_terminal(cli_run: RunDirectory) -> None:
    done = aegis("run", cli_run.path, "--only", "check", steps='{"check": "chatty"}')
    assert (done.returncode, done.stderr) == (0, "")
    assert "train_runtime" not in done.stdout
    written = cli_run.stderr_path.read_text(encoding="utf-8")
    assert "native warning" in written and "a warning of a library" in written and "train_runtime" in written


def test_ranges_and_repetition(cli_run: RunDirectory) -> None:
    assert aegis("run", cli_run.path, "--to", "train").returncode == 0
    assert cli_run.done("train") and not cli_run.done("fuse")
    refused = aegis("run", cli_run.path, "--only", "chat")
    assert refused.returncode == 1
    assert "export" in refused.stderr
    first = cli_run.done("train")
    assert aegis("run", cli_run.path, "--only", "train", "--again").returncode == 0
    second = cli_run.done("train")
    assert first and second and second.finished_at > first.finished_at
    assert aegis("run", cli_run.path, "--only", "train", "--from", "fuse").returncode == 2
    assert aegis("run", cli_run.path, "--only", "dance").returncode == 2


@posix
@pytest.mark.parametrize("polite", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_exits_130_and_the_run_continues(cli_run: RunDirectory, polite: signal.Signals) -> None:
    process = started(cli_run, '{"check": "loop"}')
    process.send_signal(polite)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, b"")
    count = int((cli_run.path / "check" / "count.txt").read_text(encoding="utf-8"))
    assert json.loads(aegis("status", cli_run.path, "--json").stdout)["steps"][0]["begun"] is True
    process = started(cli_run, '{"check": "loop"}')
    process.send_signal(polite)
    process.communicate(timeout=20)
    assert int((cli_run.path / "check" / "count.txt").read_text(encoding="utf-8")) > count


@posix
def test_a_second_ctrl_c_ends_a_step_that_does_not_listen(cli_run: RunDirectory) -> None:
    process = started(cli_run, '{"check": "deaf"}')
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


@pytest.mark.parametrize("encoding", ["cp932", "ascii"])
def test_a_console_that_cannot_show_everything_is_no_reason_to_crash(cli_run: RunDirectory, encoding: str) -> None:
    for command in (["status", cli_run.path], ["set", "--list"]):
        done = aegis(*command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert done.returncode == 0, done.stderr
    done = aegis("run", cli_run.path, steps='{"fuse": "refuse"}', PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 1
    assert "No config.json" in done.stderr


def test_a_plan_with_a_bad_field_is_bad_usage_and_touches_nothing(cli_run: RunDirectory) -> None:
    aegis("run", cli_run.path, "--to", "check")
    text = cli_run.plan_path.read_text(encoding="utf-8")
    cli_run.plan_path.write_text(text.replace('"steps": 80', '"steps": "viele"'), encoding="utf-8")
    done = aegis("run", cli_run.path)
    assert done.returncode == 2
    assert "train.steps" in done.stderr
    assert cli_run.done("check") is not None


def test_events_on_stdout_are_nothing_but_events(cli_run: RunDirectory) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ENGINE), "run", str(cli_run.path), "--only", "check", "--events"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TINY_STEPS": '{"check": "noisy"}'},
    )
    assert process.stdout and process.stdin
    names = [json.loads(line)["event"] for line in process.stdout]
    assert process.wait() == 0
    process.stdin.close()
    process.stdout.close()
    assert (names[0], names[-1]) == ("StepStarted", "StepFinished")


def test_the_demo_continues_what_was_cut_off_and_shows_the_indicators(tmp_path: Path) -> None:
    failed = aegis("demo", steps='{"export": "refuse"}', AEGIS_RUNS=str(tmp_path / "runs 日本語"))
    assert failed.returncode == 1
    (folder,) = (tmp_path / "runs 日本語").iterdir()
    done = aegis("demo", steps='{"report": "judge"}', AEGIS_RUNS=str(tmp_path / "runs 日本語"))
    assert done.returncode == 0, done.stderr
    assert str(folder) in done.stdout
    assert "training_completed" in done.stdout
    assert str(folder / "report.html") in done.stdout
    assert len(list((tmp_path / "runs 日本語").iterdir())) == 1


def test_a_red_indicator_makes_the_demo_fail_and_out_and_steps_are_heard(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    aegis("new", folder, "--demo")
    options = ("--out", folder, "--steps", "12", "--set", "lora.rank=4")
    done = aegis("demo", *options, steps='{"report": "judge"}')
    assert done.returncode == 1
    assert "alpha_reached" in done.stdout
    plan = RunDirectory.open(folder).plan()
    assert (plan.train.steps, plan.lora.rank) == (12, 4)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; needs root."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@posix
@pytest.mark.parametrize("events", [False, True])
def test_a_full_disk_is_one_sentence_and_earlier_results_stay_whole(small_disk: Path, events: bool) -> None:
    run = RunDirectory.create(small_disk / "run", demo_plan())
    assert aegis("run", run.path, "--to", "prepare").returncode == 0
    if events:
        process = subprocess.Popen(
            [sys.executable, str(ENGINE), "run", str(run.path), "--events"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TINY_STEPS": '{"train": "fill"}'},
        )
        assert process.stdin and process.stdout
        last = [json.loads(line) for line in process.stdout][-1]
        process.stdout.close()
        process.stdin.close()
        assert process.wait() == 1
        words = [last["reason"], last["advice"]]
    else:
        done = aegis("run", run.path, steps='{"train": "fill"}')
        assert done.returncode == 1
        words = done.stderr.splitlines()
    assert len(words) == 2
    assert words[0].startswith("The disk is full")
    assert aegis("verify", run.path).returncode == 0
    (run.path / "train" / "big.bin").unlink()
    assert aegis("run", run.path).returncode == 0
