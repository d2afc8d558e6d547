"""Copies are found whatever was done to them, strangers are not taken for copies, and what shows one picture stays in
one split; how well, in figures: tests/bench/near_duplicates.py and tests/bench/lesions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from tasks import comparison, leakage
from tasks.datasets.mammography_density import DATASET as MAMMOGRAPHY
from tasks.datasets.nih_chest_xray import DATASET as NIH
from tasks.fingerprints.copies import Grey, compressed
from tasks.fingerprints.polar import FRAMES, LENGTH, fingerprints_of
from tasks.fingerprints.search import Whitening, nearest
from tasks.waves import run_waves
from tests.bench.near_duplicates import Films, as_films, breast_crop, chest, converted
from tests.bench.planting import PROMISED
from tests.command import scanmill
from tests.conftest import Prepare, released
from tests.fakes import damage, mammography_density
from tests.fakes.nih_chest_xray import TABLE
from tests.release_files import files_of, outcomes_of, samples_of

FILMS = 24


def with_copies(draw: Callable[[int], Grey], films: int, kinds: Mapping[int, str]) -> Films:
    """Pictures of a patient each, and of some of them one changed copy in another split."""
    drawn = [draw(number) for number in range(films)]
    copies = [PROMISED[kind](drawn[film], np.random.default_rng(film)) for film, kind in kinds.items()]
    return as_films([converted(film) for film in [*drawn, *copies]], list(kinds), list(kinds.values()))


@pytest.fixture(scope="module")
def chests() -> Films:
    """Chest films, every second one with a copy, one for each promised kind."""
    return with_copies(chest, FILMS, {2 * n: kind for n, kind in enumerate(PROMISED)})


def pairs(samples: pd.DataFrame, films: Films) -> pd.DataFrame:
    """What is found between the films, both ends in the order of their names."""
    found = leakage.find(samples, films.read, NIH)
    ends = np.sort(found[["sample_a", "sample_b"]].to_numpy(str), axis=1)
    return found.assign(low=ends[:, 0], high=ends[:, 1])


def test_a_copy_of_every_promised_kind_is_found_across_splits_and_no_stranger_is(chests: Films) -> None:
    found = pairs(chests.samples, chests)
    copies = chests.samples[chests.samples["kind"] != ""]
    planted = set(zip(copies["original"], copies["sample_id"], strict=True))
    assert set(zip(found["low"], found["high"], strict=True)) == planted
    assert found["crosses_splits"].all()
    by_kind = found.set_index("high").join(copies.set_index("sample_id")["kind"]).set_index("kind")
    mirrored = by_kind.index[by_kind["is_mirrored"]]
    assert set(mirrored) == {kind for kind in PROMISED if "mirrored" in kind}
    quarters, slightly = (by_kind["turned_degrees"][kind] for kind in list(PROMISED)[:2])
    assert abs(quarters) == pytest.approx(90, abs=1) or abs(quarters) == pytest.approx(180, abs=1)
    assert 1 <= abs(slightly) <= 5


def test_the_order_of_the_samples_changes_no_pair(chests: Films) -> None:
    shuffled = chests.samples.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(pairs(shuffled, chests), pairs(chests.samples, chests))


def test_cells_that_are_all_looked_through_give_what_comparing_every_one_gives() -> None:
    prints = np.random.default_rng(3).integers(-60, 60, (1500, len(FRAMES), LENGTH)).astype(np.int8)
    prints[700:, 0] = prints[:800, 3] // 2
    groups = np.arange(len(prints))
    exact, by_cells = (nearest(prints, groups, least=0.3, most=4, whole=whole) for whole in (len(prints), 0))
    assert len(exact) >= 800
    assert by_cells.tolist() == exact.tolist()


def test_cosines_are_the_same_in_whatever_order_they_are_added() -> None:
    """So on any number of threads: who is nearest among films that are equally near must not depend on them."""
    prints = np.random.default_rng(3).integers(-60, 60, (500, LENGTH)).astype(np.int8)
    vectors = Whitening(prints)(prints)
    exact = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for order in (np.arange(LENGTH), np.arange(LENGTH)[::-1], np.random.default_rng(4).permutation(LENGTH)):
        assert (vectors[:, order] @ vectors[:, order].T == exact).all()
    assert np.abs(np.diag(exact) - 1).max() < 0.01


def test_a_fingerprint_does_not_depend_on_its_neighbours() -> None:
    thumbnails = [bytes(row) for row in np.random.default_rng(4).integers(0, 256, (35, 64 * 64)).astype(np.uint8)]
    alone = [found for thumbnail in thumbnails for found in fingerprints_of([thumbnail])]
    assert fingerprints_of(thumbnails) == alone


def grouped(samples: pd.DataFrame, films: Films) -> pd.Series:
    """Group of each sample of a dataset that has no patients, by its id."""
    unnamed = samples.assign(group_id=None, **{f"label.{name}": 0 for name in MAMMOGRAPHY.labels})
    groups, _ = leakage.group_by_picture(unnamed, films.read, MAMMOGRAPHY)
    return groups.set_axis(samples["sample_id"])


def test_an_archive_that_is_added_later_renames_no_group() -> None:
    films = with_copies(breast_crop, 8, {number: list(PROMISED)[number] for number in range(6)})
    is_late = films.samples["sample_id"].isin([f"film-{n:06d}" for n in (6, 8, 9, 10)])  # a new one, and copies
    samples = films.samples.assign(archive=np.where(is_late, "b.zip", "a.zip"))
    before, after = grouped(samples[~is_late], films), grouped(samples, films)
    assert after.loc[before.index].equals(before)
    copies = samples[samples["kind"] != ""]
    assert after[copies["sample_id"]].tolist() == after[copies["original"]].tolist()
    assert after.nunique() == 8


def test_lesions_are_recovered_from_pixels_and_none_lies_in_two_splits(
    lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    lesion_of = mammography_density.write(tmp_path)  # the same bytes again
    (release,) = (lakes(MAMMOGRAPHY.name) / MAMMOGRAPHY.name / "releases").iterdir()
    samples = samples_of(release)
    lesions = samples["member"].map(lesion_of)
    assert len(samples) == len(lesion_of)
    assert lesions.groupby(samples["group_id"]).nunique().tolist() == [1] * 20
    assert samples["group_id"].groupby(lesions).nunique().tolist() == [1] * 20
    labelled = samples[samples["split"] != "predict"]
    assert set(labelled["split"]) == {"train", "validation"}
    assert (labelled.groupby("group_id")["split"].nunique() == 1).all()
    shows = samples.loc[samples["split"] == "predict", "group_id"].isin(labelled["group_id"]).sum()
    outcome = outcomes_of(release)["predict-shows-labelled"]
    assert (outcome["status"], outcome["failed"]) == ("known", shows)


def mirrored_copy(data: bytes) -> bytes:
    """A PNG file with the mirror image of another, as a JPEG shows it: of quality 90, for the films are tiny."""
    film = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert film is not None, "the film to be copied is sound"
    shown = compressed(np.ascontiguousarray(film[:, ::-1]).astype(np.uint8), 90)
    return cv2.imencode(".png", shown)[1].tobytes()


def overwrite(raw: Path, samples: pd.DataFrame, copies: Mapping[str, str]) -> None:
    """Put a changed copy of one film in another one's place: sample id to that of the film that it then shows."""
    shown = {
        sample: mirrored_copy(damage.content_of(raw / samples["archive"][other], samples["member"][other]))
        for sample, other in copies.items()
    }
    for archive in samples.loc[list(shown), "archive"].unique():
        damage.change_members(raw / archive, lambda name, data: shown.get(Path(name).stem, data))


