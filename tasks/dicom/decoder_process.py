"""The process that unpacks packed frames: run by :mod:`tasks.dicom.apart`, imports nothing of ours.

A question on stdin is a length (4 bytes), that many bytes of JSON (the options of
:meth:`pydicom.pixels.Decoder.as_array` and the UID of the transfer syntax), a length (8 bytes) and the encapsulated
frame; an answer on stdout has the same form, and holds the pixels or what was wrong. It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from typing import IO, Any

MEMORY_BYTES = 4 * 2**30
"""Of this process: a frame of 128 MiB takes a GiB."""


def main() -> None:
    """Answer until there is no more question."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what is in memory is somebody's picture
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    while (question := receive(sys.stdin.buffer)) is not None:
        send(answers, *_answer(*question))


def send(stream: IO[bytes], about: dict[str, Any], data: bytes) -> None:
    """A question or an answer."""
    told = json.dumps(about).encode()
    stream.write(b"".join((struct.pack(">I", len(told)), told, struct.pack(">Q", len(data)), data)))
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The other side of :func:`send`; None where the stream has ended."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    told = stream.read(struct.unpack(">I", head)[0])
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = struct.unpack(">Q", head)[0]
    data = stream.read(size)
    return (json.loads(told), data) if len(data) == size else None


def _answer(options: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = UID(options.pop("syntax"))
    try:
        values, told = get_decoder(syntax).as_array(frame, index=0, **options)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}, b""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    about = {"kind": little.dtype.str, "shape": little.shape, "photometric": str(told["photometric_interpretation"])}
    return about, little.tobytes()


if __name__ == "__main__":
    main()
