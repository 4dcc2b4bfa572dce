"""The sampler of both studies: Optuna's TPE, seeded anew for every position.

Of Optuna's samplers TPE fits best here: tens of trials, some of them pruned or failed, numbers on a logarithmic scale
beside choices, and several workers. GPSampler learns nothing from pruned trials, CMA-ES knows no choices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState


def seed_of(study_seed: int, position: int) -> int:
    """A trial's own seed: well mixed, so that neighbouring studies and trials share no draws."""
    return int(numpy.random.SeedSequence([study_seed, position]).generate_state(1)[0])


def n_startup_trials(n_trials: int) -> int:
    """How many random trials come first: few enough that a short study is more than random search."""
    return min(10, max(2, n_trials // 3))


class SeededTPE(optuna.samplers.BaseSampler):
    """TPE whose draws depend on the study's seed, the trial's position and the trials ended before it alone.

    A sampler that goes on after a restart would repeat its first draws, and two that start alike would draw alike.
    `joint` models parameters together; `shared` takes others' unfinished trials for poor ones, so that nobody repeats
    them.
    """

    def __init__(
        self, seed: int, position_of: Callable[[int], int | None], n_trials: int, *, joint: bool, shared: bool
    ) -> None:
        self._seed, self._position_of = seed, position_of
        self._settings: dict[str, Any] = {
            "n_startup_trials": n_startup_trials(n_trials),
            "multivariate": joint,
            "constant_liar": shared,
        }
        self._of_trial: tuple[int, optuna.samplers.TPESampler] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._for(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._for(trial).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._for(trial).after_trial(study, trial, state, values)

    def _for(self, trial: FrozenTrial) -> optuna.samplers.TPESampler:
        if self._of_trial is None or self._of_trial[0] != trial.number:
            seed = seed_of(self._seed, self._position_of(trial.number) or 0)
            self._of_trial = trial.number, optuna.samplers.TPESampler(seed=seed, **self._settings)
        return self._of_trial[1]
