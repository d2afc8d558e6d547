"""The datasheet of a release by the questions of Gebru et al. 2021 (arXiv 1803.09010): what is declared, what was done.

The card shows it as text, the Croissant description as properties of the RAI vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.schema import Dataset

UNKNOWN = "Not known."

MAINTENANCE = "This folder is never changed: corrected raw data, another parameter or scanmill make another release."
UNDECODED = (
    "Images that are stored as they were published were not decoded, so whether their pixels are sound is not known; "
    "the others were"
)
IMPUTATION = (
    "Nothing is imputed: what cannot be read is null, and the publisher's own text stays in the columns meta.*."
)


def sections(dataset: Dataset, manifest: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title of each part, and its sentences, each with what leads it in (empty where nothing need)."""
    sheet = dataset.datasheet
    parts = {
        "Motivation": [*_led("", sheet.motivation)],
        "Composition": [
            *_led("", sheet.composition),
            *_led("In this release", composition(dataset, manifest)),
            *_led("Persons", sheet.sensitive),
        ],
        "Collection process": [*_led("", sheet.collection)],
        "Preprocessing, cleaning and labelling": [
            *_led("By the publisher", sheet.preprocessing),
            *_led("Labels", sheet.labelling),
            *_led("By scanmill", processing(dataset, manifest)),
        ],
        "Uses": [
            *_led("For", sheet.uses),
            *_led("Not for", sheet.not_for),
            *_led("Bias", sheet.biases),
            *_led("Limitation", sheet.limitations),
        ],
        "Distribution": [*_led(redistribution_answer(dataset), (dataset.terms.redistribution,))],
        "Maintenance": [*_led("", (*sheet.maintenance, MAINTENANCE))],
    }
    return [(title, sentences or [("", UNKNOWN)]) for title, sentences in parts.items()]


def redistribution_answer(dataset: Dataset) -> str:
    """Whether pixels and shards may be passed on, in the two or three words that lead the reason in."""
    return {True: "May be redistributed", False: "Do not redistribute", None: "Ask before you redistribute"}[
        dataset.terms.may_redistribute
    ]


def composition(dataset: Dataset, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the publisher's data is in the release."""
    accounting = manifest["accounting"]
    refused = f"{accounting['quarantined']:,} of {accounting['members']:,} members of the raw release were refused"
    if "documents" in manifest:
        return (f"{manifest['documents']:,} {'document' if manifest['documents'] == 1 else 'documents'}; {refused}.",)
    counts = [f"{split['samples']:,} {name}" for name, split in _in_order(dataset, manifest["splits"])]
    groups = sum(split.get("groups", 0) for split in manifest["splits"].values())
    unit = "patients" if dataset.group == "patient" else "groups of images that belong together"
    return (f"{', '.join(counts) or 'no'} samples, of {groups:,} {unit}; {refused}.",)


def _in_order(dataset: Dataset, splits: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, splits[name]) for name in dataset.splits if name in splits)


def processing(dataset: Dataset, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What scanmill did to what the publisher gave, one step a sentence."""
    if "documents" in manifest:
        return ("Text, tables and figures were taken out of the documents; every cell is text as published.",)
    return (*_conversion(dataset, manifest["parameters"]), IMPUTATION)


def _conversion(dataset: Dataset, parameters: Mapping[str, Any]) -> Iterator[str]:
    rules = dataset.image
    looked_at = "Every image was decoded once" if parameters.get("decode_check", "full") == "full" else UNDECODED
    yield f"{looked_at}; what cannot be used is in quarantine.parquet with its reason, not repaired."
    if rules.hides_outside_scan:
        yield "Everything outside the scan sector was blackened before anything was hashed or stored."
    if rules.to_grey:
        yield "Colour became luma (ITU-R BT.601)."
    yield "Equal channels became one grey channel; 16 bits stay 16."
    if size := parameters["size"]:
        yield (
            f"Images were reduced to {size} pixels on the longer side by averaging areas; none was enlarged, padded, "
            "cropped or inverted."
        )
    else:
        yield "Images keep their published size."
    lossy = parameters["encoding"] == "jpeg"
    yield f"They are stored as {'JPEG of quality ' + str(parameters['quality']) if lossy else 'PNG, without loss'}."
    yield "What was done to each image stands in its column transform."


def _led(lead: str, sentences: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((lead, sentence) for sentence in sentences)