def strangers(samples: pd.DataFrame, split: str, count: int) -> Sequence[str]:
    """Films without boxes, each the only one of its patient."""
    alone = samples[~samples["patient_id"].duplicated(keep=False) & (samples["split"] == split)]
    return list(alone.index[~alone["boxes"].str.len().gt(0)][:count])


def test_a_copy_of_a_tested_film_is_refused_in_training_and_one_of_a_trained_film_is_told(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_of(flawless_release)
    (tested,) = strangers(samples, "test", 1)
    leaking, one, other = strangers(samples, "train", 3)
    overwrite(copy, samples, {leaking: tested, one: other})
    table = damage.TableFile(copy / TABLE)
    header, *rows = table.rows()
    labels = {f"{one}.png": "Mass", f"{other}.png": "Hernia"}
    table.write([header, *([cells[0], labels.get(cells[0], cells[1]), *cells[2:]] for cells in rows)])
    release = released(prepare, copy, tmp_path / "lake")
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    (refused,) = quarantine.dropna(subset="member").to_dict("records")  # the other is its line in the official list
    assert (Path(refused["member"]).stem, refused["reason"]) == (leaking, "near-duplicate-across-splits")
    assert f"the same picture as {tested} in test" in refused["detail"]
    assert refused["detail"].endswith("mirrored")
    found = outcomes_of(release)
    told = {code: (found[code]["status"], found[code]["failed"]) for code in ("near-duplicate", "conflicting-copies")}
    differs = samples.loc[[leaking, tested]].filter(like="label.").nunique().gt(1).any()
    assert told == {"near-duplicate": ("warned", 4), "conflicting-copies": ("warned", 4 if differs else 2)}
    (pair,) = pd.read_parquet(release / "quality" / "near_duplicates.parquet").to_dict("records")
    assert {pair["sample_a"], pair["sample_b"]} == {one, other}
    assert (pair["crosses_groups"], pair["crosses_splits"], pair["labels_agree"]) == (True, False, False)
    assert pair["is_mirrored"]
    assert pair["similarity"] >= NIH.near_duplicate

    for name in ("FEW", "MANY"):  # as of a large release, of which the workers compare a part each
        monkeypatch.setattr(comparison, name, 40)
    pieces: list[comparison.Piece] = []

    def noted(work: Callable[..., None], items: Sequence[comparison.Piece], **rest: Any) -> Any:
        pieces.extend(items)
        return run_waves(work, items, **rest)

    monkeypatch.setattr(comparison, "run_waves", noted)
    result = scanmill("prepare", NIH.name, "--raw", copy, "--lake", tmp_path / "spread", "--workers", 1, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(pieces) > 1
    assert files_of(*tmp_path.glob("spread/*/releases/[!.]*")) == files_of(release)


def test_more_copies_across_splits_than_are_tolerated_stop_the_release(
    flawless_release: Path, copy: Path, prefect_server: None, tmp_path: Path
) -> None:
    samples = samples_of(flawless_release)
    overwrite(copy, samples, dict(zip(strangers(samples, "train", 2), strangers(samples, "test", 2), strict=True)))
    result = scanmill("prepare", NIH.name, "--raw", copy, "--lake", tmp_path / "lake", "--workers", 0)
    assert result.exit_code == 1
    assert "near-duplicate-across-splits" in result.stderr
    assert not list((tmp_path / "lake").glob("*/latest.json"))
