"""The observed transition: paired evidence or none. Real gate-less pairs hardly ever alarm; a planted step is found."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from dropout_pairs import differences
from numpy.typing import NDArray

from aegis_core.soul.transition import MIN_STEPS, Change, critical_value, paired_change, transition

N_PAIRS, N_STEPS = 200, 80
TEST_SEED = 31415  # no value in the code was chosen on this seed
PLANTED = 0.02
NOISE = 0.006

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def gateless() -> Floats:
    """200 real pairs that differ in their dropout masks alone: (pairs, steps)."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return differences(N_PAIRS, N_STEPS, TEST_SEED)
    finally:
        torch.set_num_threads(n_threads)


def test_the_noise_of_the_tiny_pairs_is_that_of_a_real_model(gateless: Floats) -> None:
    assert 0.005 < gateless.std() < 0.008


def test_pairs_without_a_gate_raise_a_false_alarm_in_at_most_five_of_a_hundred(gateless: Floats) -> None:
    changes = [paired_change(d) for d in gateless]
    assert all(change.outcome in ("observed", "not_observed") for change in changes)
    n_alarms = sum(change.outcome == "observed" for change in changes)
    assert upper_bound(n_alarms, len(changes)) <= 0.05, f"{n_alarms} false alarms"


def test_a_step_planted_in_those_very_pairs_is_found_where_it_is(gateless: Floats) -> None:
    random = np.random.default_rng(0)
    found, near, sizes, errors = 0, 0, [], []
    for d in gateless:
        place, sign = planted_place(random), random.choice([-1, 1])
        change = paired_change(with_step(d, place, sign * PLANTED))
        found += change.outcome == "observed"
        if change.outcome == "observed":
            near += abs(change.step - (place + 1)) <= 2
            sizes.append(sign * change.size)
            errors.append(change.standard_error)
    assert found >= 0.9 * N_PAIRS
    assert near >= 0.95 * found
    assert np.mean(sizes) == pytest.approx(PLANTED, abs=0.002)
    assert 0.5 * np.std(sizes) < np.mean(errors) < 2 * np.std(sizes)


def test_the_bound_on_the_false_alarms_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200))
    assert upper_bound(4, 200) == pytest.approx(0.0453, abs=2e-4)  # five would be too many
    assert upper_bound(5, 200) > 0.05


@pytest.mark.parametrize("drift", [0.0, 0.1, 0.5])
def test_runs_that_drift_apart_like_a_random_walk_do_not_alarm(drift: float) -> None:
    random = np.random.default_rng(17)
    walks = NOISE * (random.normal(size=(150, 120)) + drift * random.normal(size=(150, 120)).cumsum(axis=1))
    n_alarms = sum(paired_change(d).outcome == "observed" for d in walks)
    assert n_alarms <= 0.05 * len(walks)


@pytest.mark.parametrize("name", ["straight", "saturating", "bent", "swinging"])
def test_a_slow_trend_however_large_is_no_transition(name: str) -> None:
    t = np.arange(120) / 120
    trends = {
        "straight": t, "saturating": 1 - np.exp(-10 * t), "bent": np.maximum(t - 0.5, 0), "swinging": np.sin(6.3 * t),
    }  # fmt: skip
    random = np.random.default_rng(3)
    changes = [paired_change(0.2 * trends[name] + NOISE * random.normal(size=120)) for _ in range(40)]
    assert sum(change.outcome == "observed" for change in changes) <= 2


ONSET = np.where(np.arange(120) < 60, 0.1, 1.0)


@pytest.mark.parametrize(("growth", "drift"), [(ONSET, 0.0), (ONSET, 0.3), (np.geomspace(1e-3, 1, 120), 0.1)])
def test_noise_that_sets_in_only_as_the_gate_opens_is_no_transition(growth: Floats, drift: float) -> None:
    random = np.random.default_rng(5)
    noise, strides = random.normal(size=(2, 150, 120)) * growth
    changes = [paired_change(d) for d in NOISE * (noise + drift * strides.cumsum(axis=1))]
    assert sum(change.outcome == "observed" for change in changes) <= 4


def test_a_change_spread_over_a_few_steps_is_found_as_well() -> None:
    random = np.random.default_rng(6)
    ramp = 0.05 / (1 + np.exp(-(np.arange(120) - 60) / 1.5))
    changes = [paired_change(ramp + NOISE * random.normal(size=120)) for _ in range(40)]
    assert sum(change.outcome == "observed" for change in changes) >= 36
    assert np.median([change.step for change in changes if change.step]) == pytest.approx(61, abs=2)


