"""Candidates for near-duplicates compared where the workers are: on Dask, some thousand at a time, or in this process.

What comes of a candidate depends on those that are compared with it, by the last bits of its numbers; and which those
are depends on the candidates alone. So no worker more or less changes a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.chunk_columns import reader, squares
from tasks.files import make_folder, parquet, read_frame, read_table, write_bytes
from tasks.fingerprints.agreement import Compare, Pair, Positions, agreeing
from tasks.fingerprints.alignment import Alignment
from tasks.progress import Meter
from tasks.schema import UnusableInput
from tasks.storage import location, remove_tree
from tasks.waves import run_waves

FEW = 1024
"""Candidates that are compared at once, in the driver: less than a second's work."""
MANY = 8192
"""Most candidates of a piece: 64 MiB of thumbnails at most."""
PIECES = 16
"""Into which candidates are cut where neither says otherwise: each reads from nearly all chunks."""

PLACES, CANDIDATES = "places.parquet", "candidates.parquet"
FOUND = pa.schema(
    [("first", pa.int64()), ("second", pa.int64()), ("similarity", pa.float64()), ("matrix", pa.list_(pa.float32()))]
)


@dataclass(frozen=True)
class Comparing:
    """How candidates are compared; ``address`` is that of a Dask scheduler, None compares in this process."""

    folder: str
    """Where what goes to the workers lies, and what comes back; it is gone afterwards."""
    chunks: str
    least: float
    """Similarity from which on two pictures agree."""
    address: str | None

    def among(self, samples: pd.DataFrame) -> Compare:
        """Candidates are positions among these samples, which have ``chunk`` and ``chunk_row``."""

        def compare(candidates: Positions) -> list[Pair]:
            if len(candidates) <= FEW:
                return self._agreeing(samples, candidates)
            return self._spread(samples, candidates)

        return compare

    def _agreeing(self, samples: pd.DataFrame, candidates: Positions) -> list[Pair]:
        read = reader(location(self.chunks))
        thumbnails, large = squares(samples, read, "thumbnail"), squares(samples, read, "picture")
        return agreeing(thumbnails, large, candidates, self.least)

    def _spread(self, samples: pd.DataFrame, candidates: Positions) -> list[Pair]:
        folder = location(self.folder)
        remove_tree(folder)  # of a run that was killed
        make_folder(folder)
        ordered = candidates[np.lexsort([candidates[:, 1], candidates[:, 0]])]  # so that neighbours are in one piece
        places = pa.Table.from_pandas(samples[["chunk", "chunk_row"]], preserve_index=False)
        write_bytes(folder / PLACES, parquet(places))
        write_bytes(folder / CANDIDATES, parquet(pa.table(list(ordered.T), names=["first", "second", "frame"])))
        pieces = _pieces(len(ordered))
        meter = Meter("compare", len(ordered), "pairs of images")
        lost = run_waves(
            compare_piece,
            pieces,
            address=self.address,
            tick=lambda piece: meter.add(piece.end - piece.begin),
            comparing=self,
        )
        if lost:
            raise UnusableInput(f"{lost[0][0]} could not be compared: {lost[0][1]}")
        found = pa.concat_tables([read_table(folder / piece.file_name) for piece in pieces])
        remove_tree(folder)
        matrices = found["matrix"].combine_chunks().flatten().to_numpy().reshape(-1, 2, 3)
        ends = [found[name].to_pylist() for name in ("first", "second", "similarity")]
        return [(a, b, Alignment(how, matrix)) for a, b, how, matrix in zip(*ends, matrices, strict=True)]

    def one(self, piece: Piece) -> None:
        """Write down which candidates of a piece agree, and how they lie on each other."""
        folder = location(self.folder)
        own = read_table(folder / CANDIDATES).slice(piece.begin, piece.end - piece.begin)
        candidates = np.column_stack([column.to_numpy() for column in own.columns])
        found = self._agreeing(read_frame(folder / PLACES), candidates)
        rows = [(first, second, how.similarity, how.matrix.ravel().tolist()) for first, second, how in found]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * len(FOUND)
        write_bytes(folder / piece.file_name, parquet(pa.table(columns, schema=FOUND)))


@dataclass(frozen=True)
class Piece:
    """Candidates from ``begin`` to before ``end``."""

    begin: int
    end: int

    @property
    def file_name(self) -> str:
        """Of what was found among them."""
        return f"found-{self.begin}.parquet"

    def __str__(self) -> str:
        return f"pairs {self.begin} to {self.end} of images"


def _pieces(candidates: int) -> list[Piece]:
    size = min(max(-(-candidates // PIECES), FEW), MANY)
    return [Piece(begin, min(begin + size, candidates)) for begin in range(0, candidates, size)]


def compare_piece(piece: Piece, *, comparing: Comparing) -> None:
    """What a worker is given: :meth:`Comparing.one`."""
    comparing.one(piece)
