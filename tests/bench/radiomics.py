"""Whether radiomics finds what was planted in vertebrae, as well as it can be found, and no more; and what it costs.

    python -m tests.bench.radiomics [--cohort texture|shape|none|both|scanner|noise|all] [--patients N | --quick]
                                    [--set KEY=VALUE]... [--keep FOLDER] [--json FILE]

Cohorts of the size of the published study (:mod:`tests.bench.vertebra_cohort`) go through ``scanmill prepare`` and
``scanmill train ovf-radiomics``. Beside the AUC that was measured stand two of an observer who sees the hidden
numbers: *planted*, in vertebrae without number, and *reached*, in these very ones. ``both`` has a weaker external set,
runs with the recipe as it ships and is the one that time and memory are measured on, also after one changed image; the
others have one small arm. ``noise`` has no vertebrae: features of pure chance, chosen before the split and inside it.
With ``--keep`` raw folders, lakes and reports stay in FOLDER, and what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from scipy.stats import t as student

from tasks.files import read_frame, read_json
from tests.bench import chosen_noise, figures, radiomics_tables
from tests.bench.commands import run_scanmill
from tests.bench.measure import Cost, adopt_orphans
from tests.bench.radiomics_tables import FAMILIES, SURE
from tests.bench.vertebra_cohort import (
    COHORTS,
    LATENTS,
    PATIENTS,
    Cohort,
    expected,
    reached,
    repaint,
    vertebrae,
    write,
)

DATASET, RECIPE = "ovf-radiomics", "ovf-radiomics"
FULL = "both"
"""The cohort that runs with the recipe as it ships."""
SMALL = ("radiomics.arms={imagenet: {input: imagenet}}", "radiomics.size=64")
QUICK = (
    SMALL[0],
    "radiomics.size=32",
    "radiomics.folds=3",
    "radiomics.bootstraps=4",
    "radiomics.classifiers=[logistic-regression, gaussian-nb]",
)
QUICK_PATIENTS = 120

Report = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One command: what it cost, and the seconds of its nodes."""

    command: str
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    nodes: Mapping[str, float]
    chunks: Mapping[str, int]
    """Of features, written by it, by kind of engine."""


@dataclass(frozen=True)
class Place:
    """Folders of one cohort."""

    folder: Path
    patients: int
    workers: int

    @property
    def raw(self) -> Path:
        """What a user would supply."""
        return self.folder / "raw"

    @property
    def lake(self) -> Path:
        """Where releases and runs are."""
        return self.folder / "lake"


def main() -> None:
    """Write, prepare, train, print the tables, write the JSON."""
    given = _parser().parse_args()
    adopt_orphans()
    console = Console(width=None if sys.stdout.isatty() else 150)
    patients = given.patients or (QUICK_PATIENTS if given.quick else sum(PATIENTS.values()))
    wanted = list(COHORTS) if given.cohort == "all" else [name for name in COHORTS if name == given.cohort]
    found: dict[str, Report] = {}
    with tempfile.TemporaryDirectory(prefix="scanmill-radiomics-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        for name in wanted:
            place = Place(folder / f"{name}-{patients}", patients, given.workers)
            found[name] = _of_cohort(name, place, _overrides(name, given), console)
    noise = chosen_noise.measure(given.quick) if given.cohort in ("noise", "all") else None
    report = {"machine": figures.machine(), "patients": patients, "cohorts": found, "noise": noise}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(report, indent=1) + "\n")
    for table in radiomics_tables.of(found, noise):
        console.print(table)
    console.print(f"written: {given.json}")
    if given.keep:
        console.print(f"reports: {given.keep}/*/lake/runs/*/report/index.html")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.radiomics", description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", choices=(*COHORTS, "noise", "all"), default="all")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--patients", type=int, help=f"of every cohort [{sum(PATIENTS.values())}]")
    size.add_argument("--quick", action="store_true", help="a smoke run; its figures say little")
    parser.add_argument("--workers", type=int, default=2, help="local Dask workers [2]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe, for all cohorts"
    )
    parser.add_argument("--keep", type=Path, help="folder that keeps raw folders, lakes and reports")
    parser.add_argument("--json", type=Path, default=Path("bench-results/radiomics.json"))
    return parser


