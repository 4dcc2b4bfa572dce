"""The picture of the head before and after: numbers that a page draws, held against the formulas they stand for."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families_fusion import ingredients_for
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.fusion import row_blocks
from aegis_core.fusion.merge import merge
from aegis_core.fusion.portrait import plane_angles, portrait
from aegis_core.soul.rotation import blocks


@pytest.fixture
def fused(tmp_path):
    base = build("qwen2", tmp_path / "base", tied=True)
    ingredients = ingredients_for(tmp_path / "adapter", base)
    merge(ingredients, tmp_path / "out", CancelToken())
    return ingredients, tmp_path / "out"


def of(fused) -> dict:
    ingredients, folder = fused
    return portrait(ingredients.base.path, folder, ingredients.soul, lambda row: f"token {row}", CancelToken())


def test_the_change_of_a_row_is_that_of_its_logit_behind_the_scaled_norm(fused, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 5000)  # several blocks
    ingredients, folder = fused
    found = of(fused)
    before = load_file(ingredients.base.path / "model.safetensors")["model.embed_tokens.weight"].double()
    soul = ingredients.soul
    r = torch.block_diag(*blocks(soul.generator.double()))
    moved = (before + soul.openness * before @ r) / (1 + soul.openness) - before
    change = moved.norm(dim=1) / before.norm(dim=1)
    assert (found["rows"], found["columns"]) == tuple(before.shape)
    assert found["sigma"] == soul.openness and found["norm_factor"] == pytest.approx(1 / (1 + soul.openness))
    quantiles = found["relative_change"]["quantiles"]
    assert quantiles["0"] == pytest.approx(change.min().item(), rel=1e-5)
    assert quantiles["100"] == pytest.approx(change.max().item(), rel=1e-5)
    assert quantiles["50"] == pytest.approx(change.median().item(), rel=1e-2)
    assert sum(found["relative_change"]["histogram"]["counts"]) == len(before)
    first = found["most_changed"][0]
    assert first["id"] == change.argmax() and first["token"] == f"token {first['id']}"
    assert first["before"] == pytest.approx(before[first["id"]].norm().item(), rel=1e-6)
    after = load_file(folder / "model.safetensors")["lm_head.weight"].double()
    assert first["after"] == pytest.approx(after[first["id"]].norm().item(), rel=1e-6)
    changes = [row["change"] for row in found["most_changed"]]
    assert len(changes) == 16 and changes == sorted(changes, reverse=True)


def test_lengths_before_and_after_are_counted_over_the_same_edges(fused):
    found = of(fused)
    before, after = found["norms"]["before"], found["norms"]["after"]
    assert before["edges"] == after["edges"] and len(before["edges"]) == len(before["counts"]) + 1
    assert sum(before["counts"]) == sum(after["counts"]) == found["rows"]
    places = range(len(before["counts"]))
    means = [sum(place * n for place, n in zip(places, h["counts"], strict=True)) for h in (before, after)]
    assert means[1] > 1.3 * means[0]  # the head grows by up to 1 + σ


def test_an_empty_row_has_no_relative_change(tmp_path):
    base = build("llama", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"][7] = 0
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    ingredients = ingredients_for(tmp_path / "adapter", base)
    merge(ingredients, tmp_path / "out", CancelToken())
    found = of((ingredients, tmp_path / "out"))
    assert found["n_empty_rows"] == 1
    assert sum(found["relative_change"]["histogram"]["counts"]) == found["rows"] - 1
    assert all(math.isfinite(row["change"]) and row["id"] != 7 for row in found["most_changed"])


def test_plane_angles_are_those_the_generator_was_made_of():
    upper = torch.zeros(2, 28)
    upper[0, 0] = math.radians(30)  # the plane of coordinates 0 and 1
    upper[0, 13] = -math.radians(50)  # 2 and 3
    upper[1, 27] = math.radians(200)  # 6 and 7; 200° one way are 160° the other
    assert plane_angles(upper).view(2, 4).tolist() == [
        pytest.approx([0, 0, 30, 50], abs=1e-4),
        pytest.approx([0, 0, 0, 160], abs=1e-4),
    ]
