"""start.py: what it decides on machines of every kind (faked), and what it does with real files and processes."""

import ast
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import start
from start import Backend, Environment, Machine, Refusal, Stamp

ROOT = Path(start.__file__).parent
LINUX = Machine("Linux", glibc=(2, 36))
WINDOWS = Machine("Windows")
RTX_3060 = {"nvidia": True, "driver_cuda": (13, 0), "card": "NVIDIA GeForce RTX 3060", "card_level": (8, 6)}

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def never(_: str) -> bool:
    return False


def always(_: str) -> bool:
    return True


def unasked(_: str) -> bool:
    raise AssertionError("nobody should have asked")


# --- which torch ------------------------------------------------------------------------------------------------------


def test_without_an_nvidia_driver_the_cpu_build_is_wanted_and_the_reason_named() -> None:
    backend = start.choose_backend(LINUX)
    assert (backend.tag, backend.reason) == ("cpu", "no NVIDIA driver was found")


@pytest.mark.parametrize("system", [LINUX, WINDOWS])
def test_the_reference_card_with_a_current_driver_gets_the_newest_cuda_build(system: Machine) -> None:
    backend = start.choose_backend(replace(system, **RTX_3060))
    assert backend.tag == "cu130"
    assert "RTX 3060" in backend.reason and "13.0" in backend.reason


@pytest.mark.parametrize(
    ("driver_cuda", "card_level", "tag"),
    [
        ((12, 4), (8, 6), "cu126"),  # an older driver
        ((13, 2), (6, 1), "cu126"),  # a card the newest build has dropped
        ((13, 2), (12, 0), "cu130"),
        ((13, 2), None, "cu130"),  # a driver that names no card
    ],
)
def test_the_cuda_build_suits_both_driver_and_card(driver_cuda, card_level, tag) -> None:
    machine = replace(WINDOWS, nvidia=True, driver_cuda=driver_cuda, card_level=card_level)
    assert start.choose_backend(machine).tag == tag


@pytest.mark.parametrize(
    ("driver_cuda", "card_level", "advice"),
    [
        ((11, 4), (8, 6), "install NVIDIA driver 528 or newer"),
        ((12, 8), (12, 0), "install NVIDIA driver 580 or newer"),  # Blackwell: no kernels in the older build
        ((12, 8), (3, 5), "too old for any CUDA build"),
        (None, None, "does not answer"),
    ],
)
def test_a_card_that_cannot_be_used_is_explained_with_its_mend(driver_cuda, card_level, advice) -> None:
    machine = replace(LINUX, nvidia=True, driver_cuda=driver_cuda, card_level=card_level, card="GeForce")
    backend = start.choose_backend(machine)
    assert backend.tag == "cpu"
    assert advice in backend.reason


CPU = Backend("cpu", "no NVIDIA driver was found")
CUDA = Backend("cu130", "RTX 3060")


def test_a_wheel_at_hand_is_taken_without_asking_any_index() -> None:
    choice = start.choose_torch(LINUX, CPU, always, unasked)
    assert (choice.requirement, choice.index) == ("torch==2.13.0+cpu", None)


def test_on_linux_the_cpu_build_comes_from_pytorchs_index() -> None:
    choice = start.choose_torch(LINUX, CPU, never, always)
    assert (choice.requirement, choice.index) == ("torch==2.13.0+cpu", "https://download.pytorch.org/whl/cpu")
    assert "no NVIDIA driver was found" in choice.sentence


def test_a_silent_index_is_asked_once_and_then_the_plain_pin_taken_with_its_size_announced() -> None:
    asked: list[str] = []
    choice = start.choose_torch(LINUX, CPU, never, lambda tag: bool(asked.append(tag)))
    assert asked == ["cpu"]
    assert (choice.requirement, choice.index) == ("torch==2.13.0", None)
    assert "2.7 GB" in choice.sentence and "did not answer within 10 s" in choice.sentence


