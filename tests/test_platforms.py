"""How systems differ: Windows against fakes of its libraries; and nobody else asks which system this is."""

import ast
import ctypes
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import psutil
import pytest
from small_wheels import make_wheel, sha256

from aegis_core import platforms, stdio
from aegis_core.cancel import CancelToken
from aegis_core.child import Child
from aegis_core.engine.command import engine_environment
from aegis_core.engine.download import Downloads
from aegis_core.engine.resolution import Wheel
from aegis_core.events import StepCancelled
from aegis_core.failures import UserError
from aegis_core.platforms import Commitment
from aegis_core.platforms.windows import (
    CREATE_NEW_PROCESS_GROUP,
    CREATE_NO_WINDOW,
    CREATE_SUSPENDED,
    MemoryStatus,
    Windows,
)
from aegis_core.platforms.windows_holders import ProcessInfo
from aegis_core.platforms.windows_job import BREAKAWAY_OK, KILL_ON_JOB_CLOSE, ExtendedLimits
from aegis_core.replacing import FILE_PATIENCE_SECONDS, FOLDER_PATIENCE_SECONDS, remove, rename
from aegis_core.run_directory import atomic_folder, write_text

ROOT = Path(__file__).resolve().parent.parent
JOB, PROCESS, OURSELVES = 0x7FFF_0000_1234, 0x1_0000_0040, 0xFFFF_FFFF_FFFF_FFFF  # handles wider than 32 bits


class FakeKernel32:
    """Its functions, each a real C function once its types are declared; notes the calls. `refuses` names one."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.flags = 0
        for name, answer in (
            ("CreateJobObjectW", JOB),
            ("SetInformationJobObject", 1),
            ("AssignProcessToJobObject", 1),
            ("TerminateJobObject", 1),
            ("CloseHandle", 1),
            ("GetCurrentProcess", OURSELVES),
            ("DuplicateHandle", 1),
            ("GlobalMemoryStatusEx", 1),
            ("SetStdHandle", 1),
            ("GetShortPathNameW", 0),
            ("SetDllDirectoryW", 1),
        ):
            setattr(self, name, FakeFunction(self, name, 0 if name == refuses else answer))

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class FakeFunction:
    """Called through ctypes with the types it was declared with, so that a handle cut to 32 bits would be seen."""

    argtypes: tuple[Any, ...] = ()
    restype: Any = None

    def __init__(self, kernel32: FakeKernel32, name: str, answer: int) -> None:
        self._kernel32, self._name, self._answer = kernel32, name, answer

    def __call__(self, *arguments: Any) -> Any:
        def inside(*received: Any) -> int:
            self._kernel32.calls.append((self._name, *received))
            if self._name == "SetInformationJobObject":
                self._kernel32.flags = ExtendedLimits.from_address(received[2]).basic.limit_flags
            if self._name == "GlobalMemoryStatusEx":
                status = MemoryStatus.from_address(received[0])
                assert status.length == 64
                status.total_page_file, status.available_page_file = 24_000_000_000, 3_000_000_000
            return self._answer

        kind = ctypes.CFUNCTYPE(self.restype, *self.argtypes)
        return kind(inside)(*arguments)


def fake_windows(kernel32: FakeKernel32, resumed: list[int] | None = None, **libraries: Any) -> Windows:
    def load(name: str) -> Any:
        if name == "kernel32":
            return kernel32
        if name not in libraries:
            raise OSError(126, f"{name} could not be found")
        return libraries[name]

    return Windows(load, (resumed if resumed is not None else []).append)


@pytest.mark.parametrize("fails", [False, True], ids=["started", "not started"])
def test_a_program_is_started_without_the_frozen_windows_folder_of_libraries_with_a_fake_kernel32(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel32 = FakeKernel32()
    told: list[str | None] = []
    kernel32.SetDllDirectoryW = lambda folder: told.append(folder.value if folder else None)  # type: ignore[attr-defined]
    windows = fake_windows(kernel32)
    with windows.apart():
        assert told == [], "not frozen: there is no such folder"
    monkeypatch.setattr(sys, "_MEIPASS", "C:\\山田\\AEGIS\\_internal", raising=False)
    with suppress(OSError), windows.apart():
        assert told == [None]
        if fails:
            raise OSError("no such program")
    assert told == [None, "C:\\山田\\AEGIS\\_internal"]


def test_everything_that_starts_a_program_keeps_the_frozen_windows_libraries_to_itself() -> None:
    """Programs of a development environment alone (the converter of the demo) and Linux's own need not."""
    free = {"models/demo.py"}
    for path in sorted((ROOT / "aegis_core").rglob("*.py")):
        name = path.relative_to(ROOT / "aegis_core").as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kept = {
            id(n) for w in ast.walk(tree) if isinstance(w, ast.With) and "apart" in ast.dump(w) for n in ast.walk(w)
        }
        bare = [node.lineno for node in ast.walk(tree) if starts_a_program(node) and id(node) not in kept]
        assert not bare or name in free, f"{name}: {bare}"


