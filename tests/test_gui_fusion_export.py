"""The fusion and export pages: what goes in and comes out, the head's picture, forecasts, files, and failed proofs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import RITUAL, open_window, recorded_run, stamped, texts
from PySide6.QtWidgets import QApplication

from aegis_core import events
from aegis_core.gguf_export.size_estimate import estimate_sizes
from aegis_core.models.shape import ModelShape
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory, read_json, write_json
from aegis_gui.head_picture import visible_token
from aegis_gui.run_view import RunView
from aegis_gui.window import Window

SMOLLM = ModelShape("llama", 576, 1536, 30, 9, 3, 64, 49152, tied=True)
CONFIG = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
HEAD = {
    "rows": 4, "columns": 16, "alpha": 1.5, "sigma": 0.8176, "norm_factor": 0.5502, "n_empty_rows": 0,
    "relative_change": {
        "quantiles": {"0": 0.01, "5": 0.01, "25": 0.02, "50": 0.0234, "75": 0.03, "95": 0.04, "100": 0.05},
        "histogram": {"edges": [0.01, 0.03, 0.05], "counts": [3, 1]},
    },
    "norms": {
        "before": {"edges": [1.0, 2.0, 3.0], "counts": [4, 0]}, "after": {"edges": [1.0, 2.0, 3.0], "counts": [1, 3]},
    },
    "most_changed": [{"token": " the\n", "id": 3, "before": 1.25, "after": 2.5, "change": 0.05}],
    "angles_degrees": {
        "quantiles": {"0": 0.1, "5": 0.1, "25": 0.2, "50": 0.345, "75": 0.4, "95": 0.5, "100": 0.678},
        "histogram": {"edges": [0.1, 0.4, 0.678], "counts": [5, 3]},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def window(qapp: QApplication) -> Iterator[Window]:
    with open_window(qapp) as made:
        made.language.use("en")
        yield made


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path / "runs" / "儀式", demo_plan())


def opened(window: Window, run: RunDirectory, page: str) -> str:
    window.state.open(run.path)
    window.show_page(page)
    return texts(window.pages[page])


def test_the_estimate_is_what_the_recorded_ritual_wrote() -> None:
    written = {row["type"]: row["bytes"] for row in read_json(RITUAL / "export" / "files.json")}
    for found in estimate_sizes(SMOLLM, written):
        assert found.n_bytes == pytest.approx(written[found.kind], rel=0.005), found.kind
    f16, q4 = estimate_sizes(SMOLLM, written)
    assert f16.untied_bytes == 49152 * 576 * 2
    assert q4.untied_bytes == 49152 * 576 * 8.5 / 8  # Q6_K's stand-in for rows of 576


def test_wide_rows_take_the_k_quants_themselves() -> None:
    wide = ModelShape("llama", 512, 1024, 2, 8, 8, 64, 1000, tied=False)
    (q6,) = estimate_sizes(wide, ["q6_k"])
    n_weights = wide.n_linear_weights + 2 * 512 * 1000
    assert q6.n_bytes == pytest.approx(n_weights * 6.5625 / 8 + 5 * 512 * 4 + 36_000, abs=2)
    assert q6.untied_bytes == 0


def test_fusion_says_what_goes_in_and_what_comes_out(window: Window, run: RunDirectory) -> None:
    adapter = run.step_folder("train") / "adapter"
    adapter.mkdir()
    config = {"r": 8, "lora_alpha": 32, "target_modules": ["v_proj", "q_proj"], "use_rslora": False, "use_dora": False}
    write_json(adapter / "adapter_config.json", config)
    said = opened(window, run, "fuse")
    assert "rank 8, strength 32 · q_proj, v_proj" in said
    assert "W′ = W + 32/8 · B A = W + 4 · B A" in said
    assert "n′ = n · 1 / (1 + 0.8345) = 0.5451 · n" in said
    assert "28.3 million numbers that the base model shared" in said
    assert "Proved: on 2,479 held-out tokens" in said


def test_the_picture_of_the_head_is_the_files(window: Window, run: RunDirectory) -> None:
    assert "Most changed tokens" not in opened(window, run, "fuse")  # an older run has none
    write_json(run.step_folder("fuse") / "head.json", HEAD)
    said = opened(window, run, "fuse")
    picture = window.pages["fuse"].head
    assert picture.isVisibleTo(window.pages["fuse"])
    assert picture.plots["change"].filled.counts == [3, 1]
    assert picture.plots["norms"].outlined.counts == [1, 3]
    assert "middle 2.34 %" in said and "␣the⏎" in said and "1.25 → 2.50" in said
    assert "2 blocks of eight, angles up to 0.678°" in said
    assert "σ(1.500)" in said  # of the file, not of the plan
    write_json(run.step_folder("fuse") / "head.json", {"rows": 4, "relative_change": {"histogram": {"edges": [1]}}})
    opened(window, run, "fuse")
    assert not picture.isVisibleTo(window.pages["fuse"])


def test_a_failed_proof_is_red_and_says_where_the_evidence_lies(window: Window, run: RunDirectory) -> None:
    path = run.step_folder("fuse") / "proof.json"
    write_json(path, read_json(path) | {"top1_agreement": 0.5, "passed": False, "folder": "fuse/model.refused"})
    window.state.open(run.path)
    window.state.view = RunView()  # its events are lost: the file alone tells
    window.pages["fuse"].show_run(window.state.view)
    window.show_page("fuse")
    said = texts(window.pages["fuse"])
    assert "Not proved. The model is kept as evidence in" in said and "model.refused" in said
    assert said.splitlines().count("failed") == 1 and said.splitlines().count("passed") == 3
    assert "Proved" not in said


def test_pages_of_steps_that_have_not_run_say_what_is_known(window: Window, tmp_path: Path) -> None:
    window.state.create(tmp_path / "runs" / "begun", demo_plan())
    window.show_page("fuse")
    said = texts(window.pages["fuse"])
    assert "σ(1.618)" in said and "proved" not in said.lower()
    window.show_page("export")
    said = texts(window.pages["export"])
    assert "Not known yet: the base model has to be prepared first." in said
    assert "checks passed" not in said


def test_sizes_are_told_before_and_the_steps_own_follow(window: Window, tmp_path: Path) -> None:
    run = recorded_run(tmp_path / "runs" / "fused", demo_plan(), last="fuse")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    base = run.step_folder("prepare") / "base.json"
    write_json(base, read_json(base) | {"folder": str(model)})
    said = opened(window, run, "export")
    assert "327.5 MB" in said and "56.6 MB" in said and "free on that drive" in said
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(), "export"))
    told = events.note(
        "{file} will have {size} GB ({formats}).", file="a-F16.gguf", size="0.33", formats="212 F16, 61 F32"
    )
    window.state.receive(stamped(told, "export"))
    assert "a-F16.gguf will have 0.33 GB (212 F16, 61 F32)." in texts(window.pages["export"])
    window.state.end()


def test_files_are_listed_with_formats_quantiser_and_checks(window: Window, run: RunDirectory) -> None:
    path = run.step_folder("export") / "files.json"
    files = read_json(path)
    files[1] |= {"quantiser": "libgguf"}
    files[1]["checks"][0]["passed"] = False
    write_json(path, files)

    window.state.open(run.path)
    window.state.view = RunView()
    window.pages["export"].show_run(window.state.view)
    window.show_page("export")
    said = texts(window.pages["export"])
    assert "10 of 10 checks passed" in said and "9 of 10 checks passed" in said
    assert "libgguf" in said and "212\u00a0F16, 61\u00a0F32" in said
    assert said.splitlines().count("failed") == 1
    path.write_text("{", encoding="utf-8")
    opened(window, run, "export")
    assert not window.pages["export"].files.isVisibleTo(window.pages["export"])


def test_bytes_come_with_their_speed(window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("aegis_gui.pages.step_page.time.monotonic", lambda: float(next(clock)))
    window.state.create(tmp_path / "runs" / "begun", demo_plan())
    window.show_page("export")
    window.state.begin()
    window.state.receive(stamped(events.StepStarted(), "export"))
    for done in (1e9, 2e9, 3e9):
        window.state.receive(stamped(events.Progress(done, 9e9, "bytes", "writing F16"), "export"))
    page = window.pages["export"]
    assert page.progress_text.text() == "writing F16 · 3.0 GB of 9.0 GB · 100.0 MB/s · about a minute left"
    window.state.end()


def test_tokens_are_shown_so_that_blanks_are_seen() -> None:
    assert visible_token(" a\n") == "␣a⏎"
    assert visible_token("\x00") == "\\x00"
    assert len(visible_token("x" * 50)) == 16


def test_a_hash_is_cut_so_that_the_page_stays_as_wide_as_the_window(window: Window, run: RunDirectory) -> None:
    opened(window, run, "export")
    page = window.pages["export"]
    page.rows.show_verdicts([events.Verdict("F16: read back as written", "pass", "ab" * 32, "ab" * 32)])
    said = texts(page)
    assert f"{'ab' * 8}…" in said and "ab" * 32 not in said
