"""``lineage.parquet``: for every sample what its row in ``samples.parquet`` does not say of where it came from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

NAME = "lineage.parquet"
ROW = pa.struct([("table", pa.string()), ("row", pa.int64())])
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("chunk", pa.string()),
        ("offset", pa.int64()),
        ("mask_offset", pa.int64()),
        ("rows", pa.list_(ROW)),
    ]
)
"""One row per sample, in the order of ``samples.parquet``.

``chunk``: digest of the conversion that made the stored image. ``offset``, ``mask_offset``: byte at which the member's
header begins, in a zip or in an unpacked tar; 0 for a loose file, null without mask. ``rows``: the metadata rows that
the sample was made of, the one that names it first; ``table`` as in the manifest's parameters, ``row`` 1-based.
"""


def table(planned: pd.DataFrame, entries: pd.DataFrame, extras: pd.DataFrame) -> pa.Table:
    """The table of all written samples.

    ``planned``: ``sample_id chunk``, in reading order. ``entries``: those that became samples, ``sample_id key table
    row offset``, with masks ``mask_offset``. ``extras``: rows of boxes and lists, ``table row image problem``; those
    with a problem were refused.
    """
    own = entries.set_index("sample_id").loc[planned["sample_id"]]
    sound = extras[extras["problem"] == ""]
    places = pd.concat(
        [
            pd.DataFrame({"position": range(len(own)), "table": own["table"].to_numpy(), "row": own["row"].to_numpy()}),
            pd.DataFrame(
                {
                    "position": sound["image"].map(dict(zip(own["key"], range(len(own)), strict=True))).to_numpy(),
                    "table": sound["table"].to_numpy(),
                    "row": sound["row"].to_numpy(),
                }
            ),
        ]
    ).dropna()
    places = places.drop_duplicates().sort_values("position", kind="stable")
    counts = np.bincount(places["position"].astype("int64"), minlength=len(own))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    rows = pa.StructArray.from_arrays(
        [pa.array(places["table"], pa.string()), pa.array(places["row"].astype("int64"), pa.int64())], fields=list(ROW)
    )
    masks = own["mask_offset"].to_numpy() if "mask_offset" in own else [None] * len(own)
    return pa.table(
        [
            pa.array(planned["sample_id"], pa.string()),
            # A chunk that killed its worker is kept in parts, ``<digest>-<first>-<end>``; which, is chance.
            pa.array(planned["chunk"].str.partition(".")[0].str.partition("-")[0], pa.string()),
            pa.array(own["offset"], pa.int64(), from_pandas=True),
            pa.array(masks, pa.int64(), from_pandas=True),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows),
        ],
        schema=SCHEMA,
    )