def test_on_windows_without_a_card_the_plain_pin_is_the_cpu_build() -> None:
    choice = start.choose_torch(WINDOWS, CPU, unasked, unasked)
    assert (choice.requirement, choice.index) == ("torch==2.13.0", None)


@pytest.mark.parametrize("machine", [LINUX, WINDOWS])
def test_the_cuda_build_comes_from_pytorchs_index_on_both_systems(machine: Machine) -> None:
    choice = start.choose_torch(machine, CUDA, never, always)
    assert (choice.requirement, choice.index) == ("torch==2.13.0+cu130", "https://download.pytorch.org/whl/cu130")


def test_a_silent_index_never_turns_a_cuda_machine_into_a_cpu_machine() -> None:
    general = start.choose_torch(LINUX, CUDA, never, never)
    assert general.requirement == "torch===2.13.0"  # the general Linux build carries CUDA 13.0; +cpu does not match ===
    with pytest.raises(Refusal, match="only there"):
        start.choose_torch(WINDOWS, CUDA, never, never)
    with pytest.raises(Refusal, match="only there"):
        start.choose_torch(LINUX, Backend("cu126", "an older driver"), never, never)


# --- reading the driver -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("| NVIDIA-SMI 552.22    Driver Version: 552.22    CUDA Version: 12.4  |", (12, 4)),
        ("| NVIDIA-SMI 610.47    KMD Version: 610.47    CUDA UMD Version: 13.3 |", (13, 3)),
        ("| NVIDIA-SMI 580.65    Driver Version: 580.65.06    CUDA Version: N/A |", (13, 0)),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12", (12, 0)),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", (13, 0)),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May 2", (11, 0)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
    ],
)
def test_the_drivers_cuda_version_is_read_from_every_spelling(text: str, cuda) -> None:
    assert start.parse_cuda(text) == cuda


def test_the_newest_of_several_cards_decides() -> None:
    listing = "NVIDIA GeForce GTX 1080, 6.1\nNVIDIA GeForce RTX 3060, 8.6\n"
    assert start.parse_cards(listing)[0] == ((8, 6), "NVIDIA GeForce RTX 3060")
    assert start.parse_cards("No devices were found\n") == []


@posix_only
def test_a_real_nvidia_smi_on_the_path_is_found_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\ncase "$1" in --query*) echo "NVIDIA H100, 9.0";; *) echo "CUDA Version: 12.8";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    machine = start.look()
    assert (machine.nvidia, machine.card, machine.card_level, machine.driver_cuda) == (
        True,
        "NVIDIA H100",
        (9, 0),
        (12, 8),
    )
    assert start.choose_backend(machine).tag == "cu126"


# --- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_a_python_without_wheels_for_every_pin_is_refused_in_one_sentence(version: tuple[int, int]) -> None:
    sentence = start.python_refusal(version)
    assert sentence is not None and "3.11, 3.12, 3.13" in sentence and f"{version[0]}.{version[1]}:" in sentence


def test_start_py_can_be_read_by_an_old_python() -> None:
    ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_accepted_pythons_and_torch_are_the_same_in_all_three_files() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = start.PYTHONS[-1]
    assert project["requires-python"] == f">={start.PYTHONS[0][0]}.{start.PYTHONS[0][1]},<{newest[0]}.{newest[1] + 1}"
    assert f"torch=={start.TORCH}" in project["dependencies"]
    batch = (ROOT / "start.bat").read_text(encoding="ascii")
    assert "({})".format(", ".join(map(str, start.PYTHONS))) in batch
    assert "for %%V in (3.13 3.12 3.11)" in batch


def test_start_bat_has_windows_line_ends_and_plain_letters() -> None:
    lines = (ROOT / "start.bat").read_bytes().split(b"\n")
    assert all(line.endswith(b"\r") for line in lines[:-1])
    assert all(line.isascii() for line in lines)


