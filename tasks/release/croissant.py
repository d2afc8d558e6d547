"""A release described in Croissant 1.1 (JSON-LD): every file with its hash, and records a program can load.

It must not know how shards are made: the manifest says which files there are, the schema which columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from tasks.release.licences import of_images
from tasks.release.responsibility import RAI_CONFORMS_TO, about
from tasks.release.statistics import Statistics
from tasks.schema import Dataset

Node = dict[str, Any]
"""One JSON-LD object."""

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", RAI_CONFORMS_TO]

PARQUET = "application/x-parquet"  # the name by which mlcroissant chooses its reader; no registered media type exists

CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "ddi-stats": "http://rdf-vocabulary.ddialliance.org/cv/SummaryStatisticType/2.1.2/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "wd": "http://www.wikidata.org/entity/",
}
"""The whole context of the specification, used or not: mlcroissant warns about a shorter one."""

CARDINALITY = "wd:Q4049983"
FIGURES: Mapping[str, tuple[str, str]] = {
    "valid": ("cr:Int64", "ddi-stats:c646dd8"),
    "invalid": ("cr:Int64", "ddi-stats:6459c62"),
    "mean": ("cr:Float64", "ddi-stats:7975ed0"),
    "deviation": ("cr:Float64", "ddi-stats:690ab50"),
    "minimum": ("cr:Float64", "ddi-stats:a1d0ec6"),
    "maximum": ("cr:Float64", "ddi-stats:8321e79"),
}
"""Figures of a column by the names that DDI's vocabulary of summary statistics gives them (as Dataverse uses them)."""

SPLIT_KINDS = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit"}
"""The others are held back, and so for testing."""

DATA_TYPES: Mapping[pa.DataType, str] = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int8(): "cr:Int8",
    pa.int16(): "cr:Int16",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
    pa.float64(): "cr:Float64",
}

MEDIA_TYPES: Mapping[str, str] = {
    "parquet": PARQUET,
    "tar": "application/x-tar",
    "json": "application/json",
    "html": "text/html",
    "md": "text/markdown",
    "png": "image/png",
    "jpg": "image/jpeg",
}

MASK_SUFFIX = ".mask"
"""What the name of a mask has before its extension, in the tar shards."""

MEANINGS: Mapping[str, str] = {
    "sample_id": "Name of the sample, unique in the release; its files in the tar shards are called by it.",
    "archive": "Archive of the raw release that holds the published image.",
    "member": "Path of the published image inside that archive.",
    "group_id": "What must not cross splits, usually the patient.",
    "age_years": "Age in years; null where the publisher's value cannot be read.",
    "sex": "F, M or null.",
    "view": "Projection, in the publisher's words.",
    "split": "The split that the sample belongs to; decided by group.",
    "boxes": "Boxes: top-left corner and extent in pixels of the published image.",
    "boxes_scaled": "The same boxes in pixels of the stored image.",
    "source_sha256": "SHA-256 of the published image file.",
    "pixel_sha256": "SHA-256 of the decoded, normalised pixels at published size.",
    "image_sha256": "SHA-256 of the image file in the shards.",
    "transform": "What conversion did to the image, step by step.",
    "intensity_min": "Darkest grey level at published size.",
    "intensity_max": "Brightest grey level at published size.",
    "intensity_mean": "Mean grey level at published size.",
    "intensity_std": "Standard deviation of the grey levels at published size.",
    "dark_share": "Share of the pixels that are within 5 % of black.",
    "bright_share": "Share of the pixels that are within 5 % of white.",
    "contrast": "Range between the darkest and the brightest hundredth of the pixels, as a share of white.",
    "border_top": "Rows of uniform border at the top, in pixels of the published image.",
    "border_right": "Columns of uniform border at the right, in pixels of the published image.",
    "border_bottom": "Rows of uniform border at the bottom, in pixels of the published image.",
    "border_left": "Columns of uniform border at the left, in pixels of the published image.",
    "text_regions": "Lines that look like writing in the picture; null where it is too small to tell.",
    "text_share": "Share of the image's area that these lines cover.",
    "side_markers": "Lone letters near its left or right edge that look like side markers.",
    "looks_inverted": "Whether it looks like a negative beside the others of its view; null where it cannot be told.",
    "looks_turned_degrees": "Degrees, 0 to 270, by which it looks turned clockwise; null where it cannot be told.",
    "mask_archive": "Archive of the raw release that holds the published mask.",
    "mask_member": "Path of the published mask inside that archive.",
    "mask_source_sha256": "SHA-256 of the published mask file.",
    "mask_sha256": "SHA-256 of the mask file in the shards.",
    "mask_bytes": "Size of the mask file in the shards.",
    "mask_area": "Share of the image's pixels that are inside its mask, at published size.",
    "mask_x": "Left edge of the mask's bounding box in pixels of the published image.",
    "mask_y": "Upper edge of the mask's bounding box in pixels of the published image.",
    "mask_w": "Width of the mask's bounding box in pixels of the published image.",
    "mask_h": "Height of the mask's bounding box in pixels of the published image.",
    "mask_touches_border": "Whether the mask reaches the border of its image, where it may be cut off.",
    "shard": "Split and number of the shard that holds the sample.",
    "row": "Position of the sample in its shard, from 0.",
    "tar_offset": "Byte offset of the image in the tar shard.",
}


