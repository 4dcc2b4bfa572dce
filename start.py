"""Sets AEGIS up on this machine and starts it.

    python start.py               open the window, the embedded demo preselected
    python start.py demo [...]    the same ritual in the terminal
    python start.py test [...]    install what the tests need and run them

The environment is made in .venv beside this file; AEGIS_ENV names another folder. The first start downloads
torch and the rest, a later one starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable, Iterator

# ---------------------------------------------------------------------------------------------------------------------
# What is wanted. The same Python versions stand in pyproject.toml (requires-python) and in start.bat.

PYTHONS = ((3, 11), (3, 12), (3, 13))
GLIBC = (2, 34)  # PySide6's wheels ask for it
TORCH = "2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl"
PROBE_SECONDS = 10

ROOT = Path(__file__).resolve().parent
STAMP = "aegis-start.json"


@dataclass(frozen=True)
class CudaBuild:
    """A build of torch for CUDA, the oldest driver it runs on and the cards it carries kernels for."""

    tag: str
    oldest_driver_cuda: tuple[int, int]
    driver_name: str
    oldest_card: tuple[int, int]
    newest_card: tuple[int, int]


# newest first; the first that suits driver and card is taken
CUDA_BUILDS = (
    CudaBuild("cu130", (13, 0), "580", (7, 5), (99, 0)),
    CudaBuild("cu126", (12, 0), "528", (5, 0), (9, 0)),
)
DOWNLOAD = {"cpu": "about 0.2 GB", "cuda": "2 to 3 GB", "plain": "about 2.7 GB, it carries NVIDIA's libraries"}


@dataclass(frozen=True)
class Piece:
    """A part of the system that no Python package brings: found by `probe`, brought by the Debian package `package`."""

    probe: str
    package: str
    commands: tuple[str, ...]
    essential: bool = False


BOTH = ("window", "test")
JAPANESE_FONT = "a Japanese font"
PIECES = (
    Piece("libEGL.so.1", "libegl1", BOTH, essential=True),
    Piece("libGL.so.1", "libgl1", BOTH, essential=True),
    Piece("libxkbcommon.so.0", "libxkbcommon0", BOTH, essential=True),
    Piece("libdbus-1.so.3", "libdbus-1-3", BOTH, essential=True),
    Piece("libfontconfig.so.1", "libfontconfig1", BOTH, essential=True),
    Piece("libglib-2.0.so.0", "libglib2.0-0", BOTH, essential=True),
    Piece(JAPANESE_FONT, "fonts-noto-cjk", BOTH),
    Piece("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", BOTH),
    Piece("libX11-xcb.so.1", "libx11-xcb1", BOTH),
    Piece("libxcb-cursor.so.0", "libxcb-cursor0", BOTH),
    Piece("libxcb-icccm.so.4", "libxcb-icccm4", BOTH),
    Piece("libxcb-image.so.0", "libxcb-image0", BOTH),
    Piece("libxcb-keysyms.so.1", "libxcb-keysyms1", BOTH),
    Piece("libxcb-randr.so.0", "libxcb-randr0", BOTH),
    Piece("libxcb-render-util.so.0", "libxcb-render-util0", BOTH),
    Piece("libxcb-shape.so.0", "libxcb-shape0", BOTH),
    Piece("libxcb-shm.so.0", "libxcb-shm0", BOTH),
    Piece("libxcb-sync.so.1", "libxcb-sync1", BOTH),
    Piece("libxcb-xfixes.so.0", "libxcb-xfixes0", BOTH),
    Piece("libxcb-xkb.so.1", "libxcb-xkb1", BOTH),
    Piece("Xvfb", "xvfb", ("test",)),
)


class Refusal(Exception):
    """What stands in the way, in one sentence for the user."""


# ---------------------------------------------------------------------------------------------------------------------
# Decisions: pure functions of what was seen


@dataclass(frozen=True)
class Machine:
    """What was seen of this machine."""

    system: str  # Linux, Windows, Darwin
    glibc: tuple[int, int] | None = None
    is_root: bool = False
    has_apt: bool = False
    is_64_bit: bool = True
    has_display: bool = True
    nvidia: bool = False  # a driver is there
    driver_cuda: tuple[int, int] | None = None  # the newest CUDA the driver knows
    card: str = ""
    card_level: tuple[int, int] | None = None  # compute capability of the newest card


@dataclass(frozen=True)
class Backend:
    """The kind of torch build this machine wants: "cpu" or one of CUDA_BUILDS, and why."""

    tag: str
    reason: str

    @property
    def is_cuda(self) -> bool:
        return self.tag != "cpu"


@dataclass(frozen=True)
class TorchChoice:
    requirement: str
    index: str | None  # an index asked besides the user's own
    sentence: str


@dataclass(frozen=True)
class Stamp:
    """What an environment was made for; written only when it is complete."""

    pyproject: str
    packages: tuple[str, ...]
    root: str
    python: str
    torch: str
    backend: str
    extras: tuple[str, ...]


def python_refusal(version: tuple[int, int]) -> str | None:
    if version in PYTHONS:
        return None
    wanted = ", ".join("{}.{}".format(*v) for v in PYTHONS)
    return "AEGIS needs Python {} and this is {}.{}: get one of them from python.org and start with it.".format(
        wanted, *version
    )


def machine_refusal(machine: Machine, command: str) -> str | None:
    if not machine.is_64_bit:
        return "AEGIS needs a 64-bit Python and this one is 32-bit: get the 64-bit one from python.org."
    if machine.glibc is not None and machine.glibc < GLIBC:
        return "AEGIS needs glibc {}.{} or newer (Debian 12, Ubuntu 22.04); this system has {}.{}.".format(
            *GLIBC, *machine.glibc
        )
    if command == "window" and not machine.has_display:
        return "There is no display to open the window on: `python start.py demo` runs the same ritual in the terminal."
    return None


def choose_backend(machine: Machine) -> Backend:
    """The newest CUDA build that driver and card can use, else the CPU build."""
    if machine.system not in ("Linux", "Windows"):
        return Backend("cpu", "there is no CUDA on this system")
    if not machine.nvidia:
        return Backend("cpu", "no NVIDIA driver was found")
    card = machine.card or "the NVIDIA card"
    if machine.driver_cuda is None:
        return Backend("cpu", "an NVIDIA driver is installed, but it does not answer: reinstall it and start again")
    for build in CUDA_BUILDS:
        suits_card = machine.card_level is None or build.oldest_card <= machine.card_level <= build.newest_card
        if suits_card and machine.driver_cuda >= build.oldest_driver_cuda:
            return Backend(build.tag, "{}, its driver knows CUDA {}.{}".format(card, *machine.driver_cuda))
    return Backend("cpu", no_build_reason(machine, card))


def no_build_reason(machine: Machine, card: str) -> str:
    suited = [b for b in CUDA_BUILDS if machine.card_level is None or b.oldest_card <= machine.card_level]
    suited = [b for b in suited if machine.card_level is None or machine.card_level <= b.newest_card]
    if not suited:
        return f"{card} is too old for any CUDA build of torch {TORCH}"
    return f"the driver of {card} is too old: install NVIDIA driver {suited[-1].driver_name} or newer and start again"


def choose_torch(
    machine: Machine, backend: Backend, is_at_hand: Callable[[str], bool], index_answers: Callable[[str], bool]
) -> TorchChoice:
    """Which torch to install from where.

    is_at_hand(requirement) looks through what pip's own configuration offers without a network;
    index_answers(tag) asks PyTorch's index once. Raises Refusal where only that index could help and it is silent.
    """
    plain = "torch==" + TORCH
    built = f"{plain}+{backend.tag}"
    what = "torch {} ({})".format(TORCH, "CPU" if backend.tag == "cpu" else "CUDA, " + backend.tag)
    because = f"{what}: {backend.reason}"
    if machine.system == "Darwin" or (machine.system == "Windows" and not backend.is_cuda):
        return TorchChoice(plain, None, "{}; {} to load.".format(because, DOWNLOAD["cpu"]))
    if is_at_hand(built):
        return TorchChoice(built, None, because + "; pip has it at hand.")
    size = DOWNLOAD["cuda" if backend.is_cuda else "cpu"]
    if index_answers(backend.tag):
        index = f"{TORCH_INDEX}/{backend.tag}"
        return TorchChoice(built, index, f"{because}; {size} to load from PyTorch's index.")
    silent = f"PyTorch's own index did not answer within {PROBE_SECONDS} s"
    if not backend.is_cuda:
        return TorchChoice(
            plain, None, "{}. {}, so the general build is taken: {}.".format(because, silent, DOWNLOAD["plain"])
        )
    if machine.system == "Linux" and backend.tag == "cu130":
        # the general Linux build is this very CUDA build; === keeps a CPU build at hand from passing for it
        return TorchChoice("torch===" + TORCH, None, f"{because}. {silent}; the general build has it too: {size}.")
    raise Refusal(
        f"{because}. {silent}, and only there is this build to be had: check the connection or proxy and start again."
    )


def extras_for(command: str, backend: Backend) -> tuple[str, ...]:
    return (("cuda",) if backend.is_cuda else ()) + (("test",) if command == "test" else ())


def is_fresh(made: Stamp | None, wanted: Stamp) -> bool:
    """Whether an environment with the stamp `made` serves as it is; extras beyond the wanted do no harm."""
    if made is None:
        return False
    same = replace(made, extras=(), backend="") == replace(wanted, extras=(), backend="")
    has_extras = set(wanted.extras) <= set(made.extras)
    # A card that does not answer today (asleep, driver being updated) must not cost the CUDA build.
    return same and has_extras and (made.backend == wanted.backend or wanted.backend == "cpu")


def missing_pieces(machine: Machine, command: str, is_there: Callable[[str], bool]) -> list[Piece]:
    if machine.system != "Linux":
        return []
    return [piece for piece in PIECES if command in piece.commands and not is_there(piece.probe)]


def venv_package(version: tuple[int, int]) -> str:
    return "python{}.{}-venv".format(*version)


def packages_sentence(machine: Machine, packages: list[str], names: list[str]) -> str:
    if machine.has_apt:
        return "Missing on this system; install with: sudo apt-get install " + " ".join(packages)
    return "Missing on this system; install with its package manager: " + ", ".join(names)


def child_environment(inherited: dict[str, str], command: str) -> dict[str, str]:
    environment = dict(inherited, PYTHONUTF8="1")
    if command == "test":
        environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    return environment


def child_arguments(command: str, rest: list[str]) -> list[str]:
    rest = rest[1:] if rest[:1] == ["--"] else rest
    program = {"window": ["aegis_gui", "--demo"], "demo": ["aegis_core", "demo"], "test": ["pytest"]}[command]
    return ["-m", *program, *rest]


def exit_code(returned: int, was_interrupted: bool) -> int:
    if was_interrupted:
        return 130
    return 128 - returned if returned < 0 else returned


def parse_cuda(banner: str) -> tuple[int, int] | None:
    """The newest CUDA a driver knows, from nvidia-smi's banner; driver 610 and later say "CUDA UMD Version"."""
    found = re.search(r"CUDA (?:\w+ )?Version:\s*(\d+)\.(\d+)", banner)
    if found:
        return int(found.group(1)), int(found.group(2))
    driver = re.search(r"(?:Driver|KMD) Version:\s*(\d+)\.|Kernel Module.*?\b(\d{3,})\.\d", banner)
    return cuda_of_driver(int(driver.group(1) or driver.group(2))) if driver else None


