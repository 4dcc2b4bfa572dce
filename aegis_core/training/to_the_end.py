"""One training from wherever it stands to its end."""

from pathlib import Path

from ..cancel import CancelToken
from ..data.packed import Packed
from ..plan import Plan
from ..soul.schedule import alpha_at
from . import checkpoints
from .gated_model import GatedModel
from .metrics import restore_metrics
from .processes import Job, call_helpers
from .trainable import load_trainable
from .trainer import fit
from .watch import Watch


def resume_point(folder: Path) -> tuple[Path | None, int]:
    """The newest whole checkpoint in `folder` and how many steps were done in it.

    Drafts are cleared away, and the metrics are put right.
    """
    checkpoints.drop_draft(folder)
    newest = checkpoints.newest(folder)
    if newest is None:
        return None, 0
    restore_metrics(folder, newest)
    return newest, checkpoints.step_of(newest)


def train_to_the_end(
    gated: GatedModel, plan: Plan, data: Packed, cancel: CancelToken, folder: Path, resume: Path | None, watch: Watch
) -> None:
    """Train from the checkpoint `resume`, or from the start, until plan.train.steps or until `watch` has enough.

    Afterwards `gated` holds the final weights and alpha, also if there was nothing left to do.
    """
    n_done = 0 if resume is None else checkpoints.step_of(resume)
    if resume is not None:
        load_trainable(gated, resume)
        if not (gated.shut or gated.gate.learned):
            gated.gate.alpha.fill_(alpha_at(n_done - 1, plan.train.steps, plan.soul))
        if watch.owes_measurement():
            watch.catch_up()
    if resume is None or (n_done < plan.train.steps and not watch.enough()):
        call_helpers(Job(plan, gated.shut, folder, resume))
        fit(gated, plan, data, cancel, watch.hooks(), folder, resume)
    if watch.owes_measurement():  # stopped in the very last one
        cancel.check()
