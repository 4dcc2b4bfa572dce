"""Asks a database of known vulnerabilities about every locked package of window and engine.

    python packaging/audit.py [--report FILE]

Exit code 0: asked, and none known. 1: some are known, each is named. 2: it could not be asked, and so nothing is known.
A package with a vulnerability known since 2019 is asked about as well: an answer that does not name it counts as none.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bill_of_materials import ENGINE_LOCKS
from project import WINDOW_LOCK

CANARY = ("jinja2", "2.10")  # CVE-2019-10906
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")


@dataclass(frozen=True)
class Finding:
    package: str
    version: str
    vulnerability: str
    fixed_in: str


@dataclass(frozen=True)
class Audit:
    """`answered` is false where the database was out of reach or does not tell of vulnerabilities at all."""

    answered: bool
    n_packages: int
    findings: list[Finding]
    problem: str = ""

    @property
    def exit_code(self) -> int:
        return 2 if not self.answered else 1 if self.findings else 0


def locked(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and version of every pin in the lock files, each once."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted({(found[1].lower(), found[2]) for line in lines if (found := _PIN.match(line))})


def judged(answer: Mapping[str, Any] | None, packages: list[tuple[str, str]], problem: str = "") -> Audit:
    """What an answer of pip-audit (None: there was none) about the packages and the canary means."""
    if answer is None:
        return Audit(False, len(packages), [], problem or "There was no answer.")
    rows = answer["dependencies"]
    found = [
        Finding(row["name"], row["version"], flaw["id"], ", ".join(flaw["fix_versions"]))
        for row in rows
        for flaw in row.get("vulns", [])
    ]
    names = [(finding.package.lower(), finding.version) for finding in found]
    if CANARY not in names:
        return Audit(False, len(packages), [], "The database does not even know of {} {}.".format(*CANARY))
    silent = {name for name, _ in packages} - {
        re.sub("[-_.]+", "-", row["name"].lower()) for row in rows if "vulns" in row
    }
    if silent:
        return Audit(False, len(packages), [], f"Nothing was said about {', '.join(sorted(silent))}.")
    return Audit(True, len(packages), [finding for finding, name in zip(found, names, strict=True) if name != CANARY])


def asked(packages: list[tuple[str, str]]) -> Audit:
    """The audit of these packages, by pip-audit."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted, answer = Path(scratch) / "wanted.txt", Path(scratch) / "answer.json"
        canary = Path(scratch) / "canary.txt"
        wanted.write_text("".join(f"{name}=={number}\n" for name, number in packages), encoding="utf-8")
        canary.write_text("{}=={}\n".format(*CANARY), encoding="utf-8")
        rows: list[Any] = []
        for subject in (wanted, canary):  # two questions: the canary's version may be another than a pin's
            command = [sys.executable, "-m", "pip_audit", "-r", subject, "--no-deps", "--disable-pip", "-f", "json"]
            command += ["-o", answer, "--progress-spinner", "off", "--desc", "off"]
            done = subprocess.run(
                [str(part) for part in command], capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            if not answer.is_file():
                return judged(
                    None, packages, (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:300]
                )
            rows += json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
            answer.unlink()
        return judged({"dependencies": rows}, packages)


def told_of(audit: Audit) -> str:
    if not audit.answered:
        return f"NOT AUDITED: {audit.problem} Whether the {audit.n_packages} packages are sound is not known."
    if not audit.findings:
        return f"No vulnerability is known of the {audit.n_packages} locked packages."
    rows = [
        f"{row.package} {row.version}: {row.vulnerability}, mended in {row.fixed_in or 'no version yet'}"
        for row in audit.findings
    ]
    return "\n".join([f"{len(rows)} vulnerabilities are known:", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks about known vulnerabilities of the locked packages.")
    parser.add_argument("--report", type=Path, help="the result as JSON")
    options = parser.parse_args()
    audit = asked(locked([WINDOW_LOCK, *ENGINE_LOCKS]))
    print(told_of(audit))
    if options.report:
        options.report.write_text(json.dumps(asdict(audit), indent=1) + "\n", encoding="utf-8")
    return audit.exit_code


if __name__ == "__main__":
    sys.exit(main())