def test_every_dependency_is_pinned_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [*project["dependencies"], *(pin for extra in project["optional-dependencies"].values() for pin in extra)]
    assert [pin for pin in pins if "==" not in pin] == []


def test_a_window_without_a_display_is_refused_and_the_terminal_ritual_named() -> None:
    headless = replace(LINUX, has_display=False)
    assert "start.py demo" in (start.machine_refusal(headless, "window") or "")
    assert start.machine_refusal(headless, "demo") is None
    assert start.machine_refusal(headless, "test") is None


def test_a_system_too_old_for_the_wheels_and_a_32_bit_python_are_refused() -> None:
    assert "glibc 2.34" in (start.machine_refusal(replace(LINUX, glibc=(2, 31)), "demo") or "")
    assert "64-bit" in (start.machine_refusal(replace(WINDOWS, is_64_bit=False), "demo") or "")


# --- parts of the system ----------------------------------------------------------------------------------------------


def test_the_terminal_ritual_needs_no_part_of_the_window_system() -> None:
    assert start.missing_pieces(LINUX, "demo", never) == []
    assert start.missing_pieces(WINDOWS, "window", never) == []


def test_only_what_is_missing_is_installed_and_xvfb_only_for_tests() -> None:
    missing = start.missing_pieces(LINUX, "test", lambda probe: probe != "libEGL.so.1")
    assert [piece.package for piece in missing] == ["libegl1"]
    assert "xvfb" in [piece.package for piece in start.missing_pieces(LINUX, "test", never)]
    assert "xvfb" not in [piece.package for piece in start.missing_pieces(LINUX, "window", never)]


def test_as_root_on_debian_missing_parts_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = {piece.probe for piece in start.PIECES} - {"libGL.so.1", start.JAPANESE_FONT}
    installed: list[str] = []

    def install(packages: list[str]) -> None:
        installed.extend(packages)
        there.update(piece.probe for piece in start.PIECES if piece.package in packages)

    monkeypatch.setattr(start, "is_on_system", there.__contains__)
    monkeypatch.setattr(start, "apt_install", install)
    start.ensure_pieces(replace(LINUX, is_root=True, has_apt=True), "window")
    assert installed == ["libgl1", "fonts-noto-cjk"]


def test_without_root_a_missing_library_stops_the_window_with_the_command_that_mends_it(monkeypatch) -> None:
    monkeypatch.setattr(start, "is_on_system", lambda probe: probe != "libGL.so.1")
    monkeypatch.setattr(start, "apt_install", lambda _: pytest.fail("only root may"))
    with pytest.raises(Refusal, match=r"sudo apt-get install libgl1$"):
        start.ensure_pieces(replace(LINUX, has_apt=True), "window")
    with pytest.raises(Refusal, match=r"package manager: libGL\.so\.1$"):
        start.ensure_pieces(replace(LINUX, has_apt=False), "window")


def test_a_missing_japanese_font_is_named_but_stops_nobody(monkeypatch, capsys) -> None:
    monkeypatch.setattr(start, "is_on_system", lambda probe: probe != start.JAPANESE_FONT)
    start.ensure_pieces(replace(LINUX, has_apt=True), "window")
    assert capsys.readouterr().out.splitlines() == [
        "Missing on this system; install with: sudo apt-get install fonts-noto-cjk"
    ]


def test_a_missing_venv_module_is_installed_by_root_and_named_otherwise(monkeypatch) -> None:
    there: list[str] = []
    monkeypatch.setattr(start, "has_venv_module", lambda: bool(there))
    monkeypatch.setattr(start, "apt_install", there.extend)
    with pytest.raises(Refusal, match=r"sudo apt-get install python3\.12-venv"):
        start.ensure_venv_module(replace(LINUX, has_apt=True), (3, 12))
    start.ensure_venv_module(replace(LINUX, has_apt=True, is_root=True), (3, 11))
    assert there == ["python3.11-venv"]


# --- whether the environment serves -----------------------------------------------------------------------------------

