"""Where a release comes from, what may be done with it and what it is fit for, as parts of a Croissant description.

Vocabularies: W3C PROV-O for provenance, schema.org's ``usageInfo`` with terms of the Data Use Ontology (DUO) for
conditions of use, Croissant RAI 1.0 for the datasheet; all as Croissant 1.1 recommends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks.release.datasheet import IMPUTATION, MAINTENANCE, UNKNOWN, composition, processing, redistribution_answer
from tasks.release.licences import licence_url
from tasks.schema import Dataset

Node = dict[str, Any]

RAI_CONFORMS_TO = "http://mlcommons.org/croissant/RAI/1.0"


def about(dataset: Dataset, manifest: Mapping[str, Any]) -> Node:
    """Properties of the dataset's node: licence, creators, conditions of use, provenance, RAI."""
    terms = dataset.terms
    node: Node = {
        "license": _licence(dataset),
        "creator": [{"@type": "sc:Person", "name": name} for name in terms.creators]
        or [{"@type": "sc:Organization", "name": f"the authors of {dataset.homepage}"}],
        "usageInfo": _usage(dataset),
        **_provenance(manifest),
        **_rai(dataset, manifest),
    }
    if terms.publisher:
        node["publisher"] = {"@type": "sc:Organization", "name": terms.publisher}
    return node


def _licence(dataset: Dataset) -> str | Node:
    if url := licence_url(dataset.licence):
        return url
    return {"@type": "sc:CreativeWork", "name": dataset.licence, "url": dataset.terms.licence_url or dataset.homepage}


def _usage(dataset: Dataset) -> list[Node]:
    """The plain sentence first, then what of it machines can compare."""
    plain = {
        "@type": "sc:CreativeWork",
        "name": redistribution_answer(dataset),
        "description": dataset.terms.redistribution,
    }
    duo = [
        {
            "@type": "sc:DefinedTerm",
            "name": name,
            "termCode": f"DUO_{number}",
            "url": f"http://purl.obolibrary.org/obo/DUO_{number}",
        }
        for number, name in sorted(dataset.terms.duo.items())
    ]
    return [plain, *duo]


# ---- provenance -----------------------------------------------------------------------------------------------------


def _provenance(manifest: Mapping[str, Any]) -> Node:
    entries = sorted(manifest["inputs"], key=lambda entry: str(entry["name"]))
    inputs = [_input(number, entry) for number, entry in enumerate(entries, start=1)]
    code = dict(manifest["code"])
    own = code.pop("declaration", None)
    agent = {
        "@type": "prov:SoftwareAgent",
        "prov:label": f"scanmill {code.pop('scanmill')}",
        "softwareVersion": code.pop("source") + (f", dataset declared by {own}" if own else ""),
        "softwareRequirements": [f"{name} {version}" for name, version in sorted(code.items())],
    }
    activity = {
        "@type": "prov:Activity",
        "prov:label": "scanmill prepare",
        "prov:used": [{"@id": entity["@id"]} for entity in inputs],
        "prov:wasAssociatedWith": agent,
        "additionalProperty": [
            {"@type": "sc:PropertyValue", "name": name, "value": _text(value)}
            for name, value in sorted(manifest["parameters"].items())
        ],
    }
    return {"prov:wasDerivedFrom": inputs, "prov:wasGeneratedBy": activity}


def _input(number: int, entry: Mapping[str, Any]) -> Node:
    return {
        # Names of archives hold blanks and can be those of files of the release; ids must not.
        "@id": f"raw-input-{number}",
        "@type": "prov:Entity",
        "prov:label": entry["name"],
        "contentSize": f"{entry['bytes']} B",
        "sha256": entry["sha256"],
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


# ---- responsible AI -------------------------------------------------------------------------------------------------


def _rai(dataset: Dataset, manifest: Mapping[str, Any]) -> Node:
    """The datasheet in the words of the RAI vocabulary; lists where it allows several values."""
    sheet = dataset.datasheet
    limits = [*sheet.limitations, *(f"Not for: {use}" for use in sheet.not_for)]
    return {
        "rai:dataCollection": _joined(sheet.collection),
        "rai:dataCollectionRawData": _joined(sheet.composition),
        "rai:dataCollectionMissingData": " ".join(composition(dataset, manifest)),
        "rai:dataImputationProtocol": IMPUTATION,
        "rai:dataPreprocessingProtocol": [*sheet.preprocessing, *processing(dataset, manifest)],
        "rai:dataAnnotationProtocol": _joined(sheet.labelling),
        "rai:dataUseCases": _listed(sheet.uses),
        "rai:dataBiases": _listed(sheet.biases),
        "rai:dataLimitations": _listed((*limits, *(known.statement for known in dataset.known))),
        "rai:personalSensitiveInformation": _listed(sheet.sensitive),
        "rai:dataReleaseMaintenancePlan": " ".join((*sheet.maintenance, MAINTENANCE)),
    }


def _joined(sentences: tuple[str, ...]) -> str:
    return " ".join(sentences) or UNKNOWN


def _listed(sentences: tuple[str, ...]) -> list[str]:
    return [*sentences] or [UNKNOWN]
