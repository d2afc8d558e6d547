"""What ``scanmill compare`` says on a terminal, from the outcome of :func:`tasks.learning.comparison.compare`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 100
NAME_WIDTH = 24
SHOWN = 20
"""Labels or classes that get a line; ``--json`` has all."""


def comparison_text(result: Mapping[str, Any]) -> str:
    """At most :data:`WIDTH` columns wide; differences are B − A."""
    return "\n".join(line.rstrip() for line in _lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    a, b, macro = result["a"], result["b"], result["macro"]
    yield from _wrapped(f"B is {_said(result['verdict'])} A: {_headline(macro)}", "", "  ")
    for name, own in (("A", a), ("B", b)):
        yield from _wrapped(f"{own['run']} (release {own['release']}, {own['split']})", f"  {name}  ", "     ")
    count = f"{result['samples']:,} samples in {result['groups']:,} groups, both held out"
    scored = ", averaged by group" if result["unit"] == "group" else ""
    yield from _wrapped(
        f"{count}{scored}; 95 % of {result['resamples']:,} paired resamples of groups", "  on ", "     "
    )
    for note in result["notes"]:
        yield from _wrapped(note, "  !  ", "     ")
    for name, which in (("A", "only_a"), ("B", "only_b")):
        if result[which]:
            yield from _wrapped(f"only {name} answers {', '.join(result[which])}", "  !  ", "     ")
    if result["labels"]:
        yield from _table("AUROC of labels", result["labels"])
    for question, own in result["classes"].items():
        yield from _table(f"AUROC, {question}", own["classes"])
    if result["targets"]:
        yield from _targets(result["targets"])
    if macro["undefined"]:
        silent = "; ".join(f"{name} ({reason})" for name, reason in macro["undefined"].items())
        yield from _wrapped(f"not in the mean: {silent}", "  ", "    ")
    if result["labels"] or result["classes"]:
        yield from _wrapped(
            "p: DeLong with the rows of a group taken as one, adjusted for the number of rows here (Holm)", "  ", "  "
        )


def _said(verdict: str) -> str:
    return {"better": "better than", "worse": "worse than"}.get(verdict, "not told from")


def _headline(macro: Mapping[str, Any]) -> str:
    if macro["difference"] is None:
        return f"{macro['metric']} is not defined for both"
    p = "" if macro["p"] is None else f", p {_p(macro['p'])}"
    return (
        f"{macro['metric']} {macro['a']:.4f} → {macro['b']:.4f} over {macro['of']}, difference "
        f"{macro['difference']:+.4f}{_span(macro)}{p}"
    )


def _table(title: str, pairs: Mapping[str, Any]) -> Iterator[str]:
    yield _row(title, "A", "B", "B − A", "95 %", "p")
    for name, own in list(pairs.items())[:SHOWN]:
        yield _difference_row(name, own["auroc"], own["reason"], own["clustered"] and own["clustered"]["holm"])
    if len(pairs) > SHOWN:
        yield f"  and {len(pairs) - SHOWN} more, see --json"


def _targets(values: Mapping[str, Any]) -> Iterator[str]:
    for title, key in (("R² of targets", "r2"), ("mean error of targets", "mae")):
        yield _row(title, "A", "B", "B − A", "95 %", "p")
        for name, own in list(values.items())[:SHOWN]:
            yield _difference_row(name, own[key], own["reason"], own[key]["p"])
    yield from _wrapped("p of targets: by the paired resamples, not adjusted", "  ", "  ")


def _difference_row(name: str, found: Mapping[str, Any], reason: str, p: float | None) -> str:
    if found["difference"] is None:
        return f"  {_short(name):<{NAME_WIDTH}} {reason}"[:WIDTH]
    span = "–" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
    return _row(name, f"{found['a']:.3f}", f"{found['b']:.3f}", f"{found['difference']:+.3f}", span, _p(p))


def _row(name: str, a: str, b: str, difference: str, span: str, p: str) -> str:
    return f"  {_short(name):<{NAME_WIDTH}} {a:>8} {b:>8} {difference:>8}  {span:>18}  {p:>7}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _span(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f" (95 % {found['low']:+.4f} to {found['high']:+.4f})"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=True)
