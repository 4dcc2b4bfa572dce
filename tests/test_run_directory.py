"""A run on disk: whole or not at all, one program at a time, and every kind of interruption."""

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from aegis_core.events import Artifact
from aegis_core.failures import UsageError, UserError, explain
from aegis_core.plan import changed, demo_plan
from aegis_core.run_directory import RunDirectory, atomic, atomic_folder, settle, sha256_of_file, write_text


@pytest.fixture
def disk_run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "ri tual 日本語", demo_plan())


def in_another_program(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_left_alone(disk_run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="already a run"):
        RunDirectory.create(disk_run.path, changed(demo_plan(), {"train.steps": 3}))
    assert disk_run.plan() == demo_plan()


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plan\.json is missing"):
        RunDirectory.open(tmp_path)


def test_a_plan_saved_with_a_byte_order_mark_is_read_and_one_in_another_encoding_is_explained(
    disk_run: RunDirectory,
) -> None:
    text = disk_run.plan_path.read_text(encoding="utf-8")
    disk_run.plan_path.write_text(text, encoding="utf-8-sig")
    assert disk_run.plan() == demo_plan()
    disk_run.plan_path.write_text('{"モデル": 1}', encoding="cp932")
    with pytest.raises(UsageError, match=r"plan\.json"):
        disk_run.plan()


def test_an_interrupted_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as draft:
        draft.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupted_folder_leaves_the_old_one_and_no_draft(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as draft:
        (draft / "deep").mkdir()
        (draft / "deep" / "a").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), atomic_folder(folder) as draft:
        (draft / "a").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert (folder / "deep" / "a").read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_new_folder_takes_the_place_of_the_old_one_entirely(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "model") as draft:
            (draft / name).write_text(name, encoding="utf-8")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


KILLED_BETWEEN_THE_RENAMES = """
    import os, sys
    from pathlib import Path
    from aegis_core import run_directory

    class Killed(Exception): pass
    real, n = run_directory.rename, [0]
    def rename(source, target):
        n[0] += 1
        if n[0] == {after}:
            os._exit(9)
        real(source, target)
    run_directory.rename = rename
    with run_directory.atomic_folder(Path(sys.argv[1])) as draft:
        (draft / "a").write_text("new", encoding="utf-8")
"""


@pytest.mark.parametrize(("after", "content"), [(1, "old"), (2, "new")])
def test_a_kill_at_either_rename_leaves_a_whole_folder_once_settled(tmp_path: Path, after: int, content: str) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as draft:
        (draft / "a").write_text("old", encoding="utf-8")
    assert in_another_program(KILLED_BETWEEN_THE_RENAMES.format(after=after), folder).returncode == 9
    settle(folder)
    assert (folder / "a").read_text(encoding="utf-8") == content
    assert not folder.with_name("model.old").exists()


def test_a_kill_between_the_renames_costs_nothing_even_if_the_next_attempt_fails(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as draft:
        (draft / "a").write_text("old", encoding="utf-8")
    in_another_program(KILLED_BETWEEN_THE_RENAMES.format(after=2), folder)
    with pytest.raises(RuntimeError), atomic_folder(folder):
        raise RuntimeError
    assert (folder / "a").read_text(encoding="utf-8") == "new"


def test_two_programs_cannot_work_on_one_run_and_a_killed_one_lets_go(disk_run: RunDirectory) -> None:
    code = """
        import sys, os
        from aegis_core.run_directory import RunDirectory
        with RunDirectory.open(sys.argv[1]).lock():
            print("locked", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(disk_run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline().strip() == b"locked"
        assert disk_run.is_locked()
        with pytest.raises(UserError, match="Another AEGIS"), disk_run.lock():
            pass
        other.kill()
        other.wait()
    assert not disk_run.is_locked()
    with disk_run.lock():
        pass


def test_the_marker_records_outputs_as_they_are_when_the_step_ends(disk_run: RunDirectory, tmp_path: Path) -> None:
    inside, outside = disk_run.path / "train" / "metrics.jsonl", tmp_path / "外" / "model.gguf"
    for path in (inside, outside):
        path.parent.mkdir()
        path.write_text("declared", encoding="utf-8")
    declared = [Artifact(str(path.resolve()), path.stat().st_size, sha256_of_file(path)) for path in (inside, outside)]
    inside.write_text("declared, then grown", encoding="utf-8")
    disk_run.write_done("train", {}, {}, declared, 1.0)
    done = disk_run.done("train")
    assert done is not None
    assert [artifact.path for artifact in done.outputs] == ["train/metrics.jsonl", str(outside.resolve())]
    assert [artifact.sha256 for artifact in done.outputs] == [sha256_of_file(inside), sha256_of_file(outside)]
    assert disk_run.missing_outputs(done) == []
    outside.unlink()
    assert disk_run.missing_outputs(done) == [outside.resolve()]


def test_a_marker_of_a_newer_format_and_a_damaged_one_are_explained(disk_run: RunDirectory) -> None:
    disk_run.write_done("check", {"a": 1}, {}, [], 1.0)
    path = disk_run.path / "check" / "done.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    del row["self_sha256"]  # as older versions wrote it
    path.write_text(json.dumps(row | {"format": 99, "version": "9.0"}), encoding="utf-8")
    with pytest.raises(UserError, match="newer"):
        disk_run.done("check")
    path.write_text(json.dumps(row | {"a field of a later release": 1}), encoding="utf-8")
    done = disk_run.done("check")
    assert done is not None and done.settings == {"a": 1}
    for damage in ("", "[]", '{"outputs": 3}', '{"step": "check"}'):
        path.write_text(damage, encoding="utf-8")
        with pytest.raises(UserError, match="damaged"):
            disk_run.done("check")


def test_a_marker_of_which_one_letter_is_another_is_damaged_whatever_it_says_now(disk_run: RunDirectory) -> None:
    disk_run.write_done("check", {"a": 1}, {"prepare": "0f"}, [], 1.0)
    path = disk_run.path / "check" / "done.json"
    whole = path.read_text(encoding="utf-8")
    for before, after in (('"a": 1', '"a": 3'), ('"0f"', '"1f"'), ('"check"', '"chekk"')):
        assert before in whole
        path.write_text(whole.replace(before, after), encoding="utf-8")
        with pytest.raises(UserError, match=r"done\.json is damaged"):
            disk_run.done("check")


def test_the_digest_tells_results_apart_but_not_the_times_they_took(disk_run: RunDirectory) -> None:
    first = disk_run.write_done("check", {"a": 1}, {}, [], 1.0)
    assert disk_run.write_done("check", {"a": 1}, {}, [], 2.0).digest == first.digest
    assert disk_run.write_done("check", {"a": 2}, {}, [], 1.0).digest != first.digest


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "/d/model.gguf"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError('IoError(Os { code: 28, kind: StorageFull, message: "…" })'),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 47360 vs 47252"),
    ],
)
def test_a_full_disk_is_recognised_however_a_library_words_it(error: Exception) -> None:
    assert explain(error).reason.startswith("The disk is full")


def test_a_disk_that_cannot_be_written_to_is_no_riddle() -> None:
    failure = explain(OSError(errno.EROFS, "Read-only file system", "/d/run/lock"))
    assert failure.reason == "/d/run/lock lies on a disk that cannot be written to."


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_plan_survives_a_kill_at_any_moment_of_its_writing(disk_run: RunDirectory) -> None:
    code = """
        import sys
        from aegis_core.plan import changed
        from aegis_core.run_directory import RunDirectory
        run = RunDirectory.open(sys.argv[1])
        print("go", flush=True)
        n = 2
        while True:
            n += 1
            run.write_plan(changed(run.plan(), {"train.steps": n}))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(disk_run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        for _ in range(200):
            disk_run.plan()
        while disk_run.plan().train.steps <= 3:  # a disk with much to do takes its time
            time.sleep(0.01)
        writer.kill()
    assert disk_run.plan().train.steps > 3
