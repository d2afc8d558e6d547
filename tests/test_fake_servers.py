"""The fake hosts keep the publishers' protocol (facts/datasets.md, 6 and 7): what tests of downloads rest on."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.http import (
    CHALLENGE,
    CHUNK,
    EMPTY,
    FORBIDDEN_HTML,
    HTML_PAGE,
    TOO_MANY,
    UNAVAILABLE,
    Failure,
    Server,
)
from tests.fakes.servers.https import FakeFiles
from tests.fakes.servers.physionet import FakePhysioNet

ARTICLE = 26389069
DATA = bytes(range(256)) * 1000
USER, PASSWORD = "reader", "p:ss wörd"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    # Making a client costs 30 ms, most of it certificates.
    with httpx.Client(trust_env=False, verify=False, timeout=5) as opened:
        yield opened


@pytest.fixture
def files() -> Iterator[FakeFiles]:
    with FakeFiles({"a/scan 1.bin": DATA, "empty": b""}) as server:
        yield server


@pytest.fixture
def figshare() -> Iterator[FakeFigshare]:
    with FakeFigshare() as server:
        yield server


@pytest.fixture
def physionet() -> Iterator[FakePhysioNet]:
    content = {"LICENSE.txt": b"PhysioNet", "data/a.csv": b"a", "data/deep/b.csv": b"b"}
    with FakePhysioNet("chexchonet", "1.0.0", content, user=USER, password=PASSWORD) as server:
        yield server


def scan_of(server: FakeFiles) -> str:
    """Address of its large file."""
    return f"{server.url}/a/scan%201.bin"


def ask(client: httpx.Client, url: str, **headers: str) -> httpx.Response:
    """GET with headers named as in Python."""
    return client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def file_of(client: httpx.Client, server: FakeFigshare, name: str) -> dict[str, Any]:
    """Its object in the list of files."""
    listed = client.get(f"{server.api}/articles/{ARTICLE}/files", params={"page_size": 1000}).json()
    return next(file for file in listed if file["name"] == name)


def presigned(client: httpx.Client, server: FakeFigshare, file_id: int) -> str:
    """Where the chain of redirects ends."""
    first = client.get(f"{server.api}/file/download/{file_id}")
    second = client.get(first.headers["Location"])
    assert (first.status_code, second.status_code) == (302, 302)
    assert first.headers["Location"] == f"{server.url}/ndownloader/files/{file_id}"
    return second.headers["Location"]


# Objects


def test_an_object_comes_whole_with_its_validators(client: httpx.Client, files: FakeFiles) -> None:
    got, head = client.get(scan_of(files)), client.head(scan_of(files))
    assert (got.status_code, got.content) == (200, DATA)
    assert got.headers["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    assert got.headers["Accept-Ranges"] == "bytes"
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(DATA)))
    assert [(r.method, r.body_bytes) for r in files.requests] == [("GET", len(DATA)), ("HEAD", 0)]
    assert client.get(f"{files.url}/none").status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=1000-", 206, 1000, len(DATA)),
        ("bytes=0-", 206, 0, len(DATA)),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=-7", 206, len(DATA) - 7, len(DATA)),
        (f"bytes={len(DATA) - 1}-", 206, len(DATA) - 1, len(DATA)),
        ("bytes=9-5", 200, 0, len(DATA)),
        ("bytes=0-1,5-6", 200, 0, len(DATA)),
        ("bytes=-", 200, 0, len(DATA)),
    ],
)
def test_a_range_gives_its_part(
    client: httpx.Client, files: FakeFiles, asked: str, status: int, first: int, end: int
) -> None:
    got = ask(client, scan_of(files), Range=asked)
    assert (got.status_code, got.content) == (status, DATA[first:end])
    assert got.headers.get("Content-Range") == (f"bytes {first}-{end - 1}/{len(DATA)}" if status == 206 else None)
    assert files.requests[0].range == asked


@pytest.mark.parametrize(("path", "start", "size"), [("a/scan%201.bin", len(DATA), len(DATA)), ("empty", 0, 0)])
def test_a_range_beyond_the_end_is_416(
    client: httpx.Client, files: FakeFiles, path: str, start: int, size: int
) -> None:
    got = ask(client, f"{files.url}/{path}", Range=f"bytes={start}-")
    assert (got.status_code, got.headers["Content-Range"]) == (416, f"bytes */{size}")


def test_if_range_gives_the_part_only_of_the_same_bytes(client: httpx.Client, files: FakeFiles) -> None:
    tag = client.head(scan_of(files)).headers["ETag"]
    assert ask(client, scan_of(files), Range="bytes=9-", If_Range=tag).status_code == 206
    assert ask(client, scan_of(files), Range="bytes=9-", If_Range=f"W/{tag}").status_code == 200
    files.change("a/scan 1.bin", DATA[::-1])
    got = ask(client, scan_of(files), Range="bytes=9-", If_Range=tag)
    assert (got.status_code, got.content) == (200, DATA[::-1])


def test_what_the_client_has_is_not_sent_again(client: httpx.Client, files: FakeFiles) -> None:
    tag = client.head(scan_of(files)).headers["ETag"]
    got = ask(client, scan_of(files), If_None_Match=f'"other", {tag}', Range="bytes=9-")
    assert (got.status_code, got.content, got.headers["ETag"]) == (304, b"", tag)
    files.change("a/scan 1.bin", b"new")
    assert ask(client, scan_of(files), If_None_Match=tag).content == b"new"


def test_without_tags_the_date_is_the_validator(client: httpx.Client, files: FakeFiles) -> None:
    files.has_etag = False
    got = client.head(scan_of(files))
    date = got.headers["Last-Modified"]
    assert "ETag" not in got.headers
    assert ask(client, scan_of(files), If_Modified_Since=date).status_code == 304
    assert ask(client, scan_of(files), Range="bytes=9-", If_Range=date).status_code == 206
    files.change("a/scan 1.bin", DATA)
    assert ask(client, scan_of(files), If_Modified_Since=date).status_code == 200
    assert ask(client, scan_of(files), Range="bytes=9-", If_Range=date).status_code == 200


# Knobs


def test_a_cut_connection_shows_as_one_and_is_the_last(client: httpx.Client, files: FakeFiles) -> None:
    files.cut_after = [100_000, 0]
    with client.stream("GET", scan_of(files)) as response:
        assert response.headers["Content-Length"] == str(len(DATA))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            response.read()
        assert response.num_bytes_downloaded == 100_000
    assert client.get(f"{files.url}/empty").status_code == 200
    assert files.cut_after == [0], "an empty file cannot be cut"
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, scan_of(files), Range="bytes=100000-")
    assert ask(client, scan_of(files), Range="bytes=100000-").content == DATA[100_000:]
    assert [r.body_bytes for r in files.requests] == [100_000, 0, 0, len(DATA) - 100_000]


def test_a_stall_outlasts_a_short_patience_once(client: httpx.Client, files: FakeFiles) -> None:
    files.stall = [30]
    with pytest.raises(httpx.ReadTimeout):
        client.get(scan_of(files), timeout=httpx.Timeout(5, read=0.1))
    assert client.get(scan_of(files)).content == DATA


@pytest.mark.parametrize(
    ("failure", "status", "header", "has_body"),
    [
        (TOO_MANY, 429, ("Retry-After", "1"), False),
        (UNAVAILABLE, 503, ("Content-Length", "0"), False),
        (CHALLENGE, 202, ("x-amzn-waf-action", "challenge"), False),
        (FORBIDDEN_HTML, 403, ("Content-Type", "text/html; charset=utf-8"), True),
        (HTML_PAGE, 200, ("Content-Type", "text/html; charset=utf-8"), True),
        (EMPTY, 200, ("Content-Length", "0"), False),
    ],
)
def test_a_failure_answers_one_request(
    client: httpx.Client, files: FakeFiles, failure: Failure, status: int, header: tuple[str, str], has_body: bool
) -> None:
    files.failures = [failure.at("/scan"), failure.at("/elsewhere")]
    assert client.get(f"{files.url}/empty").content == b""
    got = client.get(scan_of(files))
    assert (got.status_code, bool(got.content), got.headers[header[0]]) == (status, has_body, header[1])
    assert client.get(scan_of(files)).content == DATA
    assert files.failures == [failure.at("/elsewhere")]


def test_ranges_can_be_ignored_and_wrong(client: httpx.Client, files: FakeFiles) -> None:
    files.wrong_range = True
    got = ask(client, scan_of(files), Range="bytes=9-")
    assert (got.status_code, got.content) == (206, DATA[8:])
    assert got.headers["Content-Range"] == f"bytes 8-{len(DATA) - 1}/{len(DATA)}"
    files.wrong_range, files.ignores_range = False, True
    got = ask(client, scan_of(files), Range="bytes=9-")
    assert (got.status_code, got.content, "Accept-Ranges" in got.headers) == (200, DATA, False)


def test_a_delay_is_waited_for_each_chunk(client: httpx.Client, files: FakeFiles) -> None:
    files.delay = 0.02
    started = time.monotonic()
    assert client.get(scan_of(files)).content == DATA
    assert time.monotonic() - started >= 0.02 * len(DATA) / CHUNK


def test_a_slow_download_keeps_nobody_else_waiting(client: httpx.Client, files: FakeFiles) -> None:
    files.delay = 30
    with client.stream("GET", scan_of(files)):
        assert [(r.status, r.body_bytes) for r in files.requests] == [(200, 0)]
        assert client.get(f"{files.url}/empty").status_code == 200


def test_a_stopped_server_answers_no_longer_over_open_connections(client: httpx.Client) -> None:
    with FakeFiles({"a": DATA}) as server:
        url = f"{server.url}/a"
        client.get(url)
        server.delay = 30
        with client.stream("GET", url) as response:
            server.__exit__()
            with pytest.raises(httpx.TransportError):
                response.read()
    with pytest.raises(httpx.TransportError):
        client.get(url)


# figshare


def test_the_list_of_files_comes_in_pages(client: httpx.Client, figshare: FakeFigshare) -> None:
    names = [f"Image_{n}.jpg" for n in range(25)]
    figshare.publish(ARTICLE, {name: name.encode() for name in names})
    url = f"{figshare.api}/articles/{ARTICLE}/files"

    def page(**query: int) -> list[str]:
        return [file["name"] for file in client.get(url, params=query).json()]

    assert page() == page(page=1) == page(limit=10) == names[:10]
    assert [len(page(page=n)) for n in (1, 2, 3, 4)] == [10, 10, 5, 0]
    assert page(page=2, page_size=20) == page(offset=20) == names[20:]


@pytest.mark.parametrize("query", ["page=1&limit=2", "offset=0&page_size=5", "page=0", "page_size=1001", "page=one"])
def test_bad_paging_is_422(client: httpx.Client, figshare: FakeFigshare, query: str) -> None:
    figshare.publish(ARTICLE, {"a": b"a"})
    got = client.get(f"{figshare.api}/articles/{ARTICLE}/files?{query}")
    assert (got.status_code, set(got.json())) == (422, {"message", "code", "data"})


@pytest.mark.parametrize("path", ["1", f"{ARTICLE}/versions/0", f"{ARTICLE}/versions/2", f"{ARTICLE}/files/1", "x"])
def test_the_unknown_is_404_in_json(client: httpx.Client, figshare: FakeFigshare, path: str) -> None:
    figshare.publish(ARTICLE, {"a": b"a"})
    got = client.get(f"{figshare.api}/articles/{path}")
    assert (got.status_code, set(got.json())) == (404, {"message", "code", "data"})


def test_versions_stay_and_unchanged_files_keep_their_id(client: httpx.Client, figshare: FakeFigshare) -> None:
    assert figshare.publish(ARTICLE, {"same": b"1", "changed": b"1", "gone": b"1"}) == 1
    assert figshare.publish(ARTICLE, {"changed": b"2", "same": b"1"}, license="CC0") == 2
    url = f"{figshare.api}/articles/{ARTICLE}"
    listed = client.get(f"{url}/versions").json()
    assert listed == [{"version": n, "url": f"{url}/versions/{n}"} for n in (1, 2)]
    first, second = (client.get(version["url"]).json() for version in listed)
    assert client.get(url).json() == second
    assert client.get(f"{url}/files").json() == second["files"]
    assert [(v["version"], v["license"]["name"], v["resource_doi"]) for v in (first, second)] == [
        (1, "CC BY 4.0", None),
        (2, "CC0", None),
    ]
    before, after = ({file["name"]: file["id"] for file in version["files"]} for version in (first, second))
    assert before["same"] == after["same"]
    assert before["changed"] != after["changed"]
    old = client.get(f"{figshare.api}/file/download/{before['changed']}", follow_redirects=True)
    assert old.content == b"1"


def test_a_download_is_redirected_twice_with_its_range(client: httpx.Client, figshare: FakeFigshare) -> None:
    figshare.publish(ARTICLE, {"scan.zip": DATA})
    file = file_of(client, figshare, "scan.zip")
    assert (file["size"], file["computed_md5"], file["supplied_md5"]) == (len(DATA), hashlib.md5(DATA).hexdigest(), "")
    figshare.forget_requests()
    url = f"{figshare.api}/file/download/{file['id']}"
    got = client.get(url, headers={"Range": "bytes=9-"}, follow_redirects=True)
    assert (got.status_code, got.content) == (206, DATA[9:])
    assert re.fullmatch(rf"{figshare.url}/s3/{file['id']}\?token=\w+&expires=\d+", str(got.url))
    assert [(r.status, r.range) for r in figshare.requests] == [(302, "bytes=9-")] * 2 + [(206, "bytes=9-")]
    assert client.get(file["download_url"], follow_redirects=True).content == DATA


def test_a_presigned_address_expires_and_may_serve_once(client: httpx.Client, figshare: FakeFigshare) -> None:
    figshare.publish(ARTICLE, {"a": b"a", "b": b"b"})
    file_id = file_of(client, figshare, "a")["id"]
    figshare.single_use = True
    once = presigned(client, figshare, file_id)
    assert [client.get(once).status_code for _ in range(2)] == [200, 403]
    figshare.url_seconds, figshare.single_use = 0.3, False
    url = presigned(client, figshare, file_id)
    assert client.get(url).content == b"a"
    time.sleep(0.3)
    got = client.get(url)
    assert (got.status_code, got.headers["Content-Type"]) == (403, "application/xml")
    assert b"<Code>AccessDenied</Code>" in got.content
    other = presigned(client, figshare, file_id).replace(f"/s3/{file_id}", f"/s3/{file_id + 1}")
    assert client.get(other).status_code == 403


def test_a_swap_shows_in_tag_and_digest_a_corruption_does_not(client: httpx.Client, figshare: FakeFigshare) -> None:
    figshare.publish(ARTICLE, {"a": DATA})
    before = file_of(client, figshare, "a")
    tag = client.head(before["download_url"], follow_redirects=True).headers["ETag"]
    figshare.swap(ARTICLE, "a", DATA[::-1])
    after = file_of(client, figshare, "a")
    assert after["id"] == before["id"]
    assert after["computed_md5"] == hashlib.md5(DATA[::-1]).hexdigest()
    headers = {"Range": "bytes=9-", "If-Range": tag}
    got = client.get(before["download_url"], headers=headers, follow_redirects=True)
    assert (got.status_code, got.content) == (200, DATA[::-1])
    figshare.corrupt(ARTICLE, "a")
    assert file_of(client, figshare, "a") == after
    served = client.get(after["download_url"], follow_redirects=True).content
    assert (len(served), hashlib.md5(served).hexdigest() == after["computed_md5"]) == (len(DATA), False)
    figshare.without_computed_md5 = True
    assert file_of(client, figshare, "a") == after | {"computed_md5": "", "supplied_md5": after["computed_md5"]}


def test_embargoed_and_linked_files_are_not_to_be_had(client: httpx.Client, figshare: FakeFigshare) -> None:
    figshare.publish(ARTICLE, {"a": b"a"})
    figshare.link(ARTICLE, "elsewhere", "https://example.org/data")
    article = client.get(f"{figshare.api}/articles/{ARTICLE}").json()
    link = article["files"][1]
    assert article["has_linked_file"]
    assert (link["is_link_only"], link["size"], link["computed_md5"], link["supplied_md5"]) == (True, 0, "", "")
    assert link["download_url"] == "https://example.org/data"
    figshare.embargo(ARTICLE)
    closed = client.get(f"{figshare.api}/articles/{ARTICLE}").json()
    assert (closed["is_embargoed"], "files" in closed) == (True, False)
    assert client.get(f"{figshare.api}/articles/{ARTICLE}/files").json() == []
    for file in article["files"]:
        assert client.get(f"{figshare.api}/file/download/{file['id']}").status_code == 404


# PhysioNet


def test_restricted_files_want_the_right_account(client: httpx.Client, physionet: FakePhysioNet) -> None:
    url = f"{physionet.url}/files/chexchonet/1.0.0/data/a.csv"
    none = client.get(url)
    assert (none.status_code, none.headers["WWW-Authenticate"]) == (401, 'Basic realm="PhysioNet"')
    assert client.get(url, auth=(USER, "guess")).status_code == 403
    assert client.get(url, auth=(USER, PASSWORD)).content == b"a"
    physionet.entitled = False
    assert client.get(url, auth=(USER, PASSWORD)).status_code == 403
    assert [r.authorization[:6] for r in physionet.requests] == ["", *["Basic "] * 3]


def test_the_digest_list_names_every_file_but_itself(client: httpx.Client, physionet: FakePhysioNet) -> None:
    root = f"{physionet.url}{physionet.root}"

    def listed() -> dict[str, bool]:
        lines = client.get(f"{root}SHA256SUMS.txt", auth=(USER, PASSWORD)).text.splitlines()
        found = [re.fullmatch(r"([0-9a-f]{64}) (\S+)", line) for line in lines]
        served = {m[2]: (m[1], client.get(root + m[2], auth=(USER, PASSWORD)).content) for m in found if m}
        return {path: digest == hashlib.sha256(data).hexdigest() for path, (digest, data) in served.items()}

    physionet.cut_after = [0]
    client.get(f"{root}SHA256SUMS.txt", auth=(USER, PASSWORD))
    assert physionet.cut_after.pop() == 0, "the cut is for a file"
    assert listed() == {"LICENSE.txt": True, "data/a.csv": True, "data/deep/b.csv": True}
    physionet.change("data/a.csv", b"later")
    physionet.wrong_digest("data/deep/b.csv")
    assert listed() == {"LICENSE.txt": True, "data/a.csv": True, "data/deep/b.csv": False}


def test_a_folder_answers_with_an_index(client: httpx.Client) -> None:
    with FakePhysioNet("open", "2.0", {"LICENSE.txt": b"x", "data/a b.csv": b"a"}) as server:
        root = f"{server.url}/files/open/2.0/"
        links = re.findall(r'href="([^"]+)"', client.get(root).text)
        assert links == ["../", "LICENSE.txt", "SHA256SUMS.txt", "data/"]
        assert re.findall(r'href="([^"]+)"', client.get(f"{root}data/").text) == ["../", "a%20b.csv"]
        assert client.get(f"{root}data/a%20b.csv").content == b"a"
        assert [client.get(root + path).status_code for path in ("data", "none", "none/")] == [404] * 3


@pytest.mark.parametrize("server", [FakeFigshare(), FakeFiles({})])
def test_an_address_before_the_start_is_a_clear_error(server: Server) -> None:
    with pytest.raises(RuntimeError, match="has no address before its with block"):
        _ = server.url
