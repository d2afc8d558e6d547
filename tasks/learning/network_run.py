"""A run of a network, used: its scorer, and what it says of every image of a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.torch import load

import scanmill
from tasks.learning.admission import Release
from tasks.learning.clinical import clinical_of
from tasks.learning.feeding import numbers_in
from tasks.learning.learner import as_shares
from tasks.learning.networks import Network, Scorer
from tasks.learning.reading import opened, refusing
from tasks.learning.recipe import Question, network_options, training_of
from tasks.learning.runs import Run
from tasks.learning.truths import Values
from tasks.progress import Meter
from tasks.schema import DataRefused

WEIGHTS = "model.safetensors"
BATCH = 64

Pictures = npt.NDArray[np.uint8]
"""(batch, 1, size, size)."""


@dataclass(frozen=True)
class Said:
    """What a network says of samples, in their order."""

    answers: dict[str, Values]
    features: npt.NDArray[np.float16]
    """Of those whose features were asked for: (rows, features)."""


def load_scorer(run: Run) -> Scorer:
    """The scorer of a run, on the CPU, ready to answer.

    Raises :class:`DataRefused` where its weights are not what was trained.
    """
    content = run.read(WEIGHTS)
    network = Network(run.recipe)
    try:
        network.load_state_dict(load(content))
    except RuntimeError as error:
        raise DataRefused(f"{run.folder / WEIGHTS} is of another network than this scanmill builds: {error}") from error
    return Scorer(network, run.recipe).eval()


def images_by_row(run: Run, release: Release, samples: pd.DataFrame) -> Callable[[Sequence[int]], Pictures]:
    """Reads images of rows of ``samples``, as the network sees them; in the order of the rows.

    Raises :class:`DataRefused` for an image that is not what the release says.
    """
    source = opened(release)
    numbers, size = numbers_in(source, samples), network_options(run.recipe).size

    def read(rows: Sequence[int]) -> Pictures:
        wanted = numbers[np.asarray(rows, dtype=np.int64)]
        found = [batch.images for batch in _in_order(source, wanted, size)]
        pictures: Pictures = np.concatenate(found)
        return pictures

    return read


def say(
    run: Run, release: Release, samples: pd.DataFrame, with_features: Sequence[int] | npt.NDArray[np.int64]
) -> Said:
    """Answers to every question for every sample; on a GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scorer = load_scorer(run).to(device)
    network = scorer.network
    source = opened(release)
    clinical = clinical_of(samples, network.inputs)
    is_wanted = np.zeros(len(samples), dtype=bool)
    is_wanted[list(with_features)] = True
    is_last = training_of(run.recipe).channels_last
    if is_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    answers, features, done = [], [], 0
    meter = Meter("predict", len(samples), "images")
    with torch.inference_mode():
        for batch in _in_order(source, numbers_in(source, samples), network.size):
            own = slice(done, done + len(batch.rows))
            done = own.stop
            shares = as_shares(torch.from_numpy(batch.images).to(device))
            shares = shares.to(memory_format=torch.channels_last) if is_last else shares
            inputs = None if clinical is None else torch.from_numpy(clinical[own]).to(device)
            seen = network.features(shares, inputs)
            answers.append(scorer.answers(network.head(seen), inputs).double().cpu().numpy())
            features.append(seen[torch.from_numpy(is_wanted[own]).to(device)].half().cpu().numpy())
            meter.add(len(batch.rows))
    return Said(by_question(np.concatenate(answers), run.recipe.questions()), np.concatenate(features))


def by_question(answers: Values, questions: Sequence[Question]) -> dict[str, Values]:
    """(samples, answers of a :class:`Scorer`) taken apart."""
    found, place = {}, 0
    for question in questions:
        width = len(question.of) if question.kind == "classes" else 1
        found[question.name] = answers[:, place : place + width]
        place += width
    return found


def _in_order(source: scanmill.Release, rows: npt.NDArray[np.int64], size: int) -> Iterator[scanmill.Batch]:
    """In the order of the rows, and all of them on this process, whatever torchrun says."""
    with refusing():
        yield from scanmill.Loader(source, rows=rows, batch_size=BATCH, size=size, bits=8, rank=0, ranks=1)
