"""A recipe: one small file that says what is learned from which dataset. Read, validated, and held to the dataset."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.datasets import find
from tasks.files import digest
from tasks.schema import Dataset, ScanmillError

FOLDER = Path(__file__).parent / "recipes"
Names = Literal["all"] | tuple[str, ...]
QuestionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
ClassifierName = Literal[
    "logistic-regression",
    "svm",
    "knn",
    "random-forest",
    "extra-trees",
    "gradient-boosting",
    "gaussian-nb",
    "mlp",
]
CLASSIFIERS: tuple[ClassifierName, ...] = get_args(ClassifierName)

DEFINING: Mapping[str, tuple[str, ...]] = {
    "behsof": ("Steatosis stage", "Fibroscan F", "Fibroscan S", "CAP score", "E score", "cap_steatosis"),
}
"""Published columns that a dataset's labels or targets were read from, under other names than theirs."""


@dataclass(frozen=True)
class Question:
    """One thing that a model answers for every image."""

    name: str
    kind: Literal["label", "classes", "target"]
    of: tuple[str, ...]
    """Labels of the dataset (present where one of them is; or the classes, of which one is), or the one target."""
    is_ordinal: bool = False
    """Whether its classes have an order, that of ``of``."""


class Strict(BaseModel):
    """Nothing but what is declared, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Redeal(Strict):
    """Splits dealt anew, image by image and stratified, as publishers of pictures without patients do: LEAKY."""

    validation_share: float = Field(default=0.3, gt=0, lt=1)
    seed: int = Field(default=42, ge=0)


class Splits(Strict):
    """Names of the dataset's splits, by what they are used for."""

    train: str
    validation: str | None = None
    test: str | None = None
    others: tuple[str, ...] = ()
    """Further sets that are scored once, such as those of other hospitals or of later years."""
    redeal: Redeal | None = None
    """Throw train and validation together and deal them anew by image; every number is then flagged LEAKY."""

    @model_validator(mode="after")
    def _redeals_two(self) -> Splits:
        if self.redeal and (self.validation is None or self.test is not None):
            raise ValueError("redeal deals out train and validation, and nothing else: give both, and no test")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """Those that are given, train first."""
        return (*(name for name in (self.train, self.validation, self.test) if name), *self.others)

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


class Weights(Strict):
    """Initial weights: a file on this machine, held to its hash. Nothing is ever downloaded."""

    path: str
    """May begin with ``$TORCH_HOME`` or ``~``."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    layout: Literal["torchvision", "efficientnet-pytorch", "radimagenet", "scanmill"]
    """Whose names the tensors have; ``scanmill`` is the ``model.safetensors`` of another run."""


class Derived(Strict):
    """A label that follows from others: present where a target lies above its threshold, or where one of them is."""

    above: dict[str, dict[Literal["F", "M"], float]] = {}
    """Target to threshold by sex, in the target's unit; several are joined as if they were independent."""
    any_of: tuple[str, ...] = ()
    """Labels derived before this one."""


class NetworkOptions(Strict):
    """What is trained."""

    architecture: Literal["densenet121", "efficientnet-b0", "resnet50", "densenet-small"]
    size: int = Field(default=224, ge=32, le=1024)
    """Side of the square that images are put on, in pixels."""
    weights: Weights | None = None
    """None: from scratch, and the report says so."""
    inputs: tuple[str, ...] = ()
    """Clinical columns that are read beside the image: age_years, sex, numeric meta columns."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Before the last layer."""
    is_gaussian: bool = False
    """Whether targets are answered by mean and spread, fitted by likelihood."""
    derived: dict[QuestionName, Derived] = {}
    """Labels that are not learned but follow from Gaussian targets, in this order."""

    @model_validator(mode="after")
    def _derives_from_spread(self) -> NetworkOptions:
        if self.derived and not self.is_gaussian:
            raise ValueError("derived labels need is_gaussian: true")
        return self


