"""Each thing that goes wrong in practice has its row in the environment check, and so has the healthy machine.

Windows, its registry, NVML and bitsandbytes are fakes; servers, files and clocks are real or given by hand.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import constants

from aegis_core import cli, hardware, platforms
from aegis_core.chat.ollama_state import OllamaState, Presence
from aegis_core.diagnoses import graphics, memory, places, reach
from aegis_core.events import CheckRow
from aegis_core.failures import UserError
from aegis_core.hardware import Gpu
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.platforms import Commitment, GpuMemory
from aegis_core.steps import check

CARD = Gpu("NVIDIA GeForce RTX 3060", "560.94", "12.6", 12_000_000_000, 500_000_000, None, 3.0, 50.0, 20.0)
SOURCE = "someone/gated-model"


class FakeSystem:
    """A system that answers what it was told to; a healthy Windows unless changed."""

    name, case_blind_drives = "win32", True

    def __init__(self, **answers: Any) -> None:
        healthy: dict[str, Any] = {
            "gpu_memory": GpuMemory(0, 0),
            "commitment": Commitment(48_000_000_000, 30_000_000_000),
            "longest_path": None,
            "missing_runtimes": (),
            "graphics_adapters": ("NVIDIA GeForce RTX 3060",),
            "description": "Windows 11",
        }
        for question, answer in (healthy | answers).items():
            setattr(self, question, lambda *given, answer=answer: answer)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(**answers: Any) -> None:
        monkeypatch.setattr(platforms, "here", lambda: FakeSystem(**answers))

    return use


def fake_torch(cuda: str | None, available: bool) -> Any:
    version = SimpleNamespace(cuda=cuda)
    return SimpleNamespace(__version__="2.13.0", version=version, cuda=SimpleNamespace(is_available=lambda: available))


# Graphics


def test_a_torch_for_the_processor_alone_beside_a_card_is_a_warning_that_names_the_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "cuda_card", lambda: hardware.CudaCard((12, 6), (8, 6)))
    row = graphics.torch_row(fake_torch(None, False), CARD)
    assert row.status == "warning" and "RTX 3060" in row.found and "CUDA build" in row.fix
    assert graphics.torch_row(fake_torch("12.6", True), CARD).status == "ok"


def test_a_driver_too_old_for_this_torch_is_told_by_both_numbers_and_leads_to_the_driver() -> None:
    row = graphics.torch_row(fake_torch("13.0", False), replace(CARD, cuda="12.10"))
    assert row.status == "warning" and row.mend == "nvidia_driver"
    assert "too old" in row.found and "13.0" in row.found and "12.10" in row.found
    assert "too old" not in graphics.torch_row(fake_torch("12.6", False), CARD).found, "then it is something else"
    assert "too old" not in graphics.torch_row(fake_torch("12.9", False), replace(CARD, cuda="12.10")).found


@pytest.mark.parametrize(
    "error",
    [RuntimeError("library not found: libbitsandbytes_cuda126"), ImportError("DLL load failed"), AttributeError()],
)
def test_a_fake_bitsandbytes_without_cuda_is_found_by_using_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(graphics.metadata, "version", lambda name: "0.50.0")

    def refuse() -> None:
        raise error

    monkeypatch.setattr(graphics, "_quantise", refuse)
    row = graphics.bitsandbytes_row(cuda=True)
    assert row.status == "warning" and str(error) in row.found and row.fix
    assert graphics.bitsandbytes_row(cuda=False).status == "ok"
    monkeypatch.setattr(graphics, "_quantise", lambda: None)
    assert graphics.bitsandbytes_row(cuda=True) == CheckRow("bitsandbytes", "ok", "0.50.0")


def test_an_integrated_gpu_alone_is_named_and_an_nvidia_card_without_a_driver_is_told_apart(on: Any) -> None:
    on(graphics_adapters=("Intel(R) UHD Graphics 770",))
    row = graphics.gpu_row(Plan(), None)
    assert row.status == "warning" and "Intel(R) UHD Graphics 770" in row.found and not row.mend
    assert graphics.gpu_row(demo_plan(), None).status == "ok"
    on(graphics_adapters=("Intel(R) UHD Graphics 770", "NVIDIA GeForce RTX 3060"))
    row = graphics.gpu_row(demo_plan(), None)
    assert row.status == "warning" and "driver does not answer" in row.found and row.mend == "nvidia_driver"


def test_other_programs_on_the_card_are_told_by_what_they_hold() -> None:
    assert graphics.gpu_row(Plan(), CARD).status == "ok"
    row = graphics.gpu_row(Plan(), replace(CARD, vram_used_bytes=5_100_000_000))
    assert row.status == "warning" and "5.1 GB" in row.found and row.mend == "ollama"


def test_on_a_fake_windows_that_counts_no_shared_memory_the_driver_s_setting_is_named(on: Any) -> None:
    on()
    assert [row.status for row in graphics.spill_rows(CARD)] == ["ok"]
    on(gpu_memory=None)
    (row,) = graphics.spill_rows(CARD)
    assert row.status == "warning" and "Prefer No Sysmem Fallback" in row.fix
    assert graphics.spill_rows(None) == []


# System and memory


def test_on_a_fake_windows_a_missing_runtime_is_named_and_leads_to_microsoft(on: Any) -> None:
    on(missing_runtimes=("vcruntime140_1.dll", "msvcp140.dll"))
    (row,) = check._runtimes()
    assert row.status == "warning" and "vcruntime140_1.dll, msvcp140.dll" in row.found and row.mend == "visual_cpp"
    on()
    assert [row.status for row in check._runtimes()] == ["ok"]


def test_a_locale_that_is_not_utf_8_is_a_warning_unless_the_mode_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.locale, "getpreferredencoding", lambda do_setlocale: "cp932")
    monkeypatch.setattr(check.sys, "flags", SimpleNamespace(utf8_mode=0))
    row = check._utf8()
    assert row.status == "warning" and row.found == "cp932" and "PYTHONUTF8=1" in row.fix
    monkeypatch.setattr(check.sys, "flags", SimpleNamespace(utf8_mode=1))
    assert check._utf8().status == "ok"


@pytest.mark.parametrize(
    ("total", "free", "status", "words"),
    [
        (32e9, 20e9, "ok", "32.0 GB"),
        (32e9, 1.1e9, "warning", "only 1.1 GB are free"),
        (4e9, 3e9, "warning", "4.0 GB"),
        (None, 0, "warning", "cannot be read"),
    ],
)
def test_ram_is_judged_by_what_is_there_and_by_what_is_free(
    monkeypatch: pytest.MonkeyPatch, total: float | None, free: float, status: str, words: str
) -> None:
    monkeypatch.setattr(hardware, "ram_total_bytes", lambda: total)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    row = memory.ram_row()
    assert row.status == status and words in row.found and bool(row.fix) == (status != "ok")


def test_on_a_fake_windows_a_page_file_that_is_too_small_is_a_warning(on: Any) -> None:
    on()
    assert [row.status for row in memory.page_file_rows()] == ["ok"]
    on(commitment=Commitment(17_000_000_000, 3_000_000_000))
    (row,) = memory.page_file_rows()
    assert row.status == "warning" and "3.0 of 17.0 GB" in row.found and "page file" in row.fix
    on(commitment=None)
    assert memory.page_file_rows() == []


# Places


def test_the_disk_is_really_written_and_left_as_it_was(tmp_path: Path) -> None:
    (row,) = places.speed_rows(tmp_path / "not there yet")
    assert row.name == "disk speed" and "MB/s written and forced to the disk" in row.found
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_a_warning_by_a_clock_that_runs_fast(tmp_path: Path) -> None:
    ticks = iter(range(1000))
    (row,) = places.speed_rows(tmp_path, lambda: float(next(ticks)))
    assert row.status == "warning" and row.found.startswith("4 MB/s") and "SSD" in row.fix
    (row,) = places.speed_rows(tmp_path, lambda: next(ticks) / 1e6)
    assert row.status == "ok"


def test_a_folder_that_cannot_be_written_is_a_row_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(home: Path, clock: Any) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places, "_written", refuse)
    (row,) = places.speed_rows(tmp_path)
    assert row.status == "warning" and "Permission denied" in row.found
    monkeypatch.setattr(hardware, "disk_free_bytes", lambda path: 1_000_000)
    assert places.speed_rows(tmp_path) == [], "a full disk is not filled further; its own row says so"


def test_on_a_fake_windows_paths_are_too_long_only_where_they_really_become_so(on: Any, tmp_path: Path) -> None:
    on(longest_path=259)
    short, deep = Path("/A"), Path("/" + "ユーザー名の長いフォルダー/" * 20)
    assert [row.status for row in places.path_rows(short)] == ["ok"]
    (row,) = places.path_rows(deep)
    assert row.status == "warning" and "259" in row.found and "LongPathsEnabled" in row.fix
    on(longest_path=None)
    assert [row.status for row in places.path_rows(deep)] == ["ok"]


# Ollama and the hub


@pytest.mark.parametrize(
    ("presence", "status", "mend"),
    [
        (Presence.RUNNING, "ok", ""),
        (Presence.STOPPED, "warning", "ollama"),
        (Presence.ABSENT, "warning", "ollama_download"),
        (Presence.TOO_OLD, "warning", "ollama_download"),
        (Presence.STRANGER, "warning", ""),
        (Presence.SILENT, "warning", ""),
    ],
)
def test_every_state_of_ollama_is_a_row_with_its_mend(presence: Presence, status: str, mend: str) -> None:
    problem = None if status == "ok" else UserError("Something is wrong.", "Do this.")
    row = reach.ollama_row(OllamaState(presence, "http://127.0.0.1:11434", "0.12.3", problem=problem))
    assert (row.status, row.mend) == (status, mend)


class FakeHub(ThreadingHTTPServer):
    status, code, date, pause = 200, "", "", 0.0
    asked: list[tuple[str, str]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            server.asked.append((self.path, self.headers.get("Authorization", "")))
            time.sleep(server.pause)
            self.send_response_only(server.status)
            self.send_header("Date", server.date or formatdate(usegmt=True))
            if server.code:
                self.send_header("X-Error-Code", server.code)
            if server.status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = FakeHub(("127.0.0.1", 0), Answer)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach, "get_token", lambda: None)
    yield server
    server.shutdown()
    server.server_close()


def hub_rows(source: str = SOURCE, **more: Any) -> dict[str, CheckRow]:
    plan = demo_plan() if source == "demo" else changed(Plan(), {"model.source": source})
    return {row.name: row for row in reach.hub_rows(plan, **more)}


def test_a_hub_that_answers_is_in_order_and_so_is_the_clock(hub: FakeHub) -> None:
    hub.status = 302
    rows = hub_rows()
    assert [(row.name, row.status) for row in rows.values()] == [("model hub", "ok"), ("clock", "ok")]
    assert hub.asked == [(f"/{SOURCE}/resolve/main/config.json", "")]


@pytest.mark.parametrize(
    ("token", "status", "code", "words", "mend"),
    [
        (None, 401, "GatedRepo", "asks for a token", "hub_token"),
        (None, 401, "RepoNotFound", "unknown, or it is private", "hub_token"),
        ("hf_x", 403, "GatedRepo", "licence", ""),
        ("hf_x", 401, "", "token is refused", "hub_token"),
        (None, 404, "", "knows no", ""),
        (None, 503, "", "status 503", ""),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_mend_and_never_with_the_token(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str | None, status: int, code: str, words: str, mend: str
) -> None:
    monkeypatch.setattr(reach, "get_token", lambda: token)
    hub.status, hub.code = status, code
    row = hub_rows()["model hub"]
    assert row.status == "warning" and words in row.found and row.mend == mend and row.fix
    assert "hf_x" not in json.dumps([row.found, row.fix])
    assert hub.asked[0][1] == ("" if token is None else "Bearer hf_x")


def test_the_demo_sends_no_token_and_needs_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "get_token", lambda: "hf_x")
    assert hub_rows("demo")["model hub"].status == "ok"
    assert hub.asked == [("/api/models?limit=1", "")]
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub_rows("demo")["model hub"].status == "ok"
    assert hub_rows()["model hub"].status == "warning"


def test_a_clock_that_is_wrong_is_told_by_the_hub_s_own(hub: FakeHub) -> None:
    hub.date = "Thu, 01 Jan 2026 00:00:00 GMT"
    row = hub_rows(now=lambda: 1767225600.0 + 7200)["clock"]
    assert row.status == "warning" and "120 minutes" in row.found
    assert hub_rows(now=lambda: 1767225600.0 - 60)["clock"].status == "ok"
    hub.date = "no date"
    assert "clock" not in hub_rows()


@pytest.mark.parametrize(("code", "name"), [(9, "clock"), (10, "clock"), (19, "model hub")])
def test_a_certificate_of_another_time_is_the_clock_s_fault_and_an_untrusted_one_the_network_s(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
        cause.verify_code = code
        raise httpx.ConnectError("certificate verify failed") from cause

    monkeypatch.setattr(reach.httpx, "head", refuse)
    ((only, row),) = hub_rows().items()
    assert only == name and row.status == "warning" and row.fix


def test_going_online_is_not_tried_where_it_is_forbidden(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [row.status for row in hub_rows().values()] == ["ok"]
    assert hub.asked == []


def test_a_network_that_never_answers_is_left_alone_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(reach, "hub_rows", lambda plan: [hangs.wait(20)])
    (row,) = reach.asked(Plan(), seconds=0.01)()
    hangs.set()
    assert (row.status, row.found) == ("warning", "did not answer within 0.01 s")


def test_a_hub_that_accepts_the_connection_and_says_nothing_is_told_from_one_that_is_not_there(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        row = hub_rows()["model hub"]
        assert (row.status, row.found) == ("warning", "did not answer within 0.2 s") and row.fix
        assert hub_rows("demo")["model hub"].status == "ok"
    assert hub_rows()["model hub"].found == "cannot be reached"


def test_an_answer_as_slow_as_through_a_company_s_proxy_still_counts(hub: FakeHub) -> None:
    hub.pause = 2.6  # seconds; it used to be given up after 2.5
    (row, _) = reach.asked(changed(Plan(), {"model.source": SOURCE}))()
    assert (row.status, row.found) == ("ok", "127.0.0.1 answers")


@pytest.mark.parametrize("kind", ["socks5", "socks4"])
def test_a_socks_proxy_is_named_without_its_password_instead_of_a_row_that_is_not_there(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """socks4 is what a SOCKS proxy in Windows' own settings arrives as."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("ALL_PROXY", f"{kind}://user:geheim@proxy.invalid:1080")
    (row,) = reach.asked(changed(Plan(), {"model.source": SOURCE}))()
    assert (row.name, row.status) == ("model hub", "warning") and "HTTP proxy" in row.fix
    assert row.found == f"the proxy {kind}://proxy.invalid:1080 is of a kind (SOCKS) that AEGIS cannot use"
    monkeypatch.setenv("NO_PROXY", "*")
    assert hub_rows()["model hub"].found == "cannot be reached"


def test_an_error_nobody_foresaw_is_a_row_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(plan: Plan) -> None:
        raise LookupError("hf_x")

    monkeypatch.setattr(reach, "hub_rows", fails)
    (row,) = reach.asked(Plan())()
    assert (row.status, row.found) == ("warning", "could not be asked: LookupError")


def test_the_json_form_keeps_its_fields_and_only_gains_some(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert all(list(row)[:4] == ["name", "status", "found", "fix"] for row in rows)
    assert {row["status"] for row in rows} <= {"ok", "warning", "missing"}
    assert {"torch", "GPU", "RAM", "disk speed", "Ollama", "model hub"} <= {row["name"] for row in rows}