MADE = Stamp("abc", ("aegis_core",), "/here", "3.11.7", "2.13.0", "cu130", ("cuda",))


def test_an_environment_serves_until_something_it_was_made_for_changes() -> None:
    assert start.is_fresh(MADE, MADE)
    assert not start.is_fresh(None, MADE)
    for change in ({"pyproject": "abd"}, {"root": "/there"}, {"python": "3.11.8"}, {"torch": "2.14.0"}):
        assert not start.is_fresh(MADE, replace(MADE, **change))
    assert not start.is_fresh(MADE, replace(MADE, backend="cu126"))
    assert not start.is_fresh(replace(MADE, backend="cpu"), MADE)  # a card was added


def test_extras_beyond_the_wanted_do_no_harm_and_missing_ones_are_added() -> None:
    with_tests = replace(MADE, extras=("cuda", "test"))
    assert start.is_fresh(with_tests, MADE)
    assert not start.is_fresh(MADE, with_tests)


def test_a_card_that_does_not_answer_today_does_not_cost_the_cuda_build() -> None:
    assert start.is_fresh(MADE, replace(MADE, backend="cpu", extras=()))


class RecordingEnvironment(Environment):
    """An environment that notes what would be done to it."""

    def __init__(self, folder: Path, damage: str | None = None, fails: bool = False) -> None:
        super().__init__(folder)
        self.found, self.fails = damage, fails
        self.done: list[str] = []

    def damage(self) -> str | None:
        return self.found

    def create(self) -> None:
        self.done.append("create")
        self.folder.mkdir(exist_ok=True)

    def is_at_hand(self, requirement: str) -> bool:
        return True

    def install(self, title: str, *arguments: str) -> None:
        if self.fails:
            raise Refusal("no network")
        self.done.append(" ".join(arguments))


def made_ready(environment: RecordingEnvironment, command: str = "demo", machine: Machine = LINUX) -> list[str]:
    environment.done.clear()
    start.ensure_environment(environment, machine, command)
    return environment.done


def test_a_first_start_installs_torch_first_and_then_the_project_held_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    constraints = folder / "constraints.txt"
    done = made_ready(RecordingEnvironment(folder))
    assert done == ["create", "torch==2.13.0+cpu", f"-c {constraints} -e {ROOT}"]
    assert constraints.read_text() == "torch==2.13.0\n"


def test_a_second_start_does_nothing_and_tests_add_only_their_extras(tmp_path: Path) -> None:
    environment = RecordingEnvironment(tmp_path / "env")
    made_ready(environment)
    assert made_ready(environment) == []
    assert made_ready(environment, "test")[-1].endswith(f"-e {ROOT}[test]")
    assert made_ready(environment, "demo") == []


def test_a_gpu_machine_gets_the_cuda_extra(tmp_path: Path) -> None:
    done = made_ready(RecordingEnvironment(tmp_path / "env"), machine=replace(LINUX, **RTX_3060))
    assert done[1:] == ["torch==2.13.0+cu130", f"-c {tmp_path / 'env' / 'constraints.txt'} -e {ROOT}[cuda]"]


def test_an_interrupted_installation_is_continued_and_not_begun_again(tmp_path: Path) -> None:
    environment = RecordingEnvironment(tmp_path / "env", fails=True)
    with pytest.raises(Refusal):
        made_ready(environment)
    assert environment.stamp() is None
    environment.fails = False
    assert made_ready(environment)[0] == "torch==2.13.0+cpu"
    assert made_ready(environment) == []


def test_a_damaged_environment_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = RecordingEnvironment(tmp_path / "env")
    made_ready(environment)
    environment.found = "damaged: rich"
    assert made_ready(environment)[0] == "create"
    assert "made anew: damaged: rich" in capsys.readouterr().out