class Augmentation(Strict):
    """What is done to training images, anew in every epoch; nothing by default."""

    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotate_degrees: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Larger or smaller by up to this share."""
    shift: float = Field(default=0.0, ge=0, lt=1)
    """Of the side, in both directions."""
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of Gaussian noise, as a share of white."""


class Training(Strict):
    """How it is trained."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=2)
    """Images per step and device."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """``plateau``: a tenth of the rate after ``plateau_patience`` epochs without a better validation loss."""
    plateau_patience: int = Field(default=2, ge=0)
    patience: int = Field(default=3, ge=1)
    """Epochs without improvement of ``monitor`` before training stops; the best epoch is kept."""
    monitor: Literal["loss", "auroc"] = "loss"
    """Of validation: the loss, or the macro AUROC."""
    class_weight: Literal["balanced"] | None = None
    """Whether rare answers count as much as common ones; probabilities are then no frequencies before calibration."""
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation.model_validate({}))
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16``: mixed, on a GPU; a CPU is faster without and does fp32, and the run says which it was."""
    channels_last: bool = False
    compile: bool = False
    devices: int = Field(default=1, ge=1)
    """More than one: distributed data-parallel, ``batch_size`` on each."""
    accumulate: int = Field(default=1, ge=1)
    """Steps whose gradients are summed before the weights move."""
    clip_norm: float | None = Field(default=None, gt=0)
    reading: Literal["auto", "memory", "stream"] = "auto"
    """Where training images wait: in the device's memory, decoded once; or in the shards. The batches are the same."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """How much work a killed process can cost, within long epochs; at the end of every epoch there is one anyway."""


class Evaluation(Strict):
    """How answers are judged."""

    unit: Literal["sample", "group"] = "sample"
    """``group``: a patient's images are averaged first, as mean log-odds."""
    is_one_per_group_shown: bool = False
    """Whether AUROC is also given for one image per patient, drawn 20 times (the protocol of CheXchoNet)."""


class Arm(Strict):
    """One beginning of the ResNet-50 whose pooled features are measured, and how images are prepared for it."""

    input: Literal["radimagenet", "imagenet"]
    """Whose channel order, mean and spread (:data:`tasks.learning.networks.RADIMAGENET`, ``IMAGENET``)."""
    weights: Weights | None = None
    """None: random weights, the same ones every time; the report marks the arm ``weights: none``."""


