"""Asking a publisher's host politely: paced, patient with trouble that passes, plain about the rest.

Knows no dataset.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception

from tasks.code_version import scanmill_version
from tasks.schema import UnusableInput

logger = logging.getLogger("scanmill.fetch")

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that a later request may not get (RFC 9110, RFC 6585)."""
CHALLENGE = "x-amzn-waf-action"
"""Header of a web firewall that wants to see a browser (AWS WAF developer guide)."""
TIMEOUT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 300.0
"""A host that asks for more is tried again another day."""
TOLD_FROM_SECONDS = 2.0
"""Pauses that a user is told of."""
LONGEST_PAUSE_SECONDS = 60.0
"""Where the host does not say."""
REMEDY = "try again later, or fetch the file in a browser and give its folder with --raw"

T = TypeVar("T")


def shown(url: str) -> str:
    """An address as messages and records have it: without its query, in which hosts put keys."""
    return url.partition("?")[0]


class Unfetchable(UnusableInput):
    """The host will not give what was asked for; asking again at once would not help."""


class Stopped(Exception):
    """Somebody called :meth:`Web.stop`."""


class Passing(Exception):
    """Trouble that a later request may not meet; ``wait_seconds`` where the host said how long."""

    def __init__(self, words: str, wait_seconds: float | None = None) -> None:
        """``words`` are for the user, should the trouble not pass."""
        super().__init__(words)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Manners:
    """How a host wants to be treated."""

    seconds_between: float = 0.0
    """Least time between two requests to its base address."""
    at_once: int = 4
    """Files fetched at the same time."""
    attempts: int = 6
    """Requests in a row that may bring nothing before it is given up."""
    first_wait_seconds: float = 1.0
    """Pause after the first failure; doubled after each further one."""