# --- real environments ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_environment(tmp_path: Path) -> Environment:
    """A real environment without pip, holding one package of one file."""
    environment = Environment(tmp_path / "小さな 環境")
    environment.folder.mkdir()
    environment.write_stamp(None)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    site = next(environment.folder.rglob("site-packages"))
    (site / "soul.py").write_bytes(b"alpha = 1.618\n")
    info = site / "soul-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: soul\nVersion: 1.0\n")
    digest = hashlib.sha256(b"alpha = 1.618\n").hexdigest()
    (info / "RECORD").write_text(f"soul.py,sha256={digest},14\nsoul-1.0.dist-info/RECORD,,\n__pycache__/soul.pyc,,\n")
    return environment


def test_a_whole_environment_has_no_damage(small_environment: Environment) -> None:
    assert small_environment.damage() is None


def test_a_cut_off_file_a_lost_file_and_a_half_installed_package_are_noticed(small_environment: Environment) -> None:
    module = next(small_environment.folder.rglob("soul.py"))
    whole = module.read_bytes()
    module.write_bytes(whole[:5])
    assert small_environment.damage() == "damaged: soul-1.0.dist-info"
    module.unlink()
    assert small_environment.damage() == "damaged: soul-1.0.dist-info"
    module.write_bytes(whole)
    assert small_environment.damage() is None
    next(small_environment.folder.rglob("RECORD")).unlink()
    assert small_environment.damage() == "damaged: soul-1.0.dist-info"


def test_a_python_that_is_gone_or_does_not_start_is_noticed(small_environment: Environment) -> None:
    small_environment.python.unlink()
    assert small_environment.damage() == "its Python is missing"
    small_environment.python.write_text("no program")
    assert small_environment.damage() == "its Python does not start"


def test_a_folder_that_is_not_ours_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(Refusal, match="AEGIS_ENV"):
        Environment(tmp_path).clear()
    assert (tmp_path / "thesis.txt").exists()


def test_our_own_folder_is_cleared(small_environment: Environment) -> None:
    small_environment.clear()
    assert not small_environment.folder.exists()


