"""How often the observed transition is seen where there is none, and how often a planted one is found.

python -m benchmarks.transition [REAL_PAIRS]

Prints two tables. First synthetic pairs at the noise of SmolLM2 (0.006 nats per step), with drift and with noise that
grows. Then real gate-less pairs of a tiny Llama that differ in their dropout masks (1,000 unless told otherwise; a
minute or two per thousand), as they are and with a step planted in each.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from dropout_pairs import differences  # noqa: E402

from aegis_core.soul.transition import paired_change  # noqa: E402

NOISE, N_SYNTHETIC, N_STEPS, FIRST_SEED, AT_ONCE = 0.006, 500, 80, 90_000, 250
DRIFTS = (0.0, 0.03, 0.1, 0.3, 1.0)  # size of a step of the random walk, in units of the noise
Floats = NDArray[np.float64]


def main(n_real: int) -> None:
    print("| pairs without a transition | steps | seen in | 95 % bound |\n|---|---|---|---|")
    for n_steps in (N_STEPS, 500):
        for name, pairs in synthetic(n_steps):
            tell(f"synthetic, {name}", pairs)
    torch.set_num_threads(2)
    real = np.concatenate([differences(AT_ONCE, N_STEPS, FIRST_SEED + i) for i in range(-(-n_real // AT_ONCE))])
    tell(f"real, noise {real.std():.4f}", real)
    print("\n| step planted in these real pairs, nats | found in | off by, median and 95 % (steps) |\n|---|---|---|")
    random = np.random.default_rng(FIRST_SEED)
    for size in (0.005, 0.01, 0.015, 0.02, 0.03, 0.05):
        places = random.integers(round(0.2 * N_STEPS), round(0.8 * N_STEPS), len(real))
        signs = random.choice([-1, 1], len(real))
        planted = real + (size * signs)[:, None] * (np.arange(N_STEPS) >= places[:, None])
        steps = [paired_change(d).step for d in planted]
        off = [abs(step - place - 1) for step, place in zip(steps, places, strict=True) if step]
        wide = f"{np.median(off):.0f}, {np.quantile(off, 0.95):.0f}" if off else "–"
        print(f"| {size} | {len(off) / len(real):.1%} | {wide} |", flush=True)


def synthetic(n_steps: int) -> Iterator[tuple[str, Floats]]:
    random = np.random.default_rng(n_steps)

    def pairs(drift: float, scale: Floats) -> Floats:
        noise, strides = random.normal(size=(2, N_SYNTHETIC, n_steps)) * scale
        return NOISE * (noise + drift * strides.cumsum(axis=1))

    for drift in DRIFTS:
        yield f"random walk {drift} of the noise", pairs(drift, np.ones(n_steps))
    yield "noise grows a thousandfold", pairs(0.1, np.geomspace(1e-3, 1, n_steps))
    onset = np.where(np.arange(n_steps) < n_steps / 2, 0.1, 1.0)
    yield "noise sets in half-way", pairs(0.0, onset)
    yield "noise and a random walk of 0.3 of it set in half-way", pairs(0.3, onset)


def tell(name: str, pairs: Floats) -> None:
    n_seen = sum(paired_change(d).outcome == "observed" for d in pairs)
    bound = upper_bound(n_seen, len(pairs))
    print(f"| {name} | {pairs.shape[1]} | {n_seen} of {len(pairs)} | {bound:.1%} |", flush=True)


def upper_bound(n_seen: int, n: int) -> float:
    """One-sided 95 % bound of the rate after Clopper and Pearson, by bisection on the binomial's logarithm."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(n, n - n_seen, -1)) - np.log(np.arange(1, n_seen + 1)))])
    k = np.arange(n_seen + 1)
    low, high = n_seen / n, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        chance = float(np.exp(logs + k * np.log(rate) + (n - k) * np.log1p(-rate)).sum())
        low, high = (rate, high) if chance > 0.05 else (low, rate)
    return high


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
