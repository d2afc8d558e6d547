"""What ``scanmill datasets NAME`` prints: every expectation of a dataset, what follows from it, and what is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from expectations.suites import suite
from tasks.schema import Dataset, GateName

WORDS = {"critical": "error", "warning": "warning"}


def checks_of(dataset: Dataset) -> list[dict[str, Any]]:
    """One mapping per expectation: ``gate``, ``code``, ``severity``, ``tolerance`` (share of rows, of errors alone),
    ``sentence``, ``known`` (declared defects: rows, statement, source, forms of the tables).

    Expectations of documents are left out where the dataset has none.
    """
    has_documents = any(rule.kind == "document" for rule in dataset.members)
    gates = [gate for gate in get_args(GateName) if gate != "documents" or has_documents]
    return [_check(dataset, gate, expectation) for gate in gates for expectation in suite(dataset, gate)]


def _check(dataset: Dataset, gate: GateName, expectation: dict[str, Any]) -> dict[str, Any]:
    meta = expectation["meta"]
    is_error = expectation["severity"] == "critical"
    blames_rows = meta.get("action", "quarantine") == "quarantine"
    tolerance = meta.get("tolerance", dataset.tolerance if blames_rows else 0.0)
    known = [
        {"rows": k.rows, "statement": k.statement, "source": k.source, "forms": list(k.forms)}
        for k in dataset.known
        if k.code == meta["code"]
    ]
    return {
        "gate": gate,
        "code": meta["code"],
        "severity": WORDS[expectation["severity"]],
        "tolerance": tolerance if is_error else None,
        "sentence": meta["sentence"],
        "known": known,
    }


def checks_text(dataset: Dataset) -> str:
    """The same for people."""
    return "\n".join(_lines(dataset))


def _lines(dataset: Dataset) -> Iterator[str]:
    checks = checks_of(dataset)
    width = max(len(check["code"]) for check in checks)
    yield f"{dataset.title}: {len(checks)} expectations"
    for gate in dict.fromkeys(check["gate"] for check in checks):
        own = [check for check in checks if check["gate"] == gate]
        yield f"\n{gate} gate: {len(own)}"
        for check in own:
            limit = f" ≤ {check['tolerance']:.0%}" if check["tolerance"] else ""
            yield f"  {check['severity'] + limit:<11} {check['code']:<{width}}  {check['sentence']}"
            for known in check["known"]:
                yield f"  {'':<11} {'':<{width}}  known: {known['statement']} ({known['source']})"
    yield "\nerror: refused, and above its tolerance nothing is published · warning: shown, blocks nothing"
    yield "known: up to the declared number it is shown as known, beyond it as new"
