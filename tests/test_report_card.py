"""The model card: what Hugging Face reads in it, what it says and does not say, and whose output it is."""

import json
import shutil
from pathlib import Path

import pytest
from finished_run import edit_json, finished_run
from huggingface_hub import ModelCard
from report_parts import reported

from aegis_core import plan as plans
from aegis_core.cancel import CancelToken
from aegis_core.cli.verify import recorded_files
from aegis_core.events import StepFinished
from aegis_core.models.source import license_in
from aegis_core.pipeline import BY_ID, State, run_steps, states
from aegis_core.plan import Plan
from aegis_core.report.card import front_matter, whole_card
from aegis_core.report.phrases import translator
from aegis_core.report.record import gather
from aegis_core.run_directory import RunDirectory, read_json


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished_run(tmp_path_factory.mktemp("card") / "run")


@pytest.fixture
def finished(finished_once: RunDirectory, tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(finished_once.path, run.path)
    return run


def card_of(run: RunDirectory) -> str:
    return whole_card(gather(run, run.plan()).row, translator("en"))


def test_hugging_face_reads_the_front_matter(finished: RunDirectory) -> None:
    found = ModelCard(card_of(finished)).data
    assert (found.license, found.base_model) == ("apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (found.language, found.library_name) == (["ja", "en"], "transformers")
    assert {"aegis", "lora", "so8-rotation"} <= set(found.tags or [])


@pytest.mark.parametrize(
    "base, expected",
    [
        ({"source": "own/er", "revision": "a" * 40, "license": "mit"}, {"license": "mit", "base_model": "own/er"}),
        ({"source": "/home/x/model", "revision": "local", "license": "unknown"}, {}),
        ({"source": "C:\\x\\owner", "revision": "local", "license": "Gemma Terms"},
         {"license": "other", "license_name": "Gemma Terms"}),
        ({"source": 'x"\n---\nlicense: mit', "revision": "local", "license": 'a"\n---\nb: c'},
         {"license": "other", "license_name": 'a"\n---\nb: c'}),
    ],
)  # fmt: skip
def test_licence_and_base_are_named_only_where_they_are_known(
    finished: RunDirectory, base: dict[str, str], expected: dict[str, str]
) -> None:
    edit_json(finished.path / "prepare/base.json", lambda row: row.update(base))
    row = gather(finished, finished.plan()).row
    found = front_matter(row)
    named = {key: found[key] for key in ("license", "license_name", "base_model") if key in found}
    assert named == expected
    read = ModelCard(card_of(finished)).data.to_dict()
    assert {key: read[key] for key in named} == named  # nothing in a value ends the front matter


def test_the_language_is_that_of_the_bundled_data_and_never_guessed(finished: RunDirectory) -> None:
    row = gather(finished, finished.plan()).row
    assert front_matter(row)["language"] == ["ja", "en"]
    row["plan"]["data"]["source"] = "mine.jsonl"
    assert "language" not in front_matter(row) and "datasets" not in front_matter(row)
    row["plan"]["data"]["source"], row["data"]["commit"] = "owner/data", "b" * 40
    assert front_matter(row)["datasets"] == ["owner/data"]


def test_it_says_what_was_measured_and_that_truth_was_not(finished: RunDirectory) -> None:
    card = card_of(finished)
    row = gather(finished, finished.plan()).row
    for stage in row["quality"].values():
        assert f"{stage['loss']:.4f} ± {stage['standard_error']:.4f}" in card
    assert "95 % interval" in card and "cannot tell true from false" in card and "not measured" in card
    assert all(file["sha256"] in card for file in row["export"]["files"])
    fused = next(file for file in row["files"] if file["path"] == "fuse/model/model.safetensors")
    assert fused["sha256"] in card


def test_what_was_not_measured_is_a_gap_in_it(finished: RunDirectory) -> None:
    for step in ("fuse", "export", "chat", "train"):
        shutil.rmtree(finished.step_folder(step))
    card = card_of(finished)
    assert "> **! The quality of this model was not measured.**" in card
    assert "> **! That these weights are the trained model was not measured.**" in card
    assert "✓" not in card and "answered meaningfully" not in card


def test_a_path_of_the_user_is_not_told_to_the_world(finished: RunDirectory) -> None:
    private = "/home/hanako/私の/model"
    edit_json(finished.path / "prepare/base.json", lambda row: row.update(source=private, revision="local"))
    edit_json(finished.path / "prepare/data.json", lambda row: row.update(source="/home/hanako/日記.jsonl"))
    assert "hanako" not in card_of(finished) and "日記.jsonl" in card_of(finished)


def test_fusion_leaves_a_card_that_is_recorded_and_that_no_later_step_builds_on(
    tmp_path: Path, pico_plan: Plan, pico_model: Path
) -> None:
    """A real training and fusion of the tiny model, whose base has a card of its own."""
    base = tmp_path / "base"
    shutil.copytree(pico_model, base)
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Somebody else's claims\n", encoding="utf-8")
    run = RunDirectory.create(tmp_path / "run", plans.changed(pico_plan, {"model.source": str(base)}))
    last = run_steps(run, tuple(BY_ID[s] for s in ("prepare", "train", "fuse")), lambda event: None, CancelToken())
    assert isinstance(last, StepFinished)
    path = run.step_folder("fuse") / "model" / "README.md"
    card = path.read_text(encoding="utf-8")
    assert "Somebody else" not in card and license_in(path.parent) == "mit"
    loss = read_json(run.step_folder("fuse") / "quality.json")["fused"]["loss"]
    assert f"{loss:.4f}" in card and "in its next step" in card and "answered meaningfully" not in card
    done = run.done("fuse")
    assert done is not None and [a.evidence for a in done.outputs if a.path == "fuse/model/README.md"] == [True]
    assert "README.md" not in read_json(path.parent / "aegis.json")["files"]
    reported(run)
    assert path.read_text(encoding="utf-8") == card  # the whole one lies with the run log
    assert (run.path / "report" / "model-card.md").is_file()
    assert {verdict.status for verdict in recorded_files(run)} == {"pass"}
    path.write_text(card + "\nBetter than anything.\n", encoding="utf-8")
    assert [v.name for v in recorded_files(run) if v.status == "fail"] == [f"fuse: {path}"]
    assert json.loads((run.path / "report.json").read_text(encoding="utf-8"))["steps"]["fuse"] == "done"
    assert states(run, run.plan())["fuse"] is State.STALE


def test_a_card_with_other_figures_leaves_the_digest_of_the_fusion_alone(finished: RunDirectory) -> None:
    """So that measuring more beside a fusion makes no export stale."""
    from aegis_core.events import Artifact
    from aegis_core.run_directory import Done

    def digest(sha256: str) -> str:
        outputs = (Artifact("fuse/model/README.md", 1, sha256, True), Artifact("fuse/model/a.safetensors", 1, "c"))
        return Done("fuse", {}, {}, outputs, 1.0, 1.0).digest

    assert digest("a") == digest("b")
