"""The installer's script, read here because it cannot be compiled here: its names, its files, its two languages."""

import re
from pathlib import Path

import pytest
from project import EXECUTABLE, PACKAGING

from aegis_gui.desktop.windows_presence import NAME

TEXT = (PACKAGING / "aegis.iss").read_text(encoding="utf-8-sig")
# From Inno Setup's documentation: what may be written where, as far as this script does.
DIRECTIVES = set(
    [
        "AppId",
        "AppName",
        "AppVersion",
        "AppVerName",
        "AppPublisher",
        "VersionInfoVersion",
        "PrivilegesRequired",
        "DefaultDirName",
        "DisableProgramGroupPage",
        "DisableDirPage",
        "UsePreviousAppDir",
        "ArchitecturesAllowed",
        "ArchitecturesInstallIn64BitMode",
        "MinVersion",
        "AppMutex",
        "CloseApplications",
        "RestartApplications",
        "Compression",
        "SolidCompression",
        "LicenseFile",
        "InfoBeforeFile",
        "SetupIconFile",
        "UninstallDisplayIcon",
        "UninstallDisplayName",
        "WizardStyle",
        "OutputDir",
        "OutputBaseFilename",
        "ShowLanguageDialog",
    ]
)
FLAGS = {
    "Tasks": {"unchecked"},
    "Files": {"recursesubdirs", "createallsubdirs", "ignoreversion"},
    "Run": {"nowait", "postinstall", "skipifsilent"},
}
PARAMETERS = {
    "Languages": {"Name", "MessagesFile"},
    "Tasks": {"Name", "Description", "GroupDescription", "Flags"},
    "InstallDelete": {"Type", "Name"},
    "Files": {"Source", "DestDir", "Flags"},
    "Icons": {"Name", "Filename", "WorkingDir", "Tasks"},
    "Run": {"Filename", "Description", "Flags"},
    "UninstallDelete": {"Type", "Name"},
}


def section(name: str) -> list[str]:
    body = TEXT.split(f"\n[{name}]\n")[1].split("\n[")[0]
    return [line for line in body.splitlines() if line.strip() and not line.startswith((";", "#"))]


def setup() -> dict[str, str]:
    return dict(line.split("=", 1) for line in section("Setup"))


def entries(name: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'(\w+): ("[^"]*"|[^;]+)', line)) for line in section(name)]


def test_the_compiler_knows_every_directive_parameter_and_flag() -> None:
    assert set(setup()) <= DIRECTIVES
    for name, known in PARAMETERS.items():
        for entry in entries(name):
            assert set(entry) <= known, (name, entry)
            assert set(entry.get("Flags", "").split()) <= FLAGS.get(name, set()), (name, entry)


def test_one_person_installs_it_without_a_password_and_over_an_older_version() -> None:
    found = setup()
    assert found["PrivilegesRequired"] == "lowest"
    assert found["DefaultDirName"].startswith("{localappdata}")
    assert re.fullmatch(r"\{\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", found["AppId"])
    assert entries("InstallDelete") == [{"Type": "filesandordirs", "Name": '"{app}\\_internal"'}]


def test_it_looks_for_the_very_mutex_that_the_window_holds() -> None:
    assert setup()["AppMutex"] == NAME


def test_it_is_compressed_as_far_as_lzma2_goes() -> None:
    assert setup()["Compression"] == "lzma2/max" and setup()["SolidCompression"] == "yes"


def test_japanese_and_english_say_the_same_things() -> None:
    languages = {entry["Name"].strip('"') for entry in entries("Languages")}
    assert languages == {"japanese", "english"}
    said = [line.split("=", 1)[0].split(".") for line in section("CustomMessages")]
    spoken = {language: {key for tongue, key in said if tongue == language} for language in languages}
    assert spoken["japanese"] == spoken["english"]
    asked = set(re.findall(r"'(\w+)'\)", TEXT.split("[Code]")[1])) | set(re.findall(r"\{cm:(\w+)\}", TEXT))
    assert asked - {"CreateDesktopIcon", "AdditionalIcons"} <= spoken["english"]
    values = dict(line.split("=", 1) for line in section("CustomMessages"))
    for key in spoken["english"]:
        assert values[f"english.{key}"].count("%1") == values[f"japanese.{key}"].count("%1"), key


def test_uninstalling_asks_before_the_engine_and_the_cache_go_and_keeps_them_when_nobody_answers() -> None:
    code = TEXT.split("[Code]")[1]
    assert "MB_DEFBUTTON2, IDNO" in code, "a silent uninstallation keeps everything"
    assert code.count("DelTree(") == 1
    assert {entry["Name"] for entry in entries("UninstallDelete")} == {'"{app}\\_internal"'}
    assert "userdocs" not in TEXT, "runs are the user's"


def test_the_folders_it_asks_about_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs.windows import Windows

    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda _: "{localappdata}")
    folders = Windows("aegis", appauthor=False)
    own = [folders.user_data_dir + "/engine", folders.user_cache_dir]
    named = re.findall(r"ExpandConstant\('([^']+)'\)", TEXT)
    assert {place.replace("/", "\\") for place in own} <= set(named)


def test_every_file_it_names_is_there_after_a_build(built: Path | None) -> None:
    names = {setup()[key] for key in ("LicenseFile", "InfoBeforeFile")}
    assert all(name.startswith("{#Window}\\") for name in names)
    program = re.search(r'#define Program "([^"]+)"', TEXT)
    assert program and program[1].removesuffix(".exe") == EXECUTABLE.removesuffix(".exe")
    if built is None:
        pytest.skip("no frozen window in dist/: python packaging/build.py")
    for name in names:
        assert (built / name.removeprefix("{#Window}\\")).is_file(), name
    assert (PACKAGING.parent / "build" / "aegis.ico").is_file()


@pytest.fixture
def built() -> Path | None:
    folder = PACKAGING.parent / "dist" / "AEGIS"
    return folder if (folder / EXECUTABLE).is_file() else None
