"""How much of the spread of a study's values each parameter explains."""

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

FEWEST_TRIALS = 6


def importances(study: optuna.Study) -> dict[str, float]:
    """Parts of 1 by PED-ANOVA (Watanabe et al., 2023), the largest first.

    Empty with fewer than six complete trials, or where their values are all the same: that would be reading tea leaves.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS or len({trial.value for trial in complete}) < 2:
        return {}
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=False))
    return {name: float(part) for name, part in found.items()}