def test_without_variance_nothing_is_measured() -> None:
    flat = [0.3] * 200
    assert paired_change(flat) == Change("not_measured", "zero_variance", 200)
    assert paired_change(with_step(np.zeros(200), 100, 1.0)).reason == "zero_variance"
    rounding = 1e-7 * np.random.default_rng(0).normal(size=200)
    assert paired_change(with_step(rounding, 100, 1e-6)).reason == "zero_variance"


def test_few_steps_and_numbers_that_are_none_are_not_measured() -> None:
    noise = list(np.random.default_rng(0).normal(size=MIN_STEPS - 1))
    assert paired_change(noise).reason == "too_few_steps"
    for bad in (math.nan, math.inf):
        assert paired_change([*noise, bad]).reason == "not_finite"
    assert paired_change([*noise, 0.5]).outcome == "not_observed"
    assert paired_change([]).reason == "too_few_steps"


def test_the_unit_of_the_loss_does_not_matter(gateless: Floats) -> None:
    in_nats = paired_change(with_step(gateless[0], 40, 0.03))
    in_bits = paired_change(with_step(gateless[0], 40, 0.03) / math.log(2))
    assert in_bits.statistic == pytest.approx(in_nats.statistic)
    assert (in_bits.step, in_bits.size) == (in_nats.step, pytest.approx(in_nats.size / math.log(2)))


def test_a_long_run_is_judged_in_bounded_memory_and_its_step_found() -> None:
    random = np.random.default_rng(1)
    change = paired_change(with_step(NOISE * random.normal(size=9000), 5000, 0.005))
    assert change.outcome == "observed"
    assert change.step == pytest.approx(5000, abs=60)


def test_the_critical_value_is_a_union_bound_and_grows_with_the_steps() -> None:
    for n_steps in (80, 500):
        assert n_steps * 2 * (1 - NormalDist().cdf(critical_value(n_steps))) == pytest.approx(0.04)


def test_a_transition_needs_both_controls_three_orders_and_one_step(gateless: Floats) -> None:
    sure = [with_step(gateless[i], 40, 0.05) for i in range(3)]
    better = [with_step(gateless[i], 41, -0.05) for i in range(3, 6)]
    verdict = transition({"lora": sure, "fixed": better})
    assert (verdict.outcome, verdict.n_orders, verdict.n_agreeing) == ("observed", 3, 3)
    assert verdict.step == pytest.approx(41, abs=1)
    assert verdict.sizes["lora"] == pytest.approx(0.05, abs=0.01)
    assert verdict.sizes["fixed"] == pytest.approx(-0.05, abs=0.01)

    quiet = list(gateless[6:9])
    assert transition({"lora": sure, "fixed": quiet}).outcome == "not_observed"
    assert transition({"lora": quiet, "fixed": better}).outcome == "not_observed"
    elsewhere = [*sure[:2], with_step(gateless[2], 60, 0.05)]
    assert transition({"lora": elsewhere, "fixed": better}).outcome == "not_observed"
    other_way = [*sure[:2], with_step(gateless[2], 40, -0.05)]
    assert transition({"lora": other_way, "fixed": better}).outcome == "not_observed"
    many_quiet = list(gateless[10:14])
    assert transition({"lora": sure + many_quiet, "fixed": better + many_quiet}).outcome == "not_observed"


def test_a_transition_without_its_controls_or_orders_is_not_measured_and_says_why(gateless: Floats) -> None:
    sure = [with_step(gateless[i], 40, 0.05) for i in range(3)]
    short = [d[:20] for d in sure]
    reasons = {
        "no_control": ({}, {"lora": sure}, {"lora": sure, "fixed": [None, None, None]}),
        "too_few_orders": ({"lora": sure[:2], "fixed": sure[:2]}, {"lora": sure[:1], "fixed": sure[:1]}),
        "too_few_steps": ({"lora": short, "fixed": short},),
        "zero_variance": ({"lora": [np.zeros(80)] * 3, "fixed": sure},),
        "not_finite": ({"lora": [*sure[:2], sure[2] * math.nan], "fixed": sure},),
    }
    for reason, cases in reasons.items():
        for case in cases:
            verdict = transition(case)
            assert (verdict.outcome, verdict.reason) == ("not_measured", reason)
            assert verdict.step is None and not verdict.sizes


def planted_place(random: np.random.Generator) -> int:
    """A random place in the middle 60 %."""
    return int(random.integers(round(0.2 * N_STEPS), round(0.8 * N_STEPS)))


def with_step(d: Floats, place: int, size: float) -> Floats:
    return d + size * (np.arange(len(d)) >= place)


def upper_bound(n_alarms: int, n: int) -> float:
    """One-sided 95 % bound of Clopper and Pearson: the rate at which so few alarms happen in one of twenty cases."""
    low, high = n_alarms / n, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        chance = sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n_alarms + 1))
        low, high = (rate, high) if chance > 0.05 else (low, rate)
    return high
