"""Whether there is an Ollama: every state has its sentence and its advice; starting the one that is installed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_ollama import FakeOllama

from aegis_core import platforms
from aegis_core.addresses import shown_address
from aegis_core.chat import ollama_state
from aegis_core.chat.ollama_address import address, proxy_for
from aegis_core.chat.ollama_program import find_program, models_folder
from aegis_core.chat.ollama_state import Presence, is_new_enough, look, start_ollama
from aegis_core.failures import UserError
from aegis_core.platforms.windows import CREATE_BREAKAWAY_FROM_JOB, CREATE_NO_WINDOW, Windows

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script, which Windows does not start by its name")
SERVER = """
import http.server, json, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"version": "0.14.2"}).encode())
    def log_message(self, *arguments):
        pass
assert sys.argv[1:] == ["serve"] and not os.isatty(0)
host, port = os.environ["OLLAMA_HOST"].split(":")
http.server.HTTPServer((host, int(port)), Answer).serve_forever()
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no Ollama of this machine, a cache of its own."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ollama_state, "find_program", lambda: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """One where nobody listens, and OLLAMA_HOST names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{number}")
    return number


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int) -> Iterator[Any]:
    """Puts a stand-in for the program in place; it is ended with the test."""
    pid = tmp_path / "pid"

    def installed(source: str) -> Path:
        program = tmp_path / "プログラム" / "ollama"
        program.parent.mkdir()
        note_pid = f"import os\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        program.write_text(f"#!{sys.executable}\n{note_pid}{source}", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(ollama_state, "find_program", lambda: program)
        return program

    yield installed
    if pid.is_file():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGTERM)


def problem(state: ollama_state.OllamaState) -> UserError:
    assert state.problem is not None and state.problem.advice and not state.usable
    assert state.sentence().text == state.problem.reason
    return state.problem


def test_a_running_ollama_is_named_with_version_and_address(server: FakeOllama) -> None:
    state = look()
    assert (state.presence, state.version, state.usable) == (Presence.RUNNING, "0.14.2", True)
    assert state.sentence().text == f"Ollama 0.14.2 answers at {server.address}."


def test_one_that_is_too_old_is_told_with_the_version_that_is_needed(server: FakeOllama) -> None:
    server.version = "0.5.4"
    state = look()
    assert state.presence is Presence.TOO_OLD and state.version == "0.5.4"
    assert "0.5.4 is too old" in problem(state).reason and "0.5.5" in problem(state).reason


def test_builds_of_ones_own_are_new_enough() -> None:
    assert is_new_enough("0.14.2") and is_new_enough("0.5.5-rc1") and is_new_enough("0.0.0")
    assert not is_new_enough("0.5.4")


def test_an_installed_one_that_does_not_run_can_be_started(
    monkeypatch: pytest.MonkeyPatch, port: int, tmp_path: Path
) -> None:
    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "ollama")
    state = look()
    assert state.presence is Presence.STOPPED and state.can_start and state.program == tmp_path / "ollama"
    assert "Start it" in problem(state).advice


def test_without_an_installed_one_it_is_said_where_to_get_it_and_what_answers_meanwhile(port: int) -> None:
    state = look()
    assert state.presence is Presence.ABSENT and not state.can_start
    assert "ollama.com" in problem(state).advice and "built-in" in problem(state).advice


def test_nobody_on_another_machine_is_nothing_to_start_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setenv("OLLAMA_HOST", "box.example:9000")
    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "ollama")
    monkeypatch.setattr(httpx, "get", refused)
    state = look()
    assert state.presence is Presence.UNREACHABLE and not state.can_start
    assert "http://box.example:9000" in problem(state).reason


@pytest.mark.parametrize("fault", ["another program", "foreign version", "malformed", "html", "500"])
def test_another_program_on_the_port_is_no_ollama(server: FakeOllama, fault: str) -> None:
    server.faults["version"] = fault
    state = look()
    assert state.presence is Presence.STRANGER
    assert "Another program" in problem(state).reason and server.address in problem(state).reason
    assert "status" in problem(state).reason