def _overrides(name: str, given: argparse.Namespace) -> tuple[str, ...]:
    own = QUICK if given.quick else () if name == FULL else SMALL
    return (*own, *given.set)


def _of_cohort(name: str, place: Place, overrides: Sequence[str], console: Console) -> Report:
    """All that is known of a cohort: what was planted, found, measured with shuffled labels, and what it cost."""
    cohort = COHORTS[name]
    rows = vertebrae(cohort, place.patients)
    if not place.raw.exists():
        unfinished = place.folder / "unfinished"
        write(unfinished, cohort, rows)
        unfinished.rename(place.raw)
    steps = [_command(place, "prepare", DATASET, "--raw", str(place.raw))[0]]
    trained, run = _train(place, overrides)
    shuffled, control = _train(place, (*overrides, "shuffle_labels=true"))
    steps += [trained, shuffled]
    found = _findings(cohort, rows, run)
    found["shuffled"] = {
        split: own["macro_auroc"] for split, own in read_json(control / "radiomics.json")["primary"]["sets"].items()
    }
    found["run"] = run.name
    if name == FULL:
        number = len(rows) // 2
        for seed in (1, 0):
            # A second picture of the vertebra, and then the first again, so that a kept folder stays what it was.
            repaint(place.raw, cohort, rows, number, seed=seed)
            if seed:
                steps.append(_command(place, "prepare", DATASET, "--raw", str(place.raw))[0])
                steps.append(_train(place, overrides)[0])
    found["steps"] = [asdict(step) for step in steps]
    for step in steps:
        console.print(f"{name}: {step.command}: {step.wall_seconds:.0f} s, {step.peak_rss_bytes / 2**30:.2f} GiB")
    return found


def _train(place: Place, overrides: Sequence[str]) -> tuple[Step, Path]:
    """The command, and the folder of the run."""
    settings = [part for setting in overrides for part in ("--set", setting)]
    step, outcome = _command(place, "train", RECIPE, *settings)
    return step, place.lake / "runs" / str(outcome["run"])


def _command(place: Place, *arguments: str) -> tuple[Step, Report]:
    """Run it with a Prefect of its own, whose books say how long each node took."""
    before = set(_chunks(place))
    with tempfile.TemporaryDirectory(prefix="command-", dir=place.folder) as scratch:
        options = ("--lake", str(place.lake), "--workers", str(place.workers))
        cost = run_scanmill(*arguments, *options, scratch=Path(scratch))
        nodes = _node_seconds(Path(scratch) / "prefect" / "prefect.db")
    written = [_kind(file) for file in _chunks(place) if file not in before]
    chunks = {kind: written.count(kind) for kind in sorted(set(written))}
    return _step(" ".join(arguments[:2]), cost, nodes, chunks), json.loads(cost.output)


def _step(command: str, cost: Cost, nodes: Mapping[str, float], chunks: Mapping[str, int]) -> Step:
    return Step(command, cost.wall_seconds, cost.cpu_seconds, cost.peak_rss_bytes, nodes, chunks)


def _node_seconds(books: Path) -> dict[str, float]:
    """Node to seconds, in the order of the run; empty where the command had nothing to do."""
    if not books.exists():
        return {}
    asked = "select name, start_time, end_time from task_run where end_time is not null order by start_time"
    with sqlite3.connect(books) as database:
        runs = database.execute(asked).fetchall()
    database.close()
    return {name.rpartition("-")[0]: round(_moment(end) - _moment(start), 2) for name, start, end in runs}


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _chunks(place: Place) -> list[Path]:
    return sorted((place.lake / DATASET / "features").glob("*.parquet"))


def _kind(chunk: Path) -> str:
    """By how many features it has."""
    first: list[Any] = [row for row in pq.read_table(chunk, columns=["values"])["values"].to_pylist() if row]
    return "deep" if first and len(first[0]) == 2048 else "texture"