def starts_a_program(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) in ("subprocess.Popen", "subprocess.run")
    )


def fake_process(pid: int = 4711) -> Any:
    return SimpleNamespace(_handle=PROCESS, pid=pid, kill=lambda: None)


def test_on_a_fake_windows_an_engine_holds_its_own_job_so_that_it_can_save_when_the_window_dies() -> None:
    kernel32, resumed = FakeKernel32(), list[int]()
    job = fake_windows(kernel32, resumed).bind(fake_process())
    shared = next(call for call in kernel32.calls if call[0] == "DuplicateHandle")
    assert shared[1:4] == (OURSELVES, JOB, PROCESS) and shared[4], "from here, the job, to the engine"
    assert shared[5:] == (0, 0, 2), "with the same rights, not inherited"
    assert kernel32.names().index("AssignProcessToJobObject") < kernel32.names().index("DuplicateHandle")
    assert job.bound and resumed == [4711] and "CloseHandle" not in kernel32.names()


def test_on_a_fake_windows_a_program_with_nothing_to_save_is_in_a_job_that_ends_with_this_one() -> None:
    kernel32, resumed = FakeKernel32(), list[int]()
    windows = fake_windows(kernel32, resumed)
    flags = windows.engine()["creationflags"]
    assert flags & CREATE_SUSPENDED and flags & CREATE_NO_WINDOW and flags & CREATE_NEW_PROCESS_GROUP
    job = windows.take_along(fake_process())
    assert kernel32.names() == ["CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject"]
    assert kernel32.calls[-1][1:] == (JOB, PROCESS), "whole handles"
    assert kernel32.flags == KILL_ON_JOB_CLOSE | BREAKAWAY_OK == 0x2800
    assert resumed == [4711]
    assert job.bound and "CloseHandle" not in kernel32.names(), "closing the handle would end the engine"


def test_on_a_fake_windows_the_limits_have_the_layout_of_its_headers() -> None:
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    assert ctypes.sizeof(ExtendedLimits) == 144
    assert ExtendedLimits.basic.offset == 0 and ExtendedLimits.basic.size == 64
    assert ExtendedLimits.process_memory_limit.offset == 112
    assert type(ExtendedLimits().basic).limit_flags.offset == 16
    assert ctypes.sizeof(MemoryStatus) == 64
    assert ctypes.sizeof(ProcessInfo) == 668 and ProcessInfo.application.offset == 12


def test_on_a_fake_windows_ending_a_job_ends_all_in_it_and_closes_it_once() -> None:
    kernel32 = FakeKernel32()
    job = fake_windows(kernel32).bind(fake_process())
    kernel32.calls.clear()
    job.end_all()
    job.end_all()
    job.release()
    assert kernel32.names() == ["TerminateJobObject", "CloseHandle"]
    assert kernel32.calls[0][1] == JOB


@pytest.mark.parametrize("refuses", ["CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject"])
def test_on_a_fake_windows_that_refuses_a_job_the_engine_runs_all_the_same(refuses: str) -> None:
    kernel32, resumed = FakeKernel32(refuses), list[int]()
    job = fake_windows(kernel32, resumed).bind(fake_process())
    assert not job.bound
    assert resumed == [4711]
    job.end_all()
    closed = 0 if refuses == "CreateJobObjectW" else 1
    assert kernel32.names().count("CloseHandle") == closed and "TerminateJobObject" not in kernel32.names()


