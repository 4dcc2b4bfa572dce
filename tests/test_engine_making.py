"""The engine's environment: made by a real uv from small wheels out of an index on this machine, mended, brought up to
date; what is fetched, what is refused, what a cut or a stop leaves behind."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from engine_bench import IMPORTED, LARGE_BYTES, Bench, engine_bench
from filelock import FileLock
from small_wheels import make_wheel

import aegis_core.engine.making as making
import aegis_core.engine.room as room
from aegis_core import __version__
from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.cli import main
from aegis_core.engine import download, torch_build, trial
from aegis_core.engine.command import engine_command, engine_environment
from aegis_core.engine.condition import Condition, examine, glance
from aegis_core.engine.installed import installed
from aegis_core.engine.making import Progress, Stage
from aegis_core.engine.parts import Parts
from aegis_core.engine.place import Marker, Place
from aegis_core.engine.resolution import Wheel
from aegis_core.engine.room import need, refuse_a_full_disk, room_bytes
from aegis_core.engine.torch_build import CPU, CUDA, TorchBuild, choose_build, kept_build
from aegis_core.engine.uv import Uv
from aegis_core.engine.wish import Wish
from aegis_core.failures import UserError
from aegis_core.hardware import CudaCard

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with engine_bench(tmp_path) as made:
        yield made


def test_an_engine_is_made_that_the_fake_frozen_window_then_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "PIP_INDEX_URL", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/nothing")
    assert glance(bench.place, bench.parts).condition is Condition.ABSENT
    bench.make()
    assert examine(bench.place, bench.parts, CancelToken(), thorough=True).condition is Condition.READY
    assert list(dict.fromkeys(progress.stage for progress in bench.heard)) == list(Stage)
    fetched = [progress for progress in bench.heard if progress.stage is Stage.FETCH]
    assert fetched[-1].done_bytes == fetched[-1].total_bytes > LARGE_BYTES
    assert not bench.place.downloads.exists() and not (bench.place.folder / "cache").exists()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("AEGIS_ENGINE", str(bench.place.folder))
    said = subprocess.run(
        engine_command("status", "run 日本語"),
        env=engine_environment(),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(said.stdout) == [str(bench.place.environment), ["status", "run 日本語"]]


def test_a_python_that_was_named_is_enough_where_there_is_no_other_and_none_can_be_fetched(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bench.make()
    assert glance(bench.place, bench.parts).condition is Condition.READY


def test_a_cut_connection_goes_on_where_it_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    bench.index.cuts = 2
    bench.make()
    ranges = [asked for file, asked in bench.index.asked if file.startswith("torch")]
    assert len(ranges) == 3 and ranges[0] == "" and all(asked.startswith("bytes=") for asked in ranges[1:])
    assert bench.index.served_bytes < LARGE_BYTES * 1.1, "nothing was fetched twice"


def test_a_stopped_download_is_kept_and_gone_on_with(bench: Bench) -> None:
    cancel = CancelToken()

    class Stopping(list[Progress]):
        def append(self, progress: Progress) -> None:
            if progress.done_bytes > 500_000:
                cancel.cancel()

    bench.heard = Stopping()
    with pytest.raises(Cancelled):
        bench.make(cancel)
    part = next(bench.place.downloads.glob("torch-*.part"))
    fetched = part.stat().st_size
    assert 0 < fetched < LARGE_BYTES
    assert glance(bench.place, bench.parts).condition is Condition.HALF
    bench.heard = []
    bench.make()
    assert ("torch-1.0-py3-none-any.whl", f"bytes={fetched}-") in bench.index.asked
    assert glance(bench.place, bench.parts).condition is Condition.READY


def test_a_stop_ends_a_uv_that_waits_for_a_silent_index_at_once(bench: Bench) -> None:
    cancel = CancelToken()
    bench.index.silent = True
    threading.Timer(0.5, cancel.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        Uv(bench.parts.uv(), bench.place.folder, bench.place.log, cancel).run(
            "pip", "compile", bench.parts.torch, "--default-index", bench.index.address
        )
    assert time.monotonic() - started < 8


def test_a_file_that_changed_on_the_way_is_refused(bench: Bench) -> None:
    bench.index.changed.add("rest-1.0-py3-none-any.whl")
    with pytest.raises(UserError, match=r"rest-1.0.*its hash differs"):
        bench.make()
    assert not list(bench.place.downloads.glob("rest*"))
    assert glance(bench.place, bench.parts).condition is Condition.HALF


def test_an_index_that_offers_another_file_than_the_locked_one_is_refused(bench: Bench) -> None:
    make_wheel(bench.index.folder, "rest", "1.0", {"transformers.py": b"import os  # not what was locked\n"})
    with pytest.raises(UserError):
        bench.make()
    assert "rest" not in bench.index.fetched() and "rest" not in installed(bench.place)


def test_a_damaged_package_is_named_and_alone_fetched_anew(bench: Bench) -> None:
    bench.make()
    (bench.site() / "peft.py").write_bytes(b"")
    assert glance(bench.place, bench.parts).condition is Condition.READY, "a glance looks at no package"
    assert examine(bench.place, bench.parts, CancelToken()).broken == (("rest", "peft.py"),)
    bench.make()
    assert bench.index.fetched() == {"rest"}
    assert examine(bench.place, bench.parts, CancelToken()).condition is Condition.READY


def test_a_repair_also_finds_a_changed_byte(bench: Bench) -> None:
    bench.make()
    weights = bench.site() / "weights.bin"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    bench.make()
    assert bench.index.fetched() == set(), "sizes are right"
    bench.make(thorough=True)
    assert bench.index.fetched() == {"torch"}
    assert weights.read_bytes()[:1] == b"\0"


@pytest.mark.parametrize("thorough", [True, False])
def test_a_sound_engine_stays_ready_without_a_connection(bench: Bench, thorough: bool) -> None:
    bench.make()
    before = bench.place.marker_path.read_bytes()
    bench.index.address = "http://127.0.0.1:9/simple/"
    bench.make(thorough=thorough)
    assert bench.place.marker_path.read_bytes() == before
    assert [progress.stage for progress in bench.heard] == [Stage.LOOK, Stage.TRY]


def test_a_damaged_engine_that_cannot_be_mended_without_a_connection_is_not_made_worse(bench: Bench) -> None:
    bench.make()
    (bench.site() / "peft.py").write_bytes(b"")
    bench.index.address = "http://127.0.0.1:9/simple/"
    with pytest.raises(UserError):
        bench.make(thorough=True)
    assert glance(bench.place, bench.parts).condition is Condition.READY, "torch and all others still work"
    assert examine(bench.place, bench.parts, CancelToken()).broken == (("rest", "peft.py"),)


def test_a_package_that_is_gone_as_a_whole_is_fetched_anew(bench: Bench) -> None:
    bench.make()
    shutil.rmtree(installed(bench.place)["rest"].record.parent)
    bench.make()
    assert bench.index.fetched() == {"rest"} and "rest" in installed(bench.place)


def test_a_newer_wheel_of_the_same_version_of_aegis_is_installed(bench: Bench) -> None:
    bench.make()
    files = {"aegis_core/__init__.py": b"NEWER = True\n", "aegis_core/__main__.py": b""}
    make_wheel(bench.parts.shipped, "aegis", __version__, files)
    bench.make()
    assert (bench.site() / "aegis_core" / "__init__.py").read_bytes() == b"NEWER = True\n"


def test_an_environment_without_its_python_is_made_anew(bench: Bench) -> None:
    bench.make()
    bench.place.python.unlink()
    assert glance(bench.place, bench.parts).condition is Condition.DAMAGED
    bench.make()
    assert examine(bench.place, bench.parts, CancelToken()).condition is Condition.READY


def test_a_newer_window_fetches_only_what_is_new_and_takes_away_what_is_no_longer_wanted(bench: Bench) -> None:
    bench.lock(rest="1.0", leftover="1.0")
    bench.make()
    bench.lock(rest="2.0")
    assert glance(bench.place, bench.parts).condition is Condition.OUTDATED
    bench.make()
    assert bench.index.fetched() == {"rest"}
    there = installed(bench.place)
    assert there["rest"].version == "2.0" and "leftover" not in there
    assert glance(bench.place, bench.parts).condition is Condition.READY


def test_too_little_room_is_said_before_anything_is_fetched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "disk_free_bytes", lambda path: 1_000_000)
    assert not need(bench.place, bench.parts, Wish("cpu")).fits
    with pytest.raises(UserError, match="are free"):
        bench.make()
    assert bench.index.asked == []


@pytest.mark.parametrize("build", [CPU, *CUDA], ids=lambda build: build.tag)
def test_the_room_forecast_and_the_room_demanded_once_the_files_are_known_are_the_same(
    tmp_path: Path, build: TorchBuild
) -> None:
    parts, python = Parts(ROOT / "resources" / "engine", ROOT), tmp_path / "python"
    forecast = need(Place(tmp_path), parts, Wish(build.tag, python)).disk_bytes
    rest = Wheel("transformers", "1.0", "http://127.0.0.1:9/rest.whl", "0", parts.download_bytes, True)
    torch = Wheel("torch", "1.0", "http://127.0.0.1:9/torch.whl", "0", build.fetched_bytes // 4, False)
    nvidia = replace(torch, package="nvidia-cudnn", size_bytes=build.fetched_bytes - build.fetched_bytes // 4)
    demanded = room_bytes([rest, torch, nvidia], build)
    assert 0.9 * forecast < demanded <= forecast


def test_what_lies_half_fetched_counts_as_room_and_other_files_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.downloads.mkdir()
    wheel = Wheel("torch", "1.0", "http://127.0.0.1:9/torch-1.0.whl", "0", 1_000_000, False)
    monkeypatch.setattr(room, "disk_free_bytes", lambda path: 2_500_000)
    (place.downloads / "other-1.0.whl").write_bytes(bytes(1_000_000))
    with pytest.raises(UserError, match="are free"):
        refuse_a_full_disk(place, [wheel], CUDA[0])
    (place.downloads / "torch-1.0.whl.part").write_bytes(bytes(600_000))
    refuse_a_full_disk(place, [wheel], CUDA[0])


def test_without_a_connection_the_advice_names_it(bench: Bench) -> None:
    bench.index.address = "http://127.0.0.1:9/simple/"
    with pytest.raises(UserError) as failed:
        bench.make()
    assert "internet connection" in failed.value.advice


def test_an_engine_that_cannot_import_what_it_is_built_on_is_not_ready(bench: Bench) -> None:
    wheel = make_wheel(bench.index.folder, "rest", "2.0", {"transformers.py": b"raise ImportError('no such thing')\n"})
    bench.lock(rest="2.0")
    with pytest.raises(UserError, match="does not start: ImportError: no such thing"):
        bench.make()
    assert wheel.is_file() and bench.place.marker() is None


SLOW = b"""
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"])
draft = pathlib.Path(os.environ['TELL'] + '.part')
draft.write_text(str(child.pid), encoding='utf-8')
draft.rename(os.environ['TELL'])
time.sleep(90)
"""


@pytest.fixture
def slow_start(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks a package that does not come to the end of its import; the file that then names a process it started."""
    make_wheel(bench.index.folder, "rest", "2.0", {f"{name}.py": SLOW for name in IMPORTED})
    bench.lock(rest="2.0")
    told = tmp_path / "told"
    monkeypatch.setenv("TELL", str(told))
    return told


