"""What is packed into the frozen window, and what is judged of it. The freezing itself is a command of its own."""

import ast
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import contents
import libraries
import pictures
import pytest
import smoke
import windows_version
from project import EXECUTABLE, PACKAGING, RESOURCES, ROOT, WINDOW_LOCK, WINDOW_REQUIREMENTS, version, window_pins
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

BUILT = ROOT / "dist" / "AEGIS"
IMPORTED_AS = {"PySide6": "PySide6-Essentials", "pynvml": "nvidia-ml-py"}
TRANSITIVE = {"annotated_types": "pydantic", "click": "typer"}


def test_the_lock_of_the_window_holds_the_projects_own_pins_with_hashes() -> None:
    locked = WINDOW_LOCK.read_text(encoding="utf-8").lower()
    for pin in window_pins():
        assert f"\n{pin.lower()} \\\n    --hash=sha256:" in "\n" + locked, f"python packaging/lock_window.py: {pin}"
    forbidden = {line.partition("==")[0] for line in locked.splitlines() if "==" in line} & set(contents.FORBIDDEN)
    assert not forbidden


def test_what_window_and_terminal_import_is_what_is_locked_for_them() -> None:
    import grimp

    graph = grimp.build_graph(
        "aegis_gui", "aegis_core", include_external_packages=True, exclude_type_checking_imports=True
    )
    upstream = graph.find_upstream_modules("aegis_gui", as_package=True)
    foreign = {name.partition(".")[0] for name in upstream} - {"aegis_core", "aegis_gui"} - sys.stdlib_module_names
    named = {IMPORTED_AS.get(name, TRANSITIVE.get(name, name)) for name in foreign}
    assert named <= set(WINDOW_REQUIREMENTS)


def test_the_terminal_beside_the_window_starts_without_the_engines_packages(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        f"for name in {contents.FORBIDDEN!r}: sys.modules[name] = None\n"
        "from aegis_core.engine.terminal import main\n"
        "sys.exit(main(['engine', 'status']))"
    )
    around = {**os.environ, "PYTHONPATH": str(ROOT), "AEGIS_ENGINE": str(tmp_path / "engine")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=around, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "The engine is not set up" in done.stdout


@pytest.mark.parametrize(
    "path",
    [
        "_internal/torch/lib/libtorch.so",
        "_internal/transformers-5.23.0.dist-info/METADATA",
        "matplotlib.pyplot",
        "_internal/nvidia/cudnn/lib/x.so",
    ],
)
def test_a_file_or_module_of_the_engine_is_noticed(path: str) -> None:
    assert contents.forbidden_in([path]) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "pyqtgraph.exporters.Matplotlib",
        "pynvml",
        "_internal/nvidia_ml_py-13.dist-info/METADATA",
        "_internal/resources/engine/torch.txt",
        "_internal/engine/aegis-0.1.0-py3-none-any.whl",
    ],
)
def test_what_only_sounds_like_the_engine_may_stay(path: str) -> None:
    assert contents.forbidden_in([path]) == []


@pytest.mark.parametrize(
    ("path", "unused"),
    [
        ("PySide6/Qt/lib/libQt6Qml.so.6", True),
        ("PySide6/Qt6Quick.dll", True),
        ("PySide6/Qt/plugins/platforminputcontexts/libqtvirtualkeyboardplugin.so", True),
        ("PySide6/Qt/plugins/platforminputcontexts/libibusplatforminputcontextplugin.so", False),
        ("PySide6/plugins/platforms/qwindows.dll", False),
        ("PySide6/Qt/plugins/platforms/libqoffscreen.so", False),
        ("PySide6/plugins/imageformats/qsvg.dll", False),
        ("PySide6/plugins/imageformats/qjpeg.dll", True),
        ("PySide6/plugins/styles/qmodernwindowsstyle.dll", False),
        ("PySide6/translations/qtbase_ja.qm", False),
        ("PySide6/translations/qtbase_de.qm", True),
        ("PySide6/translations/qtdeclarative_ja.qm", True),
        ("PySide6\\opengl32sw.dll", True),
        ("resources/translations/ja.json", False),
    ],
)
def test_unused_parts_of_qt_are_left_out_and_japanese_input_is_not(path: str, unused: bool) -> None:
    assert contents.is_unused(path) is unused


def test_a_missing_input_method_is_noticed() -> None:
    there = [row[0] for row in contents.NEEDED]
    assert contents.missing_in([f"_internal/PySide6/Qt/{name}" for name in there]) == []
    without = [name for name in there if "ibus" not in name]
    assert contents.missing_in(without) == ["plugins/platforminputcontexts/libibusplatforminputcontextplugin.so"]


