"""The first page as a new person meets it, and everything a card can do: with real runs in real folders."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from gui_parts import clipped, japanese, open_window, texts
from home_runs import age, cut_off, damaged, finished, several
from PySide6.QtCore import QDateTime, QPoint, Qt
from PySide6.QtGui import QGuiApplication, QShortcut
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from aegis_core import command_line
from aegis_core.freshness import State
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.presets import find_preset, preset_folder
from aegis_core.run_directory import RunDirectory
from aegis_gui.app import open_first
from aegis_gui.flow import HOME
from aegis_gui.home.card import Act, RunRow
from aegis_gui.home.drawers import CommandDrawer, NameDrawer
from aegis_gui.home.words import when
from aegis_gui.i18n import LANGUAGES
from aegis_gui.shortcuts import GROUPS, bound_sequences
from aegis_gui.window import Window


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs 実行"))
    monkeypatch.setenv("AEGIS_DATA", str(tmp_path / "data"))
    (tmp_path / "share").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))  # where the recycle bin is on Linux
    monkeypatch.setenv("LANG", "C")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs 実行"


@pytest.fixture
def window(qapp: QApplication) -> Iterator[Window]:
    with open_window(qapp) as window:
        window.language.use("en")
        yield window


def shown(window: Window, qtbot: QtBot) -> list[RunRow]:
    """The cards in their order, once all are read."""
    window.home.show_runs()
    window.home.refresh()
    runs = window.home.shelf.list
    qtbot.waitUntil(lambda: not runs.reading, timeout=30_000)
    QApplication.processEvents()  # Qt shows what was put into a layout with the next event
    return [runs.column.itemAt(n).widget() for n in range(runs.column.count())]  # type: ignore[misc]


def card(window: Window, qtbot: QtBot, name: str) -> RunRow:
    return next(row for row in shown(window, qtbot) if row.run.name == name)


def unshortened(window: Window) -> list[str]:
    """Texts with too little room, but for names, which are shortened on purpose."""
    return [found for found in clipped(window.home) if "…" not in found]


def box_of(window: Window) -> QMessageBox:
    return next(box for box in window.findChildren(QMessageBox) if box.isVisible())


def drawer_of(row: RunRow) -> QWidget:
    item = row.drawer.itemAt(0)
    assert item is not None
    found = item.widget()
    assert found is not None
    return found


# ---- the first start


def test_a_new_person_sees_the_ritual_in_four_pictures_and_begins_the_demo(window: Window, qtbot: QtBot) -> None:
    welcome = window.home.welcome
    assert welcome is not None and window.home.welcoming
    assert len(welcome.cards) == 4
    assert "Welcome to AEGIS" in texts(window.home)
    assert not window.preferences.welcomed
    qtbot.mouseClick(welcome.demo, Qt.MouseButton.LeftButton)
    assert window.page == "check"
    assert window.state.plan == changed(demo_plan(), {"report.language": "en"})
    assert window.preferences.welcomed
    window.show_page(HOME)
    assert not window.home.welcoming
    assert [row.run.name for row in shown(window, qtbot)] == [window.state.run.path.name]


def test_the_pictures_come_once_and_again_from_the_help(window: Window, qtbot: QtBot, qapp: QApplication) -> None:
    assert window.home.welcome is not None
    qtbot.mouseClick(window.home.welcome.on, Qt.MouseButton.LeftButton)
    assert not window.home.welcoming
    assert window.home.begin.name.hasFocus() or qapp.focusWidget() is window.home.begin.name
    with open_window(qapp) as second:
        assert not second.home.welcoming
        second.sheets.show_help()
        assert second.sheets.help is not None
        qtbot.mouseClick(second.sheets.help.welcome, Qt.MouseButton.LeftButton)
        assert second.home.welcoming
        second.sheets.help.close()


def test_the_demo_of_the_starter_waits_for_the_welcome(window: Window) -> None:
    open_first(window, None, demo=True)
    assert window.home.welcoming
    assert window.state.run is None
    window.preferences.welcomed = True
    window.home.show_runs()
    open_first(window, None, demo=True)
    assert window.page == "check"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_picture_is_drawn_and_described(window: Window, language: str, qapp: QApplication) -> None:
    window.resize(1100, 720)
    window._use_language(language)
    qapp.processEvents()
    assert window.home.welcome is not None
    for caption in window.home.welcome.cards:
        image = caption.picture.grab().toImage()
        colours = {image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)}
        assert len(colours) > 4, "nothing was drawn"
        assert caption.picture.accessibleName() == caption.words.text() != ""
    assert clipped(window.home) == []


# ---- cards


def test_a_card_says_model_state_numbers_and_time(window: Window, qtbot: QtBot, folder: Path) -> None:
    age(finished(folder / "done"), 3 * 3600)
    row = card(window, qtbot, "done")
    said = texts(row)
    for words in ("done", "embedded demo model", "finished", "4.012", "3.398", "3.455", "6 of 7 indicators passed"):
        assert words in said
    assert "3 hours ago" in said
    assert row.accessibleName() == "done, finished, 3 hours ago"
    assert "base 4.012" in row.accessibleDescription()
    assert row.resume.isHidden()


def test_times_are_said_as_a_person_says_them(window: Window) -> None:
    now = QDateTime.fromString("2026-11-26T15:00:00", Qt.DateFormat.ISODate)

    def ago(seconds: float) -> str:
        return when(now.toSecsSinceEpoch() - seconds, now)

    assert [ago(n) for n in (5, 70, 20 * 60, 3700, 3 * 3600)] == [
        "just now", "a minute ago", "20 minutes ago", "an hour ago", "3 hours ago",
    ]  # fmt: skip
    assert ago(20 * 3600) == "yesterday, 19:00"
    assert ago(3 * 86400) == "Monday, 15:00"
    assert ago(30 * 86400) == "27 October 2026"
    window.language.use("ja")
    assert [ago(20 * 60), ago(20 * 3600), ago(30 * 86400)] == ["20 分前", "昨日 19:00", "2026年10月27日"]
    window.language.use("en")


def test_a_run_that_was_cut_off_goes_on_at_one_click(
    window: Window, qtbot: QtBot, folder: Path, pico_plan: Plan, tmp_path: Path
) -> None:
    run = RunDirectory.create(folder / "cut 中断", pico_plan)
    (run.path / "check").mkdir()
    (run.path / "check" / "begun.json").write_text(json.dumps({"settings": {}, "inputs": {}}), encoding="utf-8")
    row = card(window, qtbot, "cut 中断")
    assert row.resume.isVisible()
    assert "stopped in Environment check" in texts(row)
    with qtbot.waitSignal(window.runner.ended, timeout=120_000):
        qtbot.mouseClick(row.resume, Qt.MouseButton.LeftButton)
        assert window.state.busy
    assert window.state.flow.states["check"] is State.DONE


def test_a_damaged_run_says_why_and_can_only_be_looked_at_or_deleted(
    window: Window, qtbot: QtBot, folder: Path
) -> None:
    damaged(folder / "broken")
    row = card(window, qtbot, "broken")
    assert "is not readable as a plan" in texts(row)
    assert "Open its folder to mend it, or delete the run." in texts(row)
    assert row.open.isHidden() and row.resume.isHidden() and row.box.isHidden()
    offered = {act for act, action in row.actions_of.items() if action.isVisible()}
    assert offered == {Act.OPEN_FOLDER, Act.DELETE}


def test_the_keyboard_reaches_every_card_and_what_it_does(window: Window, qtbot: QtBot, folder: Path) -> None:
    for n in range(3):
        age(finished(folder / f"run {n}"), 60 * n)
    first, second, _ = shown(window, qtbot)
    window.activateWindow()
    first.setFocus()
    qtbot.keyClick(first, Qt.Key.Key_Down)
    assert window.focusWidget() is second
    qtbot.keyClick(second, Qt.Key.Key_Space)
    qtbot.keyClick(second, Qt.Key.Key_Up)
    qtbot.keyClick(first, Qt.Key.Key_Space)
    assert {path.name for path in window.home.shelf.list.chosen} == {"run 0", "run 1"}
    qtbot.keyClick(first, Qt.Key.Key_D)
    assert isinstance(drawer_of(first), NameDrawer)
    qtbot.keyClick(drawer_of(first), Qt.Key.Key_Escape)
    assert first.drawer.count() == 0
    assert window.focusWidget() is first
    qtbot.keyClick(first, Qt.Key.Key_Return)
    assert window.state.run is not None and window.state.run.path.name == "run 0"


def test_tab_goes_down_the_page_also_to_a_run_that_came_later(window: Window, qtbot: QtBot, folder: Path) -> None:
    for n in range(2):
        age(finished(folder / f"old {n}"), 60 + n)
    shown(window, qtbot)
    finished(folder / "new")
    rows = shown(window, qtbot)
    assert [row.run.name for row in rows] == ["new", "old 0", "old 1"]
    begin = window.home.begin
    expected = [begin.name, begin.start, begin.create_button, begin.change, begin.demo_button, begin.open_button]
    expected += [stop for row in rows for stop in (row, row.box, row.open, row.more)]
    order, widget = [], begin.name.nextInFocusChain()
    while widget is not begin.name:
        order.append(widget)
        widget = widget.nextInFocusChain()
    assert [widget for widget in [begin.name, *order] if widget in expected] == expected


def test_focus_can_be_seen_on_a_card(window: Window, qtbot: QtBot, folder: Path, qapp: QApplication) -> None:
    finished(folder / "one")
    (row,) = shown(window, qtbot)
    window.activateWindow()
    window.home.begin.name.setFocus()
    qapp.processEvents()
    before = row.grab().toImage()
    row.setFocus()
    qapp.processEvents()
    assert row.grab().toImage() != before


def test_everything_on_the_page_can_be_reached_and_has_a_name(window: Window, qtbot: QtBot, folder: Path) -> None:
    several(folder)
    shown(window, qtbot)
    nameless = [
        widget
        for widget in window.home.findChildren(QWidget)
        if isinstance(widget, QAbstractButton | QLineEdit | QComboBox | RunRow)
        and widget.isVisibleTo(window.home)
        and not (widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text()))
        and not isinstance(widget.parent(), QLineEdit)  # Qt's own button that clears a line
    ]
    assert not nameless
    unreachable = [
        button for button in window.home.findChildren(QAbstractButton)
        if button.isVisibleTo(window.home) and button.focusPolicy() == Qt.FocusPolicy.NoFocus
        and not isinstance(button.parent(), QLineEdit)
    ]  # fmt: skip
    assert not unreachable


# ---- many


def test_two_hundred_runs_do_not_hold_the_window_up_and_can_be_searched(
    window: Window, qtbot: QtBot, folder: Path
) -> None:
    for n in range(199):
        age(RunDirectory.create(folder / f"sweep-{n:03}", demo_plan()), 1000 + n)
    borea = changed(Plan(), {"model.source": "microsoft/Phi-3.5-mini-instruct"})
    age(RunDirectory.create(folder / "the other 別", borea), 90_000)
    runs = window.home.shelf.list
    window.home.show_runs()
    window.home.refresh()
    assert len(runs.rows) < 24, "all were read before the window could draw anything"
    assert [row.run.name for row in shown(window, qtbot)] == [f"sweep-{n:03}" for n in range(24)]
    assert runs.more.isVisible()
    qtbot.mouseClick(runs.more, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not runs.reading, timeout=30_000)
    assert len(runs.rows) == 48
    window.home.shelf.search.setText("PHI-3.5 別")
    qtbot.waitUntil(lambda: not runs.reading, timeout=30_000)
    assert [path.name for path in runs.rows] == ["the other 別"]
    window.home.shelf.search.setText("nothing of the kind")
    assert runs.none_found.isVisible()
    window.home.shelf.search.clear()
    assert len(shown(window, qtbot)) == 24


# ---- comparing


def test_two_runs_lie_side_by_side_with_curves_numbers_and_what_differs(
    window: Window, qtbot: QtBot, folder: Path, qapp: QApplication
) -> None:
    age(finished(folder / "plain"), 1)
    age(finished(folder / "rank & 32", {"lora.rank": 32}, -0.05), 2)
    rows = shown(window, qtbot)
    assert not window.home.shelf.compare.isEnabled()
    for row in rows:
        row.box.click()
    assert window.home.shelf.compare.text() == "Compare 2 runs"
    qtbot.mouseClick(window.home.shelf.compare, Qt.MouseButton.LeftButton)
    comparison = window.home.comparison
    assert comparison is not None
    said = texts(comparison)
    for words in ("plain", "rank & 32", "3.3976 ± 0.0569", "3.3476 ± 0.0569  lowest", "LoRA rank", "32"):
        assert words in said
    assert "Learning rate" not in said, "only what differs is shown"
    losses, alphas = comparison.curves.losses, comparison.curves.alphas
    assert [len(losses.curves[f"run{n}"].series) for n in (0, 1, 2)] == [80, 80, 0]
    assert len(losses.curves["held0"].series) == 4
    assert alphas.curves["run1"].series.last == pytest.approx(1.618, abs=1e-3)
    losses.view.setXRange(10, 40, padding=0)
    assert alphas.view.viewRange()[0] == pytest.approx([10, 40])
    window._use_theme("dark")
    window._use_language("ja")
    qapp.processEvents()
    assert japanese()["Settings that differ"] in texts(comparison)
    window._use_language("en")
    qapp.processEvents()
    qtbot.keyClick(comparison, Qt.Key.Key_Escape)
    assert window.home.comparison is None
    assert window.home.shelf.isVisible()


def test_a_fifth_run_cannot_be_chosen(window: Window, qtbot: QtBot, folder: Path) -> None:
    for n in range(5):
        age(RunDirectory.create(folder / f"r{n}", demo_plan()), n)
    rows = shown(window, qtbot)
    for row in rows[:4]:
        row.box.click()
    assert not rows[4].box.isEnabled()
    rows[0].box.click()
    assert rows[4].box.isEnabled()


def test_runs_that_never_trained_have_no_curves_and_say_so(window: Window, qtbot: QtBot, folder: Path) -> None:
    made = [RunDirectory.create(folder / name, demo_plan()) for name in "ab"]
    window.home.compare([run.path for run in made])
    said = texts(window.home)
    assert "None of these runs has trained yet" in said
    assert "All settings are the same." in said


# ---- what a card can do


def test_a_duplicate_opens_on_its_settings_with_nothing_done(window: Window, qtbot: QtBot, folder: Path) -> None:
    finished(folder / "source", {"lora.rank": 32})
    row = card(window, qtbot, "source")
    row.actions_of[Act.DUPLICATE].trigger()
    drawer = drawer_of(row)
    assert isinstance(drawer, NameDrawer)
    assert drawer.line.text() == "source-2"
    drawer.line.setText("source")
    drawer.done.click()
    assert "There is already a run" in drawer.problem.text()
    drawer.line.setText("変更 版")
    drawer.done.click()
    assert window.page == "prepare"
    assert window.state.run is not None and window.state.run.path == folder / "変更 版"
    assert window.state.plan.lora.rank == 32
    assert window.state.flow.states["train"] is State.WAITING


def test_settings_saved_as_a_preset_begin_a_new_run(window: Window, qtbot: QtBot, folder: Path) -> None:
    finished(folder / "source", {"lora.rank": 48})
    row = card(window, qtbot, "source")
    window.home.shelf.do(row, Act.SAVE_PRESET)
    drawer = drawer_of(row)
    assert isinstance(drawer, NameDrawer)
    drawer.line.setText("夜間 48")
    drawer.done.click()
    assert find_preset("夜間 48").plan().lora.rank == 48
    begin = window.home.begin
    assert begin.start.currentText() == "夜間 48"
    begin.name.setText("from the preset")
    begin.create_button.click()
    assert window.state.run is not None and window.state.run.path == folder / "from the preset"
    assert window.state.plan.lora.rank == 48


def test_a_preset_goes_to_the_recycle_bin_and_a_damaged_one_cannot_be_chosen(window: Window, tmp_path: Path) -> None:
    preset_folder().mkdir(parents=True)
    (preset_folder() / "mine.json").write_text('{"settings": {"lora.rank": 8}}', encoding="utf-8")
    (preset_folder() / "broken.json").write_text("{", encoding="utf-8")
    begin = window.home.begin
    begin.show_presets("mine")
    assert begin.start.currentText() == "mine"
    place = begin.start.findText("broken (damaged)")
    assert place >= 0
    assert not begin.start.model().flags(begin.start.model().index(place, 0)) & Qt.ItemFlag.ItemIsEnabled
    begin.forget.click()
    assert not (preset_folder() / "mine.json").exists()
    assert begin.start.findText("mine") < 0
    assert list((tmp_path / "share" / "Trash" / "files").iterdir())


def test_a_run_can_be_begun_from_the_plan_of_a_recent_one(window: Window, folder: Path) -> None:
    run = finished(folder / "recent one", {"lora.rank": 24})
    window.home.open_run(run.path)
    window.show_page(HOME)
    begin = window.home.begin
    begin.start.setCurrentIndex(begin.start.findText("Settings of “recent one”"))
    begin.name.setText("next one")
    begin.create_button.click()
    assert window.state.plan.lora.rank == 24
    assert window.state.flow.states["check"] is State.READY


def test_the_command_line_is_shown_and_copied(window: Window, qtbot: QtBot, folder: Path) -> None:
    run = finished(folder / "source", {"lora.rank": 48})
    row = card(window, qtbot, "source")
    window.home.shelf.do(row, Act.SHOW_COMMAND)
    drawer = drawer_of(row)
    assert isinstance(drawer, CommandDrawer)
    drawer.copy.click()
    assert QGuiApplication.clipboard().text() == command_line.repeat_command(run)
    assert "lora.rank=48" in QGuiApplication.clipboard().text()


def test_deleting_asks_names_what_stays_and_uses_the_recycle_bin(
    window: Window, qtbot: QtBot, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "gguf 外"
    outside.mkdir()
    (outside / "model.gguf").write_text("weights", encoding="utf-8")
    run = finished(folder / "unwanted", {"export.directory": str(outside)})
    window.state.open(run.path)
    window.show_page(HOME)
    row = card(window, qtbot, "unwanted")
    window.home.shelf.do(row, Act.DELETE)
    box = box_of(window)
    assert str(outside) in box.informativeText()
    box.reject()
    assert run.path.exists()
    window.home.shelf.do(row, Act.DELETE)
    box_of(window).buttons()[0].click()
    assert not run.path.exists()
    assert (outside / "model.gguf").exists()
    assert window.state.run is None
    (kept,) = (tmp_path / "share" / "Trash" / "files").iterdir()
    assert RunDirectory.open(kept).plan() == changed(demo_plan(), {"export.directory": str(outside)})
    assert shown(window, qtbot) == []
    assert "is in the recycle bin" in window.home.shelf.said.text()


def test_a_run_in_use_is_not_deleted(window: Window, qtbot: QtBot, folder: Path) -> None:
    run = cut_off(folder / "used")
    row = card(window, qtbot, "used")
    with run.lock():
        window.home.shelf.do(row, Act.DELETE)
    assert not [box for box in window.findChildren(QMessageBox) if box.isVisible()]
    assert "cannot be deleted" in window.home.begin.problem.text()
    window.home.shelf.do(row, Act.DELETE)
    with run.lock():  # somebody began while the question stood there
        box_of(window).buttons()[0].click()
    assert run.path.exists()


def test_a_bin_that_does_not_take_it_says_so(
    window: Window, qtbot: QtBot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aegis_gui.home import discard

    class FileWithoutBin(discard.QFile):
        def moveToTrash(self) -> bool:
            return False

    run = finished(folder / "kept")
    row = card(window, qtbot, "kept")
    monkeypatch.setattr(discard, "QFile", FileWithoutBin)
    window.home.shelf.do(row, Act.DELETE)
    box_of(window).buttons()[0].click()
    assert run.path.exists()
    assert "did not take" in window.home.begin.problem.text()


def test_while_a_step_runs_others_can_be_looked_at_but_not_opened(window: Window, qtbot: QtBot, folder: Path) -> None:
    for n, name in enumerate(("running", "other")):
        age(finished(folder / name), n)
    window.state.open(folder / "running")
    window.state.begin()
    running, other = shown(window, qtbot)
    assert not window.home.begin.isEnabled()
    assert running.open.isEnabled() and not other.open.isEnabled()
    assert other.box.isEnabled()
    window.home.shelf.do(running, Act.DELETE)
    assert "cannot be deleted" in window.home.begin.problem.text()
    window.home.shelf.do(other, Act.DUPLICATE)
    drawer = drawer_of(other)
    assert isinstance(drawer, NameDrawer)
    drawer.done.click()
    assert window.state.run is not None and window.state.run.path.name == "running"
    assert window.state.busy
    assert (folder / "other-2").is_dir()
    assert "can be opened once the step is done" in window.home.shelf.said.text()
    assert not window.home.open_run(folder / "other")
    assert window.state.run.path.name == "running"
    window.state.end()


# ---- keys, sizes, languages


def test_every_shortcut_of_the_window_is_in_the_help_sheet_and_the_other_way_round(window: Window) -> None:
    listened = {shortcut.key().toString() for shortcut in window.findChildren(QShortcut)}
    assert listened == {QShortcut(keys, window).key().toString() for keys in bound_sequences()}
    window.sheets.show_help()
    said = texts(window.sheets.help)
    for _, shortcuts in GROUPS:
        for shortcut in shortcuts:
            assert shortcut.meaning in said
            assert all(keys in said for keys in shortcut.keys)
    window.sheets.help.close()


def test_keys_lead_to_the_name_and_to_the_search(window: Window, qtbot: QtBot, folder: Path) -> None:
    finished(folder / "one")
    window.home.open_run(folder / "one")
    window.activateWindow()
    qtbot.keyClick(window, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert window.page == HOME
    assert window.focusWidget() is window.home.shelf.search
    qtbot.keyClick(window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    assert window.focusWidget() is window.home.begin.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_clipped_in_the_smallest_window(
    window: Window, qtbot: QtBot, folder: Path, language: str, qapp: QApplication
) -> None:
    runs = several(folder)
    finished(folder / ("とても長い名前の実験" * 6), {"lora.rank": 8}, 0.01)
    window._use_language(language)
    window.resize(1100, 720)
    qapp.processEvents()
    rows = shown(window, qtbot)
    qtbot.waitUntil(lambda: unshortened(window) == [], timeout=5_000)
    assert rows[0].name.text() != rows[0].run.name, "the long name is shortened …"
    assert rows[0].name.toolTip() == str(rows[0].run.path), "… and whole in its tooltip"
    assert rows[0].more.mapTo(rows[0], QPoint(rows[0].more.width(), 0)).x() <= rows[0].width()
    window.home.compare([rows[0].run.path, runs[1].path, runs[2].path, runs[4].path])
    qtbot.waitUntil(lambda: unshortened(window) == [], timeout=5_000)


def test_the_chosen_folder_is_remembered(window: Window, tmp_path: Path, qapp: QApplication) -> None:
    other = tmp_path / "別の場所"
    other.mkdir()
    window.home._change_folder(other)
    with open_window(qapp) as second:
        assert second.home.folder == other
    shutil.rmtree(other)
    with open_window(qapp) as third:
        assert third.home.folder == tmp_path / "runs 実行"
