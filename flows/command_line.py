"""What all commands share: how errors become exit codes, how a flow is run and stopped, and their common options."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from tasks.schema import AccountingError, DataRefused, ScanmillError

LAKE = "SCANMILL_LAKE"
LakeFolder = Annotated[
    str, typer.Option(metavar="PLACE", envvar=LAKE, help="Folder of the lake, made if missing; or s3://bucket/prefix.")
]
LakeThere = Annotated[
    str, typer.Option(metavar="PLACE", envvar=LAKE, help="Folder of the lake, or s3://bucket/prefix.")
]
LakeOfRun = Annotated[
    str | None, typer.Option(metavar="PLACE", envvar=LAKE, help="The lake of the run, where RUN is its name alone.")
]
RawNow = Annotated[
    list[str] | None,
    typer.Option(metavar="PLACE", help="Where the raw release lies now [default: where it lay]. Repeat for several."),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one machine-readable line instead of text.")]
ShowProgress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", metavar="", help="Progress on stderr [default: only on a terminal]."),
]

MILL, LOOK, MODELS, SET_UP = "From raw to release", "What a release is worth", "Models", "Set up"
"""Parts of the help page."""
SERVERLESS = "Failed to reach API"
"""What Prefect says when its server does not answer."""
REMEDIES: Mapping[int, str] = {
    errno.EROFS: "; mount it for writing, or name another place, and run the same command again",
    errno.EACCES: "; let this user in there, or name another place, and run the same command again",
    errno.EPERM: "; let this user in there, or name another place, and run the same command again",
    errno.ENOENT: "; if it was moved or removed, put it back, and run the same command again",
    errno.EIO: "; the disk or the network fails (see the log of the system): mend it, and run the same command again",
}
"""What to do about an error of the operating system whose own words do not say it."""


def examples(*lines: str) -> str:
    """The end of a help page, one example a line: Markdown, each command in backticks."""
    return "Examples\n\n" + "\n".join(f"- {line}" for line in lines)


@contextmanager
def errors_as_exit_codes(as_json: bool = False) -> Iterator[None]:
    """1 when the data or a gate said no, 2 for wrong use or unusable input; no traceback for what a user can cause."""
    try:
        yield
    except (DataRefused, AccountingError) as error:
        _leave(error, 1, as_json)
    except ScanmillError as error:
        _leave(error, 2, as_json)
    except BrokenPipeError:  # whoever reads has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "")
        _leave(ScanmillError(f"{error.strerror or error}: {error.filename or 'while working'}{remedy}"), 2, as_json)
    except Exception as error:
        from tasks.object_storage import storage_trouble

        if said := storage_trouble(error):
            _leave(ScanmillError(f"object storage cannot be reached: {said}"), 2, as_json)
        raise
    except KeyboardInterrupt:
        _leave(ScanmillError("stopped; finished chunks are kept, the same command goes on from there"), 130, as_json)


def printable(text: str) -> str:
    """Names and cells of others may hold what moves a terminal's cursor, or letters that no encoding has."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def _leave(error: Exception, code: int, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"ok": False, "exit_code": code, "error": str(error)}))
    else:
        sys.stderr.write(f"scanmill: {printable(str(error))}\n")
    raise typer.Exit(code)


@contextmanager
def importing() -> Iterator[None]:
    """For a block of large imports: a million objects that stay need not be searched for garbage, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def running_a_flow(name: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """The flow of that name, and a Prefect server, which starts while the flow is imported where the user has none.

    Ctrl-C and SIGTERM end all of it at once. A server that is not there is said in words.
    """
    before = {number: signal.signal(number, _stop_at_once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with importing():
            from flows.embedded_server import EmbeddedServer, is_wanted
        server = EmbeddedServer() if is_wanted() else None
        with importing():
            flow = getattr(import_module(f"flows.{name}"), name)
        if server:
            server.wait()
        yield flow
    except Exception as error:
        if said := _said_of_server(error):
            raise ScanmillError(said) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _said_of_server(error: Exception) -> str:
    """What is to be done where Prefect's server is not there, or not there any more; nothing for other errors."""
    import httpx

    if isinstance(error, RuntimeError) and SERVERLESS in str(error):
        return f"{error}: start that Prefect server, or unset PREFECT_API_URL to do without"
    if isinstance(error, httpx.TransportError):
        return (
            f"Prefect's server does not answer any more ({error}): start it again, or unset PREFECT_API_URL to do "
            f"without, and run the same command again: it goes on from there"
        )
    return ""


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, or a service manager's SIGTERM: end every process of the run and leave, with what shells make of it.

    A terminal interrupts the embedded Prefect server as well, and Prefect would spend a minute trying to tell it that
    the run has stopped. Nothing needs tidying: a name that exists in the lake is a whole file.
    """
    import psutil

    show_cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{show_cursor}scanmill: stopped; finished chunks are kept, the same command goes on from there\n")
    sys.stderr.flush()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(128 + number)
