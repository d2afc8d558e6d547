"""What the README tells a stranger to type is typed, but for the places; what takes a server of its own, elsewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tasks.datasets import HERE as OURS
from tasks.datasets import catalogue, file_of
from tasks.lake import Lake, latest_release
from tests.command import scanmill
from tests.fakes import behsof
from tests.fakes.servers.figshare import FakeFigshare
from tests.readme import README, ROOT, lines_of

ELSEWHERE = {
    r"git clone .* && cd scanmill": "README.md",  # whoever reads this has done it
    r"make demo": "tests/test_readme.py",  # below
    r"export \S+=.*": "tests/test_readme.py",  # what follows it is given the same
    r"scanmill deploy": "tests/test_deployments.py",
    r"prefect deployment run 'refresh/nightly' --watch": "tests/test_deployments.py",
    r"dask (scheduler|worker) ?.*": "tests/dask_hosts.py",
    r"scanmill prepare nih-chest-xray --raw s3://.* --dask .*": "tests/test_object_storage.py",
    r"scanmill train ovf-radiomics .*": "tests/test_radiomics.py",
    r"scanmill (train|evaluate|predict|compare) .*": "tests/test_network_training.py",
    r"scanmill (new-dataset|check|prepare) wrists .*": "tests/test_new_dataset.py",
    r"pip install numpy wheel setuptools": "tests/test_infra.py",
    r"pip install --no-build-isolation pyradiomics==3\.0\.1": "tests/test_infra.py",
}
"""Pattern of a line to the file that does it."""
BEHSOF = 26389069


def elsewhere(line: str) -> str | None:
    """Which file does what a line says; None of those that are typed here."""
    return next((file for pattern, file in ELSEWHERE.items() if re.fullmatch(pattern, line)), None)


HERE = [line for line in lines_of(README) if elsewhere(line) is None]


@dataclass(frozen=True)
class Stranger:
    """A folder to work in, with what the README's places stand for."""

    folder: Path
    places: dict[str, str]

    def words(self, line: str) -> list[str]:
        """The words of a line behind ``scanmill``, with places of this machine."""
        for place, here in self.places.items():
            line = re.sub(rf"{re.escape(place)}\b", here, line)
        return shlex.split(line)[1:]


@pytest.fixture(scope="module")
def stranger(
    fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Stranger:
    """With a published NIH release and a key."""
    folder, name = tmp_path_factory.mktemp("stranger"), "nih-chest-xray"
    shutil.copytree(lakes(name) / name, folder / "lake" / name)
    release = latest_release(Lake(str(folder / "lake"), name))
    sample = pd.read_parquet(folder / "lake" / name / "releases" / release / "samples.parquet")["sample_id"][0]
    assert scanmill("sign", "--new-key", folder / "alice.key").exit_code == 0
    own = {"/data/lake": "lake", "alice.key": "alice.key", "refused": "refused"}
    places = {place: str(folder / here) for place, here in own.items()}
    return Stranger(folder, {**places, "/data/nih": str(fakes(name)), "OLD": release, "00000003_002": sample})


@pytest.mark.parametrize("line", HERE)
def test_what_the_readme_says_can_be_typed(
    line: str, stranger: Stranger, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stranger.folder)
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    words = stranger.words(line)
    if words[:2] == ["prepare", "behsof"]:
        behsof.write(stranger.folder / "livers", images=120, defects=False)
        files = {path.name: path.read_bytes() for path in (stranger.folder / "livers").iterdir()}
        with FakeFigshare() as server:
            server.publish(BEHSOF, files)
            result = scanmill(*words, "--source-url", server.api, "--workers", 0)
    else:
        result = scanmill(*words, *(["--workers", 0] if words[0] == "prepare" else []))
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_the_demo_prints_what_the_readme_shows(prefect_server: None, tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^demo:.*\n\t@\$\(BIN\)/scanmill (.*)$", makefile, flags=re.MULTILINE)
    result = scanmill(*shlex.split(recipe.replace("scanmill-demo", str(tmp_path / "demo"))))
    assert result.exit_code == 0, result.output
    shown = README.read_text("utf-8").split("```\npublished nih-chest-xray", 1)[1].split("```", 1)[0]
    for line in shown.splitlines()[1:-1]:
        start = line.partition("…")[0].strip()
        assert start in result.stdout.replace(str(tmp_path / "demo"), "scanmill-demo"), line


def test_what_is_done_elsewhere_is_done_there() -> None:
    assert HERE
    for line in lines_of(README):
        file = elsewhere(line)
        if file and line.startswith("scanmill "):
            command = shlex.split(line)[1]
            assert re.search(rf'scanmill\(\s*"{command}"|"{command}"', (ROOT / file).read_text()), line


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README.read_text("utf-8")))))
def test_no_link_of_the_readme_leads_nowhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_table_of_datasets_is_that_of_the_catalogue() -> None:
    rows = {row[1]: row[0] for row in re.findall(r"^(\| `([a-z-]+)` \[.*)$", README.read_text("utf-8"), re.MULTILINE)}
    built_in = {name: declared for name, declared in catalogue().items() if file_of(name).parent == OURS}
    assert set(rows) == set(built_in)
    for name, declared in built_in.items():
        assert declared.homepage in rows[name]
        assert declared.samples is None or f"{declared.samples:,}" in rows[name]
