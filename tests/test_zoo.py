"""The zoo of hostile inputs as CI sees it: in process, without those that take long to make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tasks import limits
from tasks.archives import list_members
from tasks.decoding import ImageRefused, decode
from tasks.limits import DEFAULT, Limits
from tasks.schema import UnusableInput
from tasks.sources.local import find_archives
from tests.conftest import Prepare
from tests.zoo import documents, keeper, loners, pictures, residents, zips
from tests.zoo.__main__ import NIH, Cage, refuse
from tests.zoo.animals import Loner, Place


class Enclosed(NamedTuple):
    """A raw release of animals, and the release that was made of it."""

    release: Path
    changed: list[str]
    """What has become another outside the lake."""
    places: dict[str, list[Place]]


@pytest.fixture(scope="module")
def films(prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Enclosed:
    """All residents that are quickly made."""
    cage = Cage(tmp_path_factory.mktemp("zoo"))
    places = residents.write(cage.raw, residents.QUICK)
    before = cage.outside()
    prepare(NIH, cage.raw, cage.lake, allow_gate_failure=True, stores=["parquet"])
    changed = keeper.changed(before, cage.outside())
    return Enclosed(keeper.release_in(cage.lake, NIH), changed, {name: list(found) for name, found in places.items()})


def test_every_resident_ends_as_it_is_written_down(films: Enclosed) -> None:
    seen = list(keeper.residents(films.release, films.places, residents.QUICK))
    assert len(seen) > 60
    assert [(one.name, one.expected, one.seen) for one in seen if not one.is_right] == []


def test_nothing_is_lost_nothing_gets_out_and_nothing_runs(films: Enclosed) -> None:
    assert films.changed == []
    assert keeper.accounts(films.release) == ""
    assert keeper.pages_that_run(films.release) == []


def test_every_document_ends_as_it_is_written_down(prepare: Prepare, tmp_path: Path) -> None:
    cage = Cage(tmp_path)
    documents.write(cage.raw)
    prepare(documents.DATASET, cage.raw, cage.lake, allow_gate_failure=True)
    release = keeper.release_in(cage.lake, documents.DATASET)
    assert [(one.name, one.expected, one.seen) for one in keeper.documents(release) if not one.is_right] == []
    assert keeper.pages_that_run(release) == []
    text = b"".join(path.read_bytes() for path in release.rglob("*") if path.is_file())
    assert b"root:" not in text  # of /etc/passwd
    assert b"lollol" not in text


@pytest.mark.parametrize("animal", loners.QUICK, ids=lambda animal: animal.name)
def test_every_loner_is_refused_in_words(animal: Loner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in animal.environment.items():
        monkeypatch.setenv(name, value)
    cage = Cage(tmp_path)
    animal.write(cage.raw)
    before = cage.outside()
    with pytest.raises((UnusableInput, OSError)) as refused:
        refuse(animal.dataset, cage.raw, cage.lake)
    assert animal.expected.words in str(refused.value)
    assert keeper.changed(before, cage.outside()) == []


def test_what_is_planted_would_be_found_in_a_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f"<td>{residents.MARK}</td>")
    (tmp_path / "README.md").write_text(f"| {residents.IMAGE_MARK} |")
    (tmp_path / "sound.html").write_text("<td>&lt;script&gt;alert('zoo')&lt;/script&gt;</td>")
    assert keeper.pages_that_run(tmp_path) == ["README.md", "index.html"]


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "mib"),
    [
        (lambda: pictures.png(np.zeros((1024, 1025), np.uint8)), 1),
        (lambda: pictures.png(np.zeros((512, 1025), np.uint16)), 1),
        (lambda: pictures.jpeg(np.zeros((600, 600, 3), np.uint8)), 1),
        (lambda: pictures.interlaced(np.zeros((1024, 1025), np.uint8)), 1),
    ],
    ids=["grey", "16 bits", "colour JPEG", "by Pillow"],
)
def test_pictures_are_measured_in_decoded_bytes(make: object, mib: int) -> None:
    data = make()  # type: ignore[operator]
    decode(data, limits=Limits(image_mib=2 * mib))
    with pytest.raises(ImageRefused, match="SCANMILL_MAX_IMAGE_MIB") as refused:
        decode(data, limits=Limits(image_mib=mib))
    assert refused.value.args[0] == "oversized-image"


def test_scans_are_counted_where_a_segment_holds_what_looks_like_them() -> None:
    """A comment full of scan markers is none, and an end marker in one ends nothing."""
    pixels = pictures.film(1)
    sound = pictures.jpeg(pixels, progressive=True, comment=b"\xff\xda" * 200)
    decode(sound)
    whole = pictures.of_many_scans(pixels, 200)
    first = whole.index(b"\xff\xda")
    hidden = whole[:first] + b"\xff\xfe\0\4\xff\xd9" + whole[first:]
    with pytest.raises(ImageRefused, match="more than 100 scans"):
        decode(hidden)


def test_a_limit_is_read_from_the_environment_and_is_a_parameter_of_the_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert limits.current() == DEFAULT
    assert DEFAULT.as_parameters() == {}
    monkeypatch.setenv("SCANMILL_MAX_JPEG_SCANS", "12")
    assert limits.current() == replace(DEFAULT, jpeg_scans=12)
    assert limits.current().as_parameters() == {"jpeg_scans": 12}


def test_more_members_than_memory_is_for_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zips.written(tmp_path / "a.zip", [zips.Entry(f"{number}.png".encode(), b"") for number in range(20)])
    (archive,) = find_archives([tmp_path / "a.zip"])
    assert len(list_members(archive)) == 20
    monkeypatch.setenv("SCANMILL_MAX_MEMBERS", "19")
    with pytest.raises(UnusableInput, match=r"20 entries .* the most is 19"):
        list_members(archive)
