"""What scanmill is built on may be passed on with it: no package that it needs is under a strong copyleft licence."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

EXTRAS = ("learn", "s3", "dicom", "dashboard", "openlineage")
COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public|SSPL|CC-BY-NC", re.IGNORECASE)
CHOICE = {"text-unidecode"}
"""Under the Artistic License or the GPL, as one likes."""


def needed(name: str, extras: tuple[str, ...] = ("",)) -> set[str]:
    """Names of all installed packages that one needs, itself left out."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        package, wanted = waiting.pop()
        for line in distribution(package).requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in wanted):
                continue
            key = requirement.name.lower().replace("_", "-")
            if key in found:
                continue
            try:
                distribution(key)
            except PackageNotFoundError:
                continue
            found.add(key)
            waiting.append((key, ("", *requirement.extras)))
    return found


def licences(name: str) -> str:
    """What a package says of its terms: expression, classifiers, and a text that is short enough to be a name."""
    told = distribution(name).metadata
    own = [*(told.get_all("License-Expression") or [""]), *(told.get_all("Classifier") or ())]
    text = "".join(told.get_all("License") or ())
    return " · ".join(
        [line for line in own if "License" in line or line == own[0]] + ([text] if len(text) < 100 else [])
    )


def test_no_package_asks_that_what_is_built_on_it_be_published() -> None:
    packages = needed("scanmill", ("", *EXTRAS))
    assert {"prefect", "great-expectations", "dask", "torch", "pydicom"} <= packages
    assert {name: licences(name) for name in packages - CHOICE if COPYLEFT.search(licences(name))} == {}
