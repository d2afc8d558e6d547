"""The page of a run and its model card: they say what was measured and what was not, and show what may be shown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.learning import anchors, comparison_page, run_figures, run_report
from tasks.learning.runs import Run
from tasks.schema import DataRefused
from tests import made_up_run as made

MOST_BYTES = 3_000_000


class Words(HTMLParser):
    """What can be read on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def words(page: str) -> str:
    reader = Words()
    reader.feed(page)
    return " ".join(" ".join(reader.found).split())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.S)
    assert found is not None, f"the page has no section {name}"
    return found[0]


def row(part: str, name: str) -> str:
    """The table row of that name, as text."""
    found = re.search(rf'<tr><th scope="row"[^>]*>{name}.*?</tr>', part, re.S)
    assert found is not None, f"no row {name}"
    return words(found[0])


def card(run: Run) -> str:
    return (Path(str(run.folder)) / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def nih(lake: Path) -> tuple[Run, str]:
    """Fourteen findings by a network, with everything beside them."""
    run = made.run_of(made.NIH, lake, "nih")
    return run, made.write(run, made.nih_metrics())


@pytest.fixture(scope="module")
def mammography(lake: Path) -> tuple[Run, str]:
    run = made.run_of(made.MAMMOGRAPHY, lake, "mammography")
    return run, made.write(run, made.mammography_metrics())


@pytest.fixture(scope="module")
def chexchonet(lake: Path) -> tuple[Run, str]:
    run = made.run_of(made.CHEXCHONET, lake, "chexchonet")
    return run, made.write(run, made.chexchonet_metrics())


def test_every_number_of_a_label_stands_beside_its_controls_and_what_was_published(nih: tuple[Run, str]) -> None:
    found = made.nih_metrics()["splits"]["test"]["labels"]["Effusion"]
    seen = row(section(nih[1], "split-test"), "Effusion")
    for kind in ("auroc", "auprc"):
        own = found[kind]
        for value in (own["value"], own["low"], own["high"], own["intensity"], own["shuffled"]["mean"]):
            assert f"{value:.3f}" in seen
    assert f"{found['prevalence']:.3f}" in seen  # the floor of an AUPRC
    assert f"{anchors.PUBLISHED['nih-chest-xray'].auroc['Effusion']:.3f}" in seen


def test_an_anchor_stands_only_beside_the_split_it_was_measured_on(nih: tuple[Run, str]) -> None:
    assert "Wang et al." in section(nih[1], "split-test")
    assert "Wang et al." not in section(nih[1], "others")


def test_an_anchor_stands_beside_no_part_of_its_split() -> None:
    assert anchors.of("nih-chest-xray", 470) == (None, None)
    assert None not in anchors.of("nih-chest-xray", 25_500)


def test_a_label_without_a_score_is_named_with_the_reason(nih: tuple[Run, str]) -> None:
    assert "Not in the mean: Hernia (no sample of this split has it)" in words(section(nih[1], "others"))
    assert "Hernia (validation has no positive)" in words(section(nih[1], "operating"))


def test_the_way_from_the_archives_to_the_scores_is_counted(nih: tuple[Run, str]) -> None:
    seen = words(section(nih[1], "data"))
    for step in ("11,560 archive members found", "− 12 images refused", "11,540 samples in the release"):
        assert step in seen
    assert "− 40 in splits that this recipe does not use predict" in seen
    assert "✓ 0 of 2,320 patients lie in more than one of these splits" in seen


def test_groups_that_lie_in_two_splits_are_counted_and_lead_the_notes(lake: Path) -> None:
    run = made.run_of(made.NIH, lake, "shared")
    page = made.write(run, made.nih_metrics(), shared=3, is_full=False)
    assert re.search(r"✕ 3 of [\d,]+ patients lie in more than one", words(section(page, "data")))
    assert re.search(r"leak 3 of [\d,]+ patients lie in more than one split", words(page))


@pytest.mark.parametrize(("leak", "tone", "is_flagged"), [("certain", "bad", True), ("possible", "warn", False)])
def test_a_leak_sets_the_verdict(lake: Path, leak: str, tone: str, is_flagged: bool) -> None:
    run = made.run_of(made.MAMMOGRAPHY, lake, f"leak-{leak}")
    page = made.write(run, made.mammography_metrics(leak), is_full=False)
    assert f'<div class="banner {tone}">' in page
    assert ('<span class="flag">LEAKY</span>' in page) == is_flagged
    assert ("LEAKY" in card(run)) == is_flagged
    assert ("No patient is published" in page) != is_flagged


def test_no_verdict_is_good_where_grey_levels_do_as_well(lake: Path) -> None:
    metrics = made.nih_metrics()
    macro = metrics["splits"]["test"]["macro"]["auroc"]
    run = made.run_of(made.NIH, lake, "grey")
    assert '<div class="banner good">' in made.write(run, metrics, is_full=False)
    macro["intensity"] = macro["value"]
    page = made.write(run, metrics, is_full=False)
    assert '<div class="banner warn">' in page
    assert "not told from that" in page


def test_a_class_whose_only_lesion_is_in_the_other_split_has_no_recall(mammography: tuple[Run, str]) -> None:
    run, page = mammography
    assert "n/a: its only lesion is in train" in row(section(page, "split-validation"), "Density4Malignant")
    assert "Density4Malignant: recall n/a: its only lesion is in train" in words(page)
    assert re.search(r"\| Density4Malignant \| 0 \|.*n/a: its only lesion is in train", card(run))
    # In the split that has it nothing is left out.
    assert "n/a" not in row(section(page, "split-validation"), "Density1Benign")


def test_a_confusion_matrix_shows_counts_and_shares_of_the_row(mammography: tuple[Run, str]) -> None:
    counted = made.mammography_metrics()["splits"]["validation"]["classes"]["density_and_finding"]["confusion"]
    seen = row(section(mammography[1], "split-validation"), "1 · Density1Benign")
    for number in counted[0]:
        assert f"{number} {100 * number / sum(counted[0]):.0f} %" in seen


def test_terms_that_forbid_single_rows_leave_no_picture_no_name_and_no_dot(chexchonet: tuple[Run, str]) -> None:
    page = chexchonet[1]
    assert "data:image" not in page.replace('href="data:,"', "")
    assert "00000001_000" not in page
    assert "Means of 10 parts of equal size" in page
    assert "Pictures are not shown" in page


def test_means_stand_for_ten_samples_or_more() -> None:
    pairs = [(float(n), float(n % 7)) for n in range(35)]
    shown = run_figures.tenths(pairs)
    assert len(shown) == 3
    assert sum(truth for truth, _ in shown) / 3 == pytest.approx(17, abs=1)
    assert run_figures.tenths(pairs[:9]) == []


def test_what_a_baseline_does_not_have_is_left_out(lake: Path) -> None:
    run = made.run_of(made.BASELINE, lake, "baseline")
    page = made.write(run, made.nih_metrics(), is_full=False)
    for absent in ("where", "gallery"):
        assert f'id="{absent}"' not in page
        assert f'href="#{absent}"' not in page
    assert "Initial weights none" in words(section(page, "model"))
    assert "logistic and ridge regression" in card(run)


def test_metrics_of_an_older_format_still_make_a_page(lake: Path) -> None:
    score = {"value": 0.7, "low": 0.6, "high": 0.8, "shuffled": None}
    label = {
        "samples": 9,
        "positives": 3,
        "prevalence": 1 / 3,
        "reason": "",
        **dict.fromkeys(("auroc", "auprc", "brier"), score),
    }
    split = {"samples": 9, "groups": 4, "resamples": 20, "labels": {"Mass": label}, "classes": {}, "targets": {}}
    macro: dict[str, Any] = {name: {**score, "labels": 1, "undefined": {}} for name in ("auroc", "auprc")}
    metrics = {"fitted_on": "train", "held_out": "test", "splits": {"test": {**split, "macro": macro}}}
    run = made.run_of(made.BASELINE, lake, "old")
    run_report.write(run, metrics)
    page = Path(str(run.report)).read_text("utf-8")
    assert "0.700" in row(section(page, "split-test"), "Mass")
    assert "Overlap was not counted" in page


def test_exports_are_listed_with_sizes_differences_and_reasons(nih: tuple[Run, str]) -> None:
    seen = words(section(nih[1], "open"))
    assert "28.6 MB 9.5e-07 7" in seen
    assert "trtexec is not on the PATH" in seen
    assert "export/score.py" in seen


def test_localisation_stands_beside_chance_and_the_published_figures(nih: tuple[Run, str]) -> None:
    found = made.localisation()["labels"]["Cardiomegaly"]
    seen = row(section(nih[1], "where"), "Cardiomegaly")
    published = anchors.LOCALISED["nih-chest-xray"].iobb["0.1"]["Cardiomegaly"]
    for value in (found["pointing"], found["random"]["pointing"], found["iobb"]["0.1"], published):
        assert f"{value:.2f}" in seen


def test_pictures_stop_where_the_page_is_full(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made.run_of(made.NIH, lake, "full")
    shown = made.write(run, made.nih_metrics())
    monkeypatch.setattr(run_report, "PICTURE_BYTES", 40_000)
    page = made.write(run, made.nih_metrics())
    fewer, all_of_them = page.count("data:image/jpeg"), shown.count("data:image/jpeg")
    assert 0 < fewer < all_of_them == 33
    assert f"{33 - fewer} pictures more did not fit" in page
    assert len(shown) < MOST_BYTES


def test_what_comes_from_data_is_text_and_nothing_is_fetched(nih: tuple[Run, str]) -> None:
    assert made.NASTY not in nih[1]
    assert "&lt;script&gt;alert" in nih[1]
    assert "default-src 'none'" in nih[1]
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", nih[1])
    assert made.NASTY not in comparison_page.page(made.comparison())


def test_the_same_inputs_give_the_same_bytes(nih: tuple[Run, str]) -> None:
    run, page = nih
    before = card(run)
    assert made.write(run, made.nih_metrics()) == page
    assert card(run) == before


@pytest.mark.parametrize("path", ["environment.json", "export/export.json", "metrics.csv"])
def test_a_damaged_file_of_the_run_is_named(lake: Path, path: str) -> None:
    run = made.run_of(made.NIH, lake, "damaged-" + path.replace("/", "-"))
    made.write(run, made.nih_metrics())
    (Path(str(run.folder)) / path).write_text("epoch,train_loss\nfirst,{")
    with pytest.raises(DataRefused, match=re.escape(path)):
        run_report.write(run, made.nih_metrics())


def test_the_card_has_front_matter_and_every_part_of_a_model_card(nih: tuple[Run, str]) -> None:
    text = card(nih[0])
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["datasets"] == ["nih-chest-xray"]
    assert "densenet121" in about["tags"]
    for part in (
        "Intended use",
        "Out of scope",
        "Training data",
        "Metrics",
        "Ethical considerations",
        "Caveats",
    ):
        assert f"\n## {part}\n" in body
    assert "Not a medical device" in body
    tables = [line for line in body.splitlines() if line.startswith("| ") and "Effusion" in line]
    head = next(line for line in body.splitlines() if line.startswith("| label |"))
    assert {line.count("|") for line in tables} >= {head.count("|")}


def test_learning_curves_merge_lines_of_one_epoch(lake: Path) -> None:
    run = made.run_of(made.NIH, lake, "curves")
    made.write(run, made.nih_metrics())
    (Path(str(run.folder)) / "metrics.csv").write_text(
        "epoch,train_loss,validation_loss\n1,0.5,\n1,,0.6\n2,0.4,\n2,,0.5\n"
    )
    run_report.write(run, made.nih_metrics())
    page = Path(str(run.report)).read_text("utf-8")
    assert "Lines: loss over 2 epochs." in page
    assert "Validation AUROC" not in page


def test_a_comparison_says_its_verdict_differences_and_tests() -> None:
    result = made.comparison()
    seen = words(comparison_page.page(result))
    assert "Is B better than A? B is better than A" in seen
    own = result["labels"]["Edema"]
    assert (
        f"{own['auroc']['a']:.3f} {own['auroc']['b']:.3f} {own['auroc']['difference']:+.3f}".replace("-", "−") in seen
    )
    assert "< .0001" in seen
    assert "Hernia (no sample has it)" in seen
    assert "Only B answers fluid" in seen


@pytest.mark.parametrize(("verdict", "tone"), [("worse", "bad"), ("no difference told", "quiet")])
def test_the_tone_of_a_comparison_is_that_of_its_verdict(verdict: str, tone: str) -> None:
    assert f'<div class="banner {tone}">' in comparison_page.page({**made.comparison(), "verdict": verdict})


def test_the_made_up_numbers_are_plain_json() -> None:
    for metrics in (made.nih_metrics(), made.mammography_metrics(), made.chexchonet_metrics()):
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_thresholds_chosen_on_the_very_split_are_said_to_flatter(
    nih: tuple[Run, str], mammography: tuple[Run, str]
) -> None:
    assert "Chosen on validation, applied once to test" in words(section(nih[1], "operating"))
    assert "the very split that is scored: these numbers flatter" in words(section(mammography[1], "operating"))