class Web:
    """One publisher's host: every request goes through here, is paced and counted."""

    def __init__(
        self,
        base: str,
        manners: Manners,
        *,
        auth: tuple[str, str] | None = None,
        judge: Callable[[httpx.Response], None] = lambda response: None,
    ) -> None:
        """``judge`` raises for answers that have a meaning of their own at this host."""
        self.base = base.rstrip("/")
        self.manners = manners
        self.requests = 0
        self._judge = judge
        self._turn = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()
        self._client = httpx.Client(
            auth=httpx.BasicAuth(*auth) if auth else None,
            follow_redirects=True,
            timeout=TIMEOUT_SECONDS,
            headers={"User-Agent": f"scanmill/{scanmill_version()}", "Accept-Encoding": "identity"},
            event_hooks={"request": [self._wait_for_turn]},
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def stop(self) -> None:
        """End what other threads are doing here, pauses included, by :class:`Stopped`."""
        self._stopped.set()

    def insist_on_going_on(self) -> None:
        """Raise :class:`Stopped` after :meth:`stop`."""
        if self._stopped.is_set():
            raise Stopped("the download was stopped")

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _wait_for_turn(self, request: httpx.Request) -> None:
        """Reserve the next turn and sleep until it comes, the lock free: others may have to go elsewhere meanwhile."""
        self.insist_on_going_on()
        with self._turn:
            self.requests += 1
            if not (self.manners.seconds_between and str(request.url).startswith(self.base)):
                return
            turn = max(self._next, time.monotonic())
            self._next = turn + self.manners.seconds_between
        self._pause(max(0.0, turn - time.monotonic()))
        self.insist_on_going_on()

    def get(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """A small answer, whole (or 304 where ``headers`` are conditional); tried again while trouble may pass.

        Raises :class:`Unfetchable`.
        """
        return self.patiently(lambda: self._get(url, params, headers), url)

    def _get(self, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str] | None) -> httpx.Response:
        response = self._client.get(url, params=params, headers=headers)
        if response.status_code != httpx.codes.NOT_MODIFIED:
            self.insist(response, url)
            insist_on_no_page(response, url)
            if not response.content:
                raise Passing("the host sent an answer without content")
        return response

    def json(self, url: str, *, params: Mapping[str, Any] | None = None) -> Any:
        """The plain value that the answer holds. Raises :class:`Unfetchable`."""
        response = self.get(url, params=params)
        try:
            return response.json()
        except ValueError as error:
            raise Unfetchable(f"{shown(url)}: the host's answer is not JSON: {response.text[:80]!r}") from error

    def head(self, url: str) -> httpx.Response:
        """The headers of a file; tried again while trouble may pass. Raises :class:`Unfetchable`."""

        def ask() -> httpx.Response:
            response = self._client.head(url)
            self.insist(response, url)
            return response

        return self.patiently(ask, url)

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer whose body is still to come; nothing of it is judged."""
        with self._client.stream("GET", url, headers=dict(headers)) as response:
            yield response

    def insist(self, response: httpx.Response, url: str) -> None:
        """Raise :class:`Passing` or :class:`Unfetchable` unless the answer is a success."""
        code = response.status_code
        self._judge(response)
        if code == httpx.codes.ACCEPTED or CHALLENGE in response.headers:
            raise Unfetchable(
                f"{shown(url)}: the host's web firewall answered with a challenge for browsers ({code}, no content). "
                f"scanmill does not try to pass it: {REMEDY}"
            )
        if code == httpx.codes.FORBIDDEN:
            raise Unfetchable(f"{shown(url)}: the host refused access (403), itself or by a firewall: {REMEDY}")
        if code in PASSING:
            raise Passing(f"the host answered {code} {response.reason_phrase}", _retry_after(response))
        if code >= 400:
            raise Unfetchable(f"{shown(url)}: the host answered {code} {response.reason_phrase}")

    def patiently(self, ask: Callable[[], T], url: str, *, has_moved: Callable[[], bool] = lambda: False) -> T:
        """Do ``ask`` until it works; give up after as many failures in a row as the manners allow.

        ``has_moved`` tells whether the last attempt, though it failed, brought something: then the count starts anew.
        """
        failures = 0

        def count(state: RetryCallState) -> None:  # called before both of the following
            nonlocal failures
            failures = 1 if has_moved() else failures + 1

        def is_enough(state: RetryCallState) -> bool:
            return failures >= self.manners.attempts or _asked_wait(_error(state)) > LONGEST_WAIT_SECONDS

        def pause(state: RetryCallState) -> float:
            own: float = self.manners.first_wait_seconds * 2 ** (failures - 1)
            return max(_asked_wait(_error(state)), min(LONGEST_PAUSE_SECONDS, own))

        def tell(state: RetryCallState) -> None:
            seconds = state.next_action.sleep if state.next_action else 0.0
            if seconds >= TOLD_FROM_SECONDS:
                words = str(_error(state)) or type(_error(state)).__name__
                logger.warning("%s: %s; trying again in %.0f s", shown(url), words, seconds)

        patience = Retrying(
            retry=retry_if_exception(_may_pass),
            after=count,
            stop=is_enough,
            wait=pause,
            before_sleep=tell,
            sleep=self._pause,
            reraise=True,
        )
        try:
            return patience(ask)
        except (Passing, httpx.RequestError, httpx.InvalidURL) as error:
            raise Unfetchable(_farewell(url, error, failures)) from error


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may fare better later."""
    return isinstance(error, Passing | httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_wait(error: BaseException | None) -> float:
    return (error.wait_seconds or 0.0) if isinstance(error, Passing) else 0.0


def _farewell(url: str, error: Exception, failures: int) -> str:
    """Why it is given up, for the user."""
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        return f"{shown(url)}: the host cannot be reached ({words}). Is this machine on-line?"
    if not _may_pass(error):
        return f"{shown(url)}: cannot be asked for: {words}"
    if (wait := _asked_wait(error)) > LONGEST_WAIT_SECONDS:
        return (
            f"{shown(url)}: {words} and wants to be left alone for {wait / 60:.0f} minutes: run the same command then"
        )
    return f"{shown(url)}: {words}, {failures} times in a row; what is there is kept, the same command goes on from it"


def insist_on_no_page(response: httpx.Response, url: str) -> None:
    """Raise :class:`Unfetchable` for a web page in place of what was asked for."""
    if "text/html" in response.headers.get("Content-Type", ""):
        raise Unfetchable(
            f"{shown(url)}: the host answered with a web page (a sign-in page, a notice or a firewall) instead of the "
            f"data: {REMEDY}"
        )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a ``Retry-After`` header, given as a number or as a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
