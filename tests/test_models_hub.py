"""Models of the hub, against a local server that speaks its API: what is told first, fetched, resumed and refused."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_hub
import pytest
from fake_hub import TOKEN, FakeHub, FakeModel
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from tiny_families import build

from aegis_core import hardware
from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.context import StepContext
from aegis_core.events import Event, Log, Progress
from aegis_core.failures import UserError
from aegis_core.models import hub_files
from aegis_core.models.facts import preview
from aegis_core.models.identity import BaseModel
from aegis_core.models.resolve import resolve
from aegis_core.models.usable import require_usable
from aegis_core.models.weights import weights_sha256
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, sha256_of_file

SOURCE = "maker/tiny-llama"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub.serving(monkeypatch, tmp_path / "hub cache 倉庫") as served:
        yield served


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as its maker would publish it: with a card, a licence, and code and pictures nobody asked for."""
    folder = build("llama", tmp_path_factory.mktemp("published"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA tiny model.", encoding="utf-8")
    (folder / "LICENSE").write_text("MIT", encoding="utf-8")
    (folder / "modeling_own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"png")
    return folder


@pytest.fixture
def model(hub: FakeHub, published: Path) -> FakeModel:
    hub.models[SOURCE] = FakeModel(published, n_parameters=111_552)
    return hub.models[SOURCE]


@pytest.fixture
def hub_run(run: RunDirectory) -> RunDirectory:
    run.write_plan(changed(run.plan(), {"model.source": SOURCE}))
    return run


def test_a_model_is_fetched_once_and_kept_with_commit_licence_and_hashes(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path
) -> None:
    base, _ = resolved(hub_run)
    assert (base.source, base.revision, base.license) == (SOURCE, model.commit, "mit")
    assert base.files == {"model.safetensors": sha256_of_file(published / "model.safetensors")}
    assert base.sha256 == weights_sha256(published, CancelToken())
    assert base.path == hub_files.Path(constants.HF_HUB_CACHE) / "models--maker--tiny-llama/snapshots" / model.commit
    assert {file.name for file in base.path.iterdir()} == {
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("model.safetensors", "README.md", "LICENSE"),
    }
    hub.requests.clear()
    resolved(hub_run)
    assert not [path for method, path, *_ in hub.requests if method == "GET" and not path.startswith("/api/")]


def test_size_licence_and_disk_are_told_before_anything_large_is_fetched(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path
) -> None:
    moments: list[tuple[str, int]] = []

    def listen(event: Event) -> None:
        if isinstance(event, Log):
            moments.append((event.text, len(hub.fetched("model.safetensors"))))

    resolved(hub_run, listen)
    text, n_fetched = next(moment for moment in moments if SOURCE in moment[0])
    assert n_fetched == 0
    assert re.search(rf"{SOURCE} @ {model.commit[:12]} \(mit\): 0\.00 GB to fetch; .* 0\.00 GB will be written", text)


def test_the_download_reports_every_byte(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aegis_core.models.resolve._EVERY_SECONDS", 0)
    _, events = resolved(hub_run)
    told = [event for event in events if isinstance(event, Progress) and event.phase == "download"]
    size = (published / "model.safetensors").stat().st_size
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert {event.unit for event in told} == {"bytes"} and {event.total for event in told} == {size}
    assert len(told) > size / (1 << 14) and told[-1].done == size


def test_a_download_stopped_in_the_middle_of_a_file_continues_there(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aegis_core.models.resolve._EVERY_SECONDS", 0)
    cancel = CancelToken()

    def stop_half_way(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "download" and event.done >= event.total / 2:
            cancel.cancel()

    with pytest.raises(Cancelled):
        resolved(hub_run, stop_half_way, cancel)
    size = (published / "model.safetensors").stat().st_size
    told = preview(hub_run.plan(), hub_run.path)
    assert 0 < told.download_bytes <= size / 2
    resolved(hub_run)
    assert hub.fetched("model.safetensors")[-1] == f"bytes={size - told.download_bytes}-"
    assert preview(hub_run.plan(), hub_run.path).download_bytes == 0


def test_a_broken_connection_is_taken_up_again_by_itself(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path
) -> None:
    hub.cut.add("model.safetensors")
    base, _ = resolved(hub_run)
    assert base.sha256 == weights_sha256(published, CancelToken())
    assert len(set(hub.fetched("model.safetensors"))) == 2


def test_a_server_that_knows_no_ranges_sends_the_file_anew(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path
) -> None:
    hub.cut.add("model.safetensors")
    hub.ignores_ranges = True
    base, _ = resolved(hub_run)
    assert base.sha256 == weights_sha256(published, CancelToken())


def test_without_symbolic_links_the_file_lies_in_its_place_once(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)  # as on Windows
    base, _ = resolved(hub_run)
    assert not (base.path / "model.safetensors").is_symlink()
    weights = published / "model.safetensors"
    same = [
        f for f in Path(constants.HF_HUB_CACHE).rglob("*") if f.is_file() and f.stat().st_size == weights.stat().st_size
    ]
    assert same == [base.path / "model.safetensors"]


def test_a_file_that_is_not_what_the_hub_describes_is_removed(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory
) -> None:
    base, _ = resolved(hub_run)
    weights = base.path / "model.safetensors"
    spoiled = bytearray(weights.read_bytes())
    spoiled[-1] ^= 1
    weights.resolve().write_bytes(spoiled)
    with pytest.raises(UserError, match="not the file that the hub describes"):
        resolved(hub_run)
    assert resolved(hub_run)[0].sha256 == base.sha256


def test_a_sharded_model_is_fetched_by_its_index(hub: FakeHub, hub_run: RunDirectory, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "shards")
    (folder / "model.fp32.safetensors").write_bytes(b"not in the index")
    hub.models[SOURCE] = FakeModel(folder)
    base, _ = resolved(hub_run)
    assert sorted(base.files) == sorted(p.name for p in folder.glob("model-*.safetensors")) and len(base.files) > 1
    assert base.sha256 == weights_sha256(folder, CancelToken())
    assert not (base.path / "model.fp32.safetensors").exists()


def test_an_index_that_names_a_file_the_hub_does_not_have_is_refused(
    hub: FakeHub, hub_run: RunDirectory, tmp_path: Path
) -> None:
    folder = sharded(tmp_path / "shards")
    index = folder / "model.safetensors.index.json"
    for name in ("gone.safetensors", "../../evil.safetensors", "original/consolidated.safetensors"):
        tree = json.loads(index.read_text(encoding="utf-8"))
        tree["weight_map"]["model.norm.weight"] = name
        index.write_text(json.dumps(tree), encoding="utf-8")
        hub.models[SOURCE] = FakeModel(folder)
        with pytest.raises(UserError, match=f"incomplete on the hub: {re.escape(name)} is missing"):
            resolved(hub_run)


def test_weights_that_could_carry_code_are_refused_unfetched(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(published, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.models[SOURCE] = FakeModel(folder)
    with pytest.raises(UserError, match=r"can carry program code \(\.bin\)") as refused:
        resolved(hub_run)
    assert "safetensors" in refused.value.advice
    assert not hub.fetched("pytorch_model.bin")


def test_a_disk_that_is_too_small_is_said_before_the_weights_are_fetched(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "disk_free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match=r"too small: 0\.00 GB will be written there"):
        resolved(hub_run)
    assert not hub.fetched("model.safetensors")


def test_a_preview_tells_everything_and_fetches_next_to_nothing(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path
) -> None:
    told = preview(hub_run.plan(), hub_run.path)
    assert (told.commit, told.license, told.gated, told.n_parameters) == (model.commit, "mit", False, 111_552)
    assert told.weight_bytes == (published / "model.safetensors").stat().st_size
    wanted = [p for p in published.iterdir() if p.suffix not in (".py", ".png")]
    assert told.download_bytes == sum(p.stat().st_size for p in wanted) - (published / "config.json").stat().st_size
    assert told.disk_bytes > told.download_bytes + told.weight_bytes
    assert [path for method, path, *_ in hub.requests if method == "GET" and "/api/" not in path] == [
        f"/{SOURCE}/resolve/{model.commit}/config.json"
    ]
    assert not hub_run.step_folder("prepare").exists()


def test_the_need_adds_up_per_drive(hub: FakeHub, model: FakeModel, hub_run: RunDirectory, published: Path) -> None:
    told = preview(hub_run.plan(), hub_run.path)
    size = told.weight_bytes
    assert len(told.rooms) == 1
    # what is missing, the fused copy, F16 at two bytes and Q4_K_M at 0.64 bytes a parameter
    assert told.disk_bytes == told.download_bytes + size + int(111_552 * 2.64)


def test_a_licence_of_the_makers_own_is_called_by_its_name(
    hub: FakeHub, hub_run: RunDirectory, published: Path
) -> None:
    hub.models[SOURCE] = FakeModel(published, license={"license": "other", "license_name": "maker-community"})
    assert preview(hub_run.plan(), hub_run.path).license == "maker-community"


def test_a_gated_model_says_where_to_accept_its_licence(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.gated = True
    told = preview(hub_run.plan(), hub_run.path)
    assert told.gated and told.weight_bytes > 0
    with pytest.raises(UserError, match="only for people who accepted its licence") as refused:
        resolved(hub_run)
    assert f"{constants.ENDPOINT}/{SOURCE}" in refused.value.advice and "in the settings" in refused.value.advice
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolved(hub_run)[0].revision == model.commit


def test_the_token_stays_with_the_hub_and_out_of_every_word(
    hub: FakeHub,
    model: FakeModel,
    hub_run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    base, events = resolved(hub_run)
    assert any(with_token for *_, host, _, with_token in hub.requests if host == "127.0.0.1")
    assert not any(with_token for *_, host, _, with_token in hub.requests if host == "localhost")
    hub.status = 500
    with pytest.raises(UserError) as refused:
        resolved(changed_source(hub_run, "maker/other"))
    said = "".join(map(repr, [*events, base, refused.value, refused.value.__cause__])) + "".join(capfd.readouterr())
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("fault", "sentence", "advice"),
    [
        (lambda hub: hub.models.clear(), "The hub knows no maker/tiny-llama, or it is private", "spelling"),
        (lambda hub: vars(hub).update(status=403), "Your token may not read maker/tiny-llama", "right to read"),
        (lambda hub: vars(hub).update(status=429), "too many requests", "Wait a few minutes"),
        (
            lambda hub: vars(hub).update(status=503),
            r"cannot serve maker/tiny-llama at the moment \(status 503\)",
            "later",
        ),
        (lambda hub: vars(hub).update(page=b"<html>Log in to Hotel Wi-Fi"), "is not the hub", "login"),
        (lambda hub: vars(hub).update(page=b'{"id": "maker/tiny-llama"}'), "is not the hub", "login"),
        (lambda hub: hub.go_down(), "The hub cannot be reached for maker/tiny-llama", "connection"),
    ],
)
def test_what_goes_wrong_at_the_hub_is_one_sentence_with_advice(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, fault: Callable[[FakeHub], None], sentence: str, advice: str
) -> None:
    fault(hub)
    with pytest.raises(UserError, match=sentence) as refused:
        resolved(hub_run)
    assert advice in refused.value.advice
    assert "\n" not in refused.value.reason + refused.value.advice


def test_a_listed_file_that_is_gone_is_said(hub: FakeHub, model: FakeModel, hub_run: RunDirectory) -> None:
    model.hidden_files = ("tokenizer.json",)
    with pytest.raises(UserError, match="A file that belongs to maker/tiny-llama is missing on the hub"):
        resolved(hub_run)


def test_a_refused_token_is_said(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.bad_token = True
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(UserError, match="does not accept your token"):
        resolved(hub_run)


@pytest.mark.parametrize("kind", ["socks5", "socks4"])
def test_a_proxy_that_cannot_be_used_is_told_without_its_password_and_a_complete_copy_serves(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """socks4 is what a SOCKS proxy in Windows' own settings arrives as."""
    online, _ = resolved(hub_run)
    close_session()  # the library's client lives on, and was made without the proxy
    monkeypatch.setenv("ALL_PROXY", f"{kind}://user:geheim@proxy.invalid:1080")
    with pytest.raises(UserError, match=rf"The proxy {kind}://proxy.invalid:1080 is of a kind \(SOCKS\)") as refused:
        resolved(changed_source(hub_run, "maker/other"))
    assert "HTTP proxy" in refused.value.advice and "geheim" not in refused.value.reason + refused.value.advice
    assert resolved(changed_source(hub_run, SOURCE))[0].revision == online.revision


def test_a_socks_proxy_that_everything_passes_by_is_not_blamed(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_session()
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.invalid:1080")
    monkeypatch.setenv("NO_PROXY", "*")
    hub.page = b"<html>Log in to Hotel Wi-Fi"
    with pytest.raises(UserError, match="is not the hub"):
        resolved(hub_run)


def test_an_unknown_revision_is_said(hub: FakeHub, model: FakeModel, hub_run: RunDirectory) -> None:
    hub_run.write_plan(changed(hub_run.plan(), {"model.revision": "v9"}))
    with pytest.raises(UserError, match="maker/tiny-llama has no revision v9"):
        resolved(hub_run)


def test_a_name_that_no_hub_has_is_said(hub: FakeHub, hub_run: RunDirectory) -> None:
    with pytest.raises(UserError, match="maker/ti ny is no hub id"):
        resolved(changed_source(hub_run, "maker/ti ny"))


def test_a_silent_hub_is_not_waited_for(
    model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket

    monkeypatch.setattr("aegis_core.models.hub._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fake_hub.point_at(monkeypatch, silent.getsockname()[1], tmp_path / "empty")
        with pytest.raises(UserError, match="did not answer in time"):
            resolved(hub_run)


@pytest.mark.parametrize(
    "fault",
    [
        lambda hub, patch: hub.go_down(),
        lambda hub, patch: vars(hub).update(status=503),
        lambda hub, patch: vars(hub).update(page=b"<html>"),
        lambda hub, patch: patch.setattr(constants, "HF_HUB_OFFLINE", True),
    ],
    ids=["refused", "503", "login page", "HF_HUB_OFFLINE"],
)
def test_without_the_hub_a_complete_copy_serves_and_that_is_said(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
) -> None:
    online, _ = resolved(hub_run)
    fault(hub, monkeypatch)
    offline, events = resolved(hub_run)
    assert offline == online
    assert any(isinstance(e, Log) and e.level == "warning" and model.commit in e.text for e in events)
    told = preview(hub_run.plan(), hub_run.path)
    assert told.offline and told.commit == model.commit and told.download_bytes == 0 and told.license == "mit"


def test_without_the_hub_an_incomplete_copy_does_not_serve(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory
) -> None:
    base, _ = resolved(hub_run)
    hub_files.forget(base.path / "model.safetensors")
    hub.go_down()
    with pytest.raises(UserError, match="cannot be reached"):
        resolved(hub_run)


def test_a_child_process_takes_the_hub_from_its_environment(
    hub: FakeHub, model: FakeModel, hub_run: RunDirectory, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in hub_environment().items() if not name.startswith("HF_")},
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HUB_CACHE": str(tmp_path / "child cache"),
    }
    command = [sys.executable, "-m", "aegis_core", "preview", str(hub_run.path), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120)
    told = json.loads(done.stdout)["model"]
    assert (told["commit"], told["license"]) == (model.commit, "mit"), done.stderr


def resolved(
    run: RunDirectory, listen: Callable[[Event], None] = lambda event: None, cancel: CancelToken | None = None
) -> tuple[BaseModel, list[Event]]:
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        listen(event)

    context = StepContext(run, "prepare", hear, cancel or CancelToken())
    return resolve(run.plan().model, context, require_usable), events


def changed_source(run: RunDirectory, source: str) -> RunDirectory:
    run.write_plan(changed(run.plan(), {"model.source": source}))
    return run


def sharded(folder: Path) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = build("llama", folder.with_name("whole"))
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(folder, max_shard_size="150KB")
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    return folder


def hub_environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
