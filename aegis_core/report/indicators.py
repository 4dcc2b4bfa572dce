"""The seven success indicators, recomputed from the run's files; what a step claims about itself counts for nothing."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..chat.judge import judge
from ..chat.overruling import Overrule, answered_id, applying
from ..chat.questions import question_of
from ..chat.verdict import AnswerVerdict, Surprise
from ..plan import GOLDEN_RATIO
from ..run_directory import sha256_of_json
from ..soul.gate import Soul, load_soul
from ..training.early_stopping import stopped_early
from .evidence import Evidence, Gap
from .findings import SKIPPED, Finding, guarded, judged
from .limits import FUSED_RECORD, HEAD_LIMIT, LOGIT_LIMITS, LOSS_LIMIT, TOP1_LIMIT
from .phrases import Phrase, phrase
from .quality import FOUR_BITS

ALPHA_TOLERANCE = 1e-3
SHOWN_DIGITS = 12  # how much of a hash the chat step shows
NUMBERS_OF_A_STEP = ("loss", "alpha", "gate", "learning_rate", "grad_norm", "tokens", "seconds")


def indicators(evidence: Evidence) -> dict[str, Finding]:
    """Name -> finding for all seven, in the order of the ritual. Reads and hashes files, loads no model."""
    return {
        "training_completed": training_completed(evidence),
        "alpha_reached": alpha_reached(evidence),
        "soul_saved": soul_saved(evidence),
        "fusion_equal": fusion_equal(evidence),
        "gguf_verified": gguf_verified(evidence),
        "ollama_loaded": ollama_loaded(evidence),
        "answer_meaningful": answer_meaningful(evidence),
    }


def training_completed(evidence: Evidence) -> Finding:
    """metrics.jsonl has every planned step once, in order, with finite numbers; an early stop must follow its rule."""
    plan = evidence.run.plan()
    n_planned = plan.train.steps
    expected = phrase("steps 1 to {n_steps} without a gap, every number finite", n_steps=n_planned)

    def measure() -> Finding:
        rows = evidence.rows("train", "metrics.jsonl")
        problems = evidence.changes("train", evidence.path("train", "metrics.jsonl"))
        if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
            problems.append(phrase("the steps are not contiguous"))
        early = len(rows) < n_planned and stopped_early(rows, plan)
        if len(rows) != n_planned and not early:
            problems.append(phrase("{n_rows} of {n_steps} steps are there", n_rows=len(rows), n_steps=n_planned))
        if broken := [row["step"] for row in rows if not _finite(row[name] for name in NUMBERS_OF_A_STEP)]:
            problems.append(phrase("step {step} holds a number that is not finite", step=broken[0]))
        said = "{n_rows} of {n_steps} steps, stopped early as planned" if early else "{n_rows} of {n_steps} steps"
        return judged(phrase(said, n_rows=len(rows), n_steps=n_planned), expected, problems)

    return guarded(expected, measure)


def alpha_reached(evidence: Evidence) -> Finding:
    """The alpha that was saved, not the one that was planned, against the golden ratio."""
    expected = phrase("|α − {target}| < {tolerance}", target=f"{GOLDEN_RATIO:.6f}", tolerance=ALPHA_TOLERANCE)

    def measure() -> Finding:
        alpha = _soul(evidence).alpha
        missed = not abs(alpha - GOLDEN_RATIO) < ALPHA_TOLERANCE
        problems = [phrase("alpha is {distance} away", distance=f"{abs(alpha - GOLDEN_RATIO):.4g}")] if missed else []
        return judged(phrase("α = {alpha}", alpha=f"{alpha:.6f}"), expected, problems)

    return guarded(expected, measure)


def soul_saved(evidence: Evidence) -> Finding:
    """Adapter, gate and rotation load, are finite, and are the files that training finished with."""
    expected = phrase("adapter, gate and rotation load, are finite and are what training recorded")

    def measure() -> Finding:
        adapter, soul = evidence.path("train", "adapter"), _soul(evidence)
        evidence.json("train", "adapter/adapter_config.json")
        tensors = _tensors(evidence, adapter / "adapter_model.safetensors")
        files = (adapter / "adapter_config.json", adapter / "adapter_model.safetensors", _soul_path(evidence))
        problems = evidence.changes("train", *files)
        problems += [
            phrase("{tensor} is not finite", tensor=name) for name, t in tensors.items() if not t.isfinite().all()
        ]
        if not tensors:
            problems.append(phrase("the adapter holds no tensors"))
        n_numbers = sum(tensor.numel() for tensor in tensors.values())
        measured = phrase(
            "{n_tensors} adapter tensors with {n_numbers} numbers, rotation of {n_blocks} blocks",
            n_tensors=len(tensors),
            n_numbers=f"{n_numbers:,}",
            n_blocks=len(soul.generator),
        )
        return judged(measured, expected, problems)

    return guarded(expected, measure)


def fusion_equal(evidence: Evidence) -> Finding:
    """The proof's figures against the limits once more, and the fused files against their hashes and ingredients."""
    expected = phrase(
        "|Δloss| ≤ {loss}, top-1 ≥ {top1}, max |Δlogit| ≤ 0.001 / 0.15 / 1.0 for fp32 / fp16 / bf16, head ≤ {head}",
        loss=LOSS_LIMIT,
        top1=f"{TOP1_LIMIT:.0%}",
        head=HEAD_LIMIT,
    )

    def measure() -> Finding:
        proof, quality = evidence.json("fuse", "proof.json"), evidence.json("fuse", "quality.json")
        reference = quality.get(FOUR_BITS) or quality["gated"]  # what was merged into
        loss = max(abs(proof["loss_difference"]), abs(quality["fused"]["loss"] - reference["loss"]))
        limit, error = LOGIT_LIMITS[proof["dtype"]], proof.get("loss_difference_standard_error")
        claims = [
            (phrase("the loss differs by {value}", value=f"{loss:.3g}"), loss <= LOSS_LIMIT),
            (
                phrase("top-1 agreement is {value}", value=f"{proof['top1_agreement']:.2%}"),
                TOP1_LIMIT <= proof["top1_agreement"] <= 1,
            ),
            (
                phrase("a logit differs by {value}", value=f"{proof['max_abs_logit_diff']:.3g}"),
                0 <= proof["max_abs_logit_diff"] <= limit,
            ),
            (
                phrase("the head differs by {value}", value=f"{proof['head_difference']:.3g}"),
                0 <= proof["head_difference"] <= HEAD_LIMIT,
            ),
        ]
        problems = [sentence for sentence, holds in claims if not holds]
        problems += _fused_file_problems(evidence)
        measured = phrase(
            "|Δloss| {loss}, top-1 {top1}, max |Δlogit| {logit} ({dtype}), head {head}",
            loss=f"{loss:.2g}" + ("" if error is None else f" ± {error:.1g}"),
            top1=f"{proof['top1_agreement']:.2%}",
            logit=f"{proof['max_abs_logit_diff']:.2g}",
            dtype=proof["dtype"],
            head=f"{proof['head_difference']:.2g}",
        )
        return judged(measured, expected, problems)

    return guarded(expected, measure)