def test_on_a_fake_windows_an_engine_that_cannot_be_let_run_is_ended_and_not_left_asleep() -> None:
    ended: list[str] = []

    def refuse(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    process = SimpleNamespace(_handle=PROCESS, pid=1, kill=lambda: ended.append("killed"))
    kernel32 = FakeKernel32()
    with pytest.raises(OSError, match="does not let the engine begin"):
        Windows(lambda name: kernel32, refuse).bind(process)  # type: ignore[arg-type]
    assert ended == ["killed"]


def test_a_fake_bond_is_used_when_the_child_is_killed_and_let_go_of_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    bond = SimpleNamespace(end_all=lambda: told.append("end all"), release=lambda: told.append("release"))
    real = platforms.here()
    fake = SimpleNamespace(engine=real.engine, apart=real.apart, bind=lambda process: told.append("bind") or bond)
    monkeypatch.setattr(platforms, "here", lambda: fake)
    child = Child([sys.executable, "-c", "input()"], tmp_path / "stderr.log")
    child.kill()
    assert told == ["bind", "end all"]
    assert not [event for event in child.events() if isinstance(event, StepCancelled)]
    wait_for(lambda: told[2:] == ["release"])
    told.clear()
    child = Child([sys.executable, "-c", "pass"], tmp_path / "stderr.log")
    assert list(child.events()) == []
    wait_for(lambda: told == ["bind", "release"])


def wait_for(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_children_are_in_utf_8_mode_and_the_hub_says_nothing_of_missing_links() -> None:
    surrounding = engine_environment()
    assert surrounding["PYTHONUTF8"] == "1"
    assert surrounding["HF_HUB_DISABLE_SYMLINKS_WARNING"] == "1"


# Standard input


def test_on_a_fake_windows_nobody_finds_the_pipe_that_a_thread_waits_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard handles are those of descriptors 0 and 1, which by then are NUL and stderr."""
    modes: dict[int, int] = {}
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.get_osfhandle = lambda descriptor: 0x5_0000_0000 + descriptor  # type: ignore[attr-defined]
    msvcrt.setmode = modes.__setitem__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    monkeypatch.setattr(os, "O_BINARY", 0x8000, raising=False)
    kernel32 = FakeKernel32()
    fake_windows(kernel32).part_with_streams(7, 8)
    assert kernel32.calls == [
        ("SetStdHandle", 2**32 - 10, 0x5_0000_0000),
        ("SetStdHandle", 2**32 - 11, 0x5_0000_0001),
    ]
    assert modes == {7: 0x8000, 8: 0x8000}


def test_when_the_commands_are_read_descriptor_0_is_empty_and_the_platform_was_told(tmp_path: Path) -> None:
    """In a process of its own, started with pipes as the window does: the order is the guard."""
    code = """
import os, sys
from aegis_core import platforms, stdio
real, told = platforms.here(), []
class Told(type(real)):
    def part_with_streams(self, commands, events):
        told.append((os.read(0, 1), commands, events))  # at that moment descriptor 0 is at its end
platforms.here = lambda: Told(real.name)
pipes = stdio.take_over()
os.write(pipes.events, repr((told == [(b"", pipes.commands, pipes.events)], os.read(pipes.commands, 9))).encode())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"command",
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == b"(True, b'command')"


def test_the_pipes_are_taken_over_before_anything_heavy_is_loaded() -> None:
    code = "import sys, aegis_core.cli.work; print([m for m in ('numpy', 'torch', 'transformers') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.strip() == b"[]"
    assert "take_over" in Path(stdio.__file__).read_text(encoding="utf-8")


# Files that are open elsewhere


class HeldPath(type(Path())):  # type: ignore[misc]
    """A path whose renaming or removal Windows refuses for a while."""

    refusals: ClassVar[list[int]] = []

    def replace(self, target: Any) -> Any:
        self._refuse()
        return super().replace(target)

    def unlink(self, missing_ok: bool = False) -> None:
        self._refuse()
        super().unlink(missing_ok)

    def _refuse(self) -> None:
        if self.refusals:
            error = PermissionError(13, "Access is denied")
            error.winerror = self.refusals.pop(0)  # type: ignore[attr-defined]
            raise error


def held(path: Path, codes: list[int]) -> Path:
    made = HeldPath(path)
    HeldPath.refusals = codes
    return made


class FakeManager:
    """rstrtmgr.dll, which knows one program that has `name` open."""

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.open_sessions = name, list[str](), 0

    def RmStartSession(self, session: Any, flags: Any, key: Any) -> int:
        assert ctypes.sizeof(key) == 33 * ctypes.sizeof(ctypes.c_wchar)
        session._obj.value, self.open_sessions = 3, self.open_sessions + 1
        return 0

    def RmRegisterResources(self, session: Any, n_files: Any, names: Any, *nothing: Any) -> int:
        self.asked = [names[n] for n in range(n_files.value)]
        return 0

    def RmGetList(self, session: Any, needed: Any, n_found: Any, rows: Any, reasons: Any) -> int:
        found = self.name and any(Path(path).name == self.name for path in self.asked)
        n_found._obj.value = int(bool(found))
        if found:
            text = "ウイルス対策ソフト".encode("utf-16-le")
            ctypes.memmove(ctypes.addressof(rows[0]) + ProcessInfo.application.offset, text, len(text))
        return 0

    def RmEndSession(self, session: Any) -> int:
        self.open_sessions -= 1
        return 0


@pytest.fixture
def on_fake_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    manager = FakeManager("")
    windows = fake_windows(FakeKernel32(), rstrtmgr=manager)
    monkeypatch.setattr(platforms, "here", lambda: windows)
    yield manager
    HeldPath.refusals = []
    assert manager.open_sessions == 0


@pytest.mark.parametrize("code", [5, 32, 33, 1224])
def test_on_a_fake_windows_a_file_held_for_a_moment_is_waited_for(
    tmp_path: Path, on_fake_windows: FakeManager, code: int
) -> None:
    (tmp_path / "new").write_text("new", encoding="utf-8")
    (tmp_path / "old").write_text("old", encoding="utf-8")
    pauses: list[float] = []
    rename(held(tmp_path / "new", [code] * 4), tmp_path / "old", pauses.append)
    assert (tmp_path / "old").read_text(encoding="utf-8") == "new"
    assert pauses == [0.02, 0.04, 0.08, 0.16]


@pytest.mark.parametrize(("kind", "seconds"), [("file", FILE_PATIENCE_SECONDS), ("folder", FOLDER_PATIENCE_SECONDS)])
def test_on_a_fake_windows_patience_ends_and_the_sentence_names_file_and_program(
    tmp_path: Path, on_fake_windows: FakeManager, kind: str, seconds: float
) -> None:
    source, target = tmp_path / "draft", tmp_path / "モデル"
    for path in (source, target):
        if kind == "folder":
            path.mkdir()
            path = path / "weights.safetensors"
        path.write_text("x", encoding="utf-8")
    on_fake_windows.name = "weights.safetensors" if kind == "folder" else "モデル"
    pauses: list[float] = []
    with pytest.raises(UserError) as refused:
        rename(held(source, [32] * 1000), target, pauses.append)
    assert str(target) in refused.value.reason and "ウイルス対策ソフト" in refused.value.reason
    assert seconds <= sum(pauses) < seconds + 0.6
    on_fake_windows.name = ""
    with pytest.raises(UserError, match="another program has it open, or it is write-protected"):
        rename(held(source, [5] * 1000), target, pauses.append)


def test_on_a_fake_windows_other_refusals_are_not_waited_for(tmp_path: Path, on_fake_windows: FakeManager) -> None:
    with pytest.raises(FileNotFoundError):
        rename(tmp_path / "nothing", tmp_path / "old", lambda seconds: pytest.fail("waited"))


def test_on_a_fake_windows_a_folder_that_cannot_take_its_name_leaves_the_old_one_in_place(
    tmp_path: Path, on_fake_windows: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "adapter"
    with atomic_folder(target) as draft:
        write_text(draft / "x", "old")
    real = Path.replace

    def refuse_drafts(self: Path, to: Any) -> Any:
        if self.name.endswith(".part") and self.is_dir():
            error = PermissionError(13, "Access is denied")
            error.winerror = 5  # type: ignore[attr-defined]
            raise error
        return real(self, to)

    monkeypatch.setattr(Path, "replace", refuse_drafts)
    monkeypatch.setattr("aegis_core.replacing.FOLDER_PATIENCE_SECONDS", 0.0)
    with pytest.raises(UserError, match="cannot be replaced"), atomic_folder(target) as draft:
        write_text(draft / "x", "new")
    assert (target / "x").read_text(encoding="utf-8") == "old"


def test_on_a_fake_windows_the_removal_of_a_held_file_is_waited_for_and_then_refused_in_a_sentence(
    tmp_path: Path, on_fake_windows: FakeManager
) -> None:
    (tmp_path / "torch.whl.part").write_bytes(b"half")
    pauses: list[float] = []
    remove(held(tmp_path / "torch.whl.part", [32] * 3), pauses.append)
    assert pauses == [0.02, 0.04, 0.08] and not (tmp_path / "torch.whl.part").exists()
    remove(held(tmp_path / "torch.whl.part", []), pauses.append)
    (tmp_path / "torch.whl.part").write_bytes(b"half")
    on_fake_windows.name = "torch.whl.part"
    with pytest.raises(UserError, match="cannot be removed: ウイルス対策ソフト has it open"):
        remove(held(tmp_path / "torch.whl.part", [32] * 1000), pauses.append)


def test_on_a_fake_windows_a_folder_is_removed_once_nobody_has_a_file_of_it_open(
    tmp_path: Path, on_fake_windows: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "python311.dll").write_bytes(b"")
    real, refusals, pauses = shutil.rmtree, [5, 32], list[float]()

    def refuse_twice(path: Path) -> None:
        if refusals:
            error = PermissionError(13, "Access is denied")
            error.winerror = refusals.pop()  # type: ignore[attr-defined]
            raise error
        real(path)

    monkeypatch.setattr(shutil, "rmtree", refuse_twice)
    remove(folder, pauses.append)
    assert pauses == [0.02, 0.04] and not folder.exists()


def test_on_a_fake_windows_a_fetched_wheel_that_a_virus_scanner_reads_takes_its_name_a_moment_later(
    tmp_path: Path, on_fake_windows: FakeManager
) -> None:
    wheel = make_wheel(tmp_path / "at hand", "torch", "1.0", {"torch.py": b""})
    row = Wheel("torch", "1.0", wheel.as_uri(), sha256(wheel), None, False)
    downloads = Downloads(held(tmp_path / "downloads", [32, 5]), CancelToken(), lambda done, total: None)
    downloads.fetch([row])
    assert HeldPath.refusals == []
    assert [file.name for file in (tmp_path / "downloads").iterdir()] == [wheel.name]


# What Windows tells of itself


def test_on_a_fake_windows_the_commit_limit_is_read_and_a_refusal_is_none() -> None:
    assert fake_windows(FakeKernel32()).commitment() == Commitment(24_000_000_000, 3_000_000_000)
    assert fake_windows(FakeKernel32("GlobalMemoryStatusEx")).commitment() is None


def test_on_a_fake_windows_missing_runtimes_are_named() -> None:
    some = {"vcruntime140.dll": object(), "vcruntime140_1.dll": object()}
    assert fake_windows(FakeKernel32(), **some).missing_runtimes() == ("msvcp140.dll",)
    assert fake_windows(FakeKernel32(), **some, **{"msvcp140.dll": object()}).missing_runtimes() == ()


class FakeRegistry(types.ModuleType):
    HKEY_LOCAL_MACHINE = 0

    def __init__(self, values: dict[tuple[str, str], Any]) -> None:
        super().__init__("winreg")
        self._values = values

    def OpenKey(self, root: int, place: str) -> Any:
        return FakeKey(place)

    def QueryValueEx(self, key: "FakeKey", name: str) -> tuple[Any, int]:
        if (key.place, name) not in self._values:
            raise FileNotFoundError(2, "no such value")
        return self._values[key.place, name], 1


class FakeKey:
    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> "FakeKey":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_on_a_fake_windows_long_paths_and_adapters_come_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    system = r"SYSTEM\CurrentControlSet\Control\FileSystem"
    adapters = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
    values: dict[tuple[str, str], Any] = {(f"{adapters}\\0001", "DriverDesc"): "Intel(R) UHD Graphics 770"}
    monkeypatch.setitem(sys.modules, "winreg", FakeRegistry(values))
    windows = fake_windows(FakeKernel32())
    assert windows.longest_path() == 259
    assert windows.graphics_adapters() == ("Intel(R) UHD Graphics 770",)
    values[system, "LongPathsEnabled"] = 1
    assert windows.longest_path() is None


def test_on_a_fake_windows_ctrl_break_asks_to_stop_as_well() -> None:
    assert 21 in fake_windows(FakeKernel32()).stop_signals()


# The code


SOURCES = sorted([*(ROOT / "aegis_core").rglob("*.py"), *(ROOT / "aegis_gui").rglob("*.py")])
HOUSES = (ROOT / "aegis_core" / "platforms", ROOT / "aegis_gui" / "desktop")
ASKED = {"sys.platform", "os.name", "platform.system", "os.uname", "platform.win32_ver", "sys.getwindowsversion"}
ONE_SYSTEMS_OWN = {
    *("os.fork", "os.killpg", "os.getpgid", "os.setsid", "os.getuid", "os.geteuid", "os.startfile", "os.mkfifo"),
    *("os.O_BINARY", "os.O_DIRECTORY", "os.statvfs", "os.sched_getaffinity", "time.tzset"),
    *("signal.SIGKILL", "signal.SIGHUP", "signal.SIGBREAK", "signal.SIGUSR1", "signal.SIGALRM", "signal.pause"),
    *("ctypes.WinDLL", "ctypes.windll", "ctypes.WINFUNCTYPE", "subprocess.CREATE_NO_WINDOW", "subprocess.STARTUPINFO"),
}
MODULES = {
    "fcntl",
    "msvcrt",
    "winreg",
    "winsound",
    "resource",
    "pwd",
    "grp",
    "termios",
    "pty",
    "_winapi",
    "nt",
    "posix",
}
IMPATIENT = {"os.replace", "os.rename", "os.renames", "shutil.move"}
WORDS = {"start_new_session", "creationflags", "startupinfo", "preexec_fn"}
STARTS = {"subprocess.Popen", "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}


def impatient(tree: ast.AST) -> list[str]:
    """Renames that give up at once where Windows says that a file is held: only replacing.py may make them.

    With one plain argument `.replace` and `.rename` are a path's; a text's has two, a dataclass' or a date's names.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in IMPATIENT:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += sorted({f"{node.module}.{alias.name}" for alias in node.names} & IMPATIENT)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = ["target" for _ in node.args] + [str(word.arg) for word in node.keywords]
            if node.func.attr in ("replace", "rename") and names == ["target"]:
                found.append(ast.unparse(node)[:80])
    return found


def elsewhere() -> list[Path]:
    return [path for path in SOURCES if not any(path.is_relative_to(house) for house in HOUSES)]


def asks(tree: ast.AST) -> list[str]:
    """What of a module only one system has, or asks which system this is."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ASKED | ONE_SYSTEMS_OWN:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [node.module] if node.module in MODULES else sorted(names & (ASKED | ONE_SYSTEMS_OWN | STARTS))
        elif isinstance(node, ast.Constant) and node.value in WORDS:
            found.append(node.value)
        elif isinstance(node, ast.keyword) and node.arg in WORDS:
            found.append(node.arg)
    return found


def unguarded_starts(tree: ast.AST) -> list[str]:
    """Calls that start a program without options of the platform, told by a `**` argument."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS)
    return [ast.unparse(call)[:80] for call in calls if not any(keyword.arg is None for keyword in call.keywords)]


@pytest.mark.parametrize("path", elsewhere(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_two_houses_ask_which_system_this_is_and_every_program_starts_without_a_window(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert asks(tree) == []
    assert unguarded_starts(tree) == []


def test_the_modules_of_systems_are_imported_in_their_house_alone() -> None:
    for path in elsewhere():
        text = path.read_text(encoding="utf-8")
        for module in ("windows", "posix"):
            assert f"platforms.{module}" not in text, path
            assert f"from .platforms import {module}" not in text and f"desktop.{module}" not in text, path


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nif sys.platform == 'win32': pass",
        "from os import name",
        "import fcntl",
        "import os, signal\nos.kill(1, signal.SIGKILL)",
        "how = {'start_new_session': True}",
    ],
)
def test_the_look_at_the_code_finds_each_kind_of_question(code: str) -> None:
    assert asks(ast.parse(code))


def test_the_look_at_the_code_finds_a_program_that_flashes_a_window() -> None:
    assert unguarded_starts(ast.parse("import subprocess\nsubprocess.run(['nvidia-smi'])"))
    assert not unguarded_starts(ast.parse("import subprocess\nsubprocess.run(['nvidia-smi'], **quiet)"))


def test_every_file_takes_its_name_patiently() -> None:
    for path in SOURCES:
        if path.name != "replacing.py":
            assert impatient(ast.parse(path.read_text(encoding="utf-8"))) == [], path


@pytest.mark.parametrize(
    "code",
    [
        "draft.replace(path)",
        "Path('a').rename('b')",
        "draft.rename(target=path)",
        "import os\nos.replace(a, b)",
        "from os import rename as move",
        "import shutil\nshutil.move(a, b)",
    ],
)
def test_the_look_at_the_code_finds_an_impatient_rename(code: str) -> None:
    assert impatient(ast.parse(code))


def test_the_look_at_the_code_leaves_other_replacements_alone() -> None:
    fine = "text.replace('a', 'b')\nreplace(plan, seed=1)\ndate.replace(year=1)\nhistory.rename(run, chat, title)"
    assert impatient(ast.parse(fine)) == []
