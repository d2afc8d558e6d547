"""NIH ChestX-ray14 in every form it is handed out in: the same samples, and a clear word where a form differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tasks.datasets.nih_chest_xray import DATASET, parse
from tasks.schema import DataRefused, Table, UnusableInput
from tasks.tables import read_table
from tests.bench.published_counts import published_tables, write_tables
from tests.command import said, scanmill
from tests.conftest import Prepare, released
from tests.fakes import damage
from tests.fakes import nih_chest_xray as nih
from tests.release_files import outcomes_of, samples_of

NAME = "nih-chest-xray"
IMAGES = 100
VARYING = ("archive", "member", "shard", "row", "tar_offset")
"""Columns that say where a sample lay and lies."""


def agreeing(release: Path) -> pd.DataFrame:
    """What every form of the release agrees on: all but places, the publisher's own columns and follow-up numbers."""
    samples = samples_of(release)
    own = {f"meta.{name}" for name in DATASET.fields} - {"meta.follow_up"}
    kept = [c for c in samples.columns if c not in VARYING and (not c.startswith("meta.") or c in own)]
    return samples[kept]


def used_table(release: Path) -> dict[str, str]:
    manifest = json.loads((release / "manifest.json").read_bytes())
    return dict(manifest["parameters"]["tables"]["entries"])


