"""A training that is killed twice, by the kernel, and then comes to its end: what a test of resuming starts.

One process that imports once; every attempt is a fork of it, so that what dies is a process with all that it knew.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks.learning.learner import WholeFiles
from tasks.learning.training import train

LAST = "last.ckpt"


def main(recipe: str, lake: str) -> None:
    """Kill the first attempt within an epoch, the second in the middle of writing a checkpoint between two epochs.

    An epoch has five steps, and a checkpoint after each of them but the last.
    """
    torch.set_num_threads(1)
    assert attempt(recipe, lake, first=1, after_writing=lambda step: die() if step == 2 else None) == -signal.SIGKILL
    (unfinished,) = Path(lake, "runs").glob(".training-*")
    assert attempt(recipe, lake, first=3, within_writing=lambda step: die() if step == 5 else None) == -signal.SIGKILL
    assert list(unfinished.glob(".partial-*")), "it was killed before the checkpoint was whole"
    assert torch.load(unfinished / LAST, weights_only=True)["global_step"] == 4
    assert attempt(recipe, lake, first=5) == 0


def die() -> None:
    """As by the kernel, for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(
    recipe: str,
    lake: str,
    *,
    first: int,
    after_writing: Callable[[int], None] = lambda step: None,
    within_writing: Callable[[int], None] = lambda step: None,
) -> int:
    """Exit status of a process that trains, and whose first checkpoint is that of step ``first``: it has gone on."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    save, replace, written = WholeFiles.save_checkpoint, os.replace, []

    def watched(self: WholeFiles, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        written.append(checkpoint["global_step"])
        assert written[0] == first, f"it did not go on from where it was: {written}"
        save(self, checkpoint, path, storage_options)
        if Path(path).name == LAST:
            after_writing(written[-1])

    def watched_replace(source: Any, target: Any) -> None:
        if Path(target).name == LAST:
            within_writing(written[-1])
        replace(source, target)

    WholeFiles.save_checkpoint = watched  # type: ignore[method-assign]
    os.replace = watched_replace  # type: ignore[assignment]
    try:
        train(recipe, lake)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
