"""A run of ``prepare`` as Prefect shows it: artifacts, logs, and the event that a release came out.

None of it can fail a run. All of it can be made again from the lake, where the same is kept.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from prefect.events import emit_event

from flows import artifacts
from flows.noticeboard import Noticeboard
from flows.run_logs import noticeboard_of_run
from tasks.files import read_json
from tasks.lake import Lake
from tasks.schema import DataRefused
from tasks.sources.fetched import Fetched

logger = logging.getLogger("scanmill.prepare")

PUBLISHED = "scanmill.release.published"
"""Event: a new release came out, and all its gates have passed."""
PUBLISHED_ALL_THE_SAME = "scanmill.release.published-all-the-same"
"""Event: a new release came out although a gate had failed, because ``allow_gate_failure`` was set."""


class Shown:
    """What a run has to show; without a run in Prefect it shows nothing."""

    def __init__(self, lake: Lake, board: Noticeboard | None) -> None:
        """``lake`` is the dataset's part of it."""
        self._lake = lake
        self._board = board

    def source(self, fetched: Fetched) -> None:
        """What a look at the publisher's has brought."""
        logger.info("%s", fetched)
        if self._board:
            self._board.show("what was fetched", lambda: [artifacts.source(self._lake, fetched)])

    @contextlib.contextmanager
    def outcome_of(self, release: str) -> Iterator[None]:
        """Show, after the block, the report, the accounting and the verdict: of what was published, or refused."""
        try:
            yield
        except DataRefused:
            self._show_outcome(release)
            raise
        self._show_outcome(release)

    def _show_outcome(self, release: str) -> None:
        if self._board:
            self._board.show(f"{self._lake.dataset}@{release}", lambda: artifacts.outcome(self._lake, release))

    def published(self, release: str) -> None:
        """Say in the logs and by event that a new release came out; what is downstream may wait for it."""
        try:
            _announce(self._lake, read_json(self._lake.release(release) / "manifest.json"))
        except Exception:  # the release is there, and that is what counts
            logger.warning("that %s@%s is published cannot be told", self._lake.dataset, release, exc_info=True)


@contextlib.contextmanager
def shown_in_prefect(lake: Lake) -> Iterator[Shown]:
    """For the block: logs and progress of the stages reach the flow run that it is in, and so does what it shows."""
    with noticeboard_of_run(lake.dataset) as board:
        yield Shown(lake, board)


def _announce(lake: Lake, manifest: Mapping[str, Any]) -> None:
    samples = sum(split["samples"] for split in manifest["splits"].values())
    counted, has_passed = manifest["accounting"], all(manifest["gates"].values())
    logger.info(
        "published %s@%s: %d samples; of %d archive members %d written, %d quarantined, %d ignored",
        *(lake.dataset, manifest["release"], samples, counted["members"], counted["written"], counted["quarantined"]),
        sum(counted["ignored"].values()),
    )
    emit_event(
        event=PUBLISHED if has_passed else PUBLISHED_ALL_THE_SAME,
        resource={
            "prefect.resource.id": f"scanmill.dataset.{lake.dataset}",
            "prefect.resource.name": lake.dataset,
            "scanmill.release": manifest["release"],
            "scanmill.gates-passed": "true" if has_passed else "false",
        },
        payload={
            "dataset": lake.dataset,
            "release": manifest["release"],
            "lake": lake.root,
            "samples": samples,
            "gates_passed": has_passed,
        },
    )