def test_what_takes_connections_and_says_nothing_is_told_so(server: FakeOllama) -> None:
    server.faults["version"] = "slow"
    assert look(seconds=0.2).presence is Presence.SILENT


@pytest.mark.parametrize("fault", ["407", "gateway"])
def test_the_answer_of_a_proxy_is_known_by_its_marks(server: FakeOllama, fault: str) -> None:
    server.faults["version"] = fault
    state = look()
    assert state.presence is Presence.PROXY and "NO_PROXY" in problem(state).advice


def test_a_web_page_on_the_way_to_another_machine_is_a_proxys(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.address.replace("//", "//me:secret@"))
    monkeypatch.setenv("OLLAMA_HOST", "box.example:9000")
    server.faults["box.example:9000"] = "html"
    state = look()
    assert state.presence is Presence.PROXY
    assert server.address in problem(state).reason and "secret" not in problem(state).reason


def test_a_proxy_that_does_not_answer_is_told_instead_of_an_absent_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OLLAMA_HOST", "box.example:9000")
    assert look().presence is Presence.PROXY
    monkeypatch.setenv("NO_PROXY", "box.example")
    assert proxy_for("http://box.example:9000") == ""


def test_a_proxy_never_sees_what_goes_to_this_machine(server: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert look().usable
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert look().presence is Presence.ABSENT  # and not a proxy's doing


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:9000", "http://box:9000"),
        (":9000", "http://127.0.0.1:9000"),
        ("https://box/", "https://box:443"),
        ("http://box/behind/it", "http://box:80/behind/it"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("::", "http://[::1]:11434"),
        (' "box:9000" ', "http://box:9000"),
        ("HTTP://box", "http://box:80"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://[::]:9000", "http://[::1]:9000"),
        ("[fe80::1%eth0]:9000", "http://[fe80::1%eth0]:9000"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(monkeypatch: pytest.MonkeyPatch, host: str, expected: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert address() == expected


@pytest.mark.parametrize("host", ["box:port", "box:99999", "ftp://box", "my box", "me@box", "box:"])
def test_an_ollama_host_that_is_no_address_is_a_state_and_no_crash(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    state = look()
    assert state.presence is Presence.BAD_ADDRESS and shown_address(host) in problem(state).reason
    with pytest.raises(UserError, match="no address"):
        start_ollama()


@pytest.mark.parametrize("host", ["box..name:9000", "." * 9, "a" * 300, "☃"])
def test_a_name_that_no_machine_can_have_is_a_state_and_no_crash(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    state = look()
    assert state.presence is Presence.BAD_ADDRESS and host in problem(state).reason


def test_https_where_ollama_speaks_http_is_told_and_is_no_absent_ollama(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", server.address.replace("http", "https"))
    state = look()
    assert state.presence is Presence.BAD_ADDRESS and not state.can_start
    assert "https://127.0.0.1" in problem(state).reason and "http, not https" in problem(state).advice


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "http://[::1"])
def test_a_proxy_of_a_kind_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("OLLAMA_HOST", "box.example:9000")
    state = look()
    assert state.presence is Presence.PROXY and proxy in problem(state).reason


@posix
def test_a_started_ollama_answers_and_outlives_the_call(install: Any, port: int) -> None:
    install(SERVER)
    state = start_ollama(seconds=60)
    assert state.usable and state.address == f"http://127.0.0.1:{port}"
    assert start_ollama().usable  # it is only asked, not started again


@posix
def test_one_that_ends_again_is_told_with_its_last_words(install: Any) -> None:
    install("import sys\nprint('Error: no space for models', file=sys.stderr)\nsys.exit(3)\n")
    with pytest.raises(UserError, match=r"exit code 3.*no space for models"):
        start_ollama(seconds=60)


@posix
def test_one_that_never_answers_is_told_after_the_wait(install: Any) -> None:
    install("import time\ntime.sleep(60)\n")
    with pytest.raises(UserError, match="does not answer"):
        start_ollama(seconds=0.3)


@posix
def test_waiting_for_it_can_be_cancelled(install: Any) -> None:
    install("import time\ntime.sleep(60)\n")
    looks = iter([False, False])
    assert not start_ollama(seconds=600, cancelled=lambda: next(looks, True)).usable


def test_what_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch, port: int, tmp_path: Path) -> None:
    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "gone" / "ollama")
    with pytest.raises(UserError, match="could not be started"):
        start_ollama()


def test_without_a_program_there_is_nothing_to_start(port: int) -> None:
    with pytest.raises(UserError, match="not installed"):
        start_ollama()


def test_on_a_fake_windows_it_is_started_without_a_console_window(
    monkeypatch: pytest.MonkeyPatch, port: int, tmp_path: Path
) -> None:
    started: list[Any] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.append((command, options))
            if options["creationflags"] & CREATE_BREAKAWAY_FROM_JOB:
                raise PermissionError(13, "Access is denied")  # a job around AEGIS that lets nobody leave

        def wait(self) -> int:
            return 0

        def poll(self) -> int:
            return 1

    monkeypatch.setattr(ollama_state, "find_program", lambda: tmp_path / "ollama.exe")
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(platforms, "here", lambda: Windows(load=lambda name: None))
    with pytest.raises(UserError, match="ended again"):
        start_ollama()
    (command, refused), (again, options) = started
    assert command == again == [str(tmp_path / "ollama.exe"), "serve"]
    assert refused["creationflags"] & CREATE_BREAKAWAY_FROM_JOB, "it lives on when the engine's job ends"
    assert options["creationflags"] & CREATE_NO_WINDOW and options["stdin"] == subprocess.DEVNULL
    assert not options["creationflags"] & CREATE_BREAKAWAY_FROM_JOB


def test_on_a_fake_windows_the_program_is_found_where_its_installer_puts_it(tmp_path: Path) -> None:
    local = tmp_path / "ユーザー" / "AppData" / "Local"
    program = local / "Programs" / "Ollama" / "ollama.exe"
    program.parent.mkdir(parents=True)
    surrounding = {"LOCALAPPDATA": str(local), "PATH": ""}
    assert find_program("win32", surrounding, tmp_path) is None
    program.touch()
    assert find_program("win32", surrounding, tmp_path) == program


def test_on_a_fake_mac_and_a_fake_linux_it_is_found_in_the_users_own_folders(tmp_path: Path) -> None:
    for platform, place in [
        ("darwin", "Applications/Ollama.app/Contents/Resources/ollama"),
        ("linux", ".local/bin/ollama"),
    ]:
        program = tmp_path / place
        program.parent.mkdir(parents=True)
        program.touch()
        found = find_program(platform, {"PATH": ""}, tmp_path)
        assert found == program or found == Path("/usr/local/bin/ollama")  # where one is really installed


@posix
def test_it_is_found_on_the_path_as_well(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.touch(mode=0o755)
    assert find_program("win32", {"PATH": str(program.parent)}, tmp_path) == program


def test_the_folder_of_its_models_follows_its_own_setting(tmp_path: Path) -> None:
    assert models_folder({"OLLAMA_MODELS": str(tmp_path / "モデル")}, tmp_path) == tmp_path / "モデル"
    own = tmp_path / ".ollama" / "models"
    own.mkdir(parents=True)
    assert models_folder({}, tmp_path) == own


def test_looking_takes_no_longer_than_it_is_given(server: FakeOllama) -> None:
    server.faults["version"] = "slow"
    begun = time.monotonic()
    look(seconds=0.1)
    assert time.monotonic() - begun < 2.5  # the server would keep it for three seconds