def _findings(cohort: Cohort, rows: pd.DataFrame, run: Path) -> Report:
    """Of one run: the AUCs beside those of the observer, and what the signatures are made of."""
    model, told = read_json(run / "model.json"), read_json(run / "radiomics.json")
    primary = told["primary"]
    sets = {}
    for split in PATIENTS:
        of_set = rows[rows["set"] == split]
        scored = primary["sets"][split]
        sets[split] = {
            "vertebrae": len(of_set),
            "planted": expected(cohort, split),
            "reached": reached(cohort, of_set),
            "measured": [scored["classes"][name]["auroc"] for name in told["classes"]],
            "macro": scored["macro_auroc"],
        }
    features = read_frame(run / "features.parquet")
    followed = _followed(cohort, rows, features)
    return {
        "primary": {key: primary[key] for key in ("variant", "classifier")},
        "sets": sets,
        "signatures": [_made_of(variant, followed, len(rows)) for variant in model["variants"]],
        "controls": model["controls"]["shuffled"],
        "most_followed": {latent: _most(own) for latent, own in followed.items()},
    }


def _most(correlations: pd.Series) -> dict[str, float]:
    """The features that see a hidden number best."""
    order = correlations.abs().sort_values(ascending=False).index[:5]
    return {str(name): round(float(correlations[name]), 3) for name in order}


def _followed(cohort: Cohort, rows: pd.DataFrame, features: pd.DataFrame) -> dict[str, pd.Series]:
    """Hidden number that tells of the class to its rank correlation with every feature, within classes."""
    names = [name for name in features if name not in ("sample_id", "reason")]
    own = rows.set_index(rows["patient_id"] + "_" + rows["vertebra"]).loc[features["sample_id"]].reset_index(drop=True)
    values = features[names].astype(float)
    values = values.loc[:, values.std() > 0]
    within = [own["class"], own["set"] == "external"]
    ranks = values.rank().groupby(within).transform(lambda column: column - column.mean())
    found = {}
    for latent in LATENTS:
        if any(getattr(cohort, latent)):
            hidden = own[latent].rank()
            found[latent] = ranks.corrwith(hidden - hidden.groupby(within).transform("mean"))
    return found


def _made_of(variant: Report, followed: Mapping[str, pd.Series], count: int) -> Report:
    """How many features of a signature are of which family, their share of the weight, how many follow something."""
    names = [own["feature"] for own in variant["selected"]]
    weight = np.array([max(map(abs, own["coefficients"])) for own in variant["selected"]])
    families = [family_of(name) for name in names]
    share = weight / weight.sum() if len(weight) else weight
    follows = [any(abs(own.get(name, 0.0)) > _limit(count) for own in followed.values()) for name in names]
    return {
        "variant": variant["name"],
        "measured": variant["steps"][0]["features"],
        "selected": len(names),
        "reason": variant.get("reason", ""),
        "families": {kind: families.count(kind) for kind in FAMILIES},
        "weights": {kind: float(share[np.array(families) == kind].sum()) for kind in FAMILIES},
        "following": sum(follows),
        "weight_of_following": float(share[follows].sum()),
        "first": {name: round(float(value), 3) for name, value in list(zip(names, weight, strict=True))[:8]},
    }


def _limit(count: int) -> float:
    """Correlation of so many rows that is beyond chance."""
    quantile = float(student.isf(SURE / 2, count - 2))
    return float(quantile / np.sqrt(count - 2 + quantile**2))


def family_of(name: str) -> str:
    """Of a feature by its name in the table: one of :data:`FAMILIES`."""
    if name.startswith("deep."):
        return "deep"
    image, feature_class, _ = name.removeprefix("radiomics.").split("_", 2)
    if feature_class == "shape2D":
        return "shape"
    if feature_class == "firstorder":
        return "grey levels" if image == "original" else "filtered grey levels"
    return "texture"


if __name__ == "__main__":
    main()
