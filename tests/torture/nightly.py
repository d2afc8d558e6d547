"""``refresh`` as it runs at night: deployments on a server, a worker of each pool, every step a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.prefect_servers import Site
from tests.release_files import files_of
from tests.torture.scenes import PATIENCE_SECONDS, Prepare

REFRESH = "refresh/nightly"
RECIPE = "nih-intensity-baseline"
POOLS = ("cpu", "gpu")
VARYING = ("run.json", "metrics.json", "report/", "README.md", "card")
"""Of a run: they tell times."""


class Refresh(Prepare):
    """The parent run, as somebody at a terminal waits for it; what is killed is one of its steps."""

    takes_workers = False
    faults = frozenset({"kill whoever writes", "disk full", "one I/O error"})
    exits = frozenset({0, 1})
    """A step that was killed is a night that failed."""

    def __init__(self, dataset: str, raw: Path, images: int, site: Site) -> None:
        """``site`` has a server that runs; its deployments are made here."""
        super().__init__("refresh", dataset, [], images)
        self._raw, self._site = raw, site
        deployed = site.command("deploy")
        if deployed.returncode != 0:
            raise AssertionError(deployed.stderr)

    def line(self, place: Path, workers: int) -> list[str]:
        told = {"dataset": self.dataset, "lake": str(place / "lake"), "recipe": RECIPE, "raw": [str(self._raw)]}
        given = [word for name, value in told.items() for word in ("-p", f"{name}={json.dumps(value)}")]
        return [sys.executable, "-m", "prefect", "deployment", "run", REFRESH, "--watch", *given]

    @contextmanager
    def beside(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Workers that hand the fault on to what they start."""
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool],
                env={**variables, **self._site.variables},
                cwd=self._site.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for pool in POOLS
        ]
        try:
            yield
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(PATIENCE_SECONDS)

    def again(self, place: Path) -> Mapping[str, Any]:
        line = self.line(place, 0)
        with self.beside({}):
            done = subprocess.run(line, env=self._site.variables, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"the rerun ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return {}

    def made(self, place: Path) -> Mapping[str, str]:
        runs = place / "lake" / "runs"
        found = {**super().made(place), **{f"runs/{path.name}": "" for path in runs.iterdir()}}
        for run in runs.glob("[!.]*/run.json"):
            for name, sha256 in files_of(run.parent).items():
                if not name.startswith(VARYING):
                    found[f"runs/{run.parent.name}/{name}"] = sha256
        return found

    def kept(self, place: Path) -> float:
        """Of three steps."""
        lake = place / "lake"
        patterns: Sequence[str] = (f"{self.dataset}/latest.json", "runs/*/run.json", "runs/*/report/index.html")
        return sum(any(lake.glob(pattern)) for pattern in patterns) / len(patterns)

    def reused(self, answer: Mapping[str, Any], kept: float) -> float:
        return kept
