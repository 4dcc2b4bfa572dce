"""What each number format cost, in held-out loss, against the finest there is."""

from collections.abc import Mapping

from torch import Tensor

from ..context import StepContext
from ..evaluation.chain import Chain
from ..evaluation.measurement import load_measurement, paired
from ..events import warning
from ..run_directory import RunDirectory
from .checks import Check
from .finished import Finished
from .recipe import RECIPES

_PREFIX = "held-out loss against "


def compare_losses(ctx: StepContext, finished: Mapping[str, Finished], chain: Chain) -> None:
    """Each file's loss against the fused model's or, for quantised ones, the first unquantised file's.

    A red verdict and a warning, but no failure. The check joins the file's row; files come finest first.
    """
    reference, name = _fused_losses(ctx.run, chain), "fused"
    for kind, done in finished.items():
        found = RECIPES[kind].type
        done.row["checks"] = [c for c in done.row["checks"] if not c["name"].startswith(_PREFIX)]
        if reference is not None:
            more, error, _ = paired(done.measured.losses, reference)
            limit = found.largest_loss
            check = Check(
                _PREFIX + name,
                (more if found.quantised else abs(more)) <= limit,
                f"{more:+.4f} ± {error:.4f} nats",
                f"at most {limit} nats more",
                False,
            )
            ctx.emit(check.verdict(found.label))
            done.row["checks"].append(check.row())
            if not check.passed:
                ctx.emit(
                    warning(
                        "{label} loses {more} nats against {name}: use a finer type.",
                        label=found.label,
                        more=f"{more:.3f}",
                        name=name,
                    )
                )
        if not found.quantised and (reference is None or name == "fused"):
            reference, name = done.measured.losses, found.label


def _fused_losses(run: RunDirectory, chain: Chain) -> Tensor | None:
    """Token by token; None where the fused model was measured on other tokens, or by an earlier version."""
    path = run.step_folder("fuse") / "measured" / "fused.safetensors"
    if not path.is_file():
        return None
    measured, of = load_measurement(path)
    return measured.losses if of.get("tokens") == chain.tokens_sha256 else None
