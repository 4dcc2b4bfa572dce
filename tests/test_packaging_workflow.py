"""The job of the public CI service, read and held against the project: it cannot be run here."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(request.param.read_text(encoding="utf-8"))
    return found


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_a_job_for_windows_and_one_for_linux() -> None:
    runners = [
        row["runner"]
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        for row in job["strategy"]["matrix"]["include"]
    ]
    assert [name.split("-")[0] for name in runners] == ["windows", "ubuntu"]
    assert not any(name.endswith("latest") for name in runners), "a runner that changes by itself is no pin"


def test_actions_of_others_are_pinned_to_a_commit_and_say_which_version_that_is(workflow: dict[Any, Any]) -> None:
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_the_job_may_only_read_and_leaves_no_credentials(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    checkout = next(step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["persist-credentials"] is False
    assert "pull_request_target" not in workflow[True], "foreign code would run with this project's rights"


def test_every_script_and_option_that_the_job_calls_exists(workflow: dict[Any, Any]) -> None:
    called = [
        (script, options)
        for step in steps(workflow)
        for script, options in re.findall(r"(?<![\w.])((?:packaging/)?\w+\.py)(?!\w)([^\n]*)", step.get("run", ""))
    ]
    assert len(called) >= 7
    for script, options in called:
        text = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", options):
            assert f'"{option}"' in text, f"{script} has no {option}"


def test_the_terminal_beside_the_window_has_the_command_that_the_job_gives_it(workflow: dict[Any, Any]) -> None:
    from aegis_core.cli import engine

    lines = [step["run"] for step in steps(workflow) if "dist/AEGIS/aegis " in step.get("run", "")]
    assert [line.split()[1:3] for line in lines] == [["engine", "install"]]
    assert "install" in [command.callback.__name__ for command in engine.app.registered_commands if command.callback]


def test_the_installers_script_is_compiled_with_the_version_it_asks_for(workflow: dict[Any, Any]) -> None:
    line = next(step["run"] for step in steps(workflow) if "ISCC" in step.get("run", ""))
    script = re.search(r"packaging\\[\w.]+", line)
    assert script and (ROOT / script[0].replace("\\", "/")).is_file()
    assert "/DVersion=$version" in line


def test_the_linux_job_brings_the_parts_of_the_system_that_start_py_would_ask_for(workflow: dict[Any, Any]) -> None:
    import start

    line = next(step["run"] for step in steps(workflow) if "apt-get install" in step.get("run", ""))
    assert {piece.package for piece in start.PIECES} <= set(line.split())


def test_an_audit_with_findings_withholds_no_installer(workflow: dict[Any, Any]) -> None:
    names = [step.get("name", step.get("uses", "").partition("@")[0]) for step in steps(workflow)]
    audit, upload = names.index("Known vulnerabilities"), names.index("actions/upload-artifact")
    assert max(names.index("The installer"), names.index("The frozen window as an archive")) < audit < upload
    kept = next(step for step in steps(workflow) if step.get("uses", "").startswith("actions/upload-artifact@"))
    assert kept["if"] == "success() || failure()"
