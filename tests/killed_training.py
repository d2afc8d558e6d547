"""A training that is killed twice, by the kernel, and then comes to its end: what a test of resuming starts.

One process that imports once; every attempt is a fork of it, so that what dies is a process with all that it knew.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks import files
from tasks.learning.learner import WholeFiles
from tasks.learning.training import train

LAST = "last.ckpt"


def main(recipe: str, lake: str) -> None:
    """Kill the first attempt within an epoch, the second in the middle of writing a checkpoint between two epochs."""
    torch.set_num_threads(1)
    assert _attempt(lambda: _killed_within_an_epoch(recipe, lake)) == -signal.SIGKILL
    (unfinished,) = Path(lake, "runs").glob(".training-*")
    assert torch.load(unfinished / LAST, weights_only=True)["global_step"] == 2
    assert _attempt(lambda: _killed_between_epochs(recipe, lake)) == -signal.SIGKILL
    assert list(unfinished.glob(".partial-*")), "it was killed before the checkpoint was whole"
    assert _attempt(lambda: train(recipe, lake)) == 0


def _attempt(do: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            do()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _killed_within_an_epoch(recipe: str, lake: str) -> None:
    save = WholeFiles.save_checkpoint

    def then_die(self: WholeFiles, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path, storage_options)
        if Path(path).name == LAST and checkpoint["global_step"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    WholeFiles.save_checkpoint = then_die  # type: ignore[method-assign]
    train(recipe, lake)


def _killed_between_epochs(recipe: str, lake: str) -> None:
    save = WholeFiles.save_checkpoint
    replace = files.os.replace

    def die_when_written(source: str, target: Any) -> None:
        if Path(target).name == LAST:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def die(self: WholeFiles, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).name == LAST and checkpoint["scanmill"]["history"]:  # an epoch is validated: it is at its end
            files.os.replace = die_when_written  # type: ignore[assignment]
        save(self, checkpoint, path, storage_options)

    WholeFiles.save_checkpoint = die  # type: ignore[method-assign]
    train(recipe, lake)


if __name__ == "__main__":
    main(*sys.argv[1:])