def test_the_size_report_adds_up_and_names_the_largest_first(tmp_path: Path) -> None:
    for name, size in {
        "program": 3_000_000,
        "_internal/numpy/a.so": 4_000_000,
        "_internal/numpy/b.so": 1_500_000,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert [part.name for part in contents.parts(tmp_path)] == ["_internal/numpy", "program"]
    table = contents.size_table(tmp_path, budget_bytes=9_000_000, n_largest=1)
    assert "| _internal/numpy | 5.5 |" in table and "| 1 smaller parts | 3.0 |" in table
    assert "| **together, in 3 files** | **8.5** |" in table


def test_a_library_that_only_a_dropped_plugin_needed_is_left_out() -> None:
    entries = [
        ("PySide6/QtGui.abi3.so", "/g", "EXTENSION"),
        ("PySide6/Qt/plugins/platforms/libqxcb.so", "/x", "BINARY"),
        ("libX11.so.6", "/1", "BINARY"),
        ("libXau.so.6", "/2", "BINARY"),
        ("libgtk-3.so.0", "/3", "BINARY"),
        ("libpython3.11.so.1.0", "/p", "BINARY"),
    ]
    asks = {"/g": set(), "/x": {"libX11.so.6", "libc.so.6"}, "/1": {"libXau.so.6"}, "/3": {"libX11.so.6"}}
    kept = libraries.reachable(entries, imports=lambda source: asks.get(source, set()))
    assert [entry[0] for entry in entries if entry not in kept] == ["libgtk-3.so.0"]


def test_the_icon_holds_every_size_that_windows_shows(qapp: QApplication) -> None:
    sizes = {size: pictures.png_of(RESOURCES / "aegis.svg", size) for size in (16, 256)}
    icon = pictures.ico_of(sizes)
    assert struct.unpack_from("<HHH", icon) == (0, 1, 2)
    for number, size in enumerate(sizes):
        side, _, _, _, _, _, length, place = struct.unpack_from("<BBBBHHII", icon, 6 + 16 * number)
        picture = QImage.fromData(icon[place : place + length])
        assert side == size % 256 and picture.width() == size
        assert picture.pixelColor(size // 2, size // 2).alpha() or picture.pixelColor(size // 4, size // 2).alpha()


def test_the_version_resource_is_what_the_freezer_reads() -> None:
    text = windows_version.version_resource("0.1.0", "It's a “window”", "aegis.exe")
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert "filevers=(0, 1, 0, 0)" in text and "'OriginalFilename', 'aegis.exe'" in text
    with pytest.raises(ValueError, match=r"0\.1\.0\.dev1 |invalid literal"):
        windows_version.version_resource("0.1.0.dev1", "", "aegis.exe")


def test_the_manifest_asks_for_long_paths_utf_8_and_sharp_text() -> None:
    tree = ElementTree.parse(PACKAGING / "aegis.manifest")
    said = {element.tag.partition("}")[2]: (element.text or "") for element in tree.iter()}
    assert said["longPathAware"] == "true"
    assert said["activeCodePage"] == "UTF-8"
    assert said["dpiAwareness"] == "PerMonitorV2"
    level = next(element for element in tree.iter() if element.tag.endswith("requestedExecutionLevel"))
    assert level.get("level") == "asInvoker"


def went_well() -> dict[str, object]:
    steps = [{"step": step, "status": "done", "seconds": 1.0} for step in smoke.STEPS]
    return {"version": version(), "frozen": True, "steps": steps, "packages": ["numpy"], "failure": ""}


def test_a_rehearsal_is_judged_by_what_was_measured() -> None:
    passed = dict.fromkeys(smoke.MEASURED, "pass")
    assert smoke.faults(0, went_well(), passed, []) == []
    assert smoke.faults(1, {}, {}, []) == ["The window ended with exit code 1 and left no account of what happened."]
    assert "torch" in smoke.faults(0, {**went_well(), "packages": ["torch"]}, passed, [])[0]
    assert "fusion_equal" in smoke.faults(0, went_well(), {**passed, "fusion_equal": "fail"}, [])[0]
    assert smoke.faults(0, {**went_well(), "steps": []}, passed, []) == ["The steps done were none."]


def test_a_relative_folder_of_an_engine_is_the_one_meant_where_the_window_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aegis_core.engine.place import engine_place

    given: list[Path] = []
    gone_well = smoke.Outcome(1.0, 0, {"steps": []}, {}, [])
    monkeypatch.setattr(smoke, "smoke", lambda window, engine, scratch: given.append(engine) or gone_well)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["smoke.py", "--engine", "build/engine"])
    assert smoke.main() == 0
    assert given == [tmp_path / "build" / "engine"]
    monkeypatch.setenv("AEGIS_ENGINE", "build/engine")
    assert engine_place().folder == tmp_path / "build" / "engine"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not (BUILT / EXECUTABLE).is_file(), reason="no frozen window in dist/: python packaging/build.py")
def test_the_frozen_window_drives_the_engine_through_the_ritual(tmp_path: Path) -> None:
    pytest.importorskip("uv")
    engine = smoke.borrowed_engine(tmp_path / "engine", BUILT, Path(sys.executable))
    outcome = smoke.smoke(BUILT, engine, tmp_path / "smoke 煙")
    assert outcome.faults == [], json.dumps(outcome.account, ensure_ascii=False)
