"""Other loaders over the images of a release, for ``tests.bench.loader``: runs alone, in an environment of their own.

    PYTHON loader_peers.py write RELEASE FOLDER
    PYTHON loader_peers.py read TOOL KERNEL FOLDER BATCH WORKERS EPOCHS     prints one line of JSON

Driven as each tool's own documentation does it; every one shuffles, decodes with the same function and gives batches of
64 grey images of 8 bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
}

import cv2
import numpy as np

cv2.setNumThreads(1)


def decode_cv2(encoded: bytes) -> Any:
    pixels: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels[None]


def decode_kornia(encoded: bytes) -> Any:
    from kornia_rs.io import decode_image_png_u8

    size = (int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big"))
    return decode_image_png_u8(encoded, size, "mono").transpose(2, 0, 1)


KERNELS = {"cv2": decode_cv2, "kornia": decode_kornia}


def images_of(release: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(release.glob("webdataset/*/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    yield member.name.partition(".")[0], tar.extractfile(member).read()  # type: ignore[union-attr]


def stand_in_for_torchvision() -> None:
    """``streaming`` imports torchvision for datasets of its own that nobody here uses; its wheels want CUDA's torch."""
    from types import ModuleType

    with contextlib.suppress(ImportError):
        import_module("transformers.utils")  # looks for torchvision too, and has to see that there is none

    class VisionDataset:
        """Never made."""

    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["torchvision.datasets"].VisionDataset = VisionDataset  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


def write(release: Path, folder: Path) -> None:
    """The same images in every tool's own format."""
    import webdataset
    from datasets import Dataset, Features, Image, Value

    stand_in_for_torchvision()
    streaming, litdata = import_module("streaming"), import_module("litdata")

    images = list(images_of(release))
    (folder / "webdataset").mkdir(parents=True)
    for number in range(0, len(images), 500):  # at least as many shards as workers
        with webdataset.TarWriter(str(folder / f"webdataset/{number // 500:06d}.tar"), mtime=0) as tar:
            for name, image in images[number : number + 500]:
                tar.write({"__key__": name, "png": image})
    columns = {"image": "bytes", "key": "str"}
    with streaming.MDSWriter(out=str(folder / "mds"), columns=columns, hashes=["sha1"], size_limit="64mb") as mds:
        for name, image in images:
            mds.write({"image": image, "key": name})
    features = Features({"image": Image(), "key": Value("string")})
    rows = {"image": [{"bytes": image, "path": None} for _, image in images], "key": [name for name, _ in images]}
    (folder / "hf").mkdir()
    whole = Dataset.from_dict(rows, features=features)
    for number in range(4):
        whole.shard(4, number, contiguous=True).to_parquet(str(folder / f"hf/{number:03d}.parquet"))
    litdata.optimize(fn=_as_it_is, inputs=images, output_dir=str(folder / "litdata"), chunk_bytes="64MB", num_workers=1)


def _as_it_is(pair: tuple[str, bytes]) -> dict[str, Any]:
    return {"image": pair[1], "key": pair[0]}


def by_webdataset(folder: Path, decode: Callable[[bytes], Any], batch: int, workers: int) -> Any:
    import webdataset

    shards = sorted(str(path) for path in (folder / "webdataset").glob("*.tar"))
    data = webdataset.WebDataset(shards, shardshuffle=100, seed=0).shuffle(1000)
    data = data.map(lambda sample: (decode(sample["png"]),)).batched(batch)
    return webdataset.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=True)


def by_litdata(folder: Path, decode: Callable[[bytes], Any], batch: int, workers: int) -> Any:
    litdata = import_module("litdata")

    class Decoded(litdata.StreamingDataset):  # type: ignore[misc,name-defined]
        def __getitem__(self, index: Any) -> Any:
            return decode(super().__getitem__(index)["image"])

    data = Decoded(str(folder / "litdata"), shuffle=True, drop_last=False)
    return litdata.StreamingDataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)


def by_mds(folder: Path, decode: Callable[[bytes], Any], batch: int, workers: int) -> Any:
    from torch.utils.data import DataLoader

    stand_in_for_torchvision()
    streaming = import_module("streaming")
    import_module("streaming.base.util").clean_stale_shared_memory()

    class Decoded(streaming.StreamingDataset):  # type: ignore[misc,name-defined]
        def __getitem__(self, index: Any) -> Any:
            return decode(super().__getitem__(index)["image"])

    data = Decoded(
        local=str(folder / "mds"), remote=None, shuffle=True, batch_size=batch, shuffle_seed=0, num_canonical_nodes=1
    )
    return DataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)


def _hf(folder: Path, *, streaming: bool) -> Any:
    import datasets

    files = sorted(str(path) for path in (folder / "hf").glob("*.parquet"))
    data = datasets.load_dataset(
        "parquet", data_files=files, split="train", streaming=streaming, cache_dir=str(folder / "hf-cache")
    )
    return data.cast_column("image", datasets.Image(decode=False))


def by_hf(folder: Path, decode: Callable[[bytes], Any], batch: int, workers: int) -> Any:
    from torch.utils.data import DataLoader

    data = _hf(folder, streaming=False).with_transform(
        lambda rows: {"image": [decode(image["bytes"]) for image in rows["image"]]}
    )
    return DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=True)


def by_hf_streaming(folder: Path, decode: Callable[[bytes], Any], batch: int, workers: int) -> Any:
    from torch.utils.data import DataLoader

    data = _hf(folder, streaming=True).shuffle(seed=0, buffer_size=1000)
    data = data.map(lambda row: {"image": decode(row["image"]["bytes"])}, remove_columns=["key"], features=None)
    return DataLoader(data, batch_size=batch, num_workers=workers, persistent_workers=True)


TOOLS: dict[str, Callable[..., Any]] = {
    "webdataset": by_webdataset,
    "litdata": by_litdata,
    "mds": by_mds,
    "hf": by_hf,
    "hf-streaming": by_hf_streaming,
}


def cpu_seconds() -> float:
    """User and system time of this process and of its living children (Linux)."""
    children: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            children += map(int, (task / "children").read_text().split())
    used = 0
    for pid in (os.getpid(), *children):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def measure(loader: Any, epochs: int) -> dict[str, Any]:
    """Seconds of each epoch, by the clock and of CPU; to the first batch; images and the sum of their grey levels."""
    seconds, cpu, first, count, total = [], [], None, 0, 0
    for epoch in range(epochs):
        began, used = time.perf_counter(), cpu_seconds()
        for batch in loader:
            images = (
                batch["image"] if isinstance(batch, dict) else batch[0] if isinstance(batch, (list, tuple)) else batch
            )
            if first is None:
                first = time.perf_counter() - began
            if epoch == 0:
                count += len(images)
                total += int(np.asarray(images).sum(dtype=np.int64))
        seconds.append(time.perf_counter() - began)
        cpu.append(cpu_seconds() - used)
    return {"seconds": seconds, "cpu_seconds": cpu, "first_batch_seconds": first, "images": count, "grey": total}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        tool, kernel, place, *numbers = sys.argv[2:]
        batch_size, worker_count, epoch_count = map(int, numbers)
        opened = TOOLS[tool](Path(place), KERNELS[kernel], batch_size, worker_count)
        print("RESULT", json.dumps(measure(opened, epoch_count)))
