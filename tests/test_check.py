"""The environment check reads this machine; each finding that can go wrong is made to go wrong."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from aegis_core import hardware
from aegis_core.cancel import CancelToken
from aegis_core.chat.ollama_state import look
from aegis_core.context import StepContext
from aegis_core.diagnoses import graphics, reach
from aegis_core.engine import remedy as remedies
from aegis_core.engine.place import Place
from aegis_core.events import CheckRow, Event
from aegis_core.hardware import CudaCard, Gpu
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.steps import check

CARD = Gpu("NVIDIA GeForce RTX 3060", "560.94", "12.6", 12_000_000_000, 1, None, 3.0, 50.0, 20.0)


@pytest.fixture
def no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")


@pytest.fixture
def an_ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "0.12.3"}' if self.path == "/api/version" else b"{}")

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
    yield "0.12.3"
    server.shutdown()
    server.server_close()


def rows(plan: Plan, folder: Path) -> dict[str, CheckRow]:
    return {row.name: row for row in check.examine(plan, folder)}


def test_the_rows_are_what_is_installed_here(tmp_path: Path, no_ollama: None) -> None:
    found = rows(demo_plan(), tmp_path)
    for name in ("transformers", "peft", "datasets", "optuna", "gguf", "libgguf", "xllamacpp"):
        assert found[name].found == metadata.version(name)
        assert found[name].status == "ok"
    assert found["Python"].found == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"].found.startswith(metadata.version("torch").split("+")[0])
    assert found["RAM"].status in ("ok", "warning")
    assert all(row.fix for row in found.values() if row.status != "ok")
    assert all(row.status in ("ok", "warning", "missing") for row in found.values())


def test_the_step_leaves_its_rows_as_a_file(run: RunDirectory, no_ollama: None) -> None:
    heard: list[Event] = []
    ctx = StepContext(run, "check", heard.append, CancelToken())
    check.run(run.plan(), ctx)
    written = read_json(run.path / "check" / "check.json")
    said = [event for event in heard if isinstance(event, CheckRow)]
    assert [row["name"] for row in written] == [row.name for row in said]
    assert [Path(artifact.path).name for artifact in ctx.artifacts] == ["check.json"]


def test_an_ollama_that_answers_is_named_and_an_absent_one_is_only_a_warning(
    tmp_path: Path, an_ollama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = reach.ollama_row(look())
    assert row.status == "ok"
    assert an_ollama in row.found
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    assert reach.ollama_row(look()).status == "warning"
    monkeypatch.setenv("OLLAMA_HOST", "http://here:not-a-port")
    assert reach.ollama_row(look()).status == "warning"


def fake_torch(cuda: str | None, available: bool) -> object:
    version = SimpleNamespace(cuda=cuda)
    return SimpleNamespace(__version__="2.13.0", version=version, cuda=SimpleNamespace(is_available=lambda: available))


@pytest.mark.parametrize(
    ("cuda", "available", "card", "status", "words"),
    [
        (None, False, None, "ok", "2.13.0"),
        (None, False, CARD, "warning", "python start.py"),
        ("12.6", False, CARD, "warning", "driver"),
        ("12.6", True, CARD, "ok", "CUDA 12.6"),
    ],
)
def test_torch_is_judged_together_with_the_card(
    cuda: str | None, available: bool, card: Gpu | None, status: str, words: str
) -> None:
    row = graphics.torch_row(fake_torch(cuda, available), card)  # type: ignore[arg-type]
    assert row.status == status
    assert words in f"{row.found} {row.fix}"


def test_a_torch_that_cannot_be_loaded_is_missing_and_nothing_works_without_it() -> None:
    row = graphics.torch_row("DLL load failed: fbgemm.dll", CARD)
    assert (row.status, row.fix, row.mend) == ("missing", "python start.py", "")
    assert row.name in check.ESSENTIAL


def test_what_mends_a_package_depends_on_how_it_came_here_with_fake_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "engine_place", lambda: Place(tmp_path / "エンジン 1"))
    broken = graphics.torch_row("DLL load failed", CARD)
    assert (broken.fix, broken.mend) == ("python start.py", "")
    with monkeypatch.context() as on_windows:
        on_windows.setattr(remedies.platforms, "here", lambda: SimpleNamespace(name="win32"))
        assert graphics.torch_row("DLL load failed", CARD).fix == "start.bat"
    monkeypatch.setattr(remedies, "_CHECKOUT", tmp_path)
    assert graphics.torch_row("DLL load failed", CARD).fix == "pip install --force-reinstall aegis"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "エンジン 1" / "environment"))
    monkeypatch.setattr(hardware, "cuda_card", lambda: CudaCard((12, 6), (8, 6)))
    built_for_cpu = graphics.torch_row(fake_torch(None, False), CARD)  # type: ignore[arg-type]
    assert (built_for_cpu.fix, built_for_cpu.mend) == ("aegis engine repair installs the CUDA build.", "engine")
    monkeypatch.setenv("AEGIS_PROGRAM", r"C:\Users\山田 太郎\AEGIS\aegis.exe")
    row = graphics.torch_row("DLL load failed", CARD)
    assert row.fix == r'"C:\Users\山田 太郎\AEGIS\aegis.exe" engine repair'
    monkeypatch.delenv("AEGIS_PROGRAM")
    old_driver = graphics.torch_row(fake_torch("12.6", False), CARD)  # type: ignore[arg-type]
    assert old_driver.fix == "Update the NVIDIA driver, then aegis engine repair."


@pytest.mark.parametrize(
    ("card", "found", "fix", "mend"),
    [
        (CudaCard((12, 6), (8, 6)), "2.13.0 cannot use the", "python start.py installs the CUDA build.", ""),
        (CudaCard((12, 9), (12, 0)), "needs CUDA 13.0, and the driver 560.94 runs 12.6", "Update the", "nvidia_driver"),
        (CudaCard((11, 4), (8, 6)), "needs CUDA 12.0, and the driver 560.94 runs 12.6", "Update the", "nvidia_driver"),
        (CudaCard((13, 0), (3, 5)), "no build of torch for CUDA knows the", "Use another card.", ""),
        (None, "2.13.0 cannot use the", "Update the NVIDIA driver", "nvidia_driver"),
    ],
    ids=["another build", "new card, old driver", "old driver", "too old a card", "the driver does not tell"],
)
def test_a_torch_for_the_processor_is_not_reinstalled_in_a_circle_with_fake_cards(
    card: CudaCard | None, found: str, fix: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cuda_card", lambda: card)
    row = graphics.torch_row(fake_torch(None, False), CARD)  # type: ignore[arg-type]
    assert found in row.found and row.fix.startswith(fix) and row.mend == mend


def test_without_an_essential_package_the_step_fails_with_one_sentence(tmp_path: Path) -> None:
    """In a Python that cannot see peft: the look-up of its metadata finds nothing, as if it were not installed."""
    code = f"""
