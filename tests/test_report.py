"""The run log: every verdict recomputed from files and red when they say otherwise; nothing foreign gets loose."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from finished_run import (
    N_STEPS,
    change_alpha,
    edit_json,
    edit_rows,
    edit_tensors,
    finished_run,
    remember_ingredients,
    seal,
)

from aegis_core.cancel import CancelToken
from aegis_core.context import StepContext
from aegis_core.events import Event, StepFinished, Verdict
from aegis_core.fusion import proof
from aegis_core.pipeline import BY_ID, run_steps
from aegis_core.plan import GOLDEN_RATIO, Plan
from aegis_core.report import html, markdown
from aegis_core.report import indicators as report_indicators
from aegis_core.report.evidence import Evidence
from aegis_core.report.facts import metrics
from aegis_core.report.figures import draw
from aegis_core.report.history import read_history
from aegis_core.report.indicators import indicators
from aegis_core.report.phrases import STEP_TITLES, translator
from aegis_core.report.record import gather
from aegis_core.report.sections import compose
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.steps import report as report_step

NAMES = (
    *("training_completed", "alpha_reached", "soul_saved", "fusion_equal"),
    *("gguf_verified", "ollama_loaded", "answer_meaningful"),
)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def finished(finished_once: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of its own for every test, in an awkward folder."""
    run = RunDirectory(tmp_path / "ri tual 日本語")
    shutil.copytree(finished_once.path, run.path)
    return run


