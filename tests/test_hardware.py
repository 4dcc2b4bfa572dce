"""Readings of a card that is not there: a fake NVML and fake Windows counters. Everything read here is invented."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from aegis_core import cli, hardware, platforms
from aegis_core.engine.command import engine_environment
from aegis_core.events import Event, Log, StepStarted, Telemetry
from aegis_core.plan import Plan
from aegis_core.platforms import windows_graphics
from aegis_core.platforms.windows import Windows
from aegis_core.run_directory import RunDirectory
from aegis_core.session import Session

OWN = frozenset([4711])
PID = "pid_{pid}_luid_0x00000000_0x0000C3A6_phys_0"


class FakeNvml:
    """Answers like the driver of one card; names in `silent` raise NVMLError, as drivers do for what they withhold."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, *silent: str, own: int | None = 5_000_000_000) -> None:
        self.silent, self.own = silent, own
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name in self.silent:
            return self._refuse
        return {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByIndex": lambda index: self.asked.append(index) or "handle",
            "nvmlDeviceGetName": lambda handle: "NVIDIA GeForce RTX 3060",
            "nvmlSystemGetDriverVersion": lambda: "560.94",
            "nvmlSystemGetCudaDriverVersion": lambda: 12060,
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=12_000_000_000, used=7_000_000_000),
            "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=96, memory=40),
            "nvmlDeviceGetTemperature": lambda handle, kind: 71,
            "nvmlDeviceGetPowerUsage": lambda handle: 143_200,
            "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
                SimpleNamespace(pid=4711, usedGpuMemory=self.own),
                SimpleNamespace(pid=1, usedGpuMemory=900_000_000),
            ],
        }[name]

    def _refuse(self, *arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    hardware._driver.cache_clear()
    yield
    hardware._driver.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> None:
    monkeypatch.setattr(hardware, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # the suite hides a real card


def test_fake_nvml_everything_it_tells_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeNvml())
    card = hardware.gpu(OWN)
    assert card is not None
    assert (card.name, card.driver, card.cuda) == ("NVIDIA GeForce RTX 3060", "560.94", "12.6")
    assert (card.vram_total_bytes, card.vram_used_bytes) == (12_000_000_000, 7_000_000_000)
    assert card.vram_own_bytes == 5_000_000_000
    assert (card.percent, card.celsius, card.watts) == (96.0, 71, 143.2)
    assert card.vram_shared_bytes is None


@pytest.mark.parametrize(
    ("silent", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "vram_total_bytes vram_used_bytes"),
        ("nvmlDeviceGetUtilizationRates", "percent"),
        ("nvmlDeviceGetTemperature", "celsius"),
        ("nvmlDeviceGetPowerUsage", "watts"),
        ("nvmlDeviceGetComputeRunningProcesses", "vram_own_bytes"),
        ("nvmlSystemGetDriverVersion", "driver"),
        ("nvmlSystemGetCudaDriverVersion", "cuda"),
    ],
)
def test_fake_nvml_what_a_driver_withholds_is_absent_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch, silent: str, field: str
) -> None:
    use(monkeypatch, FakeNvml(silent))
    card = hardware.gpu(OWN)
    assert card is not None
    absent = [name for name, value in vars(card).items() if value is None and name != "vram_shared_bytes"]
    assert absent == field.split()


