"""The pipe between a program and the engine it starts: real processes, killed, deaf, silent and noisy ones."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from aegis_core.events import (
    TERMINAL,
    Event,
    Log,
    Paused,
    Progress,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepStarted,
    Telemetry,
)
from aegis_core.journal import replay
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory

ENGINE = Path(__file__).with_name("tiny_engine.py")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals and no fork")


@pytest.fixture
def child_run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "ri tual 日本語", demo_plan())


def engine(run: RunDirectory, steps: str, *options: str) -> Child:
    command = [sys.executable, str(ENGINE), "run", str(run.path), "--events", *options]
    return Child(command, run.stderr_path, {"TINY_STEPS": steps})


def script(tmp_path: Path, code: str) -> Child:
    return Child([sys.executable, "-c", code], tmp_path / "stderr.log")


def until(events: Iterator[Event], kind: type[Event]) -> Event:
    return next(event for event in events if isinstance(event, kind))


def terminals(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.stage, type(event).__name__) for event in events if isinstance(event, TERMINAL)]


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_whole_run_ends_each_step_once_and_leaves_the_same_events_in_the_journal(child_run: RunDirectory) -> None:
    child = engine(child_run, "{}")
    events = list(child.events())
    assert child.exit_code == 0
    steps = ["check", "prepare", "train", "fuse", "export", "chat", "report"]
    assert terminals(events) == [(step, "StepFinished") for step in steps]
    assert list(replay(child_run.events_path)) == events


def test_cancel_saves_and_the_next_start_continues(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "loop"}', "--only", "check")
    events = child.events()
    until(events, Progress)
    child.send({"do": "cancel"})
    assert terminals(list(events)) == [("check", "StepCancelled")]
    assert child.exit_code == 130
    count = int((child_run.path / "check" / "count.txt").read_text(encoding="utf-8"))

    child = engine(child_run, '{"check": "loop"}', "--only", "check")
    events = child.events()
    assert until(events, StepStarted) == StepStarted(True, at=pytest.approx(time.time(), abs=60), stage="check")
    progress = until(events, Progress)
    assert isinstance(progress, Progress) and progress.done == count + 1
    child.stop(timeout=20)
    list(events)


@posix
def test_a_native_crash_is_a_failed_step_that_names_the_signal_and_the_last_words(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"prepare": "abort"}')
    events = list(child.events())
    assert terminals(events) == [("check", "StepFinished"), ("prepare", "StepFailed")]
    failed = events[-1]
    assert isinstance(failed, StepFailed)
    assert "SIGABRT" in failed.reason
    assert "さようなら" in failed.reason
    assert "さようなら" in failed.traceback


@posix
def test_kill_9_is_explained_as_memory_and_a_half_made_step_is_not_done(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "loop"}')
    events = child.events()
    until(events, Progress)
    os.kill(child.pid, 9)
    failed = list(events)[-1]
    assert isinstance(failed, StepFailed)
    assert failed.stage == "check"
    assert "signal 9" in failed.reason
    assert "memory" in failed.reason
    assert child_run.done("check") is None
    assert child_run.is_locked() is False


def test_leaving_with_code_0_in_the_middle_of_a_step_is_a_failure_too(child_run: RunDirectory) -> None:
    events = list(engine(child_run, '{"check": "leave"}').events())
    assert terminals(events) == [("check", "StepFailed")]


def test_what_libraries_print_goes_to_stderr_and_nobody_else_reads_the_commands(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "noisy"}', "--only", "check")
    events = list(child.events())
    assert terminals(events) == [("check", "StepFinished")]
    assert not [event for event in events if isinstance(event, Log)]
    written = child_run.stderr_path.read_bytes()
    assert b"a library prints" in written
    assert "テスト".encode("cp932") in written
    assert b"a subprocess prints" in written


def test_bytes_that_are_no_event_become_warnings(tmp_path: Path) -> None:
    code = r"""
