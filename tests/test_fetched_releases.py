"""From the publisher's host to a verified release, and what the next look at that host costs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pydantic import SecretStr

from tasks.release.signature import PASSPHRASE
from tests import planted_secrets
from tests.command import environment, said, scanmill, start
from tests.conftest import write_fake
from tests.fakes import behsof, chexchonet, ovf_supplement
from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.https import FakeFiles
from tests.fakes.servers.physionet import FakePhysioNet
from tests.release_files import samples_of

BEHSOF, OVF = 26389069, 25494829
ACCOUNT = {"SCANMILL_PHYSIONET_USERNAME": "a made-up user", "SCANMILL_PHYSIONET_PASSWORD": "not a real one"}
CHANGES = "quality/changes.html"
TELEMETRY_SWITCHES = ("PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK", "GX_ANALYTICS_ENABLED")
"""The tests' own; the command has to do without."""

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def liver_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the BEHSOF article, without defects."""
    folder = tmp_path_factory.mktemp("behsof")
    behsof.write(folder, images=140, defects=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def figshare(liver_files: dict[str, bytes]) -> Iterator[FakeFigshare]:
    """A server that has it."""
    with FakeFigshare() as server:
        server.publish(BEHSOF, liver_files)
        yield server


def prepared(*arguments: object) -> dict[str, object]:
    """What ``scanmill prepare … --json`` answers."""
    result = scanmill("prepare", *arguments, "--workers", 0, "--json")
    assert result.exit_code == 0, result.stderr + result.stdout
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def verified(lake: Path, dataset: str) -> str:
    result = scanmill("verify", lake / dataset)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_livers_from_figshare_then_nothing_new_then_one_changed_table(
    figshare: FakeFigshare, liver_files: dict[str, bytes], tmp_path: Path
) -> None:
    command = ["behsof", "--lake", tmp_path, "--source-url", figshare.api]
    fetched = scanmill("fetch", *command)
    assert fetched.exit_code == 0, fetched.stderr
    assert f"figshare article {BEHSOF}, version 1: 3 new" in fetched.stdout
    figshare.forget_requests()
    first = prepared(*command)
    assert not [request for request in figshare.requests if "download" in request.path]  # it goes on from what is there
    assert first["fetched"]["version"] == "1"  # type: ignore[index]
    assert "140 samples" in verified(tmp_path, "behsof")
    raw = tmp_path / "behsof" / "raw" / "figshare" / str(BEHSOF)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == liver_files

    figshare.forget_requests()
    again = prepared(*command)
    assert (again["is_new"], again["release"]) == (False, first["release"])
    assert [request.path for request in figshare.requests] == [f"/v2/articles/{BEHSOF}"]

    table = liver_files[behsof.TABLE] + b"\r\n"  # an empty row more, as the publisher's own file has
    figshare.publish(BEHSOF, {**liver_files, behsof.TABLE: table})
    figshare.forget_requests()
    changed = prepared(*command)
    assert changed["fetched"]["changed"] == [behsof.TABLE]  # type: ignore[index]
    assert len([r for r in figshare.requests if "/file/download/" in r.path]) == 1
    assert changed["images_reused"] == 140
    page = Path(str(changed["folder"]), CHANGES).read_text()
    assert "version 2" in page
    assert behsof.TABLE in page
    assert str(first["release"]) in page
    superseded = [path.read_bytes() for path in (tmp_path / "behsof" / "raw" / "superseded").iterdir()]
    assert superseded == [liver_files[behsof.TABLE]]
    verified(tmp_path, "behsof")


def test_films_from_physionet_and_one_changed_film_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    files = chexchonet.files(images=320, defects=False)
    user, password = ACCOUNT.values()
    with FakePhysioNet("chexchonet", "1.0.0", files, user=user, password=password) as server:
        command = ["chexchonet", "--lake", tmp_path, "--source-url", server.url]
        first = prepared(*command)
        assert "320 samples" in verified(tmp_path, "chexchonet")
        server.forget_requests()
        assert prepared(*command)["is_new"] is False
        assert [(r.path, r.status) for r in server.requests] == [("/files/chexchonet/1.0.0/SHA256SUMS.txt", 304)]

        films = sorted(name for name in files if name.endswith(".jpg"))
        server.change(films[-1], files[films[0]])
        server.forget_requests()
        changed = prepared(*command)
        asked = {request.path.rpartition("/")[2] for request in server.requests}
        assert asked == {"SHA256SUMS.txt", films[-1].rpartition("/")[2]}
        assert 0 < 320 - int(str(changed["images_reused"])) < 320  # one chunk of several
        before, after = (samples_of(Path(str(answer["folder"]))) for answer in (first, changed))
        differs = before["pixel_sha256"] != after["pixel_sha256"]
        assert list(before.index[differs]) == [Path(films[-1]).stem]


def test_a_report_on_restricted_data_shows_no_row_and_no_picture(
    fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    planted = write_fake("chexchonet", tmp_path / "again")  # the same as the session's fake
    (release,) = (lakes("chexchonet") / "chexchonet" / "releases").iterdir()
    samples = pd.read_parquet(release / "samples.parquet")
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    names = {*samples["patient_id"], *samples["sample_id"], planted.truncated, planted.without_image}
    assert len(quarantine) == 4
    texts = {path: path.read_text() for path in release.rglob("*") if path.suffix in (".html", ".json", ".md")}
    assert {"index.html", "changes.html", "report.json", "README.md", "croissant.json"} <= {path.name for path in texts}
    for path, text in texts.items():
        assert not [name for name in names if name.partition(".")[0] in text], path
        assert "data:image" not in text
    said_out_loud = scanmill("check", "chexchonet", "--raw", fakes("chexchonet")).stdout
    assert not re.search(r"[0-9a-f]{32}", said_out_loud)


def test_the_supplement_from_figshare(tmp_path: Path) -> None:
    with FakeFigshare() as server:
        server.publish(OVF, {ovf_supplement.NAME: ovf_supplement.docx_bytes()})
        command = ["ovf-radiomics", "--lake", tmp_path, "--source-url", server.api]
        first = prepared(*command)
        verified(tmp_path, "ovf-radiomics")
        tables = sorted(Path(str(first["folder"])).glob("documents/*/tables/*.parquet"))
        assert len(tables) == 3
        assert prepared(*command)["is_new"] is False


def test_any_dataset_from_a_list_of_addresses(tmp_path: Path, fakes: object) -> None:
    raw = fakes("mammography-density")  # type: ignore[operator]
    files = {path.name: path.read_bytes() for path in raw.iterdir()}
    with FakeFiles(files) as server:
        listed = tmp_path / "files.txt"
        listed.write_text("# one per line\n" + "".join(f"{server.url}/{name}\n" for name in files))
        command = ["mammography-density", "--lake", tmp_path / "lake", "--files", listed]
        prepared(*command)
        verified(tmp_path / "lake", "mammography-density")
        server.forget_requests()
        assert prepared(*command)["is_new"] is False
        assert {request.method for request in server.requests} == {"HEAD"}
    asked = scanmill("prepare", "mammography-density", "--lake", tmp_path / "lake")
    assert asked.exit_code == 2
    assert "give its folder with --raw" in said(asked)


@pytest.mark.parametrize("encryption", ["legacy", "aes"])
def test_the_right_password_the_wrong_one_and_none(
    encryption: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behsof.write(tmp_path / "raw", images=120, defects=False, encryption=encryption)  # type: ignore[arg-type]
    places = ["behsof", "--lake", tmp_path / "lake", "--raw", tmp_path / "raw"]
    monkeypatch.setenv("SCANMILL_BEHSOF_PASSWORD", "a wrong one")
    wrong = scanmill("prepare", *places, "--workers", 0)
    assert wrong.exit_code == 2
    assert "does not open image_Data.zip" in said(wrong)
    assert "a wrong one" not in wrong.stderr
    monkeypatch.delenv("SCANMILL_BEHSOF_PASSWORD")
    missing = scanmill("prepare", *places, "--workers", 0)
    assert missing.exit_code == 2
    assert "SCANMILL_BEHSOF_PASSWORD" in said(missing)
    assert "scanmill-behsof-password" in said(missing)
    assert not (tmp_path / "lake" / "behsof" / "releases").exists()
    assert scanmill("check", *places[:1], *places[3:]).exit_code == 0  # which reads no image
    monkeypatch.setenv("SCANMILL_BEHSOF_PASSWORD", behsof.PASSWORD)
    assert prepared(*places)["accounting"]["written"] == 120  # type: ignore[index]


def test_a_password_from_a_prefect_secret_block(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.blocks.system import Secret

    monkeypatch.delenv("SCANMILL_BEHSOF_PASSWORD")
    Secret(value=SecretStr(behsof.PASSWORD)).save("scanmill-behsof-password")
    try:
        write_fake("behsof", tmp_path / "raw", images=120, defects=False)
        answer = prepared("behsof", "--lake", tmp_path / "lake", "--raw", tmp_path / "raw")
        assert answer["accounting"]["written"] == 120  # type: ignore[index]
    finally:
        Secret.delete("scanmill-behsof-password")


def test_no_password_is_left_anywhere(figshare: FakeFigshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of its own, with a Dask worker and with Prefect's log at its most talkative; its release is signed.

    It listens to nobody but this machine, and speaks to nobody else: no telemetry.
    """
    home = tmp_path / "prefect"
    secrets = {**planted_secrets.SECRETS, "SCANMILL_BEHSOF_PASSWORD": behsof.PASSWORD}
    variables = environment(home) | secrets | {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    variables = {name: value for name, value in variables.items() if name not in TELEMETRY_SWITCHES}
    command = ["prepare", "behsof", "--lake", tmp_path / "lake", "--source-url", figshare.api, "--workers", 1]
    process = start([*command, "--progress"], variables, tmp_path / "log")
    listening, remote = set[str](), set[str]()
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        seen = planted_secrets.sockets(process.pid)
        listening |= seen[0]
        remote |= seen[1]
        time.sleep(0.25)
    assert process.wait(timeout=1) == 0, (tmp_path / "log").read_text()
    assert listening, "Prefect's server and Dask's scheduler should have been seen"
    assert listening | remote <= {"127.0.0.1", "::1"}
    assert b"convert" in (tmp_path / "log").read_bytes()
    assert any(b"behsof" in path.read_bytes() for path in home.glob("prefect.db*")), "Prefect has kept the run there"
    key, lake = tmp_path / "alice", tmp_path / "lake" / "behsof"
    monkeypatch.setenv(PASSPHRASE, secrets[PASSPHRASE])
    for command in (["sign", "--new-key", key], ["sign", lake, "--key", key], ["verify", lake, "--key", f"{key}.pub"]):
        result = scanmill(*command)
        assert result.exit_code == 0, result.stderr
        (tmp_path / f"{command[0]}.log").write_text(result.output)
    assert b"ENCRYPTED" in key.read_bytes()
    assert list(planted_secrets.leaks(tmp_path, secrets)) == []
    (tmp_path / "leak").write_bytes(planted_secrets.forms(behsof.PASSWORD)["hex"])
    assert len(list(planted_secrets.leaks(tmp_path, secrets))) == 1, "the search finds what there is"
    assert planted_secrets.open_to_all(tmp_path / "lake") == []
