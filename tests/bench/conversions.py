"""The rows that turn images into stores: scanmill, the floor and the peers in turns, on one input.

Everybody's output is read again, outside the clock: how many images there are, and whether a sample of them has the
same pixels. The bytes may differ, for encoders do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tests.bench import raw_releases
from tests.bench.commands import DATASET
from tests.bench.contest import Bench, Kind, OutputsDiffer, Peer, Pixels, Run, Turn, Verdict, answer, cpu_of, wall_of
from tests.bench.conversion_peers import digests, images_of_tars
from tests.bench.image_lists import key_of
from tests.bench.measure import Cost
from tests.fakes.behsof import PASSWORD

COMPARED = 300
"""Images whose pixels are compared, about."""
LOOSE_ROOT = "."
"""What scanmill calls the archive of loose files."""

Outcome = tuple[list[Run], Pixels]


NATIVE: tuple[tuple[str, ...], ...] = (
    (),
    ("--decode-check", "off"),
    ("--decode-check", "off", "--stores", "webdataset"),
)
"""How native files are passed on: with every check, without those that take pixels, and as one tar, which is what the
programs make."""


@dataclass(frozen=True)
class Conversion:
    """Which images become what."""

    row: str
    dataset: str
    raw: Path
    images: int
    listing: Path
    """Of the images where they lie."""
    unpacked: Path
    """The same as files, for those who cannot read the zip."""
    form: str = "png"
    arguments: tuple[str, ...] = ()
    """Of ``scanmill prepare``."""
    variants: tuple[tuple[str, ...], ...] = ((),)
    """Names of scanmill's own runs, and what each is given besides."""
    is_floor_only_copying: bool = False
    password: str | None = None
    to_grey: bool = False
    has_equal_pixels: bool = True
    """False where scanmill does what nobody else does: hide the writing around a scan."""

    @property
    def secrets(self) -> dict[str, str]:
        """Environment variables for scanmill."""
        return {"SCANMILL_BEHSOF_PASSWORD": self.password} if self.password else {}

    @property
    def step(self) -> int:
        """Of how many images one is compared."""
        return max(1, self.images // COMPARED)


def films(bench: Bench, turn: Turn, row: str, form: str) -> Conversion:
    """NIH-shaped PNGs in zips, as ``form``."""
    raw = raw_releases.many_images(bench.home, turn.images, bench.settings.side)
    plain = _conversion(bench, row, DATASET, raw)
    if form == "jpeg":
        return replace(plain, form=form, arguments=("--encoding", "jpeg"))
    if form == "native":
        return replace(plain, form=form, arguments=("--size", "native"), variants=NATIVE, is_floor_only_copying=True)
    return plain


def jpeg_films(bench: Bench, turn: Turn, row: str) -> Conversion:
    """CheXchoNet."""
    return _conversion(bench, row, "chexchonet", raw_releases.films(bench.home, turn.images))


def mammograms(bench: Bench, turn: Turn, row: str) -> Conversion:
    """Made up, or the real zip."""
    given = bench.settings.mammography
    raw = Path(given).resolve() if given else raw_releases.mammograms(bench.home, turn.images)
    return _conversion(bench, row, "mammography-density", raw)


def ultrasound(bench: Bench, turn: Turn, row: str) -> Conversion:
    """Screens in a locked zip; peers get them unlocked and unpacked."""
    raw = raw_releases.screens(bench.home, turn.images)
    own = _conversion(bench, row, "behsof", raw, PASSWORD)
    return replace(own, to_grey=True, has_equal_pixels=False)


def _conversion(bench: Bench, row: str, dataset: str, raw: Path, password: str | None = None) -> Conversion:
    listing = raw_releases.listed(raw, bench.home)
    has_zips = raw.is_file() or any(raw.glob("*.zip"))
    must_unpack = has_zips and (password or any(peer.reads_files_alone for peer in bench.peers))
    unpacked = (
        raw_releases.listed(raw, bench.home, is_unpacked=True, password=password)
        if must_unpack and bench.peers
        else listing
    )
    for place in (raw, *([raw_releases.place_unpacked(raw, bench.home)] if unpacked != listing else [])):
        raw_releases.warm_page_cache(place)
    with listing.open() as lines:
        images = sum(1 for _ in lines) - 1
    return Conversion(row, dataset, raw, images, listing, unpacked, password=password)


def turn_of(bench: Bench, conversion: Conversion, turn: Turn) -> Iterator[Run]:
    """Every contestant once; those who go first in one turn go last in the next."""
    place = (conversion.row, conversion.images, turn.workers)
    absent = bench.slower.get(place, set())
    contestants = [
        (name, work) for name, work in _contestants(bench, conversion) if bench.takes_part(name) and name not in absent
    ]
    told: list[Run] = []
    for name, work in contestants if turn.number % 2 == 0 else contestants[::-1]:
        runs, pixels = work(bench, conversion, turn, name)
        if (conversion.row, name) == ("conversion", "prepare"):
            bench.keep(conversion.raw)
        bench.empty()
        verdict: Verdict = ""
        if pixels:
            # The first turn begins with the floor, so that everybody is held against what it wrote, in later turns too.
            verdict = _verdict(pixels, bench.pixels.setdefault((conversion.row, conversion.images), pixels))
        for run in runs:
            _insist(conversion, run, verdict)
            yield replace(run, pixels=verdict)
        told += runs
    if bench.settings.has_slow_peers_once:
        bench.slower.setdefault(place, slower_peers(bench.peers, told))


def slower_peers(peers: Sequence[Peer], runs: Sequence[Run]) -> set[str]:
    """Those that are the fastest of their kernel neither by the clock nor by CPU time."""
    slower = set()
    for kernel in {peer.kernel for peer in peers}:
        names = {peer.name for peer in peers if peer.kernel == kernel}
        some = [run for run in runs if run.contestant in names]
        if some:
            best = {min(some, key=clock).contestant for clock in (wall_of, cpu_of)}
            slower |= {run.contestant for run in some} - best
    return slower


def _verdict(pixels: Pixels, expected: Pixels) -> Verdict:
    common = pixels.keys() & expected.keys()
    is_same = bool(common) and all(pixels[key] == expected[key] for key in common)
    return "same" if is_same else "differ"


def _insist(conversion: Conversion, run: Run, verdict: Verdict) -> None:
    """Floor and scanmill have to agree; a peer may lose or change images, and the table says so."""
    if run.kind != "peer" and verdict == "differ":
        raise OutputsDiffer(f"{conversion.row}: {run.contestant} wrote other pixels than those before it")
    if run.kind == "floor" and run.images_out not in (None, conversion.images):
        raise OutputsDiffer(f"{conversion.row}: {run.contestant} wrote {run.images_out} of {conversion.images} images")


Work = Callable[[Bench, Conversion, Turn, str], Outcome]


def _contestants(bench: Bench, conversion: Conversion) -> Iterator[tuple[str, Work]]:
    yield "floor", _floor
    if conversion.is_floor_only_copying:
        yield "decode alone", partial(_partial_floor, "decode")
        yield "unzip + tar", partial(_partial_floor, "unzip")
    for arguments in conversion.variants:
        yield " ".join(("prepare", *arguments)), partial(_prepare, arguments)
    for arguments in conversion.variants:
        yield " ".join(("convert + assemble", *arguments)), partial(_stages, arguments)
    for peer in bench.peers:
        if conversion.form != "native" or peer.kernel == "cv2":  # nothing is decoded
            yield peer.name, partial(_peer, peer)


def _floor(bench: Bench, conversion: Conversion, turn: Turn, name: str) -> Outcome:
    options = ["--form", conversion.form]
    options += ["--to-grey"] if conversion.to_grey else []
    options += ["--password", conversion.password] if conversion.password else []
    cost = bench.loop(
        *("convert", "--list", str(conversion.listing), "--out", str(bench.out), "--workers", str(turn.workers)),
        *options,
    )
    found = digests(images_of_tars(bench.out), conversion.step)
    images, out = int(found["images"]), raw_releases.size_bytes(bench.out)
    whole = run_of(conversion.row, name, "floor", cost, turn, conversion.images, ours="prepare")
    runs = [replace(whole, images_out=images, out_bytes=out), work_of(whole, cost)]
    return runs, found["pixels"] if conversion.has_equal_pixels else {}


def _partial_floor(what: str, bench: Bench, conversion: Conversion, turn: Turn, name: str) -> Outcome:
    place = ("--list", str(conversion.listing), "--out", str(bench.out), "--workers", str(turn.workers))
    cost = bench.loop(what, *place)
    whole = run_of(conversion.row, name, "floor", cost, turn, conversion.images, ours="prepare")
    return [whole, work_of(whole, cost)], {}


def _prepare(own: tuple[str, ...], bench: Bench, conversion: Conversion, turn: Turn, name: str) -> Outcome:
    place = (conversion.dataset, "--raw", str(conversion.raw), "--lake", str(bench.out))
    arguments = (*place, "--workers", str(turn.workers), *conversion.arguments, *own)
    cost = bench.scanmill("prepare", *arguments, secrets=conversion.secrets)
    if not json.loads(cost.output)["is_new"]:
        raise OutputsDiffer(f"{name} should make a release: {cost.output[:500]}")
    whole = run_of(conversion.row, name, "ours", cost, turn, conversion.images)
    return _released(conversion, bench.out, [whole])


def _stages(own: tuple[str, ...], bench: Bench, conversion: Conversion, turn: Turn, name: str) -> Outcome:
    place = ("prepare", conversion.dataset, "--raw", str(conversion.raw), "--lake", str(bench.out))
    arguments = (*place, "--workers", str(turn.workers), *conversion.arguments, *own)
    cost = bench.module("tests.bench.stages", *arguments, secrets=conversion.secrets)
    whole = run_of(conversion.row, name, "ours", cost, turn, conversion.images)
    found = answer(cost)
    staged = replace(work_of(whole, cost), contestant=name, stages=found["stages"], stages_cpu=found["stages_cpu"])
    return _released(conversion, bench.out, [staged])


def _peer(peer: Peer, bench: Bench, conversion: Conversion, turn: Turn, name: str) -> Outcome:
    is_folder_reader = peer.reads_files_alone or conversion.password is not None
    listing = conversion.unpacked if is_folder_reader else conversion.listing
    options = ["grey"] if conversion.to_grey else []
    what = (peer.tool, peer.kernel, conversion.form, str(listing), str(bench.out), str(turn.workers), *options)
    cost = bench.peer(peer.python, "write", *what)
    out = raw_releases.size_bytes(bench.out)
    found = answer(bench.peer(peer.python, "read", peer.tool, str(bench.out), str(conversion.step)))
    whole = run_of(conversion.row, name, "peer", cost, turn, conversion.images, ours="prepare")
    runs = [replace(whole, images_out=found["images"], out_bytes=out), work_of(whole, cost)]
    return runs, found["pixels"] if conversion.has_equal_pixels else {}


def _released(conversion: Conversion, lake: Path, runs: list[Run]) -> Outcome:
    """What a release holds, by the keys of the list."""
    (table,) = lake.glob(f"{conversion.dataset}/releases/*/samples.parquet")
    samples = pd.read_parquet(table, columns=["sample_id", "member"])
    keys = dict(zip(samples["sample_id"], samples["member"].map(key_of), strict=True))
    found = digests(_images_of_release(table.parent, keys), conversion.step)
    out = raw_releases.size_bytes(table.parent)
    runs = [replace(run, images_out=found["images"], out_bytes=out) for run in runs]
    return runs, found["pixels"] if conversion.has_equal_pixels else {}


def _images_of_release(release: Path, keys: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    if not (release / "parquet").is_dir():
        for name, content in images_of_tars(release / "webdataset"):
            yield keys[name], content
    for path in sorted(release.glob("parquet/*/*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(64, columns=["sample_id", "image"]):
            for row in batch.to_pylist():
                yield keys[row["sample_id"]], row["image"]["bytes"]


def run_of(
    row: str,
    contestant: str,
    kind: Kind,
    cost: Cost,
    turn: Turn,
    units: int,
    *,
    ours: str = "",
    by_workers: bool = True,
) -> Run:
    """A whole command."""
    return Run(
        row,
        contestant,
        kind,
        turn.workers if by_workers else None,
        units,
        turn.number,
        cost.wall_seconds,
        cost.cpu_seconds,
        cost.peak_rss_bytes,
        cost.largest_rss_bytes,
        ours,
    )


def work_of(whole: Run, cost: Cost, ours: str = "convert + assemble") -> Run:
    """The same without start-up, as the command itself has told."""
    work = answer(cost)["work"]
    return Run(
        whole.row,
        f"{whole.contestant}, work only",
        whole.kind,
        whole.workers,
        whole.units,
        whole.turn,
        work["wall_seconds"],
        work["cpu_seconds"],
        ours="" if whole.kind == "ours" else ours,
    )
