"""What "survived" means, checked on the files: nothing claimed that is not there, and in the end the undisturbed
run.
"""

import json
from dataclasses import asdict, dataclass

from aegis_core.events import CheckpointSaved, Metric
from aegis_core.failures import UserError
from aegis_core.journal import replay
from aegis_core.run_directory import RunDirectory, sha256_of_file

from .engine import STEPS, Attempt
from .ritual import USER_FILES, Reference, fingerprint, indicators


@dataclass(frozen=True)
class Trial:
    """One fault in one place; `lost` says what and why, and is empty where everything survived. `seed` repeats it."""

    fault: str
    place: str
    seed: int
    lost: str = ""
    way: str = ""

    def line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def false_claims(run: RunDirectory) -> list[str]:
    """Results that a marker claims and that are not there, byte for byte, right after the fault."""
    found = []
    for step in STEPS:
        try:
            done = run.done(step)
        except UserError as error:
            found.append(f"after the fault: {error.reason}")
            continue
        for artifact in done.outputs if done else ():
            path = run.output_path(artifact)
            if not path.is_file() or (artifact.sha256 and sha256_of_file(path) != artifact.sha256):
                found.append(f"{step} is claimed, {artifact.path} is not what the marker says")
    return found


def users_files_lost(run: RunDirectory) -> list[str]:
    """What the user wrote must be there whatever happens."""
    kept = {name: text for name, text in USER_FILES.items() if text}
    return [
        f"{name} is not as the user left it"
        for name, text in kept.items()
        if not (run.path / name).is_file() or (run.path / name).read_text(encoding="utf-8") != text
    ]


def differences(reference: Reference, step: str, run: RunDirectory, besides: str = "") -> list[str]:
    """How the run differs from the undisturbed one as it lay after the step, in other files than `besides`."""
    expected, found = dict(reference.prints[step]), fingerprint(run.path)
    for prints in (expected, found):
        prints.pop(besides, None)
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    said = [f"differs: {', '.join(names[:4])}"] if names else []
    if step == "report" and indicators(run.path) != reference.indicators:
        said.append("the run log's indicators differ")
    done = run.done(step)
    return said if done else [*said, f"{step} is not marked as done"]


def claimed_more(reference: Reference, run: RunDirectory) -> list[str]:
    """Indicators that the run log shows green and that were not green in the undisturbed run."""
    now = indicators(run.path)
    return [name for name, status in now.items() if status == "pass" != reference.indicators[name]]


def drafts(run: RunDirectory) -> list[str]:
    """Half-made files that nobody will take away any more."""
    left = [path for path in run.path.rglob("*") if path.name.endswith((".part", ".old"))]
    return [f"left behind: {', '.join(path.name for path in left[:3])}"] if left else []


def ended_well(reference: Reference, step: str, attempt: Attempt) -> list[str]:
    """Everything that must hold when the plain same command has been given once more."""
    run = reference.run
    code = attempt.wait()
    if code != 0:
        return [f"exit {code} the second time: {attempt.said()[-300:].strip()}"]
    found = [*differences(reference, step, run), *false_claims(run), *drafts(run), *users_files_lost(run)]
    if run.is_locked():
        found.append("the run is still locked")
    if orphans := attempt.orphans():
        found.append(f"left running: {orphans}")
    return found


def last_checkpoint(run: RunDirectory) -> int:
    """The newest step that the engine said was safe, 0 if none."""
    return max((event.step for event in replay(run.events_path) if isinstance(event, CheckpointSaved)), default=0)


def lost_steps(run: RunDirectory, n_events: int, checkpoint: int) -> list[str]:
    """Whether the training, after its first `n_events` events, did again what a checkpoint had kept."""
    again = [e.step for e in list(replay(run.events_path))[n_events:] if isinstance(e, Metric) and e.name == "loss"]
    train = [step for step in again if step > 0]
    if train and min(train) <= checkpoint:
        return [f"step {min(train)} was trained again though checkpoint {checkpoint} was said to be safe"]
    return []


def n_events(run: RunDirectory) -> int:
    return sum(1 for _ in replay(run.events_path))


def refused_clearly(attempt: Attempt, *names: str) -> list[str]:
    """Whether the attempt ended with one clear sentence that names one of `names`, and no trace."""
    code, said = attempt.wait(), attempt.said()
    if "Traceback (most recent call last)" in said:
        return [f"a traceback: {said.strip().splitlines()[-1][:200]}"]
    if code not in (1, 2):
        return [f"exit {code}"]
    if "Something unexpected happened" in said:
        return [f"no clear sentence: {_sentence(said)}"]
    if names and not any(name in said for name in names):
        return [f"does not name {names[0]}: {_sentence(said)}"]
    return []


def _sentence(said: str) -> str:
    return " / ".join(said.strip().splitlines()[-2:])[:300]
