"""Which trial stands at which position of a study, when several workers may join, die and join again.

The storage numbers trials in the order they are asked for, each exactly once. A trial that repeats another one says so
from its first moment on and has that one's position; all others count 0, 1, … So everybody who reads the same study
finds the same positions, and no trial is lost or counted twice.
"""

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from .workers import PULSE, WORKER, Watch, this_worker

DRAWN, REPEATS, ABANDONED = "drawn", "repeats", "abandoned"
BOOKKEEPING = frozenset({DRAWN, REPEATS, ABANDONED, WORKER, PULSE})
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Ledger:
    """The positions 0 … `n_trials` − 1 of one study; those beyond, of a longer plan, do not count.

    `shared`: workers of other runs may be at work on the same study; alone, every RUNNING trial is one a kill left.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, n_trials: int, shared: bool) -> None:
        self.study, self.n_trials, self.shared = study, n_trials, shared
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._watch = Watch()

    def ended(self) -> dict[int, FrozenTrial]:
        """Position -> the trial that came to an end by itself there, in order.

        Should two workers have repeated the same trial at the same moment, the earlier one counts.
        """
        found: dict[int, FrozenTrial] = {}
        for position, trial in self._placed():
            if trial.state in _ENDED and not _given_up(trial):
                found.setdefault(position, trial)
        return dict(sorted(found.items()))

    def position_of(self, number: int) -> int | None:
        """None for a trial beyond the planned ones."""
        return next((position for position, trial in self._placed() if trial.number == number), None)

    def is_all_taken(self) -> bool:
        """Whether every position has an end or somebody at work: there is nothing to ask for."""
        taken = {position for position, trial in self._placed() if trial.state is not TrialState.WAITING}
        waiting = any(trial.state is TrialState.WAITING for _, trial in self._placed())
        return len(taken) >= self.n_trials and not waiting

    def at_work(self) -> int:
        """How many trials somebody is at work at."""
        return sum(trial.state is TrialState.RUNNING for _, trial in self._placed())

    def ask(self) -> tuple[optuna.Trial, int] | None:
        """A trial of one's own and its position; None if others took the last ones first."""
        trial = self.study.ask()
        position = self.position_of(trial.number)
        if position is None:
            self.give_up(trial.number)
            return None
        trial.set_user_attr(WORKER, this_worker())
        return trial, position

    def give_up(self, number: int) -> None:
        """Leave a RUNNING trial to be repeated, also if a kill comes in between."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        try:
            self._storage.set_trial_user_attr(trial_id, ABANDONED, True)
            self._storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # it ended in this very moment, or another worker gave it up

    def repeat_abandoned(self) -> None:
        """Put every trial whose worker died, or gave it back, into the queue once more with its own parameters."""
        for _, trial in self._placed():
            if trial.state is TrialState.RUNNING and not (self.shared and self._watch.is_alive(trial)):
                self.give_up(trial.number)
        placed = self._placed()
        settled = {position for position, trial in placed if not _given_up(trial)}
        for position, trial in placed:
            if position not in settled:
                settled.add(position)
                # Cut off while its parameters were being drawn, the same seed draws them again.
                params = trial.params if DRAWN in trial.user_attrs else {}
                self.study.enqueue_trial(params, user_attrs={REPEATS: trial.number})

    def _placed(self) -> list[tuple[int, FrozenTrial]]:
        """Every trial with its position, in the order of their numbers."""
        positions: dict[int, int] = {}
        n_originals = 0
        placed = []
        for trial in self.study.get_trials(deepcopy=False):
            repeated = trial.user_attrs.get(REPEATS)
            positions[trial.number] = n_originals if repeated is None else positions[repeated]
            n_originals += repeated is None
            if positions[trial.number] < self.n_trials:
                placed.append((positions[trial.number], trial))
        return placed


def _given_up(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL and ABANDONED in trial.user_attrs
