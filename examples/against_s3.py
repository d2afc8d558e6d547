"""Prepare a release into object storage, and read batches from there.

    AWS_ENDPOINT_URL=http://minio:9000 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_DEFAULT_REGION=us-east-1 \
        python examples/against_s3.py --lake s3://bucket/prefix
    python examples/against_s3.py --local      # without storage: moto's S3 server, on loopback, gone at the end

Nothing is different but the name of the lake (docs/object-storage.md). Further options go to `scanmill prepare`.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import s3fs

import scanmill

COMMAND = str(Path(sys.executable).with_name("scanmill"))


@contextmanager
def moto_on_loopback(bucket: str) -> Iterator[None]:
    """An S3 server of this process with one empty bucket; whoever is started meanwhile finds it in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which else writes a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up"}
    s3fs.S3FileSystem().mkdir(bucket)
    try:
        yield
    finally:
        server.stop()


def main() -> None:
    """Prepare by the command, read by the package, list by s3fs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lake", default="s3://scanmill-example/lake", help="s3://bucket/prefix [default: %(default)s]"
    )
    parser.add_argument("--raw", default="scanmill-demo/raw", help="a raw NIH release [default: %(default)s]")
    parser.add_argument("--local", action="store_true", help="start moto's S3 server for this run")
    options, more = parser.parse_known_args()
    if not Path(options.raw).exists():
        sys.exit(f"{options.raw} is not there: run `make demo` first, or name a raw release by --raw.")
    bucket = options.lake.removeprefix("s3://").partition("/")[0]
    with moto_on_loopback(bucket) if options.local else nullcontext():
        prepare = [COMMAND, "prepare", "nih-chest-xray", "--raw", options.raw, "--lake", options.lake, *more]
        if subprocess.run(prepare, stdout=subprocess.DEVNULL).returncode:
            sys.exit(1)  # and why is said
        release = scanmill.open_release(f"{options.lake}/nih-chest-xray")
        print(f"{release.place}: {release.splits}")
        release.verify()
        loader = scanmill.Loader(release, split="train", size=224, shuffle=True, columns=["label.Effusion"])
        batch = next(iter(loader))
        print(f"a batch: {batch.images.shape}, {batch.columns['label.Effusion'].mean():.0%} with effusion")
        objects = s3fs.S3FileSystem().du(str(release.place), total=False)
        print(f"{len(objects)} objects, {sum(objects.values()) / 1e6:.1f} MB, every byte verified")


if __name__ == "__main__":
    main()
