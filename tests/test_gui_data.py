"""The prepare page before its step has run: what the dataset is read as, asked of a real engine, mended at a click."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import clipped, open_window, texts
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core.plan import demo_plan
from aegis_core.run_directory import write_json
from aegis_gui.data_look import DataLook
from aegis_gui.flow import Status
from aegis_gui.pages.prepare import PreparePage
from aegis_gui.window import Window

PATIENCE_MILLISECONDS = 60_000


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def window(qapp: QApplication, tmp_path: Path) -> Iterator[Window]:
    with open_window(qapp) as opened:
        opened.language.use("en")
        opened.state.create(tmp_path / "runs" / "儀式 1", demo_plan())
        opened.show_page("prepare")
        yield opened


def page_of(window: Window) -> PreparePage:
    page = window.step_page("prepare")
    assert isinstance(page, PreparePage)
    return page


def looked(window: Window, qtbot: QtBot) -> str:
    """What the page says once the look is over."""
    page = page_of(window)
    qtbot.waitUntil(lambda: page.look.row is not None, timeout=PATIENCE_MILLISECONDS)
    return texts(page.preview)


def test_a_file_is_looked_at_as_soon_as_it_is_chosen_and_its_encoding_mended_at_a_click(
    window: Window, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "質問 集.csv"
    path.write_bytes("質問,回答\n熱はなぜ伝わる?,分子が<b>動く</b>から。\n光とは?,\n".encode("cp932"))
    window.state.change({"data.source": str(path)})
    assert "Looking into the dataset" in texts(page_of(window).preview)
    said = looked(window, qtbot)
    assert "reads as Shift-JIS" in said
    page_of(window).preview.failure.mend.click()
    assert window.state.plan.data.encoding == "shift_jis"
    said = looked(window, qtbot)
    assert "質問 as Question, 回答 as Answer" in said
    assert "分子が<b>動く</b>から。" in said
    assert "1 samples have no answer and are left out." in said
    window.language.use("ja")
    assert "1 件のサンプルは回答がないため除外します。" in texts(page_of(window).preview)
    assert clipped(page_of(window).preview) == []
    window.state.change({"data.sequence_length": 256})
    assert page_of(window).look.row is not None, "another length is no other data"


def test_a_dataset_of_the_hub_is_looked_at_only_when_asked(window: Window) -> None:
    window.state.change({"data.source": "maker/qa"})
    page = page_of(window)
    assert not page.look.running
    assert page.preview.button.isVisibleTo(page)
    assert "This dataset is on the hub" in texts(page.preview)
    page.preview.button.click()
    assert page.look.running
    window.close()
    assert not page.look.running


def test_a_look_whose_engine_cannot_even_start_says_so_and_is_over(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page_of(window).look.stop()
    monkeypatch.setattr("aegis_gui.data_look.engine_command", lambda *words: [str(tmp_path / "no such program")])
    window.state.create(tmp_path / "run", demo_plan())
    look = DataLook(window.state)
    look.look()
    qtbot.waitUntil(lambda: not look.running)
    assert look.row is not None and look.row["failure"]["reason"].startswith("The engine could not start: ")


def test_after_the_step_the_page_shows_what_the_step_saw(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(window)
    seen = {
        "files": ["a.csv"], "commit": "c" * 40, "columns": ["質問", "回答"],
        "reads": {"question": "質問", "answer": "回答"}, "as_text": False, "n_rows": 7, "warnings": [], "samples": [],
    }  # fmt: skip
    counts = {"n_sequences": 3, "n_tokens": 384}
    parts = [{"text": "Why & <how>?", "learned": False}, {"text": "So.\nThus.", "learned": True}]
    data = {
        "n_samples": 9, "n_blank": 1, "n_without_answer": 2, "n_longer_than_sequence": 4, "over_long": "drop",
        "train": counts, "held_out": counts, "preview": seen, "example": "Why?", "example_parts": parts,
    }  # fmt: skip
    base = {
        "source": "demo", "architecture": "Llama", "n_parameters": 10**8, "hidden_size": 8, "vocabulary_size": 9,
        "license": "mit", "sha256": "ab" * 32,
    }  # fmt: skip
    assert window.state.run is not None
    folder = window.state.run.step_folder("prepare")
    folder.mkdir()
    write_json(folder / "data.json", data)
    write_json(folder / "base.json", base)
    monkeypatch.setattr(PreparePage, "status", Status.DONE)
    page.show_run(window.state.view)
    said = texts(page)
    assert "cccccccccccc" in said
    for name, value in (
        ("Left out because blank", "1"),
        ("Left out because nothing answers", "2"),
        ("Longer than one sequence", "4, left out"),
    ):
        assert f"{name}\n{value}" in said
    shown = page.example.text()
    assert "Why &amp; &lt;how&gt;?" in shown
    assert shown.index(page.theme.secondary) < shown.index(page.theme.text) < shown.index("So.<br>Thus.")