def croissant(
    dataset: Dataset,
    release: str,
    manifest: Mapping[str, Any],
    schema: pa.Schema,
    statistics: Statistics,
) -> bytes:
    """``croissant.json`` of one release; ``statistics`` are those of the sample table."""
    dataset = of_images(dataset)
    distribution = [*files(manifest), *_file_sets(dataset, manifest)]
    return described(dataset, release, manifest, distribution, _record_sets(dataset, manifest, schema, statistics))


def described(
    dataset: Dataset,
    release: str,
    manifest: Mapping[str, Any],
    distribution: list[Node],
    record_sets: list[Node],
) -> bytes:
    """The whole description as text, around what differs between kinds of release."""
    node: Node = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": dataset.name,
        "alternateName": dataset.title,
        "description": dataset.summary,
        "conformsTo": CONFORMS_TO,
        "citeAs": dataset.terms.bibtex or dataset.citation,
        "identifier": release,
        "keywords": ["medical imaging", *([] if "documents" in manifest else dataset.labels)],
        "url": dataset.homepage,
        "version": _version(dataset.version, release),
        "datePublished": dataset.published,
        **about(dataset, manifest),
        "distribution": distribution,
        "recordSet": record_sets,
    }
    return (json.dumps(node, indent=1, ensure_ascii=False) + "\n").encode()


def _version(declared: str, release: str) -> str:
    """Semantic version of the declaration with the release as its build part, so that two releases never share one."""
    numbers = declared.split(".")
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}", declared):
        numbers, release = ["0"], f"{declared}.{release}"
    build = re.sub(r"[^0-9A-Za-z.-]", "-", release)
    return ".".join([*numbers, "0", "0"][:3]) + f"+{build}"


def _sorted(entries: Any, key: str) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry[key]))


# ---- files ----------------------------------------------------------------------------------------------------------


def files(manifest: Mapping[str, Any]) -> Iterator[Node]:
    """A node per file of the release; its id is the quoted path."""
    for entry in _sorted([*manifest["files"], *manifest["shards"]], "path"):
        path = entry["path"]
        if path == "croissant.json":  # a file cannot hold its own hash
            continue
        yield {
            "@type": "cr:FileObject",
            "@id": quote(path),
            "name": path,
            "contentSize": f"{entry['bytes']} B",
            "contentUrl": path,
            "encodingFormat": MEDIA_TYPES.get(path.rpartition(".")[2], "application/octet-stream"),
            "sha256": entry["sha256"],
        }