def cuda_of_driver(major: int) -> tuple[int, int]:
    return (13, 0) if major >= 580 else (12, 0) if major >= 528 else (11, 0)


def parse_cards(listing: str) -> list[tuple[tuple[int, int], str]]:
    """(compute capability, name) of each card, newest first, from nvidia-smi's `name, compute_cap` lines."""
    found = re.findall(r"^(.*\S)\s*,\s*(\d+)\.(\d+)\s*$", listing, re.MULTILINE)
    return sorted((((int(major), int(minor)), name) for name, major, minor in found), reverse=True)


def headline(line: str) -> str | None:
    """The part of pip's output worth a line of the user's attention."""
    download = re.match(r"\s*Downloading (\S+) \(([\d.]+) (MB|GB)\)", line)
    if download and (download.group(3) == "GB" or float(download.group(2)) >= 20):
        return "loading {} ({} {})".format(download.group(1).rsplit("/", 1)[-1], download.group(2), download.group(3))
    if line.startswith("Installing collected packages:"):
        return "unpacking {} packages".format(line.count(",") + 1)
    return None


def advice(log: str) -> str:
    """One sentence on what to do about a failed installation."""
    for signs, sentence in (
        (("No space left", "Errno 28", "not enough space"), "Free some disk space and start again."),
        (
            ("Permission denied", "Access is denied", "WinError 5", "WinError 32"),
            "Close programs that use the folder (a running AEGIS, an antivirus scan) and start again.",
        ),
        (
            ("No matching distribution", "ResolutionImpossible"),
            "No package fits this Python and system: check that pip"
            " reaches its index, or try another of the accepted Python versions.",
        ),
        (
            ("Temporary failure in name", "getaddrinfo", "timed out", "Max retries", "ConnectionError", "SSLError"),
            "Check the internet connection or proxy and start again; what was loaded is kept.",
        ),
    ):
        if any(sign in log for sign in signs):
            return sentence
    return "Start again; if it fails once more, delete the environment's folder first."


