"""`aegis ollama` in the terminal: state, start, list, unload, delete."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_ollama import FakeOllama, Model

from aegis_core.chat import ollama_state
from aegis_core.chat.ollama_made import remember
from aegis_core.cli import main


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOllama]:
    monkeypatch.setenv("AEGIS_CACHE", str(tmp_path / "cache"))
    with FakeOllama(vram_bytes=4_200_000_000) as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        for name, digest in (("aegis:latest", "a1"), ("llama3:8b", "b2")):
            fake.models[name] = Model("sha256:0", digest, "", {}, size=2_400_000_000)
            fake.loaded.add(name)
        remember(fake.address, "aegis", {"digest": "a1"})
        yield fake


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setattr(ollama_state, "find_program", lambda: None)


def test_the_state_is_a_sentence_with_its_advice(server: FakeOllama, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ollama"]) == main(["ollama", "status"]) == 0
    assert f"Ollama 0.14.2 answers at {server.address}." in capsys.readouterr().out


def test_without_one_the_advice_says_where_to_get_it(absent: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ollama", "status"]) == 1
    assert "ollama.com" in capsys.readouterr().out
    assert main(["ollama", "status", "--json"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert (row["presence"], row["version"]) == ("absent", "") and "ollama.com" in row["advice"]
    for words in (["list"], ["unload"], ["delete", "aegis"], ["start"]):
        assert main(["ollama", *words]) == 1
        assert "not installed" in capsys.readouterr().err


def test_starting_one_that_runs_says_so(server: FakeOllama, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ollama", "start"]) == 0
    assert "answers at" in capsys.readouterr().out


def test_the_list_tells_size_origin_and_memory(server: FakeOllama, capsys: pytest.CaptureFixture[str]) -> None:
    server.loaded.discard("llama3:8b")
    assert main(["ollama", "list"]) == 0
    assert "2.40" in capsys.readouterr().out
    assert main(["ollama", "list", "--json"]) == 0
    ours, others = json.loads(capsys.readouterr().out)
    assert (ours["name"], ours["ours"], ours["vram_bytes"]) == ("aegis:latest", True, 4_200_000_000)
    assert (others["name"], others["ours"], others["loaded_bytes"]) == ("llama3:8b", False, 0)


def test_unloading_takes_one_or_all_out_of_memory(server: FakeOllama, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ollama", "unload", "llama3:8b"]) == 0 and server.loaded == {"aegis:latest"}
    assert main(["ollama", "unload"]) == 0 and server.loaded == set()
    assert main(["ollama", "unload"]) == 0
    assert "Nothing to unload" in capsys.readouterr().out


def test_deleting_asks_where_aegis_did_not_make_the_model(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ollama", "delete", "aegis"]) == 0 and set(server.models) == {"llama3:8b"}
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, abort: asked.append(text))
    assert main(["ollama", "delete", "llama3:8b"]) == 0
    assert len(asked) == 1 and "did not make llama3:8b" in asked[0] and server.models == {}
    server.models["other:latest"] = Model("sha256:0", "c3", "", {})
    assert main(["ollama", "delete", "other", "--yes"]) == 0 and len(asked) == 1 and server.models == {}
    assert main(["ollama", "delete", "llama3:8b", "--yes"]) == 1
    assert "no model llama3:8b" in capsys.readouterr().err