@pytest.mark.parametrize("silent", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_fake_nvml_without_driver_or_card_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    use(monkeypatch, FakeNvml(silent))
    assert hardware.gpu(OWN) is None
    reading = hardware.reading()
    assert reading.vram_total_bytes is None and reading.ram_total_bytes


def test_fake_nvml_the_card_torch_would_use_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    use(monkeypatch, nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    hardware.gpu()
    assert nvml.asked == [2]


@pytest.mark.parametrize("hidden", ["", "-1", " -1,0"])
def test_fake_nvml_a_card_hidden_from_torch_is_none(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    use(monkeypatch, FakeNvml())
    assert hardware.gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert hardware.gpu() is None


def test_torch_is_told_to_number_the_cards_as_the_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert engine_environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST", "the user's own wish"
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    assert engine_environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    cli.main(["--help"])
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_fake_windows_counters_fill_what_its_driver_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeNvml(own=None))
    assert hardware.gpu(OWN).vram_own_bytes is None  # type: ignore[union-attr]
    pids = {PID.format(pid=4711): 6, PID.format(pid=4711) + "_eng_3": 1, PID.format(pid=1): 50, "_Total": 99}
    shared = {PID.format(pid=4711): 2_000_000_000, PID.format(pid=47): 5}
    monkeypatch.setattr(windows_graphics, "_counters", lambda: SimpleNamespace(read=lambda: (pids, shared)))
    monkeypatch.setattr(platforms, "here", Windows)
    card = hardware.gpu(OWN)
    assert card is not None
    assert card.vram_own_bytes == 7
    assert card.vram_shared_bytes == 2_000_000_000


def test_fake_windows_counters_that_refuse_leave_it_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("no such counter")

    monkeypatch.setattr(windows_graphics, "_counters", lambda: SimpleNamespace(read=refuse))
    assert windows_graphics.gpu_memory(OWN) is None


@pytest.mark.skipif(hasattr(ctypes, "WinDLL"), reason="Windows has the counters")
def test_outside_windows_there_are_no_such_counters() -> None:
    assert platforms.here().gpu_memory(OWN) is None


class FakePdh:
    """Speaks as pdh.dll does: asks for a buffer first, then fills it with (name, status, value) rows."""

    def __init__(self) -> None:
        self.rows = [(PID.format(pid=4711), 0, 6 * 10**9), (PID.format(pid=1), 1, 1), ("gone", 0xC0000BBA, 7)]
        self.paths: list[str] = []

    def PdhOpenQueryW(self, source: None, user: None, query: Any) -> int:
        return 0

    def PdhAddEnglishCounterW(self, query: Any, path: str, user: None, handle: Any) -> int:
        self.paths.append(path)
        return 0

    def PdhCollectQueryData(self, query: Any) -> int:
        return 0

    def PdhGetFormattedCounterArrayW(self, handle: Any, kind: int, size: Any, count: Any, buffer: Any) -> int:
        rows = (windows_graphics._Value * len(self.rows))(*self.rows)
        size._obj.value, count._obj.value = ctypes.sizeof(rows), len(self.rows)
        if buffer is None:
            return -0x7FFFF82E  # PDH_MORE_DATA, signed as ctypes returns it
        ctypes.memmove(buffer, rows, ctypes.sizeof(rows))
        self.kept = rows
        return 0


def test_fake_pdh_rows_are_read_and_those_with_an_error_left_out() -> None:
    pdh = FakePdh()
    dedicated, shared = windows_graphics._Counters(pdh).read()
    assert dedicated == shared == {PID.format(pid=4711): 6 * 10**9, PID.format(pid=1): 1}
    assert pdh.paths == [r"\GPU Process Memory(*)\Dedicated Usage", r"\GPU Process Memory(*)\Shared Usage"]
    assert ctypes.sizeof(windows_graphics._Value) == 24  # PDH_FMT_COUNTERVALUE_ITEM_W on 64 bits


def test_a_full_card_that_spills_into_ram_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented readings: the spill begins with the second."""
    readings = iter([Telemetry(), *(Telemetry(vram_shared_bytes=2_000_000_000) for _ in range(1000))])
    monkeypatch.setattr(hardware, "reading", lambda path: next(readings))
    monkeypatch.setattr("aegis_core.session._HEARTBEAT_SECONDS", 0.01)
    heard: list[Event] = []
    run = RunDirectory.create(tmp_path / "run", Plan())
    with Session(run, heard.append) as session:
        session(StepStarted(stage="train"))
        while sum(isinstance(event, Telemetry) for event in heard) < 5:
            pass
    told = [event for event in heard if isinstance(event, Log)]
    assert len(told) == 1 and "2.0 GB" in told[0].text and told[0].level == "warning"
