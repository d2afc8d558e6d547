"""Why something was refused: every reason code of the quarantine, with a sentence for people.

docs/lake.md lists the same codes; ``tests/test_quarantine.py`` holds both, and the code that gives them, together.
"""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    # Of an archive member, by its place alone.
    "duplicate-member": "An image that is in the raw release more than once.",
    "encrypted-member": "A member that needs a password which this dataset does not declare.",
    "unsafe-path": "A member whose path leaves the archive, or that is a link.",
    "oversized-member": "A member that claims to unpack to an absurd size.",
    "unexpected-member": "A member that no rule of the dataset knows.",
    "truncated-archive": "An archive that ends early; what lies before the cut is kept.",
    "corrupt-archive": "An archive that is damaged; what lies before the damage is kept.",
    "crc-mismatch": "A member whose bytes do not fit their checksum.",
    "unreadable-member": "A member that cannot be unpacked.",
    # Of an image as it is decoded.
    "empty-file": "A file without a byte.",
    "not-an-image": "A file that is no image: no PNG and no JPEG, or of DICOM files one without pixels.",
    "truncated-image": "An image file that breaks off.",
    "undecodable-image": "An image file that is damaged inside.",
    "oversized-image": "An image with an absurd number of pixels.",
    "unsupported-mode": "An image whose colours or frames could not be kept whole.",
    "alpha-channel": "An image that is transparent in places.",
    "bit-depth": "An image of 16 bits that would have to be kept in 8.",
    "no-scan-found": "A scanner screen on which the scan cannot be told from the writing.",
    "worker-lost": "An image that killed its worker every time.",
    # Of an image as the gate sees it.
    "blank-frame": "An image of one grey level all over.",
    "too-small": "An image smaller than the dataset allows.",
    "unexpected-channels": "An image in colour where grey is expected.",
    "box-beyond-image": "An image with a box that leaves it.",
    "near-duplicate-across-splits": "An image that shows the same picture as one of another labelled split.",
    # Of masks.
    "image-without-mask": "An image whose mask is missing or cannot be used.",
    "mask-without-image": "A mask whose image is missing.",
    "mask-undecodable": "An image whose mask cannot be read.",
    "mask-size": "An image whose mask has another size.",
    "mask-empty": "An image whose mask marks nothing.",
    "mask-parts": "An image whose mask is in several pieces.",
    # Of metadata rows, and what they belong to.
    "image-without-row": "An image that no metadata row names.",
    "row-without-image": "A metadata row whose image is missing.",
    "duplicate-row": "A metadata row for an image that an earlier row names.",
    "unknown-label": "A label outside the published vocabulary.",
    "composite-label": "A composite label that its parts contradict.",
    "missing-group": "A row that names no patient.",
    "no-split": "A sample in none, or in several, of the published splits.",
    "unreadable-box": "A box that cannot be read.",
    "box-outside-image": "A box that cannot lie on its film.",
    "unknown-box-label": "A box of a finding that the dataset does not have.",
    "sample-refused": "A mask, or a box or list row, of an image that was refused.",
    "row-without-sample": "A box or list row whose image is nowhere.",
    # Of documents.
    "not-a-document": "A file that is no Word document.",
    "undecodable-document": "A Word document that is damaged, or unpacks to too much.",
    "empty-document": "A Word document that holds nothing.",
    # Of the whole release.
    "gate-failed": "Nothing wrong with it; a gate refused the whole release.",
}


def sentence(reason: str) -> str:
    """What a reason code means; empty for one that is not known here, such as one of a newer release."""
    return REASONS.get(reason, "")
