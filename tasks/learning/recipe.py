"""A recipe: one small file that says what is learned from which dataset. Read, validated, and held to the dataset."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.datasets import find
from tasks.files import digest
from tasks.schema import Dataset, ScanmillError

FOLDER = Path(__file__).parent / "recipes"
Names = Literal["all"] | tuple[str, ...]
QuestionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


@dataclass(frozen=True)
class Question:
    """One thing that a model answers for every image."""

    name: str
    kind: Literal["label", "classes", "target"]
    of: tuple[str, ...]
    """Labels of the dataset (present where one of them is; or the classes, of which one is), or the one target."""


class Strict(BaseModel):
    """Nothing but what is declared, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Splits(Strict):
    """Names of the dataset's splits, by what they are used for."""

    train: str
    validation: str | None = None
    test: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Those that are given, train first."""
        return tuple(name for name in (self.train, self.validation, self.test) if name)

    @property
    def held_out(self) -> str | None:
        """The split that tells how good a model is: test, or validation where there is none."""
        return self.test or self.validation


class Options(Strict):
    """Of an intensity baseline."""

    histogram: int = Field(default=16, ge=2, le=64)
    """Bins of the histogram; a divisor of 64."""
    thumbnail: int = Field(default=0, ge=0, le=32)
    """Side of a tiny grey picture that is a feature as well; 0 is none: then nothing but grey levels counts."""
    class_weight: Literal["balanced"] | None = None
    """Whether the rare ones count as much as the common ones; probabilities are then no frequencies any more."""
    inverse_penalty: float = Field(default=1.0, gt=0)
    """C of the logistic regression; of the ridge regression of targets, 1/alpha."""

    @model_validator(mode="after")
    def _divides(self) -> Options:
        if 64 % self.histogram:
            raise ValueError(f"histogram: {self.histogram} does not divide 64")
        return self


class Recipe(Strict):
    """What to learn from which dataset, and with what."""

    name: str
    dataset: str
    kind: Literal["intensity-baseline"]
    labels: Names = ()
    unions: dict[QuestionName, tuple[str, ...]] = {}
    """Name to labels: present where one of these is."""
    classes: dict[QuestionName, Names] = {}
    """Name to labels of which every sample has exactly one."""
    targets: Names = ()
    zero_is_unknown: bool = False
    """Whether a target of 0 stands for a missing one."""
    splits: Splits
    seed: int = Field(default=0, ge=0)
    options: Options = Field(default_factory=lambda: Options.model_validate({}))

    def questions(self) -> tuple[Question, ...]:
        """Everything that is to be answered, with ``all`` spelled out."""
        dataset = find(self.dataset)
        return (
            *(Question(name, "label", (name,)) for name in _spelled(self.labels, dataset.labels)),
            *(Question(name, "label", labels) for name, labels in self.unions.items()),
            *(Question(name, "classes", _spelled(labels, dataset.labels)) for name, labels in self.classes.items()),
            *(Question(name, "target", (name,)) for name in _spelled(self.targets, dataset.targets)),
        )

    def as_yaml(self) -> bytes:
        """All of it, defaults spelled out; can be given to ``train`` again."""
        content = self.model_dump(mode="json")
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120).encode()

    @property
    def digest(self) -> str:
        """Of everything but the name."""
        return digest(self.model_dump(mode="json", exclude={"name"}))


def shipped() -> dict[str, Path]:
    """Recipes that come with scanmill, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load(recipe: str) -> Recipe:
    """The recipe of that name, or in that file.

    Raises :class:`ScanmillError` that says what is wrong with it, and what would be right.
    """
    path = shipped().get(recipe)
    if path is None:
        path = Path(recipe).expanduser()
        if not path.is_file():
            raise ScanmillError(
                f"there is no recipe '{recipe}', nor a file of that name; known: {', '.join(shipped())}"
            )
    return parse(path.read_bytes(), name=path.stem, where=recipe)


def parse(content: bytes, *, name: str, where: str) -> Recipe:
    """A recipe from the bytes of its file; ``name`` is what it is called where it does not say so itself."""
    try:
        values = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScanmillError(f"recipe {where} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ScanmillError(f"recipe {where} is empty or no mapping; it needs dataset, kind and splits")
    try:
        recipe = Recipe.model_validate({"name": name, **values})
    except ValidationError as error:
        said = "; ".join(_said(entry) for entry in error.errors())
        raise ScanmillError(f"recipe {where}: {said}") from error
    problems = list(_problems(recipe, find(recipe.dataset)))
    if problems:
        raise ScanmillError(f"recipe {where}: {'; '.join(problems)}")
    return recipe


def _said(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings, in words that name the key."""
    place = ".".join(str(part) for part in error["loc"] if part not in ("literal['all']", "tuple[str, ...]"))
    if error["type"] == "extra_forbidden":
        known = sorted(_keys(error["loc"]))
        return f"unknown key '{place}'; known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"'{place}' is missing"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}, not {error['input']!r}"


def _keys(place: Sequence[object]) -> Iterable[str]:
    """What may stand where an unknown key was found."""
    inner: dict[str, type[Strict]] = {"splits": Splits, "options": Options}
    within = inner.get(str(place[0]), Recipe) if len(place) > 1 else Recipe
    return list(within.model_fields)


def _spelled(names: Names, all_of_them: Iterable[str]) -> tuple[str, ...]:
    return tuple(all_of_them) if names == "all" else tuple(names)


def _problems(recipe: Recipe, dataset: Dataset) -> Iterator[str]:
    """What the dataset does not have, and what cannot be meant."""
    for split in recipe.splits.named:
        if split not in dataset.labelled_splits:
            yield _unknown("labelled split", split, dataset.labelled_splits, dataset)
    if len(set(recipe.splits.named)) < len(recipe.splits.named):
        yield f"a split is named twice: {', '.join(recipe.splits.named)}"
    questions = recipe.questions()
    for question in questions:
        known = dataset.targets if question.kind == "target" else dataset.labels
        for name in question.of:
            if name not in known:
                yield _unknown("target" if question.kind == "target" else "label", name, known, dataset)
        if question.kind == "classes" and len(set(question.of)) < 2:
            yield f"classes {question.name}: one class alone cannot be told from others"
    names = [question.name for question in questions]
    yield from (f"'{name}' is asked for twice" for name in sorted({n for n in names if names.count(n) > 1}))
    if not names:
        yield "nothing to learn: give labels, unions, classes or targets"


def _unknown(what: str, name: str, known: Iterable[str], dataset: Dataset) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{dataset.name} has no {what} '{name}'; it has {', '.join(known) or 'none'}{hint}"