@pytest.mark.parametrize("form", ["2017", "sample", "adjudicated"])
def test_every_form_of_the_label_table_gives_the_same_samples_whatever_it_is_called(
    form: str, flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    nih.retable(copy, form, "labels.csv")
    release = released(prepare, copy, tmp_path / "lake")
    pd.testing.assert_frame_equal(agreeing(release), agreeing(flawless_release))
    assert used_table(release) == {"name": "labels.csv", "form": form}
    samples = samples_of(release)
    assert (samples["meta.follow_up"] == samples.index.str[9:].astype(int)).all()
    assert (samples_of(flawless_release)["meta.follow_up"] != samples["meta.follow_up"]).any()
    (table,) = copy.glob("labels.csv")
    published = {f"meta.{name}" for name in read_table(DATASET.tables[0], "", table.read_bytes()).rows.columns}
    assert published <= set(samples)


ARCHIVES: dict[str, Callable[[Path], None]] = {
    "one outer zip": nih.as_one_zip,
    "NIH Box": nih.as_tarballs,
    "Kaggle sample, nested": lambda folder: nih.as_sample(folder, is_nested=True),
    "Kaggle sample with its own copy inside": lambda folder: nih.as_sample(folder, is_nested=False, is_doubled=True),
    "capitals": nih.upper_case,
    "extracted folders in capitals": nih.as_folders_in_capitals,
}


@pytest.mark.parametrize("form", ARCHIVES)
def test_every_form_of_the_archives_gives_the_same_samples(
    form: str, flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    ARCHIVES[form](copy)
    release = released(prepare, copy, tmp_path / "lake")
    expected, found = (samples_of(path).drop(columns=list(VARYING)) for path in (flawless_release, release))
    pd.testing.assert_frame_equal(found, expected)
    counted = json.loads((release / "manifest.json").read_bytes())["accounting"]
    assert counted["quarantined"] == 0
    assert counted["ignored"].get("nested-copy", 0) == (IMAGES + 2 if "copy" in form else 0)


def test_line_ends_marks_and_names_of_columns_that_copies_have(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    """A table saved again by a spreadsheet: CRLF, a byte order mark, ids without zeros, another word for sex."""
    table = nih.retable(copy, "sample")
    table.write_text(table.read_text().replace("Patient Gender", "Patient Sex").replace("No_Finding", "No Finding"))
    rows = [line.split(",") for line in table.read_text().splitlines()]
    bare = [[*r[:2], str(int(r[2])), str(int(r[3])), *r[4:]] for r in rows[1:]]
    table.write_text("\n".join(",".join(cells) for cells in [rows[0], *bare]))
    for path in (table, copy / "BBox_List_2017.csv", copy / "test_list.txt", copy / "train_val_list.txt"):
        nih.respell(path, newline="\r\n", byte_order_mark=True)
    pd.testing.assert_frame_equal(agreeing(released(prepare, copy, tmp_path / "lake")), agreeing(flawless_release))


def test_of_several_tables_the_newest_whole_one_is_used_unless_another_is_asked_for(
    copy: Path, flawless_nih: Path, prepare: Prepare, tmp_path: Path
) -> None:
    for form in ("2017", "adjudicated"):
        nih.retable(copy, form)
        shutil.copy(flawless_nih / nih.TABLE, copy)
    newest = released(prepare, copy, tmp_path / "lake")
    assert used_table(newest) == {"name": nih.NAMES["2020"], "form": "2020"}
    counted = json.loads((newest / "manifest.json").read_bytes())["accounting"]
    assert counted["ignored"]["table-not-chosen"] == 2
    by_form = released(prepare, copy, tmp_path / "lake", table="adjudicated")
    assert used_table(by_form)["form"] == "adjudicated"
    by_name = released(prepare, copy, tmp_path / "lake", table=nih.NAMES["2017"])
    assert used_table(by_name)["form"] == "2017"
    assert len({newest, by_form, by_name}) == 3
    result = scanmill("check", NAME, "--raw", copy, "--table", "2019")
    assert result.exit_code == 2
    assert all(form in said(result) for form in ("--table 2019", "2017", "2020", "adjudicated"))


def test_tables_that_nothing_decides_between_and_columns_that_were_renamed_are_errors(copy: Path) -> None:
    (copy / "older.csv").write_text((copy / nih.TABLE).read_text().replace(",PA,", ",AP,"))
    words = said(scanmill("check", NAME, "--raw", copy))
    assert "older.csv" in words
    assert "--table" in words
    (copy / "older.csv").unlink()
    damage.rename_column(damage.TableFile(copy / nih.TABLE), "Finding Labels", "Findings")
    words = said(scanmill("check", NAME, "--raw", copy))
    assert all(word in words for word in (nih.TABLE, "no column 'Finding Labels'", "'Findings'", "renamed"))


def parsed(**changes: str) -> pd.Series:
    """One row of the 2020 table, with some cells changed, as :func:`parse` reads it."""
    cells = {"Image Index": "00000007_001.png", "Finding Labels": "Mass", "Follow-up #": "1", "Patient ID": "7"}
    cells |= {"Patient Age": "57", "Patient Gender": "M", "View Position": "PA", "OriginalImage[Width": "2682"}
    cells |= {"Height]": "2749", "OriginalImagePixelSpacing[x": "0.14300000000000002", "y]": "0.143", **changes}
    table = Table("entries", "table.csv", pd.DataFrame([cells], index=[1], dtype=str), "2020")
    return parse({"entries": table}).rows.iloc[0]


@pytest.mark.parametrize(
    ("text", "years", "unit"),
    [
        ("57", 57.0, "Y"),
        ("057Y", 57.0, "Y"),
        ("013M", 13 / 12, "M"),
        ("001D", 1 / 365.25, "D"),
        ("411Y", 411.0, "Y"),
        ("", None, "none"),
        ("old", None, "none"),
    ],
)
def test_ages_are_read_with_their_unit(text: str, years: float | None, unit: str) -> None:
    row = parsed(**{"Patient Age": text})
    assert row["age_years"] == years if years is not None else pd.isna(row["age_years"])
    assert row["check.age_unit"] == unit
    assert row["meta.Patient Age"] == text


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Mass", "Mass"),
        ("No_Finding", "No Finding"),
        ("Infiltrate|Effusion", "Effusion|Infiltration"),
        ("Pleural Thickening|Mass", "Mass|Pleural_Thickening"),
        ("Pleural_thickening", "Pleural_Thickening"),
    ],
)
def test_findings_are_normalised_and_sorted_and_the_published_text_is_kept(text: str, normalised: str) -> None:
    row = parsed(**{"Finding Labels": text})
    assert row["meta.findings"] == normalised
    assert row["meta.Finding Labels"] == text
    present = {name for name in DATASET.labels if row[f"label.{name}"] == 1}
    assert present == set(normalised.split("|")) - {"No Finding"}


@pytest.mark.parametrize("text", ["Fracture", "Mass|No Finding", "", "Mass||Nodule"])
def test_an_unknown_or_contradictory_finding_leaves_every_label_unknown(text: str) -> None:
    row = parsed(**{"Finding Labels": text})
    assert row[[f"label.{name}" for name in DATASET.labels]].isna().all()


@pytest.mark.parametrize("text", ["", "wide", "2682.5", "inf", "nan"])
def test_what_is_no_whole_number_is_null_and_its_text_is_kept(text: str) -> None:
    row = parsed(**{"OriginalImage[Width": text, "Follow-up #": text})
    assert row[["meta.film_width", "meta.follow_up"]].isna().all()
    assert row["meta.OriginalImage[Width"] == text


def test_impossible_ages_and_units_are_emptied_and_declared_for_the_form_that_has_them(
    copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    table = damage.TableFile(nih.retable(copy, "sample"))
    header, *rows = table.rows()
    for cells, age in zip(rows, ("411Y", "001D", "013M"), strict=False):
        cells[4] = age
    table.write([header, *rows])
    release = released(prepare, copy, tmp_path / "lake")
    ages = samples_of(release)["age_years"].loc[[cells[0].removesuffix(".png") for cells in rows[:3]]]
    assert ages.isna().tolist() == [True, True, False]
    assert ages.iloc[2] == 13 / 12
    outcomes = outcomes_of(release)
    assert [(outcomes[c]["status"], outcomes[c]["known_rows"]) for c in ("implausible-age", "age-unit")] == [
        ("known", 1),
        ("known", 1),
    ]
    assert outcomes["complete-copy"]["sentence"].startswith("This is a complete copy: 5,606")


def test_boxes_that_cannot_be_are_refused_with_their_row(copy: Path, prepare: Prepare, tmp_path: Path) -> None:
    path = copy / "BBox_List_2017.csv"
    lines = path.read_text().splitlines()
    image = lines[1].split(",")[0]
    bad = {"5,5,-3,4": "box-outside-image", "1000,5,30,4": "box-outside-image", "a,5,3,4": "unreadable-box"}
    lines += [f"{image},Mass,{numbers}" for numbers in bad] + [f"{image},Fracture,1,1,2,2"]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataRefused, match="boxes-refused: 1 of"):  # one of few boxed films is more than 1 %
        prepare(NAME, copy, tmp_path / "lake")
    release = released(prepare, copy, tmp_path / "lake", allow_gate_failure=True)
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    assert quarantine["reason"].tolist() == [*bad.values(), "unknown-box-label"]
    assert quarantine["row"].tolist() == list(range(len(lines) - 4, len(lines)))
    assert "1000,5,30,4" in quarantine["detail"].iloc[1]
    assert sum(len(boxes) for boxes in samples_of(release)["boxes"].dropna()) == len(lines) - 5


@pytest.mark.parametrize("rows", ["none", "no table"])
def test_a_release_without_any_box_is_prepared_like_any_other(
    rows: str, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    path = copy / "BBox_List_2017.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    if rows == "no table":
        path.unlink()
    release = released(prepare, copy, tmp_path / "lake")
    assert samples_of(release)[["boxes", "boxes_scaled"]].isna().all(axis=None)
    assert not (release / "boxes.coco.json").exists()


def test_validation_is_carved_by_patient_and_nothing_else_moves_it(flawless_release: Path) -> None:
    samples = samples_of(flawless_release)
    assert set(samples.loc[samples["meta.official_split"] == "test", "split"]) == {"test"}
    carved = samples[samples["meta.official_split"] == "train_val"]
    assert set(carved["split"]) == {"train", "validation"}
    assert samples.groupby("patient_id")["split"].nunique().max() == 1
    alone = [parsed(**{"Image Index": f"{p}_000.png", "Patient ID": p}) for p in carved["patient_id"].unique()]
    expected = carved.groupby("patient_id")["split"].first()
    without_lists = pd.Series({row["patient_id"]: row["split"] for row in alone})
    assert (without_lists[without_lists != "test"] == expected[without_lists != "test"]).all()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """Made-up tables of 112,120 films with the published counts."""
    folder = tmp_path_factory.mktemp("published")
    write_tables(folder, published_tables())
    names = {"entries": nih.TABLE, "train_val_list": "train_val_list.txt", "test_list": "test_list.txt"}
    rules = {rule.role: rule for rule in DATASET.tables}
    return {role: read_table(rules[role], name, (folder / name).read_bytes()) for role, name in names.items()}


def test_in_a_complete_table_validation_has_thirteen_percent_of_every_finding(published: dict[str, Table]) -> None:
    rows = parse(published).rows
    assert rows.groupby("patient_id")["split"].nunique().max() == 1
    assert rows["split"].isin(DATASET.splits).all()
    assert (rows["split"] == "test").sum() == 25_596
    carved = rows[rows["meta.official_split"] == "train_val"]
    is_validation = carved["split"] == "validation"
    assert abs(is_validation.mean() - 0.13) < 0.001
    for name in DATASET.labels:
        carriers = carved[f"label.{name}"] == 1
        # A patient goes whole: with 141 films of hernia one more or less is a percent or two.
        assert abs(is_validation[carriers].mean() - 0.13) < max(0.001, 3 / carriers.sum()), name


PARTS = [[number % 10 in (0, 2) for number in range(112_120)], [number % 10 != 9 for number in range(112_120)]]
"""A fifth of the rows, and nine in ten, those among them."""


def test_rows_that_come_later_move_nobody(published: dict[str, Table]) -> None:
    whole = published["entries"]
    few, most = (parse({**published, "entries": replace(whole, rows=whole.rows[part])}).rows for part in PARTS)
    later = most.set_index("image")["split"]
    assert len(few) < len(later) < 112_120
    assert (later[few["image"]].to_numpy() == few["split"].to_numpy()).all()


def test_in_a_table_that_may_grow_chance_deals_every_finding_alike() -> None:
    """Of made-up patients by the thousand: each finding within five standard deviations."""
    patients = [f"{number:d}" for number in range(1, 4001)]
    frame = pd.DataFrame({"Image Index": [f"{int(p):08d}_000.png" for p in patients], "Patient ID": patients})
    names = list(DATASET.labels)
    frame["Finding Labels"] = [names[number % len(names)] for number in range(len(frame))]
    for column in ("Follow-up #", "Patient Age", "Patient Gender", "View Position", *nih.BRACKETS.split(",")):
        frame[column] = "0"
    rows = parse({"entries": Table("entries", "t.csv", frame.astype(str), "2020")}).rows
    carved = rows[rows["split"] != "test"]
    shares = carved["split"].eq("validation").groupby(carved["meta.findings"]).mean()
    sizes = carved.groupby("meta.findings").size()
    assert ((shares - 0.13).abs() < 5 * (0.13 * 0.87 / sizes) ** 0.5).all()


def test_without_the_official_lists_splits_are_dealt_and_the_report_says_so(
    copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    nih.drop(copy, "test_list.txt")
    result = scanmill("check", NAME, "--raw", copy)
    assert "train_val_list.txt is there but test_list.txt is not" in said(result)
    nih.drop(copy, "train_val_list.txt")
    release = released(prepare, copy, tmp_path / "lake")
    assert set(samples_of(release)["split"]) == {"train", "validation", "test"}
    outcomes = outcomes_of(release)
    assert (outcomes["no-official-split"]["status"], outcomes["no-official-split"]["failed"]) == ("warned", IMAGES)


def test_a_user_brings_another_split_file(flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path) -> None:
    patients = sorted(set(samples_of(flawless_release)["patient_id"]))
    names = {patient: ("test", "train", "validation")[number % 3] for number, patient in enumerate(patients)}
    file = tmp_path / "mine.csv"
    file.write_text("patient_id,split\n" + "".join(f"{p},{s}\n" for p, s in names.items()))
    release = released(prepare, copy, tmp_path / "lake", splits=str(file))
    samples = samples_of(release)
    assert samples["split"].tolist() == [names[patient] for patient in samples["patient_id"]]
    inputs = [entry["name"] for entry in json.loads((release / "manifest.json").read_bytes())["inputs"]]
    assert "splits: mine.csv" in inputs
    again = released(prepare, copy, tmp_path / "lake2", splits=str(flawless_release / "samples.parquet"))
    assert samples_of(again)["split"].equals(samples_of(flawless_release)["split"])


SPLIT_FILES = {
    "an unknown split": ("patient_id,split\n00000001,dev\n", "'dev'"),
    "no key": ("name,split\na,train\n", "sample_id"),
    "one patient twice": ("patient_id,split\n00000001,train\n00000001,test\n", "two splits"),
    "nobody of ours": ("patient_id,split\n99999999,train\n", "names no sample"),
}


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_a_split_file_that_cannot_be_used_is_one_clear_error(name: str, flawless_nih: Path, tmp_path: Path) -> None:
    text, expected = SPLIT_FILES[name]
    (tmp_path / "mine.csv").write_text(text)
    result = scanmill("check", NAME, "--raw", flawless_nih, "--splits", tmp_path / "mine.csv")
    assert result.exit_code == 2
    assert expected in said(result)
    missing = scanmill("check", NAME, "--raw", flawless_nih, "--splits", tmp_path / "nowhere.csv")
    assert "cannot be read" in said(missing)


def test_what_a_split_file_does_not_name_is_refused_and_a_leaking_one_fails_the_gate(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    samples = samples_of(flawless_release)
    lines = [f"{name},train" for name in samples.index[1:]]
    (tmp_path / "most.csv").write_text("\n".join(["sample_id,split", *lines]))
    release = released(prepare, copy, tmp_path / "lake", splits=str(tmp_path / "most.csv"))
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    refused = quarantine[quarantine["sample_id"].notna()]
    assert refused[["sample_id", "reason"]].to_numpy().tolist() == [[samples.index[0], "no-split"]]
    twice = samples["patient_id"].value_counts().index[0]
    films = samples.index[samples["patient_id"] == twice]
    splits = samples["split"].mask(samples.index == films[0], "test").mask(samples.index == films[1], "train")
    splits.rename_axis("sample_id").to_csv(tmp_path / "leaky.csv")
    result = scanmill("check", NAME, "--raw", copy, "--splits", tmp_path / "leaky.csv")
    assert result.exit_code == 1
    assert "failed     group-crosses-splits" in result.stdout
    with pytest.raises(UnusableInput):
        released(prepare, copy, tmp_path / "lake", splits=str(tmp_path / "gone.csv"))
