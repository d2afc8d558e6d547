"""What only S3 can do: reach a bucket, put an object in one request, have its hash, give up what was left half-sent."""

from __future__ import annotations

import contextlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.schema import UnusableInput

if TYPE_CHECKING:
    from upath import UPath

SINGLE_PUT_BYTES = 5 * 2**30
"""Largest object that S3 takes in one request (Amazon S3 user guide, "Uploading objects"): it appears whole or not at
all, and no part of an upload is ever left behind."""
PART_BYTES = 64 * 2**20
"""Of a larger one: held in memory while it is sent."""
MOST_PARTS = 10_000
"""That S3 takes of one object."""
CONNECTION = {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 5}}
"""botocore's settings; credentials, region and endpoint come from the AWS_* variables or ~/.aws, as in any S3 tool."""
DELETED_AT_ONCE = 1000
"""Objects that S3 deletes in one request, at most."""


def at(url: str) -> UPath:
    """The place of an ``s3://`` URL. Raises :class:`UnusableInput` where s3fs is missing."""
    try:
        import s3fs  # noqa: F401
    except ImportError as error:
        raise UnusableInput(f"{url} needs the package s3fs: pip install 'scanmill[s3]'") from error
    from upath import UPath

    return UPath(url.rstrip("/"), use_listings_cache=False, default_fill_cache=False, config_kwargs=CONNECTION)


def insist_on_bucket(place: UPath) -> None:
    """See :func:`tasks.storage.insist_on_reachable`."""
    bucket = place.path.split("/")[0]
    with complaining_of_storage(place):
        try:
            place.fs.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        except FileNotFoundError as error:
            raise UnusableInput(f"there is no bucket {bucket} at {place.fs.s3.meta.endpoint_url}: make it") from error
        except PermissionError as error:
            raise UnusableInput(f"the credentials given do not open {place}: {error}") from error


@contextlib.contextmanager
def complaining_of_storage(place: object) -> Iterator[None]:
    """Turn what botocore raises for missing credentials and silent endpoints into one clear error."""
    try:
        yield
    except UnusableInput:
        raise
    except Exception as error:
        if said := storage_trouble(error):
            raise UnusableInput(f"{place} cannot be reached: {said}") from error
        raise


def storage_trouble(error: BaseException) -> str:
    """What an error of the S3 client says, with the remedy; empty for any other error."""
    if not type(error).__module__.startswith(("botocore", "aiobotocore")):
        return ""
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return f"{error}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    return f"{error} (AWS_ENDPOINT_URL is {os.environ.get('AWS_ENDPOINT_URL', 'not set')})"


def stored_sha256(path: UPath) -> str | None:
    """The SHA-256 (hex) that storage took of the whole object when it came, where it did."""
    bucket, _, key = path.path.partition("/")
    answer = path.fs.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    taken = str(answer.get("ChecksumSHA256") or "")
    if "-" in taken or not taken:  # of parts: not the hash of the bytes
        return None
    return b64decode(taken).hex()


def put(path: UPath, data: bytes) -> None:
    """Make an object with these bytes in one request; storage checks and keeps their SHA-256."""
    path.fs.pipe_file(path.path, data, chunksize=SINGLE_PUT_BYTES, ChecksumAlgorithm="SHA256")


def put_file(path: UPath, source: Path, sha256: str) -> None:
    """Make an object of a file of this machine, read while it is sent; storage refuses any bytes but those of the hash.

    One request up to 5 GiB, and storage keeps the hash; parts above, which are given up where one fails.
    """
    if source.stat().st_size > SINGLE_PUT_BYTES:
        _put_in_parts(path, source)
        return
    from fsspec.asyn import sync

    sync(path.fs.loop, _put_stream, path, source, b64encode(bytes.fromhex(sha256)).decode())


async def _put_stream(path: UPath, source: Path, checksum: str) -> None:
    """Not by ``call_s3``: it asks again with a stream that is at its end by then; botocore rewinds it."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    bucket, _, key = path.path.partition("/")
    await path.fs.set_session()
    client = await path.fs.get_s3(bucket)
    with source.open("rb") as stream:
        try:
            await client.put_object(
                Bucket=bucket, Key=key, Body=stream, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum
            )
        except ClientError as error:
            raise translate_boto_error(error) from error


def _put_in_parts(path: UPath, source: Path) -> None:
    bucket, _, key = path.path.partition("/")
    at = {"Bucket": bucket, "Key": key}
    at["UploadId"] = path.fs.call_s3("create_multipart_upload", **at)["UploadId"]
    part_bytes = max(PART_BYTES, -(-source.stat().st_size // MOST_PARTS))
    parts: list[dict[str, Any]] = []
    try:
        with source.open("rb") as stream:
            while piece := stream.read(part_bytes):
                number = len(parts) + 1
                answer = path.fs.call_s3("upload_part", **at, PartNumber=number, Body=piece)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        path.fs.call_s3("complete_multipart_upload", **at, MultipartUpload={"Parts": parts})
    except BaseException:
        with contextlib.suppress(Exception):
            path.fs.call_s3("abort_multipart_upload", **at)
        raise


def delete(paths: Sequence[UPath]) -> None:
    """Objects of one bucket, by their very names: s3fs would take ``?``, ``*`` and ``[`` in them for patterns."""
    for start in range(0, len(paths), DELETED_AT_ONCE):
        part = paths[start : start + DELETED_AT_ONCE]
        keys = [{"Key": path.path.partition("/")[2]} for path in part]
        bucket = part[0].path.partition("/")[0]
        answer = part[0].fs.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for refused in answer.get("Errors") or ():
            raise PermissionError(f"{refused['Key']} cannot be removed: {refused['Message']}")


def abort_uploads(folder: UPath) -> int:
    """Give up uploads in parts that a killed process left unfinished below ``folder``; returns how many.

    They are invisible, and paid for. Storage that cannot list them has none to give up.
    """
    bucket, _, prefix = folder.path.rstrip("/").partition("/")
    try:
        answer = folder.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
    except (OSError, NotImplementedError):
        return 0
    uploads = answer.get("Uploads") or []
    for upload in uploads:
        folder.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(uploads)