def _file_sets(dataset: Dataset, manifest: Mapping[str, Any]) -> Iterator[Node]:
    if _shards(manifest, "parquet"):
        yield {
            "@type": "cr:FileSet",
            "@id": "parquet-shards",
            "name": "Parquet shards",
            "description": "One row per sample: the encoded image and every column of the sample table.",
            "encodingFormat": PARQUET,
            "includes": "parquet/*/*.parquet",
        }
    if tars := _shards(manifest, "webdataset"):
        images: Node = {
            "@type": "cr:FileSet",
            "@id": "webdataset-images",
            "name": "Images in the WebDataset shards",
            "description": "The encoded images inside the tar shards, beside a JSON file each.",
            "containedIn": [{"@id": quote(path)} for path in tars],
            "encodingFormat": ["image/png", "image/jpeg"],
            "includes": ["*.png", "*.jpg"],
        }
        if not dataset.has_masks:
            yield images
            return
        yield {**images, "includes": [*_all_but_masks(), "*.jpg"]}
        yield {
            **images,
            "@id": "webdataset-masks",
            "name": "Masks in the WebDataset shards",
            "description": "The masks inside the tar shards, one for every image.",
            "encodingFormat": "image/png",
            "includes": f"*{MASK_SUFFIX}.png",
        }


def _all_but_masks() -> list[str]:
    """Globs of all PNG files that are no mask: mlcroissant reads ``excludes`` and does nothing about it."""
    ends = [MASK_SUFFIX[place:] for place in range(len(MASK_SUFFIX))]
    return [*(f"*[!{end[0]}]{end[1:]}.png" for end in ends), *(f"{end}.png" for end in ends[1:])]


def _shards(manifest: Mapping[str, Any], store: str) -> list[str]:
    return sorted(shard["path"] for shard in manifest["shards"] if shard["store"] == store)


# ---- records --------------------------------------------------------------------------------------------------------


def _record_sets(
    dataset: Dataset, manifest: Mapping[str, Any], schema: pa.Schema, statistics: Statistics
) -> list[Node]:
    sets = [_splits(dataset, manifest), _samples(dataset, manifest, schema, statistics)]
    if _shards(manifest, "parquet"):
        sets.append(_images_of_parquet(dataset, schema))
    elif _shards(manifest, "webdataset"):
        sets.append(_files_of_tars("images", _image))
        sets += [_files_of_tars("masks", _mask)] if dataset.has_masks else []
    return sets


def _splits(dataset: Dataset, manifest: Mapping[str, Any]) -> Node:
    """An enumeration in reading order, those without a sample too."""
    counts = {name: manifest["splits"].get(name, {}) for name in dataset.splits}
    types = {"name": "sc:Text", "url": "sc:URL", "samples": "sc:Integer", "groups": "sc:Integer"}
    return _record_set(
        "splits",
        "The splits in reading order: what each is for, its samples, its groups. No group is in two labelled splits.",
        [
            {"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "dataType": kind}
            for name, kind in types.items()
        ],
        key="splits/name",
    ) | {
        "dataType": ["sc:Enumeration", "cr:Split"],
        "data": [
            {
                "splits/name": name,
                "splits/url": SPLIT_KINDS.get(name, "cr:TestSplit"),
                "splits/samples": count.get("samples", 0),
                "splits/groups": count.get("groups", 0),
            }
            for name, count in counts.items()
        ],
    }


def _samples(dataset: Dataset, manifest: Mapping[str, Any], schema: pa.Schema, statistics: Statistics) -> Node:
    source = {"fileObject": {"@id": "samples.parquet"}}
    fields = [_column("samples", field, source, dataset) for field in schema]
    for described in fields:
        if figures := statistics.get(described["name"]):
            described["cr:annotation"] = [
                _figure(f"{described['@id']}/{name}", name, value, FIGURES[name]) for name, value in figures.items()
            ]
    count = sum(split["samples"] for split in manifest["splits"].values())
    return _record_set(
        "samples",
        "One record per sample, without its image: identity, labels, the publisher's columns, hashes and statistics.",
        fields,
        key="samples/sample_id",
    ) | {"cr:annotation": [_figure("samples/count", "count", count, ("cr:Int64", CARDINALITY))]}


def _figure(identifier: str, name: str, value: float, kinds: tuple[str, str]) -> Node:
    return {"@type": "cr:Field", "@id": identifier, "name": name, "dataType": [*kinds], "value": value}


def _images_of_parquet(dataset: Dataset, schema: pa.Schema) -> Node:
    source = {"fileSet": {"@id": "parquet-shards"}}
    # In the shards a file is a struct of bytes and path, the form that Hugging Face datasets reads.
    file = {**source, "transform": {"jsonPath": "bytes"}}
    wanted = [field for field in schema if field.name.startswith(("label.", "target.", "boxes"))]
    fields = [
        _column("images", schema.field("sample_id"), source, dataset),
        _image("images", {**file, "extract": {"column": "image"}}),
        *([_mask("images", {**file, "extract": {"column": "mask"}})] if dataset.has_masks else []),
        _split_of_path(source),
        *(_column("images", field, source, dataset) for field in wanted),
    ]
    return _record_set(
        "images", "One record per sample: the image, its split and its labels.", fields, key="images/sample_id"
    )


def _files_of_tars(name: str, described: Callable[[str, Node], Node]) -> Node:
    """Records of the ``images``, or of the ``masks``: mlcroissant cannot pair the files of a tar."""
    source = {"fileSet": {"@id": f"webdataset-{name}"}}
    sample_id = {
        "@type": "cr:Field",
        "@id": f"{name}/sample_id",
        "name": "sample_id",
        "description": MEANINGS["sample_id"],
        "dataType": "sc:Text",
        "source": {**source, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"^([^.]+)\..*$"}},
    }
    return _record_set(
        name,
        f"One record per sample: the {name[:-1]}; split and labels are in `samples` under the same sample_id.",
        [sample_id, described(name, {**source, "extract": {"fileProperty": "content"}})],
        key=f"{name}/sample_id",
    )