def test_a_stop_ends_the_trial_at_once_with_all_that_it_started(bench: Bench, slow_start: Path) -> None:
    cancel, stopped = CancelToken(), list[float]()

    def stop_once_it_tries() -> None:
        end = time.monotonic() + 60
        while not slow_start.exists() and time.monotonic() < end:
            time.sleep(0.02)
        stopped.append(time.monotonic())
        cancel.cancel()

    thread = threading.Thread(target=stop_once_it_tries)
    thread.start()
    with pytest.raises(Cancelled):
        bench.make(cancel)
    waited = time.monotonic() - stopped[0]
    thread.join()
    assert waited < 4, "seconds after the stop"
    assert not runs(int(slow_start.read_text(encoding="utf-8")))
    assert glance(bench.place, bench.parts).condition is Condition.HALF


def test_a_trial_that_takes_too_long_is_ended_and_told_in_a_sentence(
    bench: Bench, slow_start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "tried", short_of_time(monkeypatch, making.tried))
    with pytest.raises(UserError, match="did not start within") as failed:
        bench.make()
    assert "virus scanner" in failed.value.advice
    assert not runs(int(slow_start.read_text(encoding="utf-8")))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def short_of_time(monkeypatch: pytest.MonkeyPatch, work: Callable[..., str]) -> Callable[..., str]:
    """The same work with 6 s to do it in."""

    def hurried(*arguments: object) -> str:
        monkeypatch.setattr(trial, "LONGEST_SECONDS", 6.0)
        return work(*arguments)

    return hurried