import os
os.write(1, b'\xff\xfe\x83e\n[1, 2\n{"event": "Nonsense"}\nnull\n\n')
os.write(1, b'{"event": "StepStarted", "stage": "check", "at": 1.0}\n')
os.write(1, b'{"event": "StepFinished", "stage": "check", "seconds": 2}')
"""
    *warnings, started, finished = script(tmp_path, code).events()
    assert [type(event) for event in warnings] == [Log] * 5
    assert all(isinstance(event, Log) and event.level == "warning" for event in warnings)
    assert started == StepStarted(at=1.0, stage="check")
    assert finished == StepFinished(2, stage="check")


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    (failed,) = script(tmp_path, "raise SystemExit('no module named torch')").events()
    assert isinstance(failed, StepFailed)
    assert failed.stage == ""
    assert "no module named torch" in failed.reason


def test_a_wrong_plan_is_heard_by_the_parent(child_run: RunDirectory) -> None:
    child_run.plan_path.write_text('{"train": {"steps": "many"}}', encoding="utf-8")
    child = engine(child_run, "{}")
    (failed,) = child.events()
    assert isinstance(failed, StepFailed)
    assert "train.steps" in failed.reason
    assert child.exit_code == 2


def test_pause_holds_the_step_and_resume_lets_it_go_on(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "loop"}', "--only", "check")
    events = child.events()
    until(events, Progress)
    child.send({"do": "pause"})
    paused = until(events, Paused)
    assert paused == Paused(True, at=paused.at, stage="check")
    count = child_run.path / "check" / "count.txt"
    before = count.read_text(encoding="utf-8")
    time.sleep(0.5)
    assert count.read_text(encoding="utf-8") == before
    child.send({"do": "resume"})
    assert until(events, Paused) == Paused(False, at=pytest.approx(time.time(), abs=60), stage="check")
    until(events, Progress)
    child.send({"do": "pause"})
    until(events, Paused)
    child.stop(timeout=20)  # a paused step must hear it
    assert terminals(list(events)) == [("check", "StepCancelled")]


def test_stop_after_step_finishes_the_step_and_starts_no_other(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "short_loop"}')
    events = child.events()
    until(events, Progress)
    child.send({"do": "stop_after_step"})
    assert terminals(list(events)) == [("check", "StepFinished")]
    assert child.exit_code == 0


def test_a_line_that_is_no_command_is_answered_with_a_warning_and_harms_nothing(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "short_loop"}', "--only", "check")
    events = child.events()
    until(events, Progress)
    child.send({"do": "dance"})
    child.send({"do": ["cancel"]})
    heard = list(events)
    assert len([event for event in heard if isinstance(event, Log) and "dance" in event.text]) == 1
    assert terminals(heard) == [("check", "StepFinished")]


def test_the_machine_is_read_every_second_of_a_step_and_never_after_its_end(child_run: RunDirectory) -> None:
    events = list(engine(child_run, '{"check": "short_loop"}', "--only", "check").events())
    readings = [event for event in events if isinstance(event, Telemetry)]
    assert readings
    assert readings[0].stage == "check"
    assert readings[0].ram_own_bytes and readings[0].disk_free_bytes
    assert isinstance(events[-1], StepFinished)


def test_a_deaf_engine_is_ended_with_its_own_children_within_five_seconds(child_run: RunDirectory) -> None:
    child = engine(child_run, '{"check": "deaf"}')
    events = child.events()
    grandchild = until(events, Progress)
    assert isinstance(grandchild, Progress)
    started = time.monotonic()
    child.stop(timeout=0.5)
    assert terminals(list(events)) == [("check", "StepCancelled")]
    assert time.monotonic() - started < 5.5
    assert gone(child.pid)
    assert gone(int(grandchild.done))


@posix
def test_events_end_although_something_the_dead_engine_left_behind_holds_the_pipe(tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(600)\nos._exit(3)"
    child = script(tmp_path, code)
    started = time.monotonic()
    (failed,) = child.events()
    assert isinstance(failed, StepFailed)
    assert "exit code 3" in failed.reason
    assert time.monotonic() - started < 10


def test_an_orphan_saves_and_exits(child_run: RunDirectory, tmp_path: Path) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        f"""
import sys
from pathlib import Path
from aegis_core.child import Child
child = Child([sys.executable, {str(ENGINE)!r}, "run", {str(child_run.path)!r}, "--events"],
              Path({str(child_run.stderr_path)!r}), {{"TINY_STEPS": '{{"check": "loop"}}'}})
print(child.pid, flush=True)
for event in child.events():
    print(type(event).__name__, flush=True)
""",
        encoding="utf-8",
    )
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    while process.stdout.readline().strip() != "Progress":
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(pid)
    assert isinstance(list(replay(child_run.events_path))[-1], StepCancelled)
    assert child_run.is_locked() is False


def test_the_end_of_its_input_alone_makes_the_engine_save_and_exit(child_run: RunDirectory) -> None:
    command = [sys.executable, str(ENGINE), "run", str(child_run.path), "--events"]
    environment = {**os.environ, "TINY_STEPS": '{"check": "loop"}'}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdin and process.stdout
    process.stdout.readline()
    process.stdin.close()
    assert b"StepCancelled" in process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=20) == 130


def test_an_engine_whose_listener_is_gone_stops_by_itself(child_run: RunDirectory) -> None:
    command = [sys.executable, str(ENGINE), "run", str(child_run.path), "--events"]
    environment = {**os.environ, "TINY_STEPS": '{"check": "loop"}'}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdin and process.stdout
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == 130
    process.stdin.close()


def test_sending_to_an_ended_child_is_harmless_and_no_thread_stays(tmp_path: Path) -> None:
    child = script(tmp_path, "pass")
    assert list(child.events()) == []
    child.send({"do": "cancel"})
    child.stop()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("engine-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_message_larger_than_the_pipe_does_not_block_the_sender(tmp_path: Path) -> None:
    child = script(tmp_path, "import time; time.sleep(600)")
    started = time.monotonic()
    child.send({"do": "say", "text": "あ" * 1_000_000})
    assert time.monotonic() - started < 1
    child.kill()
    assert list(child.events()) == []


def test_the_engine_is_found_from_any_working_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user')", encoding="utf-8")
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from aegis_core.child import Child
from aegis_core.engine.command import engine_command
from pathlib import Path
os.chdir({str(tmp_path)!r})
child = Child(engine_command("run", "nowhere", "--events"), Path("stderr.log"))
print([event.reason for event in child.events()], child.exit_code)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, encoding="utf-8", env=environment
    )
    assert "There is no run in" in done.stdout, done.stderr


def test_the_command_of_a_window_without_console_uses_the_python_that_has_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", str(Path("/some where/pythonw.exe")))
    assert engine_command("chat", Path("run 日本語")) == [
        str(Path("/some where/python.exe")),
        "-m",
        "aegis_core",
        "chat",
        "run 日本語",
    ]