# ---------------------------------------------------------------------------------------------------------------------
# Looking at the machine


def look() -> Machine:
    system = platform.system()
    machine = Machine(
        system=system,
        glibc=glibc_version() if system == "Linux" else None,
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        has_apt=shutil.which("apt-get") is not None,
        is_64_bit=sys.maxsize > 2**32,
        has_display=system != "Linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))),
    )
    return with_nvidia(machine)


def glibc_version() -> tuple[int, int] | None:
    name, version = platform.libc_ver()
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if name == "glibc" and minor.isdigit() else None


def with_nvidia(machine: Machine) -> Machine:
    module = Path("/proc/driver/nvidia/version")
    if machine.system == "Linux" and module.is_file():
        machine = replace(machine, nvidia=True, driver_cuda=parse_cuda(module.read_text(encoding="utf-8")))
    program = nvidia_smi()
    if program is None:
        return machine
    banner = said([program], seconds=30) or ""
    listing = said([program, "--query-gpu=name,compute_cap", "--format=csv,noheader"], seconds=30) or ""
    cards = parse_cards(listing)
    level, name = cards[0] if cards else (None, "")
    return replace(
        machine, nvidia=True, driver_cuda=parse_cuda(banner) or machine.driver_cuda, card=name, card_level=level
    )