@contextmanager
def engine_at_work(bench: Bench, program: Path) -> Iterator[int]:
    """A process of the environment that does something until the block ends."""
    command = [str(program), "-c", "print('at work', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline().strip() == b"at work"
        yield process.pid
        process.stdin.close()


def test_an_engine_at_work_is_not_changed_under_whoever_uses_it(bench: Bench) -> None:
    bench.make()
    damaged = bench.site() / "peft.py"
    damaged.write_bytes(b"")
    with engine_at_work(bench, bench.place.python) as pid:
        with pytest.raises(UserError, match=rf"The engine is at work.*process {pid}\)"):
            bench.make()
        assert damaged.read_bytes() == b"" and bench.place.marker() is not None and bench.index.asked == []
    bench.make()
    assert damaged.read_bytes() != b""


def test_one_that_begins_to_work_while_files_are_fetched_is_noticed_too(bench: Bench) -> None:
    bench.make()
    (bench.site() / "peft.py").write_bytes(b"")
    with ExitStack() as open_until_the_end:

        class Beginning(list[Progress]):
            def append(self, progress: Progress) -> None:
                if progress.stage is Stage.FETCH and not self:
                    open_until_the_end.enter_context(engine_at_work(bench, bench.place.python))
                    super().append(progress)

        bench.heard = Beginning()
        with pytest.raises(UserError, match="The engine is at work"):
            bench.make()
        assert (bench.site() / "peft.py").read_bytes() == b""
        assert list(bench.place.downloads.glob("rest-*.whl")), "what was fetched is kept"


def test_a_sound_engine_at_work_may_be_looked_at_and_other_pythons_are_not_taken_for_it(bench: Bench) -> None:
    bench.make()
    with engine_at_work(bench, bench.place.python):
        bench.make(thorough=True)
    (bench.site() / "peft.py").write_bytes(b"")
    with engine_at_work(bench, Path(sys.executable)):
        bench.make()


def test_what_nobody_foresaw_is_traced_in_the_log_that_the_sentence_names(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*arguments: object) -> None:
        raise ValueError("two plus two at http://me:word@127.0.0.1:9/simple")

    monkeypatch.setattr(making, "resolve", stumble)
    with pytest.raises(UserError, match="unexpected happened: ValueError: two plus two at http://127") as failed:
        bench.make()
    assert str(bench.place.log) in failed.value.advice and "events.jsonl" not in failed.value.advice
    log = bench.place.log.read_text(encoding="utf-8")
    assert "in stumble" in log and "ValueError: two plus two" in log and "me:word" not in log


def test_in_the_terminal_too_the_log_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEGIS_ENGINE", str(bench.place.folder))
    monkeypatch.setattr("aegis_core.cli.engine.this_parts", lambda: Parts(bench.place.folder, bench.parts.shipped))
    assert main(["engine", "install"]) == 1
    said = capsys.readouterr().err
    assert str(bench.place.log) in said and "events.jsonl" not in said
    assert "FileNotFoundError" in bench.place.log.read_text(encoding="utf-8")


def test_two_at_once_are_refused(bench: Bench) -> None:
    bench.place.folder.mkdir(parents=True)
    with FileLock(bench.place.folder / "lock"), pytest.raises(UserError, match="Another AEGIS"):
        bench.make()


@pytest.mark.parametrize(
    ("card", "tag"),
    [
        (None, "cpu"),
        (CudaCard((13, 0), (8, 6)), "cu130"),
        (CudaCard((12, 4), (8, 6)), "cu126"),
        (CudaCard((13, 0), (6, 1)), "cu126"),
        (CudaCard((11, 8), (8, 6)), "cpu"),
        (CudaCard((12, 8), (12, 0)), "cpu"),
    ],
)
def test_the_build_of_torch_suits_driver_and_card(card: CudaCard | None, tag: str) -> None:
    assert choose_build(card).tag == tag


RTX_3060, PASCAL, BLACKWELL = (CudaCard((13, 0), (8, 6)), CudaCard((13, 0), (6, 1)), CudaCard((13, 0), (12, 0)))


@pytest.mark.parametrize(
    ("before", "chosen", "card", "after"),
    [
        ("cu130", False, None, "cu130"),
        ("cu126", False, RTX_3060, "cu126"),
        ("cu126", False, BLACKWELL, "cu130"),
        ("cu126", True, BLACKWELL, "cu126"),
        ("cu130", False, CudaCard((11, 8), (8, 6)), "cu130"),
        ("cpu", False, None, "cpu"),
        ("cpu", False, RTX_3060, "cu130"),
        ("cpu", False, PASCAL, "cu126"),
        ("cpu", True, RTX_3060, "cpu"),
        ("plain", False, RTX_3060, "cu130"),
        (None, False, RTX_3060, "cu130"),
    ],
)
def test_an_engine_keeps_its_build_of_torch_unless_a_card_needs_another(
    before: str | None, chosen: bool, card: CudaCard | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "cuda_card", lambda: card)
    assert kept_build("auto", before, chosen).tag == after
    assert kept_build("cpu", before, chosen) is CPU, "a person may name another at any time"


def test_a_repair_keeps_the_build_that_a_person_chose_also_after_one_that_was_cut_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_build, "cuda_card", lambda: RTX_3060)
    bench.make()
    made = bench.place.marker()
    assert made is not None and (made.build, made.chosen) == ("cpu", True)
    bench.build = "auto"
    bench.make(thorough=True)
    assert bench.place.marker() == made
    bench.lock(rest="2.0")
    make_wheel(bench.index.folder, "rest", "2.0", {"transformers.py": b"raise ImportError('cut off')\n"})
    bench.lock(rest="2.0")
    with pytest.raises(UserError, match="cut off"):
        bench.make()
    assert bench.place.marker() is None
    assert need(bench.place, bench.parts, Wish()).build is CPU
    bench.lock(rest="1.0")
    bench.make()
    assert bench.place.marker() == replace(made, lock_sha256=bench.parts.sha256) and not bench.place.half_path.exists()


