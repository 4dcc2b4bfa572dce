"""Notices, bills of materials, audit and resolution: what the commands of packaging make of what they are told."""

import json
from pathlib import Path

import audit
import notices
import pytest
import resolve_windows
from notices import Work
from project import WINDOW_LOCK
from tools import Stopped


def work(name: str, licence: str = "MIT", **texts: str) -> Work:
    return Work(name, "1.0", licence, "https://example.org", texts)


def test_the_notices_name_every_work_with_its_terms_and_print_a_shared_text_once() -> None:
    text = notices.composed([work("alpha", LICENSE="The same words."), work("beta", COPYING="The same words.\r\n")], [])
    assert "alpha 1.0\n  Licence: MIT [1]\n" in text and "beta 1.0\n  Licence: MIT [1]\n" in text
    assert text.count("The same words.") == 1
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in text and "GNU GENERAL PUBLIC LICENSE" in text


def test_only_what_is_locked_counts_as_shipped_and_nothing_goes_out_on_unknown_terms(tmp_path: Path) -> None:
    lock = tmp_path / "window.lock"
    lock.write_text("typing-extensions==1.0 \\\n    --hash=sha256:0\nPySide6_Essentials==1.0 \\\n", encoding="utf-8")
    installed = [work("typing_extensions"), work("pyinstaller"), work("pyside6-essentials", "LGPL-3.0-only")]
    shipped = notices.shipped_packages(installed, lock)
    assert [found.name for found in shipped] == ["pyside6-essentials", "typing_extensions"]
    assert "You may replace them" in shipped[0].remark
    with pytest.raises(Stopped, match="typing_extensions is not known"):
        notices.shipped_packages([work("typing_extensions", "")], lock)


def test_libraries_of_the_system_are_named_even_where_nobody_owns_them(tmp_path: Path) -> None:
    inside = tmp_path / "_internal"
    (inside / "PySide6" / "lib").mkdir(parents=True)
    for name in ("libX11.so.6", "libodd.so.1", "libpython3.11.so", "PySide6/lib/libQt6Core.so.6", "libQt6Core.so.6"):
        (inside / name).write_bytes(b"")
    owner = {"libX11.so.6": ("libx11-6", "Copyright of X11")}.get
    found = {work.name: work for work in notices.system_libraries(tmp_path, owner)}
    assert set(found) == {"libx11-6", "libraries of the system"}
    assert found["libx11-6"].texts == {"copyright": "Copyright of X11"}
    assert "libodd.so.1" in found["libraries of the system"].remark


def test_the_bundled_resources_are_named_with_their_terms() -> None:
    found = {work.name: work for work in notices.resources()}
    assert found["Physics questions and answers"].licence == "CC0-1.0"
    assert "SmolLM2" in notices.NOT_SHIPPED


def answer(*rows: dict[str, object]) -> dict[str, object]:
    return {"dependencies": list(rows)}


def row(name: str, number: str, *flaws: str) -> dict[str, object]:
    return {"name": name, "version": number, "vulns": [{"id": flaw, "fix_versions": ["9"]} for flaw in flaws]}


CANARY_ROW = row(*audit.CANARY, "CVE-2019-10906")


def test_an_audit_that_knows_the_canary_and_finds_nothing_is_a_clean_one() -> None:
    found = audit.judged(answer(row("numpy", "2"), CANARY_ROW), [("numpy", "2")])
    assert (found.exit_code, found.findings) == (0, [])
    assert audit.told_of(found) == "No vulnerability is known of the 1 locked packages."


def test_a_database_that_does_not_even_know_the_canary_has_not_audited_anything() -> None:
    found = audit.judged(answer(row("numpy", "2"), row(*audit.CANARY)), [("numpy", "2")])
    assert found.exit_code == 2
    assert audit.told_of(found).startswith("NOT AUDITED")


def test_a_package_about_which_nothing_was_said_makes_the_audit_incomplete() -> None:
    skipped = {"name": "numpy", "skip_reason": "Dependency not found"}
    found = audit.judged(answer(skipped, CANARY_ROW), [("numpy", "2")])
    assert found.exit_code == 2 and "numpy" in found.problem


def test_a_known_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    found = audit.judged(answer(row("numpy", "2", "CVE-1"), CANARY_ROW), [("numpy", "2")])
    assert found.exit_code == 1
    assert "numpy 2: CVE-1, mended in 9" in audit.told_of(found)


def test_being_offline_is_no_clean_audit() -> None:
    found = audit.judged(None, [("numpy", "2")], "Failed to resolve the host")
    assert found.exit_code == 2 and "Failed to resolve" in audit.told_of(found)


def test_the_audit_asks_about_every_locked_package_of_window_and_engine() -> None:
    names = {name for name, _ in audit.locked([WINDOW_LOCK, *audit.ENGINE_LOCKS])}
    assert {"pyside6-essentials", "pydantic", "torch", "transformers", "bitsandbytes"} <= names


def test_a_resolution_that_lost_a_pin_is_none() -> None:
    found = ("numpy==2.4.6", "pyside6-essentials==6.11.2")
    assert resolve_windows.lost(found, ["PySide6-Essentials==6.11.2", "numpy==2.4.6"]) == ""
    assert "numpy==2.4.7" in resolve_windows.lost(found, ["numpy==2.4.7"])


def test_a_bill_of_materials_with_uv_and_python_is_valid_cyclonedx(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx")
    import bill_of_materials

    bill_of_materials.write_engine(tmp_path / "engine.cdx.json")
    bill = json.loads((tmp_path / "engine.cdx.json").read_text(encoding="utf-8"))
    assert {"torch", "transformers"} <= {component["name"] for component in bill["components"]}
    assert bill_of_materials.problem_of(bill) == ""
    with pytest.raises(ValueError, match="not valid"):
        bill_of_materials.with_components(bill, [{"type": "no such type", "name": "uv"}])
