"""The figures of :mod:`tests.bench.radiomics` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from tests.bench.vertebra_cohort import COHORTS, PATIENTS

FAMILIES = ("texture", "filtered grey levels", "grey levels", "shape", "deep")
"""Grey levels of a filtered image depend on how the grain is spread, as textures do; those of the image do not."""
SURE = 0.001
"""A feature follows a hidden number where their correlation within classes has a p below this."""

Report = dict[str, Any]


def of(found: Mapping[str, Report], noise: Report | None) -> Iterator[Table]:
    if found:
        yield _auc_table(found)
        yield _signature_table(found)
        yield _control_table(found)
        yield _external_table(found)
        yield _cost_table(found)
    if noise:
        yield _noise_table(noise)


def _table(title: str, caption: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, caption=caption)
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _auc_table(found: Mapping[str, Report]) -> Table:
    table = _table(
        "one-vs-rest AUC of each class",
        "planted: of who sees the hidden numbers; reached: the same in these vertebrae; measured: the primary model "
        "(95 % CI by patient); of the training set by cross-validation",
        ("cohort", "primary model", "set", "class"),
        ("vertebrae", "planted", "reached", "measured", "measured - reached"),
    )
    for name, own in found.items():
        for split, scored in own["sets"].items():
            model = f"{own['primary']['variant']}, {own['primary']['classifier']}"
            for number, measured in enumerate(scored["measured"]):
                table.add_row(
                    *(name, model) if (split, number) == ("train", 0) else ("", ""),
                    *(split, str(number), str(scored["vertebrae"]) if not number else ""),
                    *(f"{scored[key][number]:.3f}" for key in ("planted", "reached")),
                    _said(measured),
                    "" if measured["value"] is None else f"{measured['value'] - scored['reached'][number]:+.3f}",
                )
        table.add_section()
    return table


def _signature_table(found: Mapping[str, Report]) -> Table:
    table = _table(
        "what signatures are made of: features, and their share of the weight",
        f"following: correlated within classes with a hidden number that tells of the class (p < {SURE})",
        ("cohort", "signature"),
        ("measured", "selected", "following", *FAMILIES),
    )
    for name, own in found.items():
        for made in own["signatures"]:
            table.add_row(
                name,
                made["variant"] + (" *" if made["variant"] == own["primary"]["variant"] else ""),
                f"{made['measured']:,}",
                str(made["selected"]) + (" (kept so that there is one)" if made["reason"] else ""),
                f"{made['following']} ({made['weight_of_following']:.0%})",
                *(f"{made['families'][kind]} ({made['weights'][kind]:.0%})" for kind in FAMILIES),
            )
        table.add_section()
    return table


def _control_table(found: Mapping[str, Report]) -> Table:
    table = _table(
        "macro AUROC with the labels shuffled between patients (95 % CI)",
        "controls: of the run on planted labels, which shuffles five times and selects anew in every fold",
        ("cohort",),
        (*PATIENTS, "controls, mean (least, most)"),
    )
    for name, own in found.items():
        controls = [value for value in own["controls"] if value is not None]
        span = f"{np.mean(controls):.3f} ({min(controls):.3f}, {max(controls):.3f})" if controls else "none"
        table.add_row(name, *(_said(own["shuffled"][split]) for split in PATIENTS), span)
    return table


def _external_table(found: Mapping[str, Report]) -> Table:
    table = _table(
        "macro AUROC: what the external set loses against the internal one",
        "planted, reached and measured as above",
        ("cohort", "shift"),
        ("planted", "reached", "measured", "external, measured"),
    )
    for name, own in found.items():
        cohort = COHORTS[name]
        shift = "other machine" if cohort.has_scanner else f"separation x {cohort.external:g}"
        inside, outside = own["sets"]["internal"], own["sets"]["external"]
        lost = [float(np.mean(inside[key]) - np.mean(outside[key])) for key in ("planted", "reached")]
        values = inside["macro"]["value"], outside["macro"]["value"]
        measured = f"{values[0] - values[1]:.3f}" if None not in values else "undefined"
        table.add_row(name, shift, *(f"{value:.3f}" for value in lost), measured, _said(outside["macro"]))
    return table


def _cost_table(found: Mapping[str, Report]) -> Table:
    table = _table(
        "what it cost",
        "peak: largest sum over all processes; chunks: of features, measured and written",
        ("cohort", "command", "chunks", "nodes, seconds"),
        ("wall s", "CPU s", "peak GiB"),
    )
    for name, own in found.items():
        for step in own["steps"]:
            chunks = ", ".join(f"{kind} {count}" for kind, count in step["chunks"].items())
            nodes = ", ".join(f"{node} {seconds:.1f}" for node, seconds in step["nodes"].items())
            costs = (
                f"{step['wall_seconds']:.1f}",
                f"{step['cpu_seconds']:.1f}",
                f"{step['peak_rss_bytes'] / 2**30:.2f}",
            )
            table.add_row(name, step["command"], chunks, nodes, *costs)
        table.add_section()
    return table


def _noise_table(noise: Report) -> Table:
    table = _table(
        f"macro AUROC of {noise['features']:,} features of pure chance, {noise['chosen']} of them chosen",
        f"logistic regression; {noise['trained']} rows trained on, {noise['held_out']} held out; scanmill chooses "
        "as many as its rule allows",
        ("where they were chosen",),
        ("mean", "least", "most"),
    )
    for name, score in noise["scores"].items():
        table.add_row(name, *(f"{score[key]:.3f}" for key in ("mean", "least", "most")))
    return table


def _said(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "undefined"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f}, {score['high']:.3f})"
