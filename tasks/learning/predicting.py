"""Predictions as CSV: of a split of the release that a run was trained from, or of a folder of somebody's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanmill.images import at_depth, decode, fitted
from tasks.learning.admission import find_release
from tasks.learning.dealing import dealt
from tasks.learning.prediction_csv import to_csv
from tasks.learning.runs import Run, find_run
from tasks.learning.training import insist_on_packages
from tasks.schema import DataRefused, ScanmillError, UnusableInput

SUFFIXES = (".png", ".jpg", ".jpeg")


def of_split(run: str, lake: str, split: str | None = None) -> tuple[bytes, int]:
    """CSV and number of rows; without ``split`` of the samples that the recipe does not name, else of all.

    Raises :class:`ScanmillError` for a split that the release does not have.
    """
    own = _able_run(run, lake)
    if own.recipe.kind == "radiomics":
        from tasks.learning.radiomics import applied

        return applied.of_split(own, lake, split)
    from tasks.learning.network_run import say

    release = find_release(lake, own.recipe.dataset, own.about["identity"]["release"])
    samples = dealt(release, own.recipe, with_others=True)
    there = [*release.manifest["splits"]]
    others = [name for name in there if name not in own.recipe.splits.named]
    if split is not None and split not in there:
        raise ScanmillError(f"{own.recipe.dataset}@{release.name} has no split '{split}'; it has {', '.join(there)}")
    wanted = [split] if split else others or there
    chosen = samples[samples["split"].isin(wanted)].reset_index(drop=True)
    said = say(own, release, chosen, ())
    return to_csv(chosen, own.recipe.questions(), said.answers), len(chosen)


def of_folder(run: str, lake: str, folder: Path) -> tuple[bytes, int]:
    """The same of the PNG and JPEG files of a folder, by name; clinical inputs are taken as unknown.

    Of a run of radiomics the folder has ``images`` and ``masks``. Raises :class:`UnusableInput` where there is no
    image, and :class:`DataRefused` for one that cannot be read.
    """
    own = _able_run(run, lake)
    if own.recipe.kind == "radiomics":
        from tasks.learning.radiomics import applied

        return applied.of_folder(own, lake, folder)
    import torch

    from tasks.learning.learner import as_shares
    from tasks.learning.network_run import BATCH, by_question, load_scorer

    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UnusableInput(f"{folder} has no PNG or JPEG file")
    scorer = load_scorer(own)
    inputs, size = scorer.network.inputs, scorer.network.size
    answers = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            pictures = torch.from_numpy(np.stack([_seen(path, size) for path in part]))
            clinical = torch.full((len(part), len(inputs)), float("nan")) if inputs else None
            answers.append(scorer(as_shares(pictures), clinical).double().numpy())
    questions = own.recipe.questions()
    samples = pd.DataFrame({"sample_id": [path.stem for path in paths]})
    names = [path.name for path in paths]
    return to_csv(samples, questions, by_question(np.concatenate(answers), questions), names), len(paths)


def _able_run(run: str, lake: str) -> Run:
    own = find_run(lake, run)
    insist_on_packages(own.recipe.kind)
    if own.recipe.kind == "intensity-baseline":
        raise DataRefused(f"run {own.name} is a baseline: its predictions are in {own.folder / 'predictions.csv'}")
    return own


def _seen(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """(1, size, size), as the network sees it: grey, letterboxed, 8 bits."""
    pixels = decode(path.read_bytes())
    if pixels is None:
        raise DataRefused(f"{path} cannot be decoded")
    seen: npt.NDArray[np.uint8] = at_depth(fitted(pixels, size), 8)[None]
    return seen
