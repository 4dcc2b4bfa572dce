"""`aegis verify` on a finished run: it recomputes, writes nothing, and one changed byte anywhere turns it red."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from finished_run import seal
from test_fusion import describe, make_run, make_soul
from tiny_families import build
from typer.testing import CliRunner

from aegis_core.cancel import CancelToken
from aegis_core.cli.verify import claims
from aegis_core.context import StepContext
from aegis_core.freshness import BY_ID, State, input_digests, settings_of, states
from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.steps import export, fuse

SETTINGS = {"search.enabled": False, "schedule.enabled": False, "export.types": ("f16",)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Trained by hand, then really fused and exported; never changed."""
    folder = tmp_path_factory.mktemp("verify")
    base = describe(build("llama", folder / "素体 base"))
    base = replace(base, vocabulary_size=read_json(base.path / "config.json")["vocab_size"])
    run = make_run(folder / "ri tual 日本語", base, make_soul(base), changed(Plan(), SETTINGS))
    for step in ("check", "prepare", "train"):
        run.step_folder(step).mkdir(exist_ok=True)
        seal(run, step)
    for step, work in (("fuse", fuse.run), ("export", export.run)):
        ctx = StepContext(run, step, lambda event: None, CancelToken())
        work(run.plan(), ctx)
        settings, inputs = settings_of(run.plan(), BY_ID[step]), input_digests(run, run.plan(), BY_ID[step])
        run.write_done(step, settings, inputs, ctx.artifacts, 1.0)  # what the step itself declared
    assert states(run, run.plan())["export"] is State.DONE
    return run


@pytest.fixture
def copied(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(Path(shutil.copytree(finished.path, tmp_path / "copy 写し")))


def verify(run: RunDirectory) -> tuple[int, dict]:
    """The command as the terminal runs it."""
    from aegis_core.cli import app

    answer = CliRunner().invoke(app, ["verify", str(run.path), "--json"], standalone_mode=False)
    return answer.return_value, json.loads(answer.stdout)


def places(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with size and time of its last change; a file that came and went leaves its folder's."""
    found = [folder, *folder.rglob("*")]
    return {str(place): (place.stat().st_size, place.stat().st_mtime_ns) for place in found}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_an_untouched_run_is_recomputed_and_nothing_is_written_into_it(copied: RunDirectory) -> None:
    before = places(copied.path)
    code, answer = verify(copied)
    assert places(copied.path) == before
    assert (code, answer["passed"]) == (0, True)
    names = {row["name"] for row in answer["checks"]}
    assert {"loss_difference", "top1_agreement", "max_abs_logit_diff", "head_difference"} <= names
    assert any(name.startswith("F16: ") for name in names)


WEIGHTS, TAIL = "fuse/model/model.safetensors", -1


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (WEIGHTS, TAIL),
        (WEIGHTS, 12),  # in the header
        ("fuse/model/tokenizer.json", 40),
        ("fuse/model/config.json", 40),
        ("fuse/model/aegis.json", 40),
        ("fuse/proof.json", 10),
        ("fuse/head.json", 10),
        ("export/*.gguf", 30),  # among the metadata
        ("export/*.gguf", TAIL),  # in the last tensor, or the padding behind it
        ("export/*.gguf", -5000),
        ("export/files.json", 10),
        ("train/soul.safetensors", TAIL),
        ("train/adapter/adapter_model.safetensors", TAIL),
        ("prepare/held_out.safetensors", TAIL),
    ],
)
def test_one_changed_byte_in_any_file_is_named(copied: RunDirectory, name: str, place: int) -> None:
    (path,) = copied.path.glob(name)
    flip(path, place)
    code, answer = verify(copied)
    assert code == 1 and answer["passed"] is False
    wrong = [row["name"] for row in answer["checks"] if row["status"] == "fail"]
    assert [part for part in wrong if part.endswith(str(path))], wrong


def test_every_file_that_is_a_result_is_recorded(finished: RunDirectory) -> None:
    recorded = {verdict.name.split(": ", 1)[1] for verdict in claims(finished) if ": " in verdict.name}
    for step in ("fuse", "export"):
        files = [p for p in finished.step_folder(step).rglob("*") if p.is_file() and p.name != "done.json"]
        files = [p for p in files if not p.name.startswith("finished-")]  # only helps an attempt that was cut off
        assert {str(path) for path in files} <= recorded


def test_recomputing_finds_what_the_hashes_cannot_because_they_were_changed_as_well(copied: RunDirectory) -> None:
    """A forger who sets the recorded hashes right still meets the proof and the GGUF file's own source."""
    from safetensors.torch import load_file, save_file

    path = copied.path / WEIGHTS
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"] *= 1.05
    save_file(tensors, path, {"format": "pt"})
    record = read_json(path.with_name("aegis.json"))
    record["files"][path.name]["bytes"] = path.stat().st_size
    path.with_name("aegis.json").write_text(json.dumps(record), encoding="utf-8")
    for step in ("fuse", "export"):
        seal(copied, step)
    code, answer = verify(copied)
    assert code == 1
    wrong = {row["name"] for row in answer["checks"] if row["status"] == "fail"}
    assert {"max_abs_logit_diff", "F16: tensors equal their source"} <= wrong


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"outputs": 3}'])
def test_a_damaged_marker_is_one_sentence(copied: RunDirectory, content: bytes) -> None:
    from aegis_core.failures import UserError

    (copied.path / "fuse" / "done.json").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        list(claims(copied))