@pytest.fixture(scope="session")
def reported_once(finished_once: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run with its report, for tests that only look at it."""
    run = RunDirectory(tmp_path_factory.mktemp("reported") / "run")
    shutil.copytree(finished_once.path, run.path)
    reported(run)
    return run


def recorded(run: RunDirectory) -> dict[str, Any]:
    """What report.json would hold, without drawing anything."""
    return gather(run, run.plan()).row


def reported(run: RunDirectory) -> dict[str, Any]:
    """report.json after the step has run."""
    ctx = StepContext(run, "report", lambda event: None, CancelToken())
    report_step.run(run.plan(), ctx)
    row: dict[str, Any] = read_json(run.path / "report.json")
    return row


def statuses(run: RunDirectory) -> dict[str, str]:
    return {name: finding.status for name, finding in indicators(Evidence(run)).items()}


# a ritual that went well


def test_a_finished_ritual_is_green_and_ollama_is_skipped_without_a_server(finished: RunDirectory) -> None:
    row = reported(finished)
    assert tuple(row["indicators"]) == NAMES
    found = {name: indicator["status"] for name, indicator in row["indicators"].items()}
    assert found.pop("ollama_loaded") == "skipped" and set(found.values()) == {"pass"}
    assert all({"status", "measured", "expected"} <= set(indicator) for indicator in row["indicators"].values())
    assert list(row["quality"]) == ["base", "gated", "fused", "f16", "q4_k_m"]
    assert all({"loss", "perplexity", "n_tokens", "standard_error"} <= set(stage) for stage in row["quality"].values())
    assert {check["status"] for check in row["quality_checks"].values()} == {"pass"}
    assert row["fusion"]["max_abs_logit_diff"] == 2.1e-5
    assert [file["type"] for file in row["export"]["files"]] == ["f16", "q4_k_m"]
    assert row["chat"]["backend"] == "embedded"
    assert row["gaps"] == [] and row["seeds"]["train.seed"] == 42 and row["versions"]["torch"] == "2.13.0"
    assert row["hardware"]["peak_ram_own_bytes"] == pytest.approx(1.69e9)


def test_the_pipeline_runs_the_step_and_knows_its_files(finished: RunDirectory) -> None:
    events: list[Event] = []
    assert isinstance(run_steps(finished, (BY_ID["report"],), events.append, CancelToken()), StepFinished)
    done = finished.done("report")
    assert done is not None
    paths = {artifact.path for artifact in done.outputs}
    assert {"report.json", "report.md", "report.html", "report/loss.svg", "report/alpha.svg"} <= paths
    assert {event.name for event in events if isinstance(event, Verdict)} >= set(NAMES)


def test_indicators_can_be_had_without_matplotlib() -> None:
    code = "import sys, aegis_core.report.indicators; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_limits_are_those_of_the_proof() -> None:
    ours = (report_indicators.LOSS_LIMIT, report_indicators.TOP1_LIMIT, report_indicators.HEAD_LIMIT)
    assert ours == (proof.LOSS_LIMIT, proof.TOP1_LIMIT, proof.HEAD_LIMIT)
    assert report_indicators.LOGIT_LIMITS == proof.LOGIT_LIMITS


# each claim turns red when its file says otherwise, whether or not the step's record was doctored along with it

Doctor = Callable[[RunDirectory], None]


def in_json(name: str, change: Callable[[Any], Any]) -> Doctor:
    return lambda run: edit_json(run.path / name, change)


def in_rows(name: str, change: Callable[[list[dict[str, Any]]], Any]) -> Doctor:
    return lambda run: edit_rows(run.path / name, change)


def in_tensors(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Doctor:
    return lambda run: edit_tensors(run.path / name, change)


def gone(name: str) -> Doctor:
    return lambda run: (run.path / name).unlink()


def torn(name: str) -> Doctor:
    return lambda run: (run.path / name).write_bytes((run.path / name).read_bytes()[:-7])


def filled(tensors: dict[str, torch.Tensor], value: float) -> None:
    next(iter(tensors.values())).view(-1)[0] = value


METRICS, PROOF, FILES = "train/metrics.jsonl", "fuse/proof.json", "export/files.json"
TRANSCRIPT, ADAPTER = "chat/transcript.jsonl", "train/adapter/adapter_model.safetensors"
DOCTORED: list[tuple[str, str, Doctor]] = [
    ("training_completed", "train", in_rows(METRICS, lambda rows: rows[:-1])),
    ("training_completed", "train", in_rows(METRICS, lambda rows: rows.pop(7))),
    ("training_completed", "train", in_rows(METRICS, lambda rows: rows[3].update(loss=float("nan")))),
    ("training_completed", "train", in_rows(METRICS, lambda rows: rows[3].update(grad_norm=None))),
    ("training_completed", "train", in_rows(METRICS, lambda rows: rows[3].pop("alpha"))),
    ("training_completed", "train", torn(METRICS)),
    ("training_completed", "train", gone(METRICS)),
    ("alpha_reached", "train", lambda run: change_alpha(run, GOLDEN_RATIO - 0.0011)),
    ("alpha_reached", "train", gone("train/soul.safetensors")),
    ("alpha_reached", "train", torn("train/soul.safetensors")),
    ("soul_saved", "train", in_tensors(ADAPTER, lambda tensors: filled(tensors, float("nan")))),
    ("soul_saved", "train", in_tensors(ADAPTER, lambda tensors: tensors.clear())),
    ("soul_saved", "train", torn(ADAPTER)),
    ("soul_saved", "train", gone("train/adapter/adapter_config.json")),
    ("soul_saved", "train", lambda run: change_alpha(run, float("nan"))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(max_abs_logit_diff=1.1e-3))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(loss_difference=-1.1e-3))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(top1_agreement=0.98))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(head_difference=2e-4))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(max_abs_logit_diff=None))),
    ("fusion_equal", "fuse", in_json(PROOF, lambda p: p.update(max_abs_logit_diff=0.1, limits={}, passed=True))),
    ("fusion_equal", "fuse", in_json("fuse/quality.json", lambda q: q["fused"].update(loss=2.96))),
    ("fusion_equal", "fuse", gone("fuse/model/model.safetensors")),
    ("fusion_equal", "fuse", in_json("fuse/model/aegis.json", lambda a: a.update(soul_sha256="0" * 64))),
    ("fusion_equal", "fuse", in_json("fuse/model/aegis.json", lambda a: a.update(adapter_sha256="0" * 64))),
    ("gguf_verified", "export", torn("export/aegis-Q4_K_M.gguf")),
    ("gguf_verified", "export", gone("export/aegis-F16.gguf")),
    ("gguf_verified", "export", in_json(FILES, lambda rows: rows[:1])),
    ("gguf_verified", "export", in_json(FILES, lambda rows: rows[1]["checks"][0].update(passed=False))),
    ("gguf_verified", "export", in_json(FILES, lambda rows: rows[1]["checks"].clear())),
    ("gguf_verified", "export", in_json(FILES, lambda rows: rows[0].update(sha256="0" * 64))),
    ("answer_meaningful", "chat", in_rows(TRANSCRIPT, lambda rows: [r | {"answer": "the of " * 30} for r in rows])),
    ("answer_meaningful", "chat", in_rows(TRANSCRIPT, lambda rows: rows[:1])),
    ("answer_meaningful", "chat", in_rows(TRANSCRIPT, lambda rows: [rows[0], rows[0]])),
    ("answer_meaningful", "chat", in_rows(TRANSCRIPT, lambda rows: rows[0].update(question="What is your name?"))),
    ("answer_meaningful", "chat", gone(TRANSCRIPT)),
]  # fmt: skip


@pytest.mark.parametrize("record_doctored", [False, True], ids=["file only", "record as well"])
@pytest.mark.parametrize("name, step, doctor", DOCTORED, ids=[f"{i} {case[0]}" for i, case in enumerate(DOCTORED)])
def test_a_doctored_file_turns_its_claim_red(
    finished: RunDirectory, name: str, step: str, doctor: Doctor, record_doctored: bool
) -> None:
    doctor(finished)
    if record_doctored:
        seal(finished, step)
    finding = indicators(Evidence(finished))[name]
    assert finding.status == "fail" and finding.problems


@pytest.mark.parametrize(
    "name, doctor",
    [
        ("training_completed", in_rows(METRICS, lambda rows: rows[5].update(loss=1.0))),
        ("soul_saved", in_tensors(ADAPTER, lambda tensors: filled(tensors, 7.0))),
        ("fusion_equal", in_tensors("fuse/model/model.safetensors", lambda tensors: filled(tensors, 7.0))),
        ("fusion_equal", in_json(PROOF, lambda p: p.update(max_abs_logit_diff=1e-6))),
        ("gguf_verified", in_json(FILES, lambda rows: rows[0].update(n_tensors=1))),
        (
            "answer_meaningful",
            in_rows(TRANSCRIPT, lambda rows: rows[0].update(answer=rows[0]["answer"] + "!")),
        ),
    ],
)
def test_a_harmless_looking_change_after_the_step_is_noticed(finished: RunDirectory, name: str, doctor: Doctor) -> None:
    doctor(finished)
    finding = indicators(Evidence(finished))[name]
    assert finding.status == "fail"
    assert any("its step finished with" in problem.english for problem in finding.problems)


def test_a_gate_trained_anew_after_the_fusion_breaks_the_chain(finished: RunDirectory) -> None:
    change_alpha(finished, GOLDEN_RATIO + 1e-5)
    seal(finished, "train")
    assert statuses(finished)["soul_saved"] == "pass" and statuses(finished)["fusion_equal"] == "fail"
    remember_ingredients(finished)
    seal(finished, "fuse")
    assert statuses(finished)["fusion_equal"] == "pass"


def test_a_claim_without_its_measurement_is_red(finished: RunDirectory) -> None:
    """The transcript's own verdicts and the proof's own "passed" are not believed; nor are they needed."""
    edit_rows(finished.path / TRANSCRIPT, lambda rows: [row | {"verdict": None} for row in rows])
    edit_json(finished.path / PROOF, lambda row: row.pop("passed"))
    seal(finished, "chat")
    seal(finished, "fuse")
    assert statuses(finished)["answer_meaningful"] == "pass" and statuses(finished)["fusion_equal"] == "pass"


def test_training_that_was_to_be_longer_is_not_completed(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    edit_json(run.plan_path, lambda plan: plan["train"].update(steps=N_STEPS + 1))
    assert statuses(run)["training_completed"] == "fail"


# Ollama


def through_ollama(run: RunDirectory, measured: str, status: str = "pass") -> None:
    loaded = {"status": status, "measured": measured}
    edit_rows(
        run.path / TRANSCRIPT,
        lambda rows: [row.update(backend="ollama", ollama_loaded=loaded) for row in rows] and None,
    )
    seal(run, "chat")


def test_ollama_passes_only_with_an_exported_file(finished: RunDirectory) -> None:
    sha256 = read_json(finished.path / FILES)[1]["sha256"]
    through_ollama(finished, f"aegis, 105 MB, from sha256:{sha256[:12]}…")
    assert statuses(finished)["ollama_loaded"] == "pass"
    through_ollama(finished, f"aegis, 105 MB, from sha256:{sha256[:12]}…", status="fail")
    assert statuses(finished)["ollama_loaded"] == "fail"
    through_ollama(finished, "aegis, 105 MB, from sha256:0123456789ab…")
    assert statuses(finished)["ollama_loaded"] == "fail"


def test_a_claim_about_ollama_without_a_server_is_never_a_pass(finished: RunDirectory) -> None:
    edit_json(finished.path / "chat/chat.json", lambda row: row.update(ollama_loaded={"status": "pass"}))
    edit_rows(
        finished.path / TRANSCRIPT, lambda rows: rows[-1].update(ollama_loaded={"status": "pass", "measured": "yes"})
    )
    seal(finished, "chat")
    assert statuses(finished)["ollama_loaded"] == "skipped"


# quality


@pytest.mark.parametrize(
    "name, file, stage, loss",
    [
        ("gated_below_base", "fuse/quality.json", "gated", 3.31),
        ("fused_below_base", "fuse/quality.json", "fused", 3.31),
        ("f16_below_base", "export/quality.json", "f16", 3.31),
        ("fused_equals_gated", "fuse/quality.json", "fused", 2.9512),
        ("q4_k_m_near_f16", "export/quality.json", "q4_k_m", 3.1003),
        ("below_chance", "fuse/quality.json", "gated", 10.81),
        ("gated_below_base", "fuse/quality.json", "gated", float("nan")),
    ],
)
def test_quality_verdicts_turn_red(finished: RunDirectory, name: str, file: str, stage: str, loss: float) -> None:
    edit_json(finished.path / file, lambda row: row[stage].update(loss=loss))
    assert recorded(finished)["quality_checks"][name]["status"] == "fail"


def test_stages_measured_on_other_tokens_are_not_comparable(finished: RunDirectory) -> None:
    edit_json(finished.path / "fuse/quality.json", lambda row: row["gated"].update(n_tokens=99))
    assert recorded(finished)["quality_checks"]["same_tokens"]["status"] == "fail"


# gaps


@pytest.mark.parametrize("step", ["check", "prepare", "train", "fuse", "export", "chat"])
def test_a_missing_step_is_a_visible_gap(finished: RunDirectory, step: str) -> None:
    shutil.rmtree(finished.step_folder(step))
    record = gather(finished, finished.plan())
    assert step in record.row["gaps"]
    for language in ("en", "ja"):
        t = translator(language)
        document = compose(record, t)
        sentence = t("This step has no finished result: {title}.", title=t(STEP_TITLES[step]))
        assert f"! {sentence}" in html.render(document, {})
        assert f"> **! {sentence}**" in markdown.render(document, {})
    assert record.row["indicators"]["training_completed"]["status"] == ("fail" if step == "train" else "pass")


def test_a_result_that_no_longer_fits_is_named(finished: RunDirectory) -> None:
    edit_json(finished.plan_path, lambda plan: plan["export"].update(types=["f16"]))
    record = gather(finished, finished.plan())
    assert record.row["steps"]["export"] == "stale" and record.row["steps"]["train"] == "done"
    assert "The result of this step no longer fits: GGUF conversion." in html.render(
        compose(record, translator("en")), {}
    )


def test_a_run_without_any_result_is_reported_all_red(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", Plan())
    found = {name: row["status"] for name, row in reported(run)["indicators"].items()}
    assert found.pop("ollama_loaded") == "skipped" and set(found.values()) == {"fail"}


@pytest.mark.parametrize(
    "name",
    [
        *("check/check.json", "prepare/base.json", "train/summary.json", "train/quality.json", "fuse/proof.json"),
        *("fuse/quality.json", "export/files.json", "export/quality.json", "chat/transcript.jsonl", "events.jsonl"),
    ],
)
def test_a_damaged_file_never_breaks_the_report(finished: RunDirectory, name: str) -> None:
    (finished.path / name).write_text('{"half": ', encoding="utf-8")
    record = gather(finished, finished.plan())
    assert set(record.row["indicators"]) == set(NAMES)
    assert html.render(compose(record, translator("ja")), {})
    json.dumps(record.row, allow_nan=False)
    if name in ("train/summary.json", "train/quality.json", "events.jsonl"):
        readings = record.history.readings
        assert "alpha" in draw(record.row, metrics(Evidence(finished)), readings, "en")


def test_studies_are_reported_with_their_trials(tmp_path: Path) -> None:
    row = reported(finished_run(tmp_path / "run", search__enabled=True, schedule__enabled=True))
    assert row["studies"]["search"]["states"] == {"COMPLETE": 3, "PRUNED": 1, "FAIL": 1}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "The memory was not enough for this trial." in page
    assert (tmp_path / "run" / "report" / "search.svg").is_file()


def test_figures_depend_on_nobodys_matplotlib_settings(finished: RunDirectory) -> None:
    evidence, row = Evidence(finished), recorded(finished)
    before = draw(row, metrics(evidence), read_history(finished).readings, "en")
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.fonttype": "none"}):
        mine = dict(matplotlib.rcParams)
        again = draw(row, metrics(evidence), read_history(finished).readings, "en")
        assert dict(matplotlib.rcParams) == mine
    assert {"loss", "alpha", "quality", "memory"} <= set(before) and before == again
