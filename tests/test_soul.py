"""The maths of gate, rotation and schedule."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from aegis_core.failures import UserError
from aegis_core.plan import GOLDEN_RATIO, AnnealingPlan, SoulPlan
from aegis_core.soul.gate import CONVENTION, Gate, Soul, gated, load_soul
from aegis_core.soul.rotation import SO8Rotation, blocks, rotate
from aegis_core.soul.schedule import (
    SETTLED_DISTANCE,
    alpha_at,
    critical_step,
    curve,
    gate,
    half_open_step,
    phases,
    progress,
)

HIDDEN = 64
KINDS = ("sigmoid", "linear", "cosine", "exponential", "two_phase")
seeds = st.integers(0, 2**31)
alphas = st.floats(-20, 20, width=32)


def random_soul(seed: int, alpha: float, calibrate: bool, strength: float = 1.0) -> Soul:
    generator = torch.randn(HIDDEN // 8, 28, generator=torch.Generator().manual_seed(seed)) * strength
    return Soul(alpha, generator, calibrate, "base", "main", "0" * 64)


def dense(soul: Soul) -> torch.Tensor:
    """R as the full matrix (H, H) in float64."""
    return torch.block_diag(*blocks(soul.generator.double()))


@given(seeds, st.floats(0, 10))
def test_every_block_is_a_proper_rotation(seed, strength):
    r = blocks(random_soul(seed, 0.0, True, strength).generator.double())
    assert torch.allclose(r.mT @ r, torch.eye(8, dtype=r.dtype).expand_as(r), atol=1e-12)
    assert torch.allclose(torch.linalg.det(r), torch.ones(len(r), dtype=r.dtype), atol=1e-11)


def test_the_rotation_starts_as_the_identity_and_measures_itself():
    rotation = SO8Rotation(HIDDEN)
    hidden = torch.randn(3, 5, HIDDEN)
    assert torch.equal(rotation(hidden), hidden)
    assert rotation.orthogonality_error() == 0 and rotation.angle() == 0
    with torch.no_grad():
        rotation.generator[:, 0] = 0.3  # the plane of axes 0 and 1, one of four independent ones
    assert rotation.angle() == pytest.approx(0.3 / 2, rel=1e-6)
    with torch.no_grad():
        rotation.generator[1:] = 0  # one block has turned, the others have not
    assert rotation.largest_angle() == pytest.approx(0.3 / 2, rel=1e-6)
    assert rotation.angle() == pytest.approx(0.3 / 2 / math.sqrt(HIDDEN // 8), rel=1e-6)


def test_the_generator_is_the_upper_triangle_row_by_row():
    generator = torch.zeros(1, 28)
    generator[0, 7] = 0.1  # 7 numbers in row 0, so this is A[1, 2]
    r = blocks(generator)[0]
    assert r[1, 2] == pytest.approx(math.sin(0.1)) and r[2, 1] == pytest.approx(-math.sin(0.1))


@given(seeds)
def test_rotating_states_is_the_dense_product(seed):
    soul = random_soul(seed, 0.0, True)
    r, x = dense(soul), torch.randn(6, HIDDEN, dtype=torch.float64)
    assert torch.allclose(rotate(x, blocks(soul.generator.double())), x @ r.T, atol=1e-12)


@pytest.mark.parametrize("hidden_size", [0, 7, 20, 3073])
def test_a_hidden_size_that_is_no_multiple_of_eight_is_refused(hidden_size):
    with pytest.raises(UserError, match="multiple of 8"):
        SO8Rotation(hidden_size)


@given(seeds, alphas, st.booleans())
def test_the_folded_head_and_norm_give_the_gated_logits(seed, alpha, calibrate):
    soul = random_soul(seed, alpha, calibrate)
    head, states = torch.randn(40, HIDDEN), torch.randn(10, HIDDEN)
    expected = soul.gate()(states) @ head.T
    folded = (states * soul.norm_factor()) @ soul.fused_head(head).T
    assert (expected - folded).abs().max() <= 1e-5 * expected.abs().max()


@given(seeds, st.floats(-5, 5, width=32), st.booleans())
def test_the_transposed_rotation_is_grossly_wrong(seed, alpha, calibrate):
    soul = random_soul(seed, alpha, calibrate)
    head, states = torch.randn(40, HIDDEN), torch.randn(10, HIDDEN)
    expected = soul.gate()(states) @ head.T
    wrong = (states * soul.norm_factor()) @ (head + soul.openness * rotate(head, blocks(soul.generator))).T
    assert (expected - wrong).abs().max() > 1e-3 * expected.abs().max()


@given(alphas)
def test_calibration_leaves_the_logits_alone_while_nothing_is_rotated(alpha):
    states = torch.randn(4, HIDDEN)
    assert torch.allclose(Gate(HIDDEN, calibrate=True, alpha=alpha)(states), states, rtol=1e-6)
    literal = Gate(HIDDEN, calibrate=False, alpha=alpha)(states)
    assert torch.allclose(literal, states * (1 + gate(alpha)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gate_rounds_only_once_in_sixteen_bits(dtype):
    soul, states = random_soul(3, GOLDEN_RATIO, True), torch.randn(100, HIDDEN).to(dtype)
    exact = gated(states.double(), torch.tensor(soul.alpha).double(), blocks(soul.generator.double()), True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soul.gate()(states)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_rotation_and_states_receive_gradients_but_alpha_does_not():
    soul = Gate(HIDDEN, calibrate=True, alpha=0.0)
    states = torch.randn(2, HIDDEN, requires_grad=True)
    soul(states).square().sum().backward()
    assert soul.rotation.generator.grad is not None and states.grad is not None
    assert [name for name, _ in soul.named_parameters()] == ["rotation.generator"]


def test_a_soul_comes_back_from_the_disk_bit_by_bit(tmp_path):
    path = tmp_path / "魂 soul.safetensors"
    soul = random_soul(1, 1.618, False)
    soul.save(path)
    back = load_soul(path)
    assert torch.equal(back.generator, soul.generator)
    assert back.alpha == pytest.approx(1.618, abs=1e-7) and not back.calibrate
    assert (back.base_model, back.base_revision, back.base_sha256) == ("base", "main", "0" * 64)


GOOD = {
    "convention": CONVENTION,
    "calibrate": "true",
    "base_model": "b",
    "base_revision": "r",
    "base_sha256": "0" * 64,
}
TENSORS = {"alpha": torch.tensor(1.0), "rotation": torch.zeros(8, 28)}


@pytest.mark.parametrize(
    ("tensors", "metadata", "word"),
    [
        ({"alpha": torch.tensor(math.nan)}, {}, "not finite"),
        ({"rotation": torch.full((8, 28), math.inf)}, {}, "not finite"),
        ({"rotation": torch.zeros(8, 27)}, {}, "damaged"),
        ({"rotation": torch.zeros(0, 28)}, {}, "damaged"),
        ({"rotation": torch.zeros(28)}, {}, "damaged"),
        ({"rotation": torch.zeros(8, 28, dtype=torch.float16)}, {}, "damaged"),
        ({"alpha": torch.tensor([1.0, 2.0])}, {}, "damaged"),
        ({"rotation": None}, {}, "damaged"),
        ({"alpha": None}, {}, "damaged"),
        ({}, {"convention": "logits = W R h"}, "convention"),
        ({}, {"convention": None}, "convention"),
        ({}, {"calibrate": "maybe"}, "damaged"),
        ({}, {"base_sha256": None}, "damaged"),
    ],
)
def test_a_soul_that_is_not_whole_is_refused_in_one_sentence(tmp_path, tensors, metadata, word):
    path = tmp_path / "soul.safetensors"
    kept = {name: tensor for name, tensor in (TENSORS | tensors).items() if tensor is not None}
    save_file(kept, path, {name: text for name, text in (GOOD | metadata).items() if text is not None})
    with pytest.raises(UserError, match=word):
        load_soul(path)


def test_a_missing_or_truncated_soul_is_refused(tmp_path):
    path = tmp_path / "soul.safetensors"
    with pytest.raises(UserError, match="missing"):
        load_soul(path)
    random_soul(0, 0.0, True).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        load_soul(path)


souls = st.builds(
    lambda kind, steepness, warmup, moving, hold, start, target: SoulPlan(
        alpha_start=start,
        alpha_target=target,
        schedule=AnnealingPlan(
            kind=kind,
            steepness=steepness,
            warmup_fraction=warmup,
            end_fraction=warmup + (1 - warmup) * moving,
            hold_fraction=hold,
        ),
    ),
    st.sampled_from(KINDS),
    st.floats(0, 60, exclude_min=True),
    st.floats(0, 0.9),
    st.floats(1e-6, 1),
    st.one_of(st.just(0.0), st.floats(0, 0.9)),
    st.floats(-20, 20),
    st.floats(-20, 20),
)


@settings(max_examples=200)
@given(souls, st.integers(2, 200))
def test_every_schedule_hits_both_ends_exactly_and_never_turns_back(soul, n_steps):
    alphas = curve(n_steps, soul)
    assert alphas[0] == soul.alpha_start and alphas[-1] == soul.alpha_target
    low, high = sorted((soul.alpha_start, soul.alpha_target))
    assert all(low <= alpha <= high for alpha in alphas)
    sign = 1 if soul.alpha_target >= soul.alpha_start else -1
    assert all(sign * (after - before) >= -1e-13 for before, after in itertools.pairwise(alphas))


@given(souls, st.integers(2, 200))
def test_alpha_rests_through_the_warm_up_and_after_the_end(soul, n_steps):
    warmup = soul.schedule.warmup_fraction * n_steps
    end = (n_steps - 1) * soul.schedule.end_fraction
    for step, alpha in enumerate(curve(n_steps, soul)[:-1]):
        if step <= warmup:
            assert alpha == soul.alpha_start
        elif step >= end:
            assert alpha == soul.alpha_target


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_rests_in_the_middle_of_its_way_and_makes_up_for_it(kind):
    """A fifth of 100 strides: none between the 40th and the 60th, the others as those of a schedule of 80 strides."""
    resting = curve(101, SoulPlan(schedule=AnnealingPlan(kind=kind, hold_fraction=0.2)))
    passing = curve(81, SoulPlan(schedule=AnnealingPlan(kind=kind)))
    assert len({round(alpha, 12) for alpha in resting[40:61]}) == 1
    assert resting[:41] + resting[61:] == pytest.approx(passing[:41] + passing[41:], abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_are_the_two_ends(kind):
    soul = SoulPlan(schedule=AnnealingPlan(kind=kind))
    assert curve(2, soul) == [-5.0, GOLDEN_RATIO]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", -5 + 0.25 * (GOLDEN_RATIO + 5)),
        ("sigmoid", -5 + (gate(-3) - gate(-6)) / (1 - 2 * gate(-6)) * (GOLDEN_RATIO + 5)),
        ("cosine", -5 + (1 - math.cos(math.pi / 4)) / 2 * (GOLDEN_RATIO + 5)),
        ("exponential", -5 + (1 - math.exp(-3)) / (1 - math.exp(-12)) * (GOLDEN_RATIO + 5)),
        ("two_phase", (-5 + math.log(0.432 / 0.568)) / 2),
    ],
)
def test_each_kind_at_a_quarter_of_the_way(kind, expected):
    assert alpha_at(1, 5, SoulPlan(schedule=AnnealingPlan(kind=kind))) == pytest.approx(expected, abs=1e-12)


def test_the_default_sigmoid_is_steepest_in_the_middle_and_half_open_a_little_later():
    soul, n = SoulPlan(), 1001
    assert alpha_at(500, n, soul) == pytest.approx((-5 + GOLDEN_RATIO) / 2)
    assert critical_step(n, soul) in (500, 501)
    assert half_open_step(n, soul) / (n - 1) == pytest.approx(0.593, abs=1.5e-3)


def test_progress_follows_the_indexing_of_the_notes():
    soul = SoulPlan(schedule=AnnealingPlan(warmup_fraction=0.2, end_fraction=0.8))
    assert [progress(i, 11, soul) for i in (0, 2)] == [0.0, 0.0]
    assert progress(5, 11, soul) == pytest.approx((5 - 2.2) / (8 - 2.2))
    assert [progress(i, 11, soul) for i in (8, 10)] == [1.0, 1.0]


def test_phases_run_from_latent_through_critical_to_settled():
    soul, n = SoulPlan(), 200
    names = phases(n, soul)
    assert [name for name, _ in itertools.groupby(names)] == ["latent", "critical", "settled"]
    assert names[critical_step(n, soul)] == "critical"
    assert abs(alpha_at(names.index("settled"), n, soul) - GOLDEN_RATIO) < SETTLED_DISTANCE


@given(st.floats(-20, 20))
def test_the_gate_is_the_logistic_function(alpha):
    assert gate(alpha) == pytest.approx(torch.sigmoid(torch.tensor(alpha, dtype=torch.float64)).item(), rel=1e-14)


def test_rounding_never_carries_alpha_past_its_target():
    """-5 + (target + 5)·1.0 is a little more than this target in floating point."""
    target = 1.9
    soul = SoulPlan(alpha_target=target, schedule=AnnealingPlan(kind="exponential", steepness=60))
    assert -5.0 + (target + 5.0) > target
    assert max(curve(100, soul)) == target


def test_the_same_soul_is_the_same_file(tmp_path):
    soul = Soul(1.5, torch.randn(4, 28), True, "owner/素体", "main", "ab" * 32)
    files = []
    for n in range(8):  # safetensors itself would order the metadata anew each time
        soul.save(tmp_path / f"{n}.safetensors")
        files.append((tmp_path / f"{n}.safetensors").read_bytes())
    assert len(set(files)) == 1
    again = load_soul(tmp_path / "0.safetensors")
    assert again.generator.equal(soul.generator)
    assert (again.alpha, again.base_model) == (1.5, "owner/素体")
