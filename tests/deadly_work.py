"""Work that kills its own worker, for the tests of waves; a module of its own, so that workers import little."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from tasks.chunks import Chunk, convert_chunk


def work(item: str, folder: str) -> str:
    """Leave a file that says so; ``always`` dies every time, ``once`` the first time."""
    seen = Path(folder, f"{item}.seen")
    if item == "always" or (item == "once" and not seen.exists()):
        seen.touch()
        os._exit(1)
    if item == "wrong":
        message = "this item is wrong"
        raise ValueError(message)
    Path(folder, f"{item}.done").touch()
    return item


def convert_or_die(chunk: Chunk, folder: str) -> dict[str, int]:
    """Convert a chunk, as a decoder would that crashes on the members named in the file ``deadly`` beside the lake."""
    deadly = Path(folder).parent.parent.parent / "deadly"
    if {member.name for member in chunk.members} & set(deadly.read_text().split()):
        with deadly.with_name("deaths").open("a") as stream:
            stream.write(f"{chunk}\n")
        os._exit(1)
    return convert_chunk(chunk, folder)


def convert_and_wait_to_be_killed(chunk: Chunk, folder: str) -> dict[str, int]:
    """Convert a chunk; the first of all writes its process id to ``victim`` beside the lake and stops in the middle."""
    try:
        with (Path(folder).parent.parent.parent / "victim").open("x") as stream:
            stream.write(f"{os.getpid()}\n")
    except FileExistsError:
        return convert_chunk(chunk, folder)
    (Path(folder) / ".partial-of-a-killed-worker").write_bytes(b"half a chunk")
    time.sleep(600)
    return {}


def speak(item: str) -> None:
    """Log as a chunk does."""
    logging.getLogger("scanmill.convert").info("%s is odd", item)
    logging.getLogger("other").warning("not ours")


def nap(item: int, folder: str) -> None:
    """Take a while, and tell which process did."""
    time.sleep(0.5)
    Path(folder, f"{item}-{os.getpid()}").touch()


def die_of(names: tuple[str, ...], folder: str) -> None:
    """Die of every name in capitals; of the others, leave a file each."""
    if any(name.isupper() for name in names):
        os._exit(1)
    for name in names:
        Path(folder, name).touch()
