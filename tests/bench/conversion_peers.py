"""Other converters over the same images, for ``tests.bench``: runs in an environment that has none of scanmill's.

    PYTHON -m tests.bench.conversion_peers versions                         what can be imported here
    PYTHON -m tests.bench.conversion_peers write TOOL KERNEL FORM LIST OUT WORKERS [grey]
    PYTHON -m tests.bench.conversion_peers read TOOL OUT STEP               digests of every STEP-th image

Each prints a line that begins with RESULT and goes on as JSON. Driven as each tool's own documentation does it. Whose
function is ours to write (all but img2dataset) opens the zip itself, once in each process, where it is not locked.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import resource
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import kernels
from tests.bench.image_lists import Listed, is_sampled, read, read_list

ROWS_PER_JOB = 1000
"""Of the webdataset pool (its maintainer's advice) and of img2dataset, whose processes begin anew every five shards."""
IMAGES = ("png", "jpg", "jpeg")


class Job(NamedTuple):
    """What a tool is to do."""

    kernel: str
    form: str
    to_grey: bool
    rows: list[Listed]
    out: Path
    workers: int

    @property
    def convert(self) -> Callable[[bytes], bytes]:
        """Published bytes to stored bytes."""
        return partial(kernels.convert, form=self.form, kernel=self.kernel, to_grey=self.to_grey)

    @property
    def rows_per_job(self) -> int:
        """Fewer where there are few images, so that no process has nothing to do."""
        return min(ROWS_PER_JOB, -(-len(self.rows) // (4 * self.workers)))

    @property
    def extension(self) -> str:
        """Of stored images."""
        if self.form == "native":
            return Path(self.rows[0].member or self.rows[0].path).suffix[1:]
        return "jpg" if self.form == "jpeg" else "png"


# webdataset


def webdataset(job: Job) -> None:
    """A pool; each job writes one tar."""
    cuts = range(0, len(job.rows), job.rows_per_job)
    parts = [(job.out / f"{start:08d}.tar", job.rows[start : start + job.rows_per_job]) for start in cuts]
    with multiprocessing.get_context("spawn").Pool(job.workers) as pool:
        pool.map(partial(_write_tar, job.convert, job.extension), parts, chunksize=1)
        pool.close()
        pool.join()


def _write_tar(convert: Callable[[bytes], bytes], extension: str, part: tuple[Path, Sequence[Listed]]) -> None:
    from webdataset import TarWriter

    path, rows = part
    with TarWriter(str(path), mtime=0) as tar:
        for row in rows:
            tar.write({"__key__": row.key, extension: convert(read(row)), "json": {"label": row.label}})


def images_of_tars(out: Path) -> Iterator[tuple[str, bytes]]:
    """Also of other tools that write tars; an own name in the JSON beside it counts."""
    for path in sorted(out.rglob("*.tar")):
        with tarfile.open(path) as tar:
            names: dict[str, str] = {}
            found: dict[str, bytes] = {}
            for member in tar:
                stem, _, extension = member.name.removeprefix("./").partition(".")
                content = tar.extractfile(member)
                if content is not None and extension in IMAGES:
                    found[stem] = content.read()
                elif content is not None and extension == "json":
                    names[stem] = json.loads(content.read()).get("name", stem)
        yield from ((names.get(stem, stem), image) for stem, image in found.items())


# MosaicML


def mds(job: Job) -> None:
    """A pool of as many processes as parts, then one index."""
    share = -(-len(job.rows) // job.workers)
    parts = [(job.out / str(n), job.rows[n * share : (n + 1) * share]) for n in range(job.workers)]
    with multiprocessing.get_context("spawn").Pool(job.workers) as pool:
        pool.map(partial(_write_mds, job.convert), parts, chunksize=1)
        pool.close()
        pool.join()
    _streaming()
    import_module("streaming.base.util").merge_index(str(job.out), keep_local=True)


def _streaming() -> Any:
    from tests.bench.loader_peers import stand_in_for_torchvision

    stand_in_for_torchvision()
    return import_module("streaming")


def _write_mds(convert: Callable[[bytes], bytes], part: tuple[Path, Sequence[Listed]]) -> None:
    columns = {"image": "bytes", "key": "str", "label": "str"}
    path, rows = part
    with _streaming().MDSWriter(out=str(path), columns=columns, hashes=["sha1"], size_limit="64mb") as target:
        for row in rows:
            target.write({"image": convert(read(row)), "key": row.key, "label": row.label})


def images_of_mds(out: Path) -> Iterator[tuple[str, bytes]]:
    data = _streaming().LocalDataset(local=str(out))
    return ((data[number]["key"], data[number]["image"]) for number in range(len(data)))


# litdata


def litdata(job: Job) -> None:
    """Its ``optimize``."""
    import_module("litdata").optimize(
        fn=partial(_sample, job.convert),
        inputs=job.rows,
        output_dir=str(job.out),
        chunk_bytes="64MB",
        num_workers=job.workers,
    )


def _sample(convert: Callable[[bytes], bytes], row: Sequence[str]) -> dict[str, Any]:
    image = Listed(*row)
    return {"image": convert(read(image)), "key": image.key, "label": image.label}


def images_of_litdata(out: Path) -> Iterator[tuple[str, bytes]]:
    data = import_module("litdata").StreamingDataset(str(out))
    return ((data[number]["key"], data[number]["image"]) for number in range(len(data)))


# Hugging Face datasets


def hf(job: Job) -> None:
    """``map`` in as many processes, then Parquet, which it writes in one."""
    from datasets import Dataset, Features, Image, Value

    columns = {name: [getattr(row, name) for row in job.rows] for name in Listed._fields}
    features = Features({"image": Image(), "key": Value("string"), "label": Value("string")})
    mapped = Dataset.from_dict(columns).map(
        partial(_batch, job.convert),
        batched=True,
        batch_size=64,
        num_proc=job.workers if job.workers > 1 else None,
        load_from_cache_file=False,
        remove_columns=[name for name in Listed._fields if name not in features],
        features=features,
    )
    parts = -(-len(job.rows) // ROWS_PER_JOB)
    for number in range(parts):
        mapped.shard(parts, number, contiguous=True).to_parquet(str(job.out / f"{number:05d}.parquet"))


def _batch(convert: Callable[[bytes], bytes], rows: dict[str, list[str]]) -> dict[str, list[Any]]:
    images = [Listed(*row) for row in zip(*(rows[name] for name in Listed._fields), strict=True)]
    return {
        "image": [{"bytes": convert(read(image)), "path": None} for image in images],
        "key": rows["key"],
        "label": rows["label"],
    }


def images_of_parquet(out: Path) -> Iterator[tuple[str, bytes]]:
    from pyarrow import parquet

    for path in sorted(out.glob("*.parquet")):
        for row in parquet.read_table(path, columns=["key", "image"]).to_pylist():
            yield row["key"], row["image"]["bytes"]


# img2dataset


def img2dataset(job: Job) -> None:
    """From the folder, for it reads addresses; it also hashes, and writes Parquet and JSON beside every tar."""
    download = import_module("img2dataset").download

    addresses = job.out.with_name(f"{job.out.name}-addresses.csv")
    with addresses.open("w", newline="") as target:
        lines = csv.writer(target)
        lines.writerow(["url", "name", "label"])
        lines.writerows([Path(row.path).as_uri(), row.key, row.label] for row in job.rows)
    if job.form == "native":
        form: dict[str, Any] = {"disable_all_reencoding": True, "encode_format": "png"}
    else:
        setting = kernels.SETTINGS[job.form][1]
        encoding = {"png": "png", "jpeg": "jpg"}[job.form]
        form = {"encode_format": encoding, "encode_quality": setting, "resize_mode": "keep_ratio_largest"}
        form |= {"resize_only_if_bigger": True, "downscale_interpolation": "area", "image_size": kernels.SIZE}
    try:
        download(
            url_list=str(addresses),
            input_format="csv",
            url_col="url",
            output_folder=str(job.out),
            output_format="webdataset",
            processes_count=job.workers,
            thread_count=4,
            number_sample_per_shard=job.rows_per_job,
            save_additional_columns=["name", "label"],
            compute_hash="sha256",
            extract_exif=False,
            enable_wandb=False,
            **form,
        )
    finally:
        addresses.unlink()


class Tool(NamedTuple):
    """How a tool is driven, and how its output is read again."""

    write: Callable[[Job], None]
    images: Callable[[Path], Iterator[tuple[str, bytes]]]
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    has_own_kernel: bool = False
    """Whether it reads and decodes by itself: files alone, and nothing else can be put in."""


TOOLS = {
    "webdataset": Tool(webdataset, images_of_tars, ("webdataset",), ("webdataset",)),
    "MDS": Tool(mds, images_of_mds, ("streaming",), ("mosaicml-streaming",)),
    "litdata": Tool(litdata, images_of_litdata, ("litdata",), ("litdata", "torch")),
    "HF datasets": Tool(hf, images_of_parquet, ("datasets",), ("datasets", "pyarrow")),
    "img2dataset": Tool(
        img2dataset, images_of_tars, ("img2dataset",), ("img2dataset", "albumentations"), has_own_kernel=True
    ),
}
_COMMON = ("opencv-python-headless", "kornia_rs", "numpy")


def _versions() -> dict[str, dict[str, str]]:
    """Of every tool that is installed here, the packages that its speed hangs on."""
    return {
        name: {package: _version(package) for package in (*tool.packages, *_COMMON)}
        for name, tool in TOOLS.items()
        if all(map(find_spec, tool.modules))
    }


def _version(package: str) -> str:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return "none"


def _write(tool: str, job: Job) -> dict[str, Any]:
    """Convert; the work is told without the imports of this process."""
    if tool == "MDS":
        _streaming()
    for module in TOOLS[tool].modules:
        import_module(module)
    began, used = time.perf_counter(), _cpu_seconds()
    TOOLS[tool].write(job)
    for child in multiprocessing.active_children():
        child.join(10)  # only then does the kernel add its time
    work = {"wall_seconds": time.perf_counter() - began, "cpu_seconds": _cpu_seconds() - used}
    return {"images": len(job.rows), "work": work}


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def digests(images: Iterator[tuple[str, bytes]], step: int) -> dict[str, Any]:
    """How many images there are, and the pixels of some."""
    count, found = 0, {}
    for key, encoded in images:
        count += 1
        if is_sampled(key, step):
            found[key] = kernels.pixel_digest(encoded)
    return {"images": count, "pixels": found}


def main() -> None:
    """What the first argument says."""
    what, *given = sys.argv[1:]
    if what == "versions":
        found: Any = _versions()
    elif what == "write":
        tool, kernel, form, listing, out, workers, *grey = given
        Path(out).mkdir(parents=True)
        found = _write(tool, Job(kernel, form, bool(grey), read_list(Path(listing)), Path(out), int(workers)))
    else:
        tool, out, step = given
        found = digests(TOOLS[tool].images(Path(out)), int(step))
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()