def test_a_marker_that_does_not_say_who_chose_its_build_is_read(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write_marker(Marker("0.0.9", "0" * 64, "2.13.0+cu130", "cu130", "3.11"))
    older = json.loads(place.marker_path.read_text(encoding="utf-8"))
    del older["chosen"]
    place.marker_path.write_text(json.dumps(older), encoding="utf-8")
    marker = place.marker()
    assert marker is not None and (marker.build, marker.chosen) == ("cu130", False)


def test_start_py_and_the_engine_know_the_same_builds_of_torch() -> None:
    sys.path.insert(0, str(ROOT))
    import start

    theirs = [(b.tag, b.oldest_driver_cuda, b.oldest_card, b.newest_card) for b in start.CUDA_BUILDS]
    assert [(b.tag, b.oldest_driver_cuda, b.oldest_card, b.newest_card) for b in CUDA] == theirs
    assert Parts(ROOT / "resources" / "engine", ROOT).torch_version == start.TORCH
    assert not CPU.is_cuda


def test_the_lock_holds_what_pyproject_pins() -> None:
    command = [sys.executable, str(ROOT / "packaging" / "engine_lock.py"), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    hashes = Parts(ROOT / "resources" / "engine", ROOT).hashes
    assert all(hashes.values()) and "torch" not in hashes and "pyside6-essentials" not in hashes
