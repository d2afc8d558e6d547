"""The command line: help with examples, exit codes, one line of JSON, and a README that tells the truth about it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer.main

from flows.cli import app
from tasks.datasets import catalogue
from tests.command import COMMAND, ROOT, said, scanmill
from tests.raw_files import names_of
from tests.readme import README, invocations

COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def options_of(command: str) -> set[str]:
    """Every option of a command, help included."""
    names = {name for parameter in COMMANDS[command].params for name in [*parameter.opts, *parameter.secondary_opts]}
    return {name for name in names if name.startswith("-")} | {"-h", "--help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = scanmill(command, "--help")
    assert result.exit_code == 0
    examples = re.findall(r"`(scanmill [^`]*)`", COMMANDS[command].epilog or "")
    assert "Example" in result.stdout
    assert examples
    for example in examples:
        _, name, *arguments = shlex.split(example)
        assert name == command
        assert {word for word in arguments if word.startswith("-")} <= options_of(command)
    assert "--json" in options_of(command)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("scanmill qu", "quarantine"), ("scanmill prepare mam", "mammography-density"), ("scanmill train beh", None)],
)
def test_a_shell_completes_commands_datasets_and_recipes(typed: str, completed: str | None) -> None:
    from tasks.learning.recipe import shipped

    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    asked = os.environ | {"_SCANMILL_COMPLETE": "complete_bash", "PYTHONPATH": str(ROOT), **words}
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, env=asked)
    wanted = [completed] if completed else [name for name in shipped() if name.startswith("beh")]
    assert wanted
    assert done.stdout.split() == wanted


def test_the_commands_of_the_design_are_there() -> None:
    assert {"datasets", "check", "prepare", "verify", "report", "demo"} <= set(COMMANDS)


def test_without_a_command_there_is_help_and_an_unknown_one_is_wrong_use() -> None:
    assert "Usage" in scanmill().output
    result = scanmill("prepair")
    assert result.exit_code == 2
    assert "prepair" in result.stderr


def test_the_readme_calls_only_commands_and_options_that_exist() -> None:
    calls = invocations(README)
    assert calls
    for command, *words in calls:
        assert command in COMMANDS
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert options <= options_of(command), f"scanmill {command}"


def test_datasets_lists_the_whole_catalogue() -> None:
    text = scanmill("datasets").stdout
    (line,) = scanmill("datasets", "--json").stdout.splitlines()
    assert [entry["name"] for entry in json.loads(line)] == list(catalogue())
    for dataset in catalogue().values():
        assert dataset.name in text
        assert dataset.licence in text
        assert dataset.homepage in text
        assert ("fetched from" if dataset.remote else dataset.sources[0].url) in text


def test_check_says_that_a_sound_release_is_sound_and_writes_nothing(
    dataset_name: str, fakes: Callable[[str], Path]
) -> None:
    before = sorted(fakes(dataset_name).rglob("*"))
    result = scanmill("check", dataset_name, "--raw", fakes(dataset_name))
    assert result.exit_code == 0
    assert "metadata gate: passed" in result.stdout
    (line,) = scanmill("check", dataset_name, "--raw", fakes(dataset_name), "--json").stdout.splitlines()
    answer = json.loads(line)
    assert answer["ok"] is True
    names = [name for _, name in names_of(fakes(dataset_name)) if "masks/" not in name and "__MACOSX" not in name]
    assert answer["images"] == sum(name.endswith((".png", ".jpg")) for name in names)
    assert f"{answer['images']} images" in result.stdout
    assert sorted(fakes(dataset_name).rglob("*")) == before


def test_report_prints_a_path_that_exists(dataset_name: str, lakes: Callable[[str], Path]) -> None:
    place = lakes(dataset_name) / dataset_name
    printed = scanmill("report", place).stdout.strip()
    assert Path(printed).is_file()
    assert printed.endswith("quality/index.html")
    assert json.loads(scanmill("report", place, "--json").stdout) == {"ok": True, "report": printed}


def test_report_of_a_release_that_is_not_there_names_those_that_are(
    dataset_name: str, release: Path, lakes: Callable[[str], Path]
) -> None:
    result = scanmill("report", f"{lakes(dataset_name) / dataset_name}@0123456789abcdef")
    assert result.exit_code == 2
    assert release.name in said(result)


def test_a_second_prepare_prints_that_nothing_was_to_be_done(
    dataset_name: str, fakes: Callable[[str], Path], lakes: Callable[[str], Path], release: Path
) -> None:
    command = ("prepare", dataset_name, "--raw", fakes(dataset_name), "--lake", lakes(dataset_name))
    result = scanmill(*command)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"nothing to do: release {release.name}")
    (line,) = scanmill(*command, "--json").stdout.splitlines()
    answer = json.loads(line)
    assert (answer["ok"], answer["is_new"], answer["folder"]) == (True, False, str(release))


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "chest", "--raw", "."],
        ["prepare", "chest", "--raw", ".", "--lake", "nowhere"],
        ["verify", "nowhere/at-all"],
        ["report", "nowhere/at-all"],
    ],
    ids=lambda words: words[0],
)
def test_with_json_an_error_is_one_line_of_json_too(arguments: list[str]) -> None:
    result = scanmill(*arguments, "--json")
    assert result.exit_code == 2
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert (answer["ok"], answer["exit_code"]) == (False, 2)
    assert answer["error"]
    assert result.stderr == ""


def test_the_lake_or_release_that_is_meant_is_suggested(lakes: Callable[[str], Path]) -> None:
    result = scanmill("verify", lakes("nih-chest-xray"))
    assert result.exit_code == 2
    assert "nih-chest-xray" in said(result).partition("it holds")[2]
