"""Processes that only decode: for the decoder that lets no other thread run (:func:`scanmill.images.decode_alone`).

Plain child processes, not forks and not of :mod:`multiprocessing`: the caller's script needs no main guard, CUDA and
threads of the caller do not matter, and there is nothing to leak. Pixels come back through memory without a name
(memfd, Linux) and go with the last process that has it; a child ends when the pipe to its parent does.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from scanmill.images import Files, Form, Piece, decode_alone, fill
from scanmill.refusal import ReleaseRefused

SLOTS = 2
"""Batches of one process: it fills one while the other is copied out."""
LENGTH_BYTES = 8


class DecodingProcess:
    """One child; any thread may ask it, one at a time."""

    def __init__(self, slot_bytes: int) -> None:
        """Start it. ``slot_bytes`` is the size of the largest batch."""
        self._slot_bytes = -(-max(1, slot_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = os.memfd_create("scanmill")
        try:
            os.ftruncate(descriptor, self._slot_bytes * SLOTS)
            self._memory = mmap.mmap(descriptor, self._slot_bytes * SLOTS)
            start = (
                f"import sys; sys.path[:] = {json.dumps(sys.path)}; import scanmill.decoding_process as d; d.serve()"
            )
            self._child = subprocess.Popen(
                [sys.executable, "-c", start, str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(descriptor,),
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        finally:
            os.close(descriptor)
        self._turn = threading.Lock()

    def fill(self, slot: int, target: npt.NDArray[Any], pieces: Sequence[Piece], form: Form) -> None:
        """As :func:`scanmill.images.fill`; raises what that raises, and :class:`RuntimeError` if the child died."""
        at = slot * self._slot_bytes
        plain = [piece if piece.path else piece._replace(content=bytes(piece.content)) for piece in pieces]
        job = pickle.dumps((at, plain, form), pickle.HIGHEST_PROTOCOL)
        with self._turn:
            try:
                _send(self._child.stdin, job)
                answer = _receive(self._child.stdout)
            except (OSError, ValueError):
                answer = None
        if answer is None:
            raise RuntimeError(
                f"a decoding process ended unexpectedly (exit status {self._child.wait()}): is there enough memory?"
            )
        if error := pickle.loads(answer):
            raise error
        np.copyto(target, np.ndarray(target.shape, target.dtype, self._memory, at))

    @property
    def is_dead(self) -> bool:
        """Whether it has ended by itself."""
        return self._child.poll() is not None

    def close(self) -> None:
        """End it, and wait until it has."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # of a child that died with a job in the pipe
                    pipe.close()
        self._child.kill()  # whoever was forked meanwhile (a DataLoader's worker) holds the pipe open as well
        self._child.wait()


def serve() -> None:
    """What a child does until the pipe to its parent ends."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may come between the answers
    with mmap.mmap(int(sys.argv[1]), 0) as memory:
        files = Files()
        while (job := _receive(sys.stdin.buffer)) is not None:
            _send(answers, pickle.dumps(_outcome(memory, files, *pickle.loads(job))))


def _outcome(memory: mmap.mmap, files: Files, at: int, pieces: list[Piece], form: Form) -> Exception | None:
    dtype = np.uint8 if form.bits == 8 else np.uint16
    target = np.ndarray((len(pieces), 1, form.height, form.width), dtype, memory, at)
    try:
        fill(target, pieces, form, files, decode_alone)
    except (ReleaseRefused, OSError) as error:
        return type(error)(str(error))
    except Exception:
        return RuntimeError(f"in a decoding process:\n{traceback.format_exc()}")
    return None


def _send(pipe: IO[bytes] | None, message: bytes) -> None:
    assert pipe is not None
    pipe.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes | None:
    """The next message; None at the end."""
    assert pipe is not None
    head = pipe.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    message = pipe.read(length)
    return message if len(message) == length else None