def _record_set(name: str, description: str, fields: list[Node], key: str) -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": key},
        "field": fields,
    }


def _image(record_set: str, source: Node) -> Node:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/image",
        "name": "image",
        "description": "The encoded image.",
        "dataType": "sc:ImageObject",
        "source": source,
    }


def _mask(record_set: str, source: Node) -> Node:
    return {
        **_image(record_set, source),
        "@id": f"{record_set}/mask",
        "name": "mask",
        "description": "The mask of the image, of the same size: a PNG of 0 (outside) and 255 (inside).",
    }


def _split_of_path(source: Node) -> Node:
    """The split by the folder of the shard, so that ``records("images", {"images/split": ...})`` opens no other shard.

    It does not reference ``splits/name``: mlcroissant makes a join of that and then reads every shard into memory.
    """
    return {
        "@type": "cr:Field",
        "@id": "images/split",
        "name": "split",
        "description": MEANINGS["split"],
        "dataType": ["sc:Text", "cr:Split"],
        "source": {
            **source,
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": r"^parquet/([^/]+)/.*\.parquet$"},
        },
    }


def _column(record_set: str, field: pa.Field, source: Node, dataset: Dataset) -> Node:
    """One field; ids are IRIs and publishers' columns hold blanks and brackets, so ids are percent-encoded."""
    described: Node = {"@type": "cr:Field", "@id": f"{record_set}/{quote(field.name, safe='')}", "name": field.name}
    if meaning := _meaning(field.name, dataset):
        described["description"] = meaning
    extract = {"extract": {"column": field.name}}
    if pa.types.is_list(field.type):
        described["isArray"] = True
        described["subField"] = [_part(described["@id"], part, {**source, **extract}) for part in field.type.value_type]
    else:
        described["dataType"] = _data_type(field)
        described["source"] = {**source, **extract}
    return described


def _part(parent: str, part: pa.Field, source: Node) -> Node:
    return {
        "@type": "cr:Field",
        "@id": f"{parent}/{part.name}",
        "name": part.name,
        "dataType": DATA_TYPES[part.type],
        "source": {**source, "transform": {"jsonPath": part.name}},
    }


def _data_type(field: pa.Field) -> str | list[str]:
    name = DATA_TYPES[field.type]
    if field.name.startswith("label."):
        return [name, "cr:Label"]
    return [name, "cr:Split"] if field.name == "split" else name


def _meaning(column: str, dataset: Dataset) -> str | None:
    kind, _, name = column.partition(".")
    if kind == "label":
        return f"{dataset.labels.get(name, name)} (1 present, 0 absent, null unknown)"
    if kind == "target":
        return f"{name} in {dataset.targets.get(name, 'an undeclared unit')}"
    if kind == "meta":
        return f"The publisher's column {name!r}, as published."
    return MEANINGS.get(column)