class Radiomics(Strict):
    """What is measured inside the mask, how a signature is found among it, and what is fitted to that."""

    bin_width: float = Field(default=5.0, gt=0)
    """Of grey levels, on the scale 0–255 whatever the depth of the image."""
    log_sigmas: tuple[float, ...] = (1.0, 2.0, 3.0)
    """Of the Laplacian of Gaussian, in pixels; empty for none."""
    wavelet: str | None = "coif1"
    """Name of a PyWavelets wavelet, or none."""
    arms: dict[QuestionName, Arm] = Field(min_length=1, max_length=2)
    """By name; where there are two, the first is compared with the second."""
    size: int = Field(default=224, ge=32, le=1024)
    """Side of the square that the box of a mask is put on before the network sees it, in pixels."""
    margin: float = Field(default=0.1, ge=0, le=1)
    """Around the box of the mask, as a share of its longer side."""
    correlation: float = Field(default=0.9, gt=0, le=1)
    """Of two features whose |r| on the training side is larger, the one that tells less of the classes is dropped."""
    univariate: float = Field(default=0.05, gt=0, le=1)
    """Share of false ones that is expected among the features that pass the univariate test (Benjamini-Hochberg)."""
    components: int | None = Field(default=None, ge=2)
    """Principal components that stand for an arm's features; None: the features themselves."""
    folds: int = Field(default=5, ge=2, le=20)
    """Of the cross-validations on the training set, by patient."""
    bootstraps: int = Field(default=100, ge=2, le=2000)
    """Draws of training patients on which the selection is done again, to see how often each feature is chosen."""
    classifiers: tuple[ClassifierName, ...] = Field(default=CLASSIFIERS, min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Radiomics:
        if len(set(self.classifiers)) < len(self.classifiers):
            raise ValueError("classifiers: one is named twice")
        return self


class Recipe(Strict):
    """What to learn from which dataset, and with what."""

    name: str
    dataset: str
    kind: Literal["intensity-baseline", "network", "radiomics"]
    labels: Names = ()
    unions: dict[QuestionName, tuple[str, ...]] = {}
    """Name to labels: present where one of these is."""
    classes: dict[QuestionName, Names] = {}
    """Name to labels of which every sample has exactly one."""
    targets: Names = ()
    zero_is_unknown: bool = False
    """Whether a target of 0 stands for a missing one."""
    ordinal: tuple[QuestionName, ...] = ()
    """Those of ``classes`` that have an order."""
    splits: Splits
    seed: int = Field(default=0, ge=0)
    shuffle_labels: bool = False
    """Learn labels that were dealt anew among groups: a control, at chance unless something leaks."""
    options: Options = Field(default_factory=lambda: Options.model_validate({}))
    network: NetworkOptions | None = None
    training: Training | None = None
    radiomics: Radiomics | None = None
    evaluation: Evaluation = Field(default_factory=lambda: Evaluation.model_validate({}))

    @model_validator(mode="after")
    def _has_its_parts(self) -> Recipe:
        has_network = self.network is not None and self.training is not None
        if self.kind == "network" and not has_network:
            raise ValueError("kind: a network needs the sections network and training")
        if self.kind != "network" and (self.network or self.training):
            raise ValueError(f"kind: {self.kind} has no sections network and training")
        if (self.kind == "radiomics") != (self.radiomics is not None):
            raise ValueError("kind: radiomics, and no other, needs the section radiomics")
        if self.kind == "radiomics" and not (len(self.classes) == 1 and self.splits.test):
            raise ValueError("kind: radiomics needs one entry in classes, and a test split")
        if self.kind == "radiomics" and (self.labels or self.unions or self.targets or self.splits.validation):
            raise ValueError("kind: radiomics asks for classes alone, and chooses by cross-validation: no validation")
        return self

    def questions(self) -> tuple[Question, ...]:
        """Everything that is to be answered, with ``all`` spelled out."""
        dataset = find(self.dataset)
        return (
            *(Question(name, "label", (name,)) for name in _spelled(self.labels, dataset.labels)),
            *(Question(name, "label", labels) for name, labels in self.unions.items()),
            *(
                Question(name, "classes", _spelled(labels, dataset.labels), name in self.ordinal)
                for name, labels in self.classes.items()
            ),
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


def network_options(recipe: Recipe) -> NetworkOptions:
    """The section of a recipe for a network; others have none."""
    if recipe.network is None:
        raise TypeError(f"{recipe.name} is no recipe for a network")
    return recipe.network


def training_of(recipe: Recipe) -> Training:
    """The other section of a recipe for a network."""
    if recipe.training is None:
        raise TypeError(f"{recipe.name} is no recipe for a network")
    return recipe.training


def radiomics_of(recipe: Recipe) -> Radiomics:
    """The section of a recipe for radiomics; others have none."""
    if recipe.radiomics is None:
        raise TypeError(f"{recipe.name} is no recipe for radiomics")
    return recipe.radiomics


def shipped() -> dict[str, Path]:
    """Recipes that come with scanmill, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that file, with ``KEY=VALUE`` (``training.epochs=2``) put in its place.

    Raises :class:`ScanmillError` that says what is wrong with it, and what would be right.
    """
    path = shipped().get(recipe)
    if path is None:
        path = Path(recipe).expanduser()
        if not path.is_file():
            raise ScanmillError(
                f"there is no recipe '{recipe}', nor a file of that name; known: {', '.join(shipped())}"
            )
    return parse(path.read_bytes(), name=path.stem, where=recipe, overrides=overrides)


def parse(content: bytes, *, name: str, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from the bytes of its file; ``name`` is what it is called where it does not say so itself."""
    try:
        values = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScanmillError(f"recipe {where} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ScanmillError(f"recipe {where} is empty or no mapping; it needs dataset, kind and splits")
    for override in overrides:
        _put(values, override)
    try:
        recipe = Recipe.model_validate({"name": name, **values})
    except ValidationError as error:
        said = "; ".join(_said(entry) for entry in error.errors())
        raise ScanmillError(f"recipe {where}: {said}") from error
    problems = list(_problems(recipe, find(recipe.dataset)))
    if problems:
        raise ScanmillError(f"recipe {where}: {'; '.join(problems)}")
    return recipe


def _put(values: dict[str, Any], override: str) -> None:
    """Set one dotted key of a recipe's mapping; the value is read as YAML. A key that nobody knows fails later."""
    place, equals, text = override.partition("=")
    if not equals or not place.strip():
        raise ScanmillError(f"'{override}' sets nothing: give KEY=VALUE, such as training.epochs=2")
    *sections, key = place.strip().split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ScanmillError(f"'{override}': {section} holds a value, and nothing can be set in it")
    try:
        inner[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScanmillError(f"'{override}': {text} is no value: {' '.join(str(error).split())}") from error


SECTIONS: Mapping[str, type[Strict]] = {
    "splits": Splits,
    "options": Options,
    "network": NetworkOptions,
    "network.weights": Weights,
    "training": Training,
    "training.augmentation": Augmentation,
    "radiomics": Radiomics,
    "evaluation": Evaluation,
}
"""Parts of a recipe that have keys of their own."""


def _said(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings, in words that name the key."""
    place = ".".join(str(part) for part in error["loc"] if part not in ("literal['all']", "tuple[str, ...]"))
    if error["type"] == "extra_forbidden":
        known = sorted(_keys(error["loc"]))
        deeper = [f"{section}.{place}" for section, kind in SECTIONS.items() if place in kind.model_fields]
        meant = f"; did you mean {' or '.join(deeper)}?" if deeper else ""
        return f"unknown key '{place}'{meant}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"'{place}' is missing"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}, not {error['input']!r}"


def _keys(place: Sequence[object]) -> Iterable[str]:
    """What may stand where an unknown key was found."""
    return list(SECTIONS.get(".".join(map(str, place[:-1])), Recipe).model_fields)


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
    yield from _problems_of_network(recipe, dataset)
    if recipe.radiomics and not dataset.has_masks:
        yield f"kind: radiomics measures inside masks, and {dataset.name} has none"
    yield from (f"ordinal: '{name}' is none of its classes" for name in recipe.ordinal if name not in recipe.classes)
    names = [question.name for question in questions]
    yield from (f"'{name}' is asked for twice" for name in sorted({n for n in names if names.count(n) > 1}))
    if not names:
        yield "nothing to learn: give labels, unions, classes or targets"


def _problems_of_network(recipe: Recipe, dataset: Dataset) -> Iterator[str]:
    if recipe.network is None:
        return
    labels, targets = _spelled(recipe.labels, dataset.labels), _spelled(recipe.targets, dataset.targets)
    for name, derived in recipe.network.derived.items():
        if name not in labels:
            yield f"network.derived.{name}: is none of its labels"
        yield from (f"network.derived.{name}: {t} is none of its targets" for t in derived.above if t not in targets)
        yield from (
            f"network.derived.{name}: {other} is no label that is derived before it"
            for other in derived.any_of
            if other not in list(recipe.network.derived)[: list(recipe.network.derived).index(name)]
        )
    for name in recipe.network.inputs:
        if name not in ("age_years", "sex") and not name.startswith("meta."):
            yield f"network.inputs: {name} is neither age_years nor sex nor a meta column"
        plain = name.removeprefix("meta.")
        if plain in {*dataset.labels, *dataset.targets} or plain in DEFINING.get(dataset.name, ()):
            yield f"network.inputs: {name} defines an answer of {dataset.name}; to predict it by that is no prediction"


def _unknown(what: str, name: str, known: Iterable[str], dataset: Dataset) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{dataset.name} has no {what} '{name}'; it has {', '.join(known) or 'none'}{hint}"
