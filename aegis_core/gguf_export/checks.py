"""One checked claim about a GGUF file, and how it travels: as an event, as a row of files.json."""

from dataclasses import dataclass

from ..events import Verdict


@dataclass(frozen=True)
class Check:
    """`measured` and `expected` are ready to read; a `blocking` check that fails keeps the file from its final name."""

    name: str
    passed: bool
    measured: str
    expected: str
    blocking: bool = True

    def verdict(self, label: str) -> Verdict:
        return Verdict(f"{label}: {self.name}", "pass" if self.passed else "fail", self.measured, self.expected)

    def row(self) -> dict[str, str | bool]:
        return {"name": self.name, "passed": self.passed, "measured": self.measured, "expected": self.expected}
