"""Packed frames are unpacked in a process apart: on some damaged JPEGs the decoder in C++ ends its process at once.

A process that ends so, or takes too long, costs its frame, and another one is started. There is one for each process
that asks; it ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.decoding import ImageRefused
from tasks.dicom import decoder_process

MOST_SECONDS = 120.0
"""For one frame; the largest that is allowed takes some seconds."""
DETAIL_LETTERS = 200
PROGRAM = Path(decoder_process.__file__)

_asking = threading.Lock()
_running: list[tuple[int, subprocess.Popen[bytes]]] = []
"""The process, with that of whom started it: a fork has it as well, and must not write to it."""


def unpacked(frame: bytes, syntax: str, options: dict[str, Any]) -> tuple[npt.NDArray[Any], str]:
    """The numbers of an encapsulated frame, and its photometric interpretation once it is unpacked.

    ``options`` are those of :meth:`pydicom.pixels.Decoder.as_array`. Raises :class:`ImageRefused`.
    """
    with _asking:
        answer = _answer({**options, "syntax": syntax}, frame)
    if answer is None:
        raise ImageRefused("undecodable-image", "its pixels are damaged: the decoder ended, or went on without end")
    about, data = answer
    if "error" in about:
        raise ImageRefused("undecodable-image", str(about["error"]).replace("\n", " ")[:DETAIL_LETTERS])
    return np.frombuffer(data, np.dtype(about["kind"])).reshape(about["shape"]), str(about["photometric"])


def _answer(question: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes] | None:
    """None where the process ended without one."""
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(MOST_SECONDS, process.kill)
    timer.start()
    try:
        decoder_process.send(process.stdin, question, frame)
        answer = decoder_process.receive(process.stdout)
    except BrokenPipeError:
        answer = None
    finally:
        timer.cancel()
    if answer is None:
        _end()
    return answer


def _process() -> subprocess.Popen[bytes]:
    if _running and _running[0][0] == os.getpid() and _running[0][1].poll() is None:
        return _running[0][1]
    _running.clear()
    process = subprocess.Popen(
        # Without the folder of the program on the path: nothing of it is to be found by another's import.
        [sys.executable, "-P", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    _running.append((os.getpid(), process))
    return process


@atexit.register
def _end() -> None:
    if _running and _running[0][0] == os.getpid():
        process = _running[0][1]
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait()
    _running.clear()
