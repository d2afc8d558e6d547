"""Every file of examples/ runs against a release of made-up films, and prints what it promises."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import s3fs

from tests.command import ROOT, scanmill
from tests.fakes.servers import s3

NIH = "nih-chest-xray"
FOLDER = ROOT / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py"))

Run = Callable[..., str]


@pytest.fixture
def dataset(flawless_release: Path) -> Path:
    """What `make demo` makes as scanmill-demo/lake/nih-chest-xray, but without defects and with smaller films."""
    return flawless_release.parent.parent


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run an example as `python examples/NAME.py ARGUMENTS` in an empty folder; returns what it prints.

    In this process: importing torch for each would take longer than all of them.
    """

    def run_it(name: str, *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging-face"))
        monkeypatch.setattr("sys.argv", [str(FOLDER / f"{name}.py"), *map(str, arguments)])
        monkeypatch.setattr("sys.path", [str(FOLDER), *sys.path])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_it


def test_the_quarantine_is_counted_by_place_stage_and_reason(run: Run, flawless_release: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "lake" / NIH
    release = dataset / "releases" / "0123456789abcdef"
    release.mkdir(parents=True)
    (dataset / "latest.json").write_text('{"release": "0123456789abcdef"}')
    samples = pd.read_parquet(flawless_release / "samples.parquet", columns=["archive"])
    samples.to_parquet(release / "samples.parquet")
    columns = pd.read_parquet(flawless_release / "quarantine.parquet").columns
    refused = pd.DataFrame(
        [
            {"archive": "images_001.zip", "member": "a.png", "stage": "convert", "reason": "truncated-image"},
            {"archive": "images_001.zip", "member": "b.png", "stage": "convert", "reason": "truncated-image"},
            {"archive": "images_002.zip", "member": "c.png", "stage": "validate-images", "reason": "blank-frame"},
            {"table": "test_list.txt", "row": 3, "stage": "parse", "reason": "sample-refused"},
        ],
        columns=columns,
    )
    refused.to_parquet(release / "quarantine.parquet")
    printed = run("quarantine_with_duckdb", dataset)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines()]
    assert ["images_001.zip", "convert", "truncated-image", "2"] in cells
    assert ["images_002.zip", "validate-images", "blank-frame", "1"] in cells
    assert ["test_list.txt", "parse", "sample-refused", "1"] in cells
    written = int((samples["archive"] == "images_001.zip").sum())
    assert ["images_001.zip", str(written), "2", str(round(200 / (2 + written), 1))] in cells
    assert f"`scanmill quarantine {dataset} --extract refused`" in printed


def test_three_epochs_are_trained_and_scored(run: Run, dataset: Path, flawless_release: Path) -> None:
    printed = run("train_three_epochs", dataset, "--size", 32)
    epochs = re.findall(r"^epoch (\d): loss (\S+), test AUROC (\S+) of (\d+) films$", printed, flags=re.MULTILINE)
    films = (pd.read_parquet(flawless_release / "samples.parquet", columns=["split"])["split"] == "test").sum()
    assert [(epoch, count) for epoch, _, _, count in epochs] == [(str(n), str(films)) for n in (1, 2, 3)]
    losses, scores = ([float(epoch[place]) for epoch in epochs] for place in (1, 2))
    assert losses[2] < losses[1] < losses[0]
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("name", ["open_with_webdataset", "open_with_hugging_face"])
def test_both_stores_hold_the_same_pixels(run: Run, dataset: Path, flawless_release: Path, name: str) -> None:
    films = (pd.read_parquet(flawless_release / "samples.parquet", columns=["split"])["split"] == "test").sum()
    printed = run(name, dataset)
    assert f"test: {films} of {films} images are the same pixels" in printed
    assert re.search(r"^a batch of 16.*: \(56, 56\), uint8", printed, flags=re.MULTILINE)


def test_one_image_is_followed_to_the_publishers_bytes(
    run: Run, dataset: Path, flawless_release: Path, flawless_nih: Path
) -> None:
    row = pd.read_parquet(flawless_release / "samples.parquet").iloc[7]
    printed = run("follow_one_image", dataset, "--raw", flawless_nih, "--sample", row["sample_id"])
    assert f"row {row['row']} of shard {row['shard']}" in printed
    assert row["archive"] in printed
    assert row["member"] in printed
    assert f"{row['source_bytes']:,} bytes, the same as were milled" in printed


def test_object_storage_is_prepared_into_and_read_from(
    run: Run, flawless_nih: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """With the session's Prefect server: starting another one takes longer than all that is prepared."""
        assert command[0] == str(Path(sys.executable).with_name("scanmill"))
        return subprocess.CompletedProcess(command, scanmill(*command[1:]).exit_code)

    monkeypatch.setattr("subprocess.run", in_this_process)
    for name in s3.ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what the example sets is gone afterwards
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        printed = run("against_s3", "--local", "--raw", flawless_nih, "--workers", 0)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert printed.startswith(f"s3://scanmill-example/lake/{NIH}/releases/")
    assert re.search(r"a batch: \(\d+, 1, 224, 224\), \d+% with effusion", printed)
    assert re.search(r"^\d+ objects, \d\.\d MB, every byte verified$", printed, flags=re.MULTILINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_a_release_one_sentence_says_how_to_get_one(run: Run, name: str) -> None:
    with pytest.raises(SystemExit) as left:
        run(name)
    assert "`make demo`" in str(left.value)
    assert len(str(left.value).splitlines()) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_listed_helped_and_tested(run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert re.search(rf"^\| \[`{name}\.py`\]\({name}\.py\) \|", (FOLDER / "README.md").read_text(), flags=re.MULTILINE)
    with pytest.raises(SystemExit) as left:
        run(name, "--help")
    assert left.value.code == 0
    assert f"python examples/{name}.py " in capsys.readouterr().out
    assert f'"{name}"' in Path(__file__).read_text(), f"no test runs {name}.py: write one here"