def gguf_verified(evidence: Evidence) -> Finding:
    """Every planned file is there, is byte for byte the one that was checked, and passed all its checks."""
    types = evidence.run.plan().export.types
    expected = phrase("{types}: files with their recorded hash, all checks passed", types=", ".join(types))

    def measure() -> Finding:
        rows = evidence.json("export", "files.json")
        problems = evidence.changes("export", evidence.path("export", "files.json"))
        for row in rows:
            problems += _gguf_problems(evidence, row)
        absent = set(types) - {row["type"] for row in rows}
        problems += [phrase("no {type} file was written", type=name) for name in sorted(absent)]
        n_checks = sum(len(row["checks"]) for row in rows)
        n_passed = sum(check["passed"] is True for row in rows for check in row["checks"])
        measured = phrase(
            "{n_files} files, {n_passed} of {n_checks} checks passed",
            n_files=len(rows),
            n_passed=n_passed,
            n_checks=n_checks,
        )
        return judged(measured, expected, problems)

    return guarded(expected, measure)


def ollama_loaded(evidence: Evidence) -> Finding:
    """Skipped unless an Ollama server answered; then it must have held the model made from an exported file."""
    expected = phrase("a server holds the model made from an exported file")

    def measure() -> Finding:
        rows = evidence.rows("chat", "transcript.jsonl")
        if not any(row["backend"] == "ollama" for row in rows):
            return Finding(SKIPPED, phrase("no Ollama answered; the built-in llama.cpp did"), expected)
        problems = evidence.changes("chat", evidence.path("chat", "transcript.jsonl"))
        last = rows[-1]["ollama_loaded"]
        if last["status"] != "pass" or any(row["backend"] != "ollama" for row in rows):
            problems.append(phrase("not every answer came from a model that Ollama held"))
        exported = [row["sha256"][:SHOWN_DIGITS] for row in evidence.json("export", "files.json")]
        if not any(f"sha256:{digits}" in last["measured"] for digits in exported):
            problems.append(phrase("what Ollama loaded is none of the exported files"))
        return judged(phrase("{measured}", measured=last["measured"]), expected, problems)

    return guarded(expected, measure, status_of_gap=SKIPPED)


