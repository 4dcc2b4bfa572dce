"""The forecast of a training's memory: sizes, parts, verdicts, and how close it comes to real steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_families import FAMILIES, build

from aegis_core.events import Telemetry
from aegis_core.failures import UserError
from aegis_core.models import memory_parts
from aegis_core.models.memory import (
    Capacity,
    Forecast,
    capacity_in,
    forecast,
    forecast_note,
    record,
    recorded_scale,
    table,
)
from aegis_core.models.memory_advice import smaller
from aegis_core.models.memory_parts import CHUNK_TOKENS
from aegis_core.models.shape import ModelShape, read_shape, shape_of
from aegis_core.models.weights import stored_tensors
from aegis_core.plan import Plan, changed

ROOT = Path(__file__).parent.parent
GB = 10**9
PHI = ModelShape("phi3", 3072, 8192, 32, 32, 32, 96, 32064, tied=False)
"""Phi-3.5-mini's sizes, as in its config.json."""


@pytest.fixture(autouse=True)
def with_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a GPU are those of a machine that has it."""
    monkeypatch.setattr(memory_parts, "has_bitsandbytes", lambda: True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_of_every_family_are_counted_as_its_tensors_are(family: str, tmp_path: Path) -> None:
    folder = build(family, tmp_path / family, attention_bias=family in ("llama", "qwen3"))
    counted = sum(_size(tensor.shape) for tensor in stored_tensors(folder))
    assert read_shape(folder).n_parameters == counted


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_layers_are_those_that_get_an_adapter(family: str, tmp_path: Path) -> None:
    shape = read_shape(build(family, tmp_path / family))
    stored = {tensor.name: tensor.shape for tensor in stored_tensors(tmp_path / family)}
    for linear in shape.linears:
        found = [size for name, size in stored.items() if name.endswith(f"{linear.name}.weight")]
        assert found == [(linear.n_out, linear.n_in)] * shape.n_layers, linear.name


def test_phi_35_mini_has_its_published_number_of_parameters() -> None:
    assert PHI.n_parameters == 3_821_079_552
    assert PHI.n_lora_parameters(16) == 25_165_824
    assert PHI.n_lora_parameters(16, ("qkv_proj",)) == 32 * 16 * (3072 + 9216)


def test_a_configuration_inside_another_and_silent_defaults_are_understood() -> None:
    sizes = {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"model_type": "gemma3_text", "vocab_size": 1000, "num_key_value_heads": 1, **sizes}
    shape = shape_of({"model_type": "gemma3", "text_config": text})
    assert (shape.head_dim, shape.tied) == (256, True)
    assert shape_of({**text, "model_type": "llama"}).head_dim == 160


def test_an_unknown_family_and_a_damaged_configuration_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mamba"):
        shape_of({"model_type": "mamba"})
    with pytest.raises(UserError, match="There is no config"):
        read_shape(tmp_path)
    for text in ("{", "[]", '{"model_type": "llama"}', '{"model_type": "llama", "num_attention_heads": 0}'):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="not readable"):
            read_shape(tmp_path)


def test_phi_35_on_a_12_gb_card_takes_what_its_users_report() -> None:
    """5.5 to 6 GB at batch 2 × 1024 with QLoRA; our own chunked loss spares some of it."""
    found = forecast(PHI, Plan(), device="cuda")
    assert 3.6e9 < found.own_bytes < 6e9
    assert found.verdict(12 * GB) == "fits"
    # 4.127 bits for the blocks' linear layers, 16 for the rest
    assert found.weights == pytest.approx(3_623_878_656 * 4.127 / 8 + 2 * (3_821_079_552 - 3_623_878_656), rel=1e-3)
    full = forecast(PHI, changed(Plan(), {"model.quantisation": "none"}), device="cuda")
    assert full.weights == 2 * PHI.n_parameters
    assert full.verdict(8 * GB) == "too_large"


def test_without_bitsandbytes_auto_keeps_the_base_in_sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_parts, "has_bitsandbytes", lambda: False)
    found = forecast(PHI, Plan(), device="cuda")
    plain = changed(Plan(), {"model.quantisation": "none", "train.optimizer": "adamw"})
    assert found.parts == forecast(PHI, plain, device="cuda").parts and found.weights == 2 * PHI.n_parameters
    suggested = {name for step in smaller(plain, PHI, Capacity("cuda", 12 * GB)) for name in step.changes}
    assert "train.batch_size" in suggested and "model.quantisation" not in suggested


def test_the_chunk_of_the_loss_is_the_one_that_is_counted() -> None:
    from aegis_core.training.loss import CHUNK_TOKENS as REAL

    assert REAL == CHUNK_TOKENS


@pytest.mark.parametrize(
    ("changes", "part", "grows"),
    [
        ({"train.batch_size": 4}, "activations", True),
        ({"data.sequence_length": 2048}, "activations", True),
        ({"train.gradient_checkpointing": "off"}, "activations", True),
        ({"lora.rank": 64}, "optimiser", True),
        ({"train.optimizer": "adamw"}, "optimiser", True),
        ({"lora.dropout": 0.0}, "activations", False),
        ({"lora.dora": True}, "activations", True),
        ({"soul.inner_layers": [1, 2]}, "adapters", True),
        ({"model.dtype": "float32"}, "activations", True),
    ],
)
def test_settings_move_the_part_they_touch(changes: dict[str, object], part: str, grows: bool) -> None:
    before, after = (forecast(PHI, plan, device="cuda").parts[part] for plan in (Plan(), changed(Plan(), changes)))
    assert (after > before) is grows and after != before


def test_a_verdict_leaves_room_for_the_forecasts_own_error() -> None:
    found = _invented(own=1000, others=100)
    assert [found.verdict(total) for total in (1250, 1249, 1100, 1099)] == ["fits", "tight", "tight", "too_large"]
    measured = found.corrected(1000)
    assert measured.verdict(1151) == "fits"


def test_a_measured_peak_becomes_the_forecast_and_scales_other_sizes() -> None:
    found = forecast(PHI, Plan(), device="cpu")
    peak = found.own_bytes + 700_000_000
    corrected = found.corrected(peak)
    assert corrected.own_bytes == pytest.approx(peak, abs=3)
    assert corrected.weights == found.weights and corrected.activations > found.activations
    assert corrected.corrected(found.own_bytes).own_bytes == pytest.approx(found.own_bytes, abs=3)
    again = forecast(PHI, Plan(), device="cpu", scale=corrected.scale)
    assert again == corrected


def test_on_cuda_the_measured_peak_is_the_allocators_and_the_context_comes_on_top() -> None:
    found = forecast(PHI, Plan(), device="cuda", others_bytes=GB)
    corrected = found.corrected(5 * GB)
    assert corrected.own_bytes == pytest.approx(5 * GB + found.context, abs=3)
    assert corrected.others == GB


def test_the_table_holds_the_chosen_cell_and_grows_in_both_directions() -> None:
    plan = changed(Plan(), {"train.batch_size": 3, "data.sequence_length": 1000})
    cells = table(PHI, plan, Capacity("cuda", 12 * GB))
    batches, lengths = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    assert len(cells) == len(batches) * len(lengths) and (3, 1000) in cells
    for batch in batches:
        row = [cells[batch, length].total_bytes for length in lengths]
        assert row == sorted(row)
    assert {cell.verdict(12 * GB) for cell in cells.values()} >= {"fits", "too_large"}


def test_the_room_is_the_cards_or_else_the_rams() -> None:
    ram = {"ram_total_bytes": 16, "ram_used_bytes": 7, "ram_own_bytes": 2}
    assert capacity_in(Telemetry(**ram)) == Capacity("cpu", 16, 5)
    card = {"vram_total_bytes": 12, "vram_used_bytes": 4, "vram_own_bytes": None}
    assert capacity_in(Telemetry(**ram, **card)) == Capacity("cuda", 12, 4)
    assert capacity_in(Telemetry()) is None


def test_the_note_says_what_is_needed_and_warns_where_it_is_not_there() -> None:
    found = _invented(own=5 * GB, others=0)
    fits, tight, large = (forecast_note(found, Capacity("cuda", total * GB)) for total in (12, 5, 4))
    assert fits.level == "info" and "5.0 GB of 12.0 GB graphics memory" in fits.text
    assert tight.level == large.level == "warning"
    assert "more than the 4.0 GB" in large.text
    assert "RAM" in forecast_note(found, Capacity("cpu", 12 * GB)).text


def test_what_was_measured_is_kept_beside_the_training(tmp_path: Path) -> None:
    found = forecast(PHI, Plan(), device="cpu")
    corrected = record(tmp_path, found, 20 * GB, Capacity("cpu", 64 * GB))
    row = json.loads((tmp_path / "memory.json").read_text(encoding="utf-8"))
    assert row["measured_peak_bytes"] == 20 * GB
    assert row["forecast"] == found.parts and row["corrected"] == corrected.parts
    assert row["verdict"] == "fits"
    assert recorded_scale(tmp_path, "cpu") == corrected.scale
    assert recorded_scale(tmp_path, "cuda") is None
    (tmp_path / "memory.json").write_text("{", encoding="utf-8")
    assert recorded_scale(tmp_path, "cpu") is None


def test_the_forecast_is_close_to_the_peak_of_real_training_steps(tmp_path: Path) -> None:
    """Four layers, H 512, V 16000, 4 × 128 tokens; benchmarks/memory_forecast.py has more."""
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4, "num_attention_heads": 8}
    folder = build("llama", tmp_path / "small 小", vocab_size=16000, **sizes)
    command = [sys.executable, ROOT / "benchmarks" / "memory_forecast.py", "--model", folder, "4x128"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, check=True)
    ratio = float(done.stdout.splitlines()[-1].split("|")[4])
    assert 0.8 < ratio < 1.25, done.stdout


def test_the_window_gets_the_forecast_without_loading_torch() -> None:
    code = "import sys, aegis_core.models.memory_advice; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.split() == ["False", "False"]


def _invented(own: int, others: int) -> Forecast:
    return Forecast("cpu", 1, 1, own, 0, 0, 0, 0, 0, 0, 0, others)


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


@pytest.mark.parametrize(
    ("batch", "length", "checkpointing", "measured"),
    [(1, 512, "auto", 3.75e9), (2, 1024, "auto", 4.45e9), (2, 2048, "auto", 5.32e9), (2, 1024, "off", 14.67e9)],
)
def test_the_forecast_for_cuda_is_what_a_real_card_took(
    batch: int, length: int, checkpointing: str, measured: float
) -> None:
    """The driver's figures of benchmarks/cuda.py on an H200; a little too much is better than too little."""
    settings = {"train.batch_size": batch, "data.sequence_length": length, "model.quantisation": "nf4",
                "train.optimizer": "paged_adamw_8bit", "train.gradient_checkpointing": checkpointing}  # fmt: skip
    found = forecast(PHI, changed(Plan(), settings), device="cuda")
    assert 1.0 <= found.own_bytes / measured < 1.05
