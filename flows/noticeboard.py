"""Artifacts on their way to Prefect's server, in a thread: whoever pins one never waits for it.

Only the newest of each key is kept, so that a server that hangs costs a few kilobytes and drops what is stale.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import TaskRunContext

from flows import artifacts
from tasks.progress import Progress

logger = logging.getLogger("scanmill.prefect")

PAUSE_SECONDS = 3.0
"""Between two looks at what is pinned: the most often that a progress artifact moves."""
ANSWER_SECONDS = 10.0
"""Prefect's server may take for one request; its client tries again by itself."""
LAST_SECONDS = 15.0
"""How long the end of a run waits for its artifacts."""


class Noticeboard:
    """The artifacts of one flow run."""

    def __init__(self, dataset: str, flow_run_id: UUID) -> None:
        """Nothing is pinned yet; the thread starts with the first artifact."""
        self.dataset = dataset
        self._flow_run_id = flow_run_id
        self._pinned: dict[str, ArtifactCreate] = {}
        self._shown: dict[str, UUID] = {}
        """Progress artifacts that are there, to be moved on."""
        self._change = threading.Condition()
        self._is_closing = False
        self._has_complained = False
        # The thread needs the run's settings: which server, which key.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name="scanmill-artifacts", daemon=True
        )

    def pin(self, artifact: ArtifactCreate) -> None:
        """Have an artifact shown soon, as one of the stage that runs now; an older one of its key is overtaken."""
        stage = TaskRunContext.get()
        own = {"flow_run_id": self._flow_run_id, "task_run_id": stage.task_run.id if stage else None}
        with self._change:
            if self._is_closing:
                return
            self._pinned[str(artifact.key)] = artifact.model_copy(update=own)
            if not self._thread.is_alive():
                self._thread.start()

    def show(self, what: str, make: Callable[[], Sequence[ArtifactCreate]]) -> None:
        """Pin what ``make`` makes of the lake; where it cannot, because of a damaged report, the log says so.

        What reads release or run for its own sake will say more.
        """
        try:
            for artifact in make():
                self.pin(artifact)
        except Exception:
            logger.warning("%s cannot be shown in Prefect", what, exc_info=True)

    def move(self, now: Progress) -> None:
        """Have the progress artifact of a stage moved on, or made."""
        self.pin(artifacts.progress(self.dataset, now))

    def close(self) -> None:
        """Wait, within bounds, until all that is pinned is shown."""
        with self._change:
            self._is_closing = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)
        self._has_complained = True  # from here on, whoever reads the log is another run
        if self._pinned:
            logger.warning(
                "Prefect's server did not take the artifacts %s; what they show lies in the lake",
                ", ".join(sorted(self._pinned)),
            )

    def _work(self) -> None:
        try:
            with get_client(httpx_settings={"timeout": ANSWER_SECONDS}, sync_client=True) as client:
                while self._show_all(client):
                    pass
        except Exception as error:  # whatever it is, the run goes on
            self._complain(error)

    def _show_all(self, client: SyncPrefectClient) -> bool:
        """Show what is pinned, then pause; returns whether there may be more."""
        with self._change:
            is_last = self._is_closing
            waiting = list(self._pinned.items())
        for key, artifact in waiting:
            try:
                self._show(client, key, artifact)
            except Exception as error:  # of Prefect, of its server, of the network: none of them is the run's trouble
                self._complain(error)
                continue
            with self._change:
                if self._pinned.get(key) is artifact:
                    del self._pinned[key]
        with self._change:
            if not self._is_closing:
                self._change.wait(PAUSE_SECONDS)
        return not is_last

    def _show(self, client: SyncPrefectClient, key: str, artifact: ArtifactCreate) -> None:
        if artifact.type != "progress":
            client.create_artifact(artifact)
            return
        # A stage that is tried again, and so begins anew, has the same task run.
        name = f"{key} {artifact.task_run_id}"
        if name in self._shown:
            change: dict[str, Any] = {"data": artifact.data, "description": artifact.description}
            client.update_artifact(self._shown[name], ArtifactUpdate(**change))
        else:
            self._shown[name] = client.create_artifact(artifact).id

    def _complain(self, error: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning("Prefect's server takes no artifacts now (%s: %s)", type(error).__name__, error)