def answer_meaningful(evidence: Evidence) -> Finding:
    """Every answer judged anew; the verdicts in the transcript are not read."""
    n_planned = evidence.run.plan().chat.n_questions
    expected = phrase("{n} physics questions, at least half of the answers meaningful", n=n_planned)

    def measure() -> Finding:
        rows = evidence.rows("chat", "transcript.jsonl")
        problems = evidence.changes("chat", evidence.path("chat", "transcript.jsonl"))
        verdicts = judged_again(rows)
        n_passed = sum(verdict.passed for verdict in verdicts if verdict)
        n_asked = len({row["question"] for row, verdict in zip(rows, verdicts, strict=True) if verdict})
        if n_asked < n_planned:
            problems.append(phrase("only {n} different physics questions were asked", n=n_asked))
        if n_passed < max(1, math.ceil(len(rows) / 2)):
            problems.append(phrase("too few answers are meaningful"))
        measured = phrase("{n_passed} of {n_answers} answers meaningful", n_passed=n_passed, n_answers=len(rows))
        return replace(judged(measured, expected, problems), remarks=_overruled(evidence, rows, verdicts))

    return guarded(expected, measure)


def judged_again(rows: list[dict[str, Any]]) -> list[AnswerVerdict | None]:
    """A fresh verdict for each row of a transcript; None where the question is not one of the bundled ones."""
    found = [(row, question_of(row["question"])) for row in rows]
    return [
        judge(row["answer"], question, row["language"], row["reason"], Surprise.of(row.get("surprise")))
        if question
        else None
        for row, question in found
    ]


def users_verdicts(evidence: Evidence, rows: list[dict[str, Any]]) -> dict[str, Overrule]:
    """Question id -> the user's own verdict on the answer in these rows; Gap if their file is damaged."""
    path = evidence.path("chat", "overrules.jsonl")
    if not path.is_file():
        return {}
    try:
        return applying(evidence.rows("chat", path.name), rows)
    except (KeyError, TypeError) as error:
        raise Gap(phrase("{file} is damaged", file=evidence.shown(path))) from error


def _overruled(
    evidence: Evidence, rows: list[dict[str, Any]], verdicts: list[AnswerVerdict | None]
) -> tuple[Phrase, ...]:
    """What the user says beside: the status stays what was measured."""
    try:
        decisions = users_verdicts(evidence, rows)
    except Gap as gap:
        return (gap.phrase,)
    if not decisions:
        return ()
    users = [
        decisions[name].passed if (name := answered_id(row)) in decisions else verdict is not None and verdict.passed
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    return (
        phrase(
            "overruled by the user on {n} answers: by that {n_passed} of {n_answers} are meaningful",
            n=len(decisions),
            n_passed=sum(map(bool, users)),
            n_answers=len(rows),
        ),
    )


def _soul_path(evidence: Evidence) -> Path:
    return evidence.path("train", "soul.safetensors")


def _soul(evidence: Evidence) -> Soul:
    return load_soul(evidence.present(_soul_path(evidence)))


def _tensors(evidence: Evidence, path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(evidence.present(path))
    except SafetensorError as error:
        raise Gap(phrase("{file} is damaged", file=evidence.shown(path))) from error


def _fused_file_problems(evidence: Evidence) -> list[Phrase]:
    """The files that fusion recorded are there unchanged, and were made from this very adapter and gate.

    Where they lie is taken from the step's own record, so that a run that was moved is judged by its own files.
    """
    files = list(evidence.recorded("fuse"))
    origins = [path for path in files if path.name == FUSED_RECORD]
    if not origins or not any(path.parent == origins[0].parent and path.suffix == ".safetensors" for path in files):
        return [phrase("fusion recorded no model")]
    problems = evidence.changes(
        "fuse", evidence.path("fuse", "proof.json"), evidence.path("fuse", "quality.json"), *files
    )
    origin = evidence.json_at(origins[0])
    adapter = [
        evidence.path("train", "adapter") / name for name in ("adapter_config.json", "adapter_model.safetensors")
    ]
    if origin["adapter_sha256"] != sha256_of_json([evidence.sha256(evidence.present(path)) for path in adapter]):
        problems.append(phrase("the fused model was made from another adapter"))
    if origin["soul_sha256"] != evidence.sha256(evidence.present(_soul_path(evidence))):
        problems.append(phrase("the fused model was made from another gate or rotation"))
    return problems


def _gguf_problems(evidence: Evidence, row: dict[str, Any]) -> list[Phrase]:
    path = evidence.run.path / row["path"]
    if not path.is_file():
        return [phrase("{file} is missing", file=evidence.shown(path))]
    problems = []
    if path.stat().st_size != row["bytes"] or evidence.sha256(path) != row["sha256"]:
        problems.append(phrase("{file} is not the file that was checked", file=evidence.shown(path)))
    if not row["checks"]:
        problems.append(phrase("{file} was not checked", file=evidence.shown(path)))
    failed = [check["name"] for check in row["checks"] if check["passed"] is not True]
    problems += [phrase("{file} failed: {check}", file=path.name, check=name) for name in failed]
    return problems


def _finite(numbers: Iterable[Any]) -> bool:
    return all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
