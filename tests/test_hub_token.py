"""The hub's token: asked about before it is kept, in the hub library's own store, and never shown by anybody."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_hub
import psutil
import pytest
from fake_hub import ACCOUNT, NAME_OF_TOKEN, TOKEN, FakeHub
from huggingface_hub import constants, get_token
from huggingface_hub.utils import close_session, get_stored_tokens

from aegis_core.engine.command import engine_command, engine_environment
from aegis_core.failures import UserError, explain
from aegis_core.models import hub_token
from aegis_core.models.hub_token import TokenState, forget, keep, token_state

ANOTHER = "hf_andere9876543210"
STORE = {"token", "stored_tokens", "no token", "no tokens"}  # by the library's own names, and by the fake hub's


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "hub cache 倉庫"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, store: Path) -> Iterator[FakeHub]:
    close_session()
    with fake_hub.serving(monkeypatch, store) as served:
        yield served


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


# Keeping and forgetting


def test_a_token_that_the_hub_knows_is_kept_where_its_library_finds_it(hub: FakeHub) -> None:
    assert token_state() == TokenState("", False, constants.HF_TOKEN_PATH) and not token_state().is_set
    assert keep(f"  {TOKEN}\n") == ACCOUNT
    assert get_token() == TOKEN and get_stored_tokens() == {NAME_OF_TOKEN: TOKEN}
    assert token_state().kept and token_state().is_set
    assert {path for _, path, *_, with_token in hub.requests if with_token} == {"/api/whoami-v2"}
    if os.name == "posix":
        assert stat.S_IMODE(Path(constants.HF_TOKEN_PATH).stat().st_mode) == 0o600


def silent(hub: FakeHub, patch: pytest.MonkeyPatch, store: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    patch.setattr(hub_token, "_SECONDS", 0.2)
    patch.setattr(hub, "silent", listening, raising=False)  # closed with the hub
    fake_hub.point_at(patch, listening.getsockname()[1], store)


FAULTS: dict[str, tuple[Callable[[FakeHub, pytest.MonkeyPatch, Path], object], str]] = {
    "refused": (lambda hub, patch, store: patch.setattr(hub, "bad_token", True), "does not accept this token"),
    "403": (lambda hub, patch, store: patch.setattr(hub, "status", 403), "does not accept this token"),
    "429": (lambda hub, patch, store: patch.setattr(hub, "status", 429), "too many requests"),
    "503": (lambda hub, patch, store: patch.setattr(hub, "status", 503), "status 503"),
    "login page": (lambda hub, patch, store: patch.setattr(hub, "page", b"<html>Wi-Fi"), "is not the hub"),
    "other JSON": (lambda hub, patch, store: patch.setattr(hub, "page", b"[]"), "is not the hub"),
    "down": (lambda hub, patch, store: hub.go_down(), "cannot be reached"),
    "silent": (silent, "did not answer in time"),
    "offline": (lambda hub, patch, store: patch.setattr(constants, "HF_HUB_OFFLINE", True), "HF_HUB_OFFLINE"),
    "socks": (
        lambda hub, patch, store: patch.setenv("ALL_PROXY", "socks5://u:geheim@proxy.invalid:1080"),
        "proxy socks5://proxy.invalid:1080 is of a kind",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_token_that_the_hub_does_not_confirm_is_not_kept_and_the_reason_holds_nothing_of_it(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, store: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ail, words = FAULTS[fault]
    ail(hub, monkeypatch, store)
    with pytest.raises(UserError, match=words) as refused:
        keep(TOKEN)
    assert refused.value.advice and "\n" not in refused.value.reason + refused.value.advice
    assert [path.name for path in files(store) if path.name in STORE] == [] and not token_state().is_set
    told = (
        "".join(traceback.format_exception(refused.value)) + repr(explain(refused.value)) + "".join(capfd.readouterr())
    )
    causes = [repr(error) for error in (refused.value, refused.value.__cause__, refused.value.__context__)]
    assert TOKEN not in told + "".join(causes)
    if fault == "silent":
        vars(hub)["silent"].close()


def test_a_refused_token_leaves_the_earlier_one_alone(hub: FakeHub) -> None:
    keep(TOKEN)
    with pytest.raises(UserError, match="does not accept this token"):
        keep(ANOTHER)
    assert get_token() == TOKEN and get_stored_tokens() == {NAME_OF_TOKEN: TOKEN}


@pytest.mark.parametrize("text", ["", "  ", "hf_a hf_b", "hf_ひみつ", "hf_a\0b", "api_org_abc", "hf_a\nhf_b"])
def test_what_cannot_be_a_token_is_never_sent(hub: FakeHub, text: str) -> None:
    """A library that had to put it into a header would quote it whole in its error."""
    with pytest.raises(UserError, match="This is no token") as refused:
        keep(text)
    assert hub.requests == [] and "ひみつ" not in repr(refused.value)


def test_forgetting_takes_the_kept_token_off_the_disk_and_no_other(hub: FakeHub, store: Path) -> None:
    keep(TOKEN)
    stored = Path(constants.HF_STORED_TOKENS_PATH)
    stored.write_text(stored.read_text(encoding="utf-8") + f"[work]\nhf_token = {ANOTHER}\n", encoding="utf-8")
    assert not forget().is_set
    assert get_token() is None and get_stored_tokens() == {"work": ANOTHER}
    assert not [path for path in files(store) if TOKEN.encode() in path.read_bytes()]
    assert not forget().is_set, "a second time there is nothing to do"
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN, encoding="utf-8")  # by hand: no name is known for it
    assert token_state().kept and not forget().is_set and get_token() is None


def test_a_token_in_the_environment_goes_first_and_that_is_known(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", ANOTHER)
    assert (token_state().variable, token_state().kept) == ("HUGGING_FACE_HUB_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", ANOTHER)
    assert keep(TOKEN) == ACCOUNT, "the new one is asked about, not that of the environment"
    assert (token_state().variable, token_state().kept) == ("HF_TOKEN", True)
    assert (forget().variable, forget().is_set) == ("HF_TOKEN", True)
    assert ANOTHER not in repr(token_state())


# In the terminal, as a real process


@pytest.fixture
def surroundings(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    """What a program needs to take the fake for the hub, with a store of its own."""
    own = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.port}", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    return {**engine_environment(), **own}


def aegis(surroundings: dict[str, str], *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        engine_command("hub", *words),
        input=typed, capture_output=True, encoding="utf-8", env=surroundings, timeout=120, check=False,
    )  # fmt: skip


def test_login_status_and_logout_each_say_how_things_stand(surroundings: dict[str, str], tmp_path: Path) -> None:
    nothing = aegis(surroundings, "status")
    assert nothing.returncode == 1 and "No token is kept." in nothing.stdout
    done = aegis(surroundings, "login", typed=f"{TOKEN}\n")
    assert done.returncode == 0 and f"The hub knows you as {ACCOUNT}." in done.stdout and done.stderr == ""
    row = json.loads(aegis(surroundings, "status", "--json").stdout)
    assert row == {"account": "", "variable": "", "kept": True, "store": str(tmp_path / "home" / "token")}
    told = aegis({**surroundings, "HF_TOKEN": ANOTHER}, "status")
    assert told.returncode == 0 and "HF_TOKEN is set and goes before a kept one." in told.stdout
    gone = aegis(surroundings, "logout")
    assert (gone.returncode, gone.stderr) == (0, "") and "No token is kept." in gone.stdout
    assert not [path for path in files(tmp_path / "home") if TOKEN.encode() in path.read_bytes()]


def test_a_refused_token_ends_with_one_sentence_and_an_advice(
    hub: FakeHub, surroundings: dict[str, str], tmp_path: Path
) -> None:
    hub.bad_token = True
    refused = aegis(surroundings, "--debug", "login", typed=f"{TOKEN}\n")
    assert refused.returncode == 1 and "The hub does not accept this token." in refused.stderr
    assert TOKEN not in refused.stdout + refused.stderr
    row = json.loads(aegis(surroundings, "login", "--json", typed=f"{TOKEN}\n").stdout)
    assert row["failure"]["reason_template"] == "The hub does not accept this token."
    assert [path.name for path in files(tmp_path / "home") if path.name in STORE] == []


def test_the_token_is_in_no_command_line_no_output_and_no_file_but_the_store(
    hub: FakeHub, surroundings: dict[str, str], tmp_path: Path
) -> None:
    """Each word of it, also with the library's own debugging on."""
    child = subprocess.Popen(
        engine_command("hub", "login", "--json"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        env={**surroundings, "HF_DEBUG": "1", "AEGIS_CACHE": str(tmp_path / "cache")}, cwd=tmp_path,
    )  # fmt: skip
    seen = psutil.Process(child.pid)
    lines = [*seen.cmdline(), *seen.environ().values()]
    out, errors = child.communicate(f"{TOKEN}\n", timeout=120)
    assert child.returncode == 0 and json.loads(out)["account"] == ACCOUNT
    assert TOKEN not in "".join(lines) + out + errors
    holding = {path.name for path in files(tmp_path) if TOKEN.encode() in path.read_bytes()}
    assert holding == {"token", "stored_tokens"} <= STORE


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal of POSIX")
@pytest.mark.timeout(60)
def test_in_a_terminal_the_token_is_asked_for_without_showing_it(surroundings: dict[str, str]) -> None:
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        engine_command("hub", "login"), stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while b"Token" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, f"{TOKEN}\n".encode())
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(ours, 1000):
                shown += piece
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert ACCOUNT.encode() in shown and TOKEN.encode() not in shown
