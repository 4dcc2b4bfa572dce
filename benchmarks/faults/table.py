"""The table of faults: what was tried, how often, what survived, and every loss with the seed that repeats it."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence

from .judge import Trial

HEAD = """# Faults survived

Made by `{command} --write docs/faults.md`; not edited by hand. Each fault was made to happen, by
seeded chance, to a ritual of nine steps on a tiny model ({system}). With `--keep`, a fault that was
tried in full by an earlier start of the command is not tried again: after a mend, those it touches are made anew.

**Survived** means, checked on the files: after the fault, and the plain same command once more, the run ends with
exit 0 and every result is equal to the bit to that of an undisturbed run (adapter, soul, fused weights, GGUF
files, rows of the metrics, answers, verdicts; times are left out); no marker ever claimed a file that was not
there or was another; no process and no draft was left behind; no training step was done again that a checkpoint
had kept; conversations, plan and own verdicts were as the user left them. Of a damaged input: it made no
difference, or it was read as the edit that it might be, or one clear sentence named the file, with exit 1, no
trace of a program error, and nothing else changed.
"""


def markdown(trials: Mapping[str, Sequence[Trial]], hows: Mapping[str, str], command: str) -> str:
    """The whole page; `hows` says of each fault how it is made and what that does not show."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [HEAD.format(system=system, command=command)]
    lines += ["| fault | where | tried | survived | lost |", "|---|---|---|---|---|"]
    for fault, found in trials.items():
        for place in dict.fromkeys(trial.place for trial in found):
            lines.append(f"| {fault} | {place} | {_counts([t for t in found if t.place == place])} |")
    everything = [trial for found in trials.values() for trial in found]
    lines += [f"| **all** | | {_counts(everything)} |", ""]
    if lost := [trial for trial in everything if trial.lost]:
        lines += ["## Lost", "", *(f"- {t.fault}, {t.place}, {t.way}, seed {t.seed}: {t.lost}" for t in lost), ""]
    lines += ["## How each is made, and what came of it", ""]
    for fault, found in trials.items():
        ways = Counter(trial.way for trial in found if trial.way)
        came = ", ".join(f"{way} {n}" for way, n in ways.most_common())
        lines.append(f"- **{fault}.** {hows[fault]}" + (f" Trials: {came}." if came else ""))
    return "\n".join(lines) + "\n"


def _counts(trials: Sequence[Trial]) -> str:
    n_lost = sum(bool(trial.lost) for trial in trials)
    return f"{len(trials)} | {len(trials) - n_lost} | {n_lost}"