def test_a_clearing_that_meets_a_locked_file_can_be_tried_again(
    small_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows deletes nothing that a program has loaded, wherever in the folder the deletion has got to by then."""
    locked = next(small_environment.folder.rglob("soul.py"))
    small_environment.write_stamp(MADE)

    def all_but_the_locked(folder: str) -> None:
        for file in [file for file in Path(folder).rglob("*") if file.is_file() and file != locked]:
            file.unlink()
        if locked.is_relative_to(folder):
            raise PermissionError(13, "Access is denied", str(locked))

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(start.shutil, "rmtree", all_but_the_locked)
        small_environment.clear()
    assert locked.exists() and small_environment.stamp() is None
    small_environment.clear()
    assert not small_environment.folder.exists()


@posix_only
def test_a_folder_whose_making_was_cut_off_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(tmp_path / "env")
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(Refusal, match="could not make an environment"):
        environment.create()
    (environment.folder / "lib").mkdir()
    environment.clear()
    assert not environment.folder.exists()


def test_a_stamp_reads_back_as_it_was_written_and_a_torn_one_counts_as_none(small_environment: Environment) -> None:
    small_environment.write_stamp(MADE)
    assert small_environment.stamp() == MADE
    (small_environment.folder / start.STAMP).write_text('{"torch": "2.1')
    assert small_environment.stamp() is None


def test_a_failed_installation_shows_the_last_lines_the_log_and_one_advice(
    small_environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = "print('Collecting soul'); print('OSError: [Errno 28] No space left on device'); raise SystemExit(1)"
    monkeypatch.setattr(small_environment, "pip", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(Refusal) as refused:
        small_environment.install("Installing")
    assert str(small_environment.log) in str(refused.value)
    assert str(refused.value).endswith("Free some disk space and start again.")
    assert "  | OSError: [Errno 28] No space left on device" in capsys.readouterr().out
    assert "Collecting soul" in small_environment.log.read_text(encoding="utf-8")


def test_pip_is_shown_as_a_few_calm_lines() -> None:
    assert start.headline("  Downloading torch-2.13.0-cp311-win_amd64.whl (122.0 MB)\n") == (
        "loading torch-2.13.0-cp311-win_amd64.whl (122.0 MB)"
    )
    assert start.headline("Installing collected packages: a, b, c\n") == "unpacking 3 packages"
    for quiet in ("Collecting rich", "  Downloading rich-15.0.0.whl (300 kB)", "  Downloading x.whl (3.1 MB)"):
        assert start.headline(quiet) is None


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied", "Close programs"),
        ("NewConnectionError: Temporary failure in name resolution", "internet connection"),
        ("ERROR: No matching distribution found for xllamacpp", "No package fits"),
        ("something unheard of", "Start again"),
    ],
)
def test_each_failure_gets_one_sentence_of_advice(log: str, sentence: str) -> None:
    assert start.advice(log).startswith(sentence) or sentence in start.advice(log)


def test_two_starts_never_work_on_one_environment(tmp_path: Path) -> None:
    with (
        start.only_one(tmp_path / "env"),
        (tmp_path / "env.lock").open("a") as second,
    ):
        assert not start.try_lock(second.fileno())
    with (tmp_path / "env.lock").open("a") as later:
        assert start.try_lock(later.fileno())


# --- running the program ----------------------------------------------------------------------------------------------


def test_each_command_starts_its_program_and_passes_the_rest_on() -> None:
    assert start.child_arguments("window", []) == ["-m", "aegis_gui", "--demo"]
    assert start.child_arguments("demo", ["--", "--steps", "6"]) == ["-m", "aegis_core", "demo", "--steps", "6"]
    assert start.child_arguments("test", ["-k", "gate"]) == ["-m", "pytest", "-k", "gate"]


def test_children_speak_utf_8_and_tests_open_no_windows_unless_told() -> None:
    assert start.child_environment({}, "demo") == {"PYTHONUTF8": "1"}
    assert start.child_environment({}, "test")["QT_QPA_PLATFORM"] == "offscreen"
    assert start.child_environment({"QT_QPA_PLATFORM": "xcb"}, "test")["QT_QPA_PLATFORM"] == "xcb"


def test_exit_codes_pass_through_and_an_interrupt_is_130() -> None:
    assert [start.exit_code(code, False) for code in (0, 1, 2, 5, -9)] == [0, 1, 2, 5, 137]
    assert start.exit_code(0, True) == 130
    assert start.run_child([sys.executable, "-c", "raise SystemExit(7)"], dict(os.environ), None) == 7


@posix_only
def test_ctrl_c_waits_for_the_child_to_finish_cleanly_and_ends_with_130(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    child = textwrap.dedent(f"""
        import pathlib, signal, time
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored where the suite runs unattended
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.3)
            pathlib.Path({str(saved)!r}).touch()
    """)
    code = (
        "import start, sys, os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.exit(start.run_child([sys.executable, '-c', {child!r}], dict(os.environ), None))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert saved.exists()
    process.stdout.close()


@posix_only
def test_being_told_to_end_ends_the_child_too() -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = (
        f"import start, sys, os; sys.exit(start.run_child([sys.executable, '-c', {child!r}], dict(os.environ), None))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.terminate()
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    process.stdout.close()


def started(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "start.py"), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_an_unknown_command_gives_the_usage_and_exit_code_2() -> None:
    for word in ("nonsense", "window", "--nonsense"):
        done = started(word)
        assert done.returncode == 2
        assert "python start.py demo" in done.stdout


def test_help_is_no_error() -> None:
    done = started("--help")
    assert done.returncode == 0 and "AEGIS_ENV" in done.stdout


def test_a_foreign_folder_as_environment_is_refused_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    done = started("demo", AEGIS_ENV=str(tmp_path))
    assert done.returncode == 1
    assert "is no environment made by start.py" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