def nvidia_smi() -> str | None:
    windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvidia-smi.exe"
    for place in (windows, Path("/usr/lib/wsl/lib/nvidia-smi")):
        if place.is_file():
            return str(place)
    return shutil.which("nvidia-smi")


def said(command: list[str], seconds: float) -> str | None:
    """What a short command prints, or None where it fails or outlasts its time."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def is_on_system(probe: str) -> bool:
    if probe == JAPANESE_FONT:
        return has_japanese_font()
    if ".so" not in probe:
        return shutil.which(probe) is not None
    try:
        ctypes.CDLL(probe)
    except OSError:
        return False
    return True


def has_japanese_font() -> bool:
    if shutil.which("fc-list"):
        return bool((said(["fc-list", ":lang=ja", "family"], seconds=60) or "").strip())
    folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts"]
    names = (file.name.lower() for folder in folders for file in folder.rglob("*.[to]t[fc]"))
    return any(sign in name for name in names for sign in ("cjk", "jp", "ipa", "takao", "vl-gothic"))


# ---------------------------------------------------------------------------------------------------------------------
# Mending the system


def ensure_pieces(machine: Machine, command: str) -> None:
    missing = missing_pieces(machine, command, is_on_system)
    if missing and machine.is_root and machine.has_apt:
        apt_install([piece.package for piece in missing])
        missing = missing_pieces(machine, command, is_on_system)
    if not missing:
        return
    sentence = packages_sentence(machine, [p.package for p in missing], [p.probe for p in missing])
    if any(piece.essential for piece in missing):
        raise Refusal(sentence)
    say(sentence)


def apt_install(packages: list[str]) -> None:
    """As root: bring Debian packages, and say in one sentence where that fails."""
    say("Installing missing parts of the system: " + " ".join(packages))
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    output = ""
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        say("\n".join(output.splitlines()[-5:]))
        say("apt-get could not install them.")


def ensure_venv_module(machine: Machine, version: tuple[int, int]) -> None:
    package = venv_package(version)
    if has_venv_module():
        return
    if machine.is_root and machine.has_apt:
        apt_install([package])
        importlib.invalidate_caches()
    if not has_venv_module():
        raise Refusal(packages_sentence(machine, [package], ["the venv module of Python {}.{}".format(*version)]))


def has_venv_module() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


# ---------------------------------------------------------------------------------------------------------------------
# The environment

# Run by the environment's own Python: names every package with a file that is missing or of another size than recorded.
AUDIT = r"""
import csv, importlib.metadata, os
for dist in importlib.metadata.distributions():
    record = dist._path / "RECORD"
    whole = record.is_file()
    if whole:
        with open(record, encoding="utf-8", newline="") as rows:
            for name, _, size in csv.reader(rows):
                try:
                    if size and not name.endswith(".pyc"):
                        whole &= os.stat(os.path.join(dist._path.parent, name)).st_size == int(size)
                except OSError:
                    whole = False
    if not whole:
        print(dist._path.name)