import sys
from importlib import metadata
from pathlib import Path
from aegis_core.cli import main

real = metadata.Distribution.discover.__func__
def discover(cls, **kwargs):
    context = kwargs.get("context") or metadata.DistributionFinder.Context(**kwargs)
    return iter([]) if context.name == "peft" else real(cls, **kwargs)
metadata.Distribution.discover = classmethod(discover)
main(["new", {str(tmp_path / "run")!r}, "--demo"])
sys.exit(main(["run", {str(tmp_path / "run")!r}, "--only", "check"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Nothing can work without peft.", "python start.py installs it."]


def test_bitsandbytes_is_wanted_only_with_cuda() -> None:
    assert graphics.bitsandbytes_row(cuda=False).status == "ok"
    try:
        metadata.version("bitsandbytes")
    except metadata.PackageNotFoundError:
        assert graphics.bitsandbytes_row(cuda=True).status == "missing"


def test_a_machine_without_a_card_is_told_so_unless_the_demo_runs() -> None:
    assert graphics.gpu_row(demo_plan(), None).status == "ok"
    assert graphics.gpu_row(Plan(), None).status == "warning"
    row = graphics.gpu_row(Plan(), CARD)
    assert row.status == "ok"
    assert "RTX 3060" in row.found and "12.0 GB" in row.found and "560.94" in row.found


def test_too_little_disk_for_what_will_be_written_is_a_warning_on_the_drive_concerned(tmp_path: Path) -> None:
    plan = changed(demo_plan(), {"export.directory": str(tmp_path / "他のドライブ")})
    folder = tmp_path / "run"
    base = {"source": "demo", "revision": "", "folder": "", "sha256": "", "license": "", "architecture": ""}
    numbers = {"n_parameters": 10**15, "hidden_size": 8, "vocabulary_size": 8, "tied_embeddings": True}
    (folder / "prepare").mkdir(parents=True)
    path = folder / "prepare" / "base.json"
    path.write_text(json.dumps(base | numbers), encoding="utf-8")
    run_row, export_row = check._disks(plan, folder)
    assert (run_row.name, export_row.name) == ("disk (run, fused model)", "disk (GGUF)")
    assert run_row.status == export_row.status == "warning"
    assert "GB will be written" in export_row.found
    path.write_text(json.dumps(base | numbers | {"n_parameters": 10}), encoding="utf-8")
    assert {row.status for row in check._disks(plan, folder)} == {"ok"}


def test_readings_of_the_machine_are_real_or_absent_and_never_raise(tmp_path: Path) -> None:
    reading = hardware.reading(tmp_path / "not there yet")
    assert reading.ram_total_bytes and reading.ram_used_bytes
    assert 0 < reading.ram_used_bytes < reading.ram_total_bytes
    assert reading.ram_own_bytes and 10_000_000 < reading.ram_own_bytes < reading.ram_total_bytes
    assert reading.disk_free_bytes
    assert (reading.gpu_name is None) == (reading.vram_total_bytes is None)
    assert hardware.reading(pid=2**22 - 3).ram_own_bytes is None


def test_the_memory_of_children_counts_as_own() -> None:
    hog = "x = bytearray(200_000_000); print('ready', flush=True); input()"
    before = hardware.reading().ram_own_bytes
    with subprocess.Popen([sys.executable, "-c", hog], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        after = hardware.reading().ram_own_bytes
        child.kill()
    assert before and after and after - before > 150_000_000