print("audited")
"""


class Environment:
    """The folder with AEGIS's own Python and packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.log = folder / "install.log"

    def stamp(self) -> Stamp | None:
        try:
            fields = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
            return Stamp(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
        except (OSError, ValueError, TypeError):
            return None

    def write_stamp(self, stamp: Stamp | None) -> None:
        """None marks the folder as ours and incomplete."""
        draft = self.folder / (STAMP + ".part")
        draft.write_text(json.dumps(asdict(stamp) if stamp else {}, indent=1), encoding="utf-8")
        draft.replace(self.folder / STAMP)

    def damage(self) -> str | None:
        """What is broken about the environment, or None."""
        if not self.python.exists():
            return "its Python is missing"
        printed = (said([str(self.python), "-I", "-c", AUDIT], seconds=120) or "").split()
        if printed[-1:] != ["audited"]:
            return "its Python does not start"
        return "damaged: " + ", ".join(printed[:-1]) if printed[1:] else None

    def clear(self) -> None:
        """Remove the folder, provided that this script made it; the stamp goes last, so that a next start may go on."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        if not (self.folder / STAMP).exists():
            raise Refusal(
                f"{self.folder} is no environment made by start.py: remove it, or name another folder in AEGIS_ENV."
            )
        self.write_stamp(None)  # half an environment must not pass for a whole one
        for child in [child for child in self.folder.iterdir() if child.name != STAMP]:
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(str(child))
            else:
                child.unlink()
        (self.folder / STAMP).unlink()
        self.folder.rmdir()

    def create(self) -> None:
        self.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_stamp(None)
        say(f"Making an environment in {self.folder}")
        done = subprocess.run(
            [sys.executable, "-m", "venv", str(self.folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode != 0:
            say(done.stdout.decode("utf-8", "replace").strip())
            raise Refusal(f"Python could not make an environment in {self.folder}: see above.")

    def pip(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "pip", *arguments]

    def is_at_hand(self, requirement: str) -> bool:
        """Whether pip finds a wheel in the places its configuration names, without an index."""
        quick = ["--no-index", "--no-deps", "--dry-run", "--retries", "0", "--timeout", "10"]
        return said(self.pip("install", *quick, requirement), seconds=60) is not None

    def index_answers(self, tag: str) -> bool:
        """Whether PyTorch's index offers the build; asked once, for ten seconds."""
        quick = ["--retries", "0", "--timeout", str(PROBE_SECONDS), "--index-url", f"{TORCH_INDEX}/{tag}"]
        return f"{TORCH}+{tag}" in (said(self.pip("index", "versions", "torch", *quick), PROBE_SECONDS) or "")

    def install(self, title: str, *arguments: str) -> None:
        """Run pip install, showing a line now and then; the whole output goes to the log."""
        say(title)
        started = time.monotonic()
        environment = dict(os.environ, PYTHONUTF8="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
        command = self.pip("install", "--no-input", "--progress-bar", "off", *arguments)
        with self.log.open("a", encoding="utf-8") as log:
            log.write("\n$ {}\n".format(" ".join(command)))
            code, tail = follow(command, environment, log.write)
        if code != 0:
            say("\n".join("  | " + line for line in tail[-12:]))
            raise Refusal("The installation failed; the whole log is {}. {}".format(self.log, advice("\n".join(tail))))
        say(f"  done in {time.monotonic() - started:.0f} s")


def follow(command: list[str], environment: dict[str, str], write: Callable[[str], object]) -> tuple[int, list[str]]:
    """Run a command, pass each line on to `write`, say the headlines and a sign of life every 30 s.

    Returns the exit code and the last 60 lines.
    """
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    started = time.monotonic()
    tail: list[str] = []
    try:
        while True:
            try:
                line = lines.get(timeout=30)
            except queue.Empty:
                say(f"  … {time.monotonic() - started:.0f} s")
                continue
            if line is None:
                return child.wait(), tail
            write(line)
            tail = [*tail[-59:], line.rstrip()]
            news = headline(line)
            if news:
                say("  " + news)
    except BaseException:
        child.kill()
        child.wait()
        raise


def wanted_stamp(backend: Backend, extras: tuple[str, ...]) -> Stamp:
    return Stamp(
        pyproject=hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        packages=tuple(name for name in ("aegis_core", "aegis_gui", "resources") if (ROOT / name).is_dir()),
        root=str(ROOT),
        python=platform.python_version(),
        torch=TORCH,
        backend=backend.tag,
        extras=extras,
    )


def ensure_environment(environment: Environment, machine: Machine, command: str) -> None:
    """Make, complete, mend or simply accept the environment."""
    backend = choose_backend(machine)
    made = environment.stamp()
    wanted = wanted_stamp(backend, extras_for(command, backend))
    damage = environment.damage() if environment.folder.exists() else "not there"
    if damage is None and is_fresh(made, wanted):
        return
    if damage is not None or (made is not None and made.python != wanted.python):
        if (environment.folder / STAMP).exists():
            say("The environment is made anew: {}.".format(damage or "another Python, " + wanted.python))
        ensure_venv_module(machine, sys.version_info[:2])
        environment.create()
    elif made is not None and "test" in made.extras:
        wanted = replace(wanted, extras=tuple(sorted({*wanted.extras, "test"})))
    environment.write_stamp(None)
    choice = choose_torch(machine, backend, environment.is_at_hand, environment.index_answers)
    say(choice.sentence)
    index = ["--extra-index-url", choice.index] if choice.index else []
    environment.install("Installing torch", *index, choice.requirement)
    constraints = environment.folder / "constraints.txt"
    constraints.write_text(f"torch=={TORCH}\n", encoding="utf-8")
    project = "{}[{}]".format(ROOT, ",".join(wanted.extras)) if wanted.extras else str(ROOT)
    environment.install("Installing AEGIS and what it needs", "-c", str(constraints), "-e", project)
    environment.write_stamp(wanted)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the environment against a second start.py; the lock goes with the process, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("a") as file:
        waiting = False
        while not try_lock(file.fileno()):
            if not waiting:
                say(f"Another start.py is at work on {folder}; waiting for it.")
            waiting = True
            time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# The commands


def say(text: str) -> None:
    if sys.stdout is not None:
        print(text, flush=True)


def run_child(command: list[str], environment: dict[str, str], folder: Path | None) -> int:
    """Run the program in this terminal; it gets Ctrl-C itself, a third one ends it the hard way."""
    child = subprocess.Popen(command, env=environment, cwd=str(folder) if folder else None)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    n_interrupts = 0
    while True:
        try:
            return exit_code(child.wait(), was_interrupted=n_interrupts > 0)
        except KeyboardInterrupt:
            n_interrupts += 1
            if n_interrupts >= 3:
                child.kill()


def start(command: str, rest: list[str]) -> int:
    environment = Environment(Path(os.environ.get("AEGIS_ENV") or ROOT / ".venv").expanduser().absolute())
    machine = look()
    refusal = machine_refusal(machine, command)
    if refusal:
        raise Refusal(refusal)
    with only_one(environment.folder):
        ensure_pieces(machine, command)
        ensure_environment(environment, machine, command)
    return run_child(
        [str(environment.python), *child_arguments(command, rest)],
        child_environment(dict(os.environ), command),
        ROOT if command == "test" else None,
    )


def main(arguments: list[str]) -> int:
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace")  # a cp932 console has no word for everything
    refusal = python_refusal(sys.version_info[:2])
    if refusal:
        say(refusal)
        return 1
    command, rest = (arguments[0], arguments[1:]) if arguments else ("window", [])
    if command in ("-h", "--help"):
        say((__doc__ or "").strip())
        return 0
    if command not in ("window", "demo", "test") or (arguments and command == "window"):
        say("There is no command `{}`.\n\n{}".format(command, (__doc__ or "").strip()))
        return 2
    try:
        return start(command, rest)
    except Refusal as refused:
        say(str(refused))
        return 1
    except KeyboardInterrupt:
        say("\nStopped; the next start continues here.")
        return 130
    except OSError as error:
        say(f"{error}. {advice(str(error))}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
