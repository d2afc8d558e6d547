"""What networks are made of: initial weights of others, heads and answers, losses, augmentation, and their recipes."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import norm
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from tasks.learning import recipe as recipes
from tasks.learning import weights
from tasks.learning.augmentation import augment
from tasks.learning.learner import WholeFiles
from tasks.learning.losses import Loss
from tasks.learning.networks import RADIMAGENET, Network, Scorer
from tasks.learning.recipe import Augmentation, Recipe, Weights
from tasks.learning.weights import load_into
from tasks.schema import ScanmillError, UnusableInput

SMALL = "network: {architecture: densenet-small, size: 32}"
FINDING = f"""
dataset: nih-chest-xray
kind: network
labels: [Effusion]
splits: {{train: train, validation: validation, test: test}}
{SMALL}
training: {{}}
"""
HEART = f"""
dataset: chexchonet
kind: network
labels: [dlv]
classes: {{which: [slvh, dlv, composite_slvh_dlv]}}
targets: [ivsd]
splits: {{train: train, validation: validation, test: test}}
{SMALL}
training: {{}}
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(content: str, *overrides: str) -> Recipe:
    return recipes.parse(content.encode(), name="mine", where="mine.yaml", overrides=overrides)


def network_of(architecture: str, seed: int, content: str = FINDING) -> Network:
    """Random weights, and batch norms that do not merely pass on what they get."""
    torch.manual_seed(seed)
    network = Network(recipe_of(content, f"network.architecture={architecture}", "network.size=64"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def features_of(network: Network) -> Tensor:
    with torch.inference_mode():
        return network.features(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))


def saved(tensors: Any, folder: Path, layout: str) -> Weights:
    path = folder / ("weights.safetensors" if layout == "scanmill" else "weights.pth")
    save_file(tensors, path) if layout == "scanmill" else torch.save(tensors, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights.model_validate({"path": str(path), "sha256": sha256, "layout": layout})


def renamed(network: Network, pattern: str, by: str | Callable[[re.Match[str]], str]) -> dict[str, Tensor]:
    return {re.sub(pattern, by, name): tensor for name, tensor in network.backbone.state_dict().items()}


def torchvision_densenet(network: Network) -> dict[str, Tensor]:
    return renamed(network, r"\.layers\.", ".")


def old_torchvision_densenet(network: Network) -> dict[str, Tensor]:
    """As densenet121-a639ec97.pth: ``norm.1``, and without the counters that batch norms have since 2018."""
    tensors = renamed(network, r"\.layers\.(norm|conv)(\d)\.", r".\1.\2.")
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def plain(network: Network) -> dict[str, Tensor]:
    return dict(network.backbone.state_dict())


def efficientnet_pytorch(network: Network) -> dict[str, Tensor]:
    """As efficientnet-b0-355c32eb.pth: blocks are counted through."""
    return renamed(network, r"^_blocks\.\d+\.(\d+)\.", r"_blocks.\1.")


def radimagenet(network: Network) -> dict[str, Tensor]:
    """As ResNet50.pt: ``nn.Sequential`` of a ResNet's children, the last one left out."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return renamed(network, r"^(\w+)\.", lambda found: f"backbone.{numbers[found[1]]}.")


@pytest.mark.parametrize(
    ("architecture", "layout", "as_published", "heads"),
    [
        ("densenet121", "torchvision", torchvision_densenet, ("classifier",)),
        ("densenet121", "torchvision", old_torchvision_densenet, ("classifier",)),
        ("resnet50", "torchvision", plain, ("fc",)),
        ("efficientnet-b0", "efficientnet-pytorch", efficientnet_pytorch, ("_fc",)),
        ("resnet50", "radimagenet", radimagenet, ()),
    ],
)
def test_published_weights_give_their_features_here(
    architecture: str,
    layout: str,
    as_published: Callable[[Network], dict[str, Tensor]],
    heads: tuple[str, ...],
    tmp_path: Path,
) -> None:
    source, network = network_of(architecture, 1), network_of(architecture, 2)
    heads_of = {f"{head}.{part}": torch.zeros(3) for head in heads for part in ("weight", "bias")}
    weights = saved({**as_published(source), **heads_of}, tmp_path, layout)
    assert not torch.allclose(features_of(source), features_of(network), atol=1e-3)
    record = load_into(network, weights)
    assert record == {
        "file": "weights.pth",
        "sha256": weights.sha256,
        "layout": layout,
        "tensors": len(as_published(source)),
    }
    if layout == "radimagenet":
        assert network.grey_mean.flatten().tolist() == list(RADIMAGENET[0])
        source.grey_mean.fill_(0.5)
        source.grey_sd.fill_(0.5)
    assert torch.equal(features_of(source), features_of(network))


def test_weights_of_another_run_come_with_the_grey_levels_that_they_were_learned_with(tmp_path: Path) -> None:
    source, network = network_of("densenet-small", 1), network_of("densenet-small", 2, HEART)
    source.grey_mean.fill_(0.31)
    source.grey_sd.fill_(0.17)
    weights = saved(dict(source.state_dict()), tmp_path, "scanmill")
    head = network.head.weight.clone()
    load_into(network, weights)
    assert torch.equal(features_of(source), features_of(network))
    assert torch.equal(network.head.weight, head), "its questions are others"


@pytest.mark.parametrize(
    ("layout", "content", "words"),
    [
        ("torchvision", {"features.0.0.weight": torch.zeros(1)}, "torchvision's EfficientNet.*355c32eb"),
        ("radimagenet", {"conv1.weight": torch.zeros(1), "conv1.bias": torch.zeros(1)}, "Keras.*ResNet50.pt"),
        ("torchvision", {"layer1.0.conv1.weight": torch.zeros(1)}, "does not fit the network.*missing: .* unknown: "),
        ("radimagenet", {"fc.weight": torch.zeros(1), "other": torch.zeros(1)}, "does not fit.*unknown: other"),
        ("torchvision", nn.Linear(2, 2), "cannot be read as tensors alone"),
        ("torchvision", [torch.zeros(2)], "no plain mapping of names to tensors"),
        ("torchvision", {"epoch": 3}, "no plain mapping of names to tensors"),
    ],
)
def test_what_is_no_initial_weights_is_refused(layout: str, content: Any, words: str, tmp_path: Path) -> None:
    network = network_of("densenet-small", 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UnusableInput, match=f"(?s){words}"):
        load_into(network, saved(content, tmp_path, layout))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_only_the_file_that_the_recipe_means_is_read(tmp_path: Path) -> None:
    network = network_of("densenet-small", 0)
    weights = saved(plain(network), tmp_path, "torchvision")
    with pytest.raises(UnusableInput, match=rf"have sha256 {weights.sha256}, and not {'0' * 64} as the recipe says"):
        load_into(network, weights.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(UnusableInput, match=r"gone\.pth cannot be read .*--set network\.weights=null"):
        load_into(network, weights.model_copy(update={"path": str(tmp_path / "gone.pth")}))
    damaged = tmp_path / "half.safetensors"
    damaged.write_bytes(b"\xff" * 20)
    sha256 = hashlib.sha256(damaged.read_bytes()).hexdigest()
    with pytest.raises(UnusableInput, match=r"half\.safetensors cannot be read as tensors"):
        load_into(network, weights.model_copy(update={"path": str(damaged), "sha256": sha256}))


def chexchonet(*overrides: str) -> tuple[Scorer, Recipe]:
    recipe = recipes.load("chexchonet", ("network.architecture=densenet-small", "network.size=32", *overrides))
    torch.manual_seed(0)
    return Scorer(Network(recipe), recipe).eval(), recipe


def test_clinical_inputs_count_and_may_be_unknown() -> None:
    scorer, _ = chexchonet()
    scorer.network.clinical_mean[0], scorer.network.clinical_sd[0] = 60.0, 15.0
    image = torch.rand(1, 1, 32, 32).expand(5, -1, -1, -1)
    nan = float("nan")
    patients = torch.tensor([[60.0, 0.0], [60.0, 1.0], [75.0, 0.0], [nan, 0.0], [nan, nan]])
    with torch.inference_mode():
        answers, raw = scorer(image, patients), scorer.network(image, patients)
    assert torch.isfinite(answers).all()
    for one in range(5):
        for other in range(one):
            assert not torch.allclose(raw[one], raw[other], atol=1e-6), "no two of these patients are the same"
    with pytest.raises(ValueError, match="age_years, sex"):
        scorer(image)


def test_derived_labels_are_the_gaussian_mass_above_the_thresholds_of_the_sex() -> None:
    scorer, _ = chexchonet()
    places = {name: place for place, name in enumerate(scorer.network.columns)}
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.normal(size=(6, len(places)))).float()
    means, spreads = {"ivsd": 1.1, "lvpwd": 1.0, "lvidd": 4.6}, {"ivsd": 0.3, "lvpwd": 0.25, "lvidd": 0.7}
    for name, mean in means.items():
        for place in (places[name], places[f"{name}.log_sd"]):
            scorer.network.target_mean[place], scorer.network.target_sd[place] = mean, spreads[name]
    sexes = np.array([0.0, 1.0, 0.0, 1.0, np.nan, np.nan])
    clinical = torch.from_numpy(np.stack([np.full(6, 50.0), sexes], axis=1)).float()
    answers = dict(zip(scorer.answer_columns, scorer.answers(raw, clinical).numpy().T, strict=True))

    def above(target: str, female: float, male: float) -> Any:
        given = raw.numpy().astype(float)
        mean = given[:, places[target]] * spreads[target] + means[target]
        sd = np.exp(given[:, places[f"{target}.log_sd"]]) * spreads[target]
        assert answers[target] == pytest.approx(mean, rel=1e-5)
        mass = {sex: norm.sf(value, mean, sd) for sex, value in ((0.0, female), (1.0, male))}
        known = np.where(sexes == 1, mass[1.0], mass[0.0])
        return np.where(np.isnan(sexes), (mass[0.0] + mass[1.0]) / 2, known)

    septum, wall, cavity = above("ivsd", 1.4, 1.5), above("lvpwd", 1.4, 1.5), above("lvidd", 5.3, 5.9)
    slvh = septum + wall - septum * wall
    assert answers["slvh"] == pytest.approx(slvh, abs=1e-6)
    assert answers["dlv"] == pytest.approx(cavity, abs=1e-6)
    assert answers["composite_slvh_dlv"] == pytest.approx(slvh + cavity - slvh * cavity, abs=1e-6)
    assert np.ptp(slvh) > 0.1


def test_answers_come_in_the_order_of_the_questions_and_classes_sum_to_one() -> None:
    recipe = recipe_of(HEART)
    torch.manual_seed(0)
    scorer = Scorer(Network(recipe), recipe).eval()
    classes = tuple(f"which.{name}" for name in ("slvh", "dlv", "composite_slvh_dlv"))
    assert scorer.network.columns == scorer.answer_columns == ("dlv", *classes, "ivsd")
    scorer.network.target_mean[4], scorer.network.target_sd[4] = 7.0, 3.0
    image = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        raw, answers = scorer.network(image), scorer(image)
    assert torch.allclose(answers[:, 0], torch.sigmoid(raw[:, 0]))
    assert torch.allclose(answers[:, 1:4].sum(dim=1), torch.ones(3))
    assert torch.allclose(answers[:, 1:4], torch.softmax(raw[:, 1:4], dim=1))
    assert torch.allclose(answers[:, 4], raw[:, 4] * 3 + 7)
    assert chexchonet()[0].answer_columns == ("slvh", "dlv", "composite_slvh_dlv", "ivsd", "lvpwd", "lvidd")


ROWS = 40
TRUTHS = {
    "dlv": np.random.default_rng(1).permutation([1.0] * 6 + [0.0] * 28 + [np.nan] * 6),
    "which": np.random.default_rng(2).permutation([0.0] * 20 + [1.0] * 12 + [2.0] * 3 + [np.nan] * 5),
    "ivsd": np.where(np.arange(ROWS) % 5 == 0, np.nan, np.random.default_rng(3).normal(1.1, 0.3, ROWS)),
}
"""Of the questions of HEART."""


def losses_of(*overrides: str, is_balanced: bool = False) -> tuple[Loss, Network, Tensor]:
    recipe = recipe_of(HEART, *overrides)
    torch.manual_seed(0)
    network = Network(recipe)
    network.target_mean.fill_(1.0)
    network.target_sd.fill_(0.25)
    loss = Loss(network, recipe.questions(), TRUTHS, is_balanced=is_balanced)
    return loss, network, torch.randn(ROWS, len(network.columns), generator=torch.Generator().manual_seed(1))


def expected(raw: Any, truth: Mapping[str, Any], weights: Mapping[str, Mapping[float, float]]) -> list[float]:
    """Of each question, by scikit-learn."""
    known = {name: ~np.isnan(values) for name, values in truth.items()}
    weight = {name: np.array([weights.get(name, {}).get(v, 1.0) for v in truth[name][known[name]]]) for name in truth}
    present = 1 / (1 + np.exp(-raw[known["dlv"], 0]))
    scores = np.exp(raw[known["which"], 1:4])
    label = log_loss(truth["dlv"][known["dlv"]], present, sample_weight=weight["dlv"], normalize=False)
    classes = log_loss(
        truth["which"][known["which"]],
        scores / scores.sum(axis=1, keepdims=True),
        sample_weight=weight["which"],
        labels=[0, 1, 2],
    )
    error = raw[known["ivsd"], 4] - (truth["ivsd"][known["ivsd"]] - 1.0) / 0.25
    return [label / known["dlv"].sum(), classes, float((error**2).mean())]


def test_losses_are_those_of_the_books_over_the_rows_that_are_known() -> None:
    loss, _, raw = losses_of()
    want = expected(raw.numpy().astype(float), TRUTHS, {})
    assert float(loss(raw, loss.truths(TRUTHS))) == pytest.approx(np.mean(want), rel=1e-5)


def test_balanced_every_answer_counts_as_much_as_in_scikit_learn() -> None:
    loss, _, raw = losses_of(is_balanced=True)
    balanced = {}
    for name in ("dlv", "which"):
        known = TRUTHS[name][~np.isnan(TRUTHS[name])]
        seen = np.unique(known)
        weights = compute_class_weight("balanced", classes=seen, y=known)
        balanced[name] = dict(zip(seen, weights / (weights[0] if name == "dlv" else 1.0), strict=True))
    want = expected(raw.numpy().astype(float), TRUTHS, balanced)
    assert float(loss(raw, loss.truths(TRUTHS))) == pytest.approx(np.mean(want), rel=1e-5)
    assert np.mean(want) != pytest.approx(np.mean(expected(raw.numpy().astype(float), TRUTHS, {})), rel=1e-2)


def test_a_gaussian_answer_is_fitted_by_its_likelihood() -> None:
    loss, network, raw = losses_of("network.is_gaussian=true", "labels=[]", "classes={}")
    assert network.columns == ("ivsd", "ivsd.log_sd")
    known = ~np.isnan(TRUTHS["ivsd"])
    truth = torch.from_numpy((TRUTHS["ivsd"][known] - 1.0) / 0.25).float()
    own = raw[torch.from_numpy(known)]
    want = nn.GaussianNLLLoss()(own[:, 0], truth, torch.exp(2 * own[:, 1]))
    assert float(loss(raw, loss.truths(TRUTHS))) == pytest.approx(float(want), rel=1e-5)


def test_a_batch_of_which_nothing_is_known_moves_nothing() -> None:
    loss, _, raw = losses_of(is_balanced=True)
    raw.requires_grad_()
    found = loss(raw, torch.full((ROWS, 3), float("nan")))
    found.backward()
    assert float(found.detach()) == 0
    assert raw.grad is not None
    assert torch.equal(raw.grad, torch.zeros_like(raw))


def augmentation(**changes: Any) -> Augmentation:
    return Augmentation.model_validate(changes)


def pictures(count: int = 16, side: int = 24) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


EVERYTHING = {
    "flip_horizontal": True,
    "flip_vertical": True,
    "quarter_turns": True,
    "rotate_degrees": 30,
    "scale": 0.2,
    "shift": 0.1,
    "brightness": 0.3,
    "contrast": 0.3,
    "noise": 0.1,
}


def test_nothing_is_augmented_by_default() -> None:
    assert torch.equal(augment(pictures(), augmentation()), pictures())


@pytest.mark.parametrize("name", [*EVERYTHING, "everything"])
def test_every_augmentation_changes_something_the_same_way_for_the_same_seed(name: str) -> None:
    options = augmentation(**(EVERYTHING if name == "everything" else {name: EVERYTHING[name]}))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augment(pictures(), options))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], pictures())
    assert found[0].shape == pictures().shape
    assert 0 <= float(found[0].min()) <= float(found[0].max()) <= 1


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("flip_horizontal", [lambda image: image, lambda image: image.flip(2)]),
        ("flip_vertical", [lambda image: image, lambda image: image.flip(1)]),
        ("quarter_turns", [lambda image, turns=turns: torch.rot90(image, turns, (1, 2)) for turns in range(4)]),
    ],
)
def test_flips_and_quarter_turns_move_pixels_and_change_none(
    name: str, moves: list[Callable[[Tensor], Tensor]]
) -> None:
    torch.manual_seed(0)
    images = pictures(64)
    found = augment(images, augmentation(**{name: True}))
    chosen = []
    for before, after in zip(images, found, strict=True):
        (which,) = [number for number, move in enumerate(moves) if torch.equal(move(before), after)]
        chosen.append(which)
    assert set(chosen) == set(range(len(moves)))


def test_what_is_moved_in_is_black_and_what_moves_stays_in_shape() -> None:
    torch.manual_seed(0)
    white = torch.ones(32, 1, 32, 32)
    shifted = augment(white, augmentation(shift=0.25))
    lost = 1 - shifted.mean(dim=(1, 2, 3))
    assert float(lost.max()) <= 1 - 0.75**2 + 1e-6, "at most a quarter of the side in both directions"
    assert float(lost.max()) > 0.2
    disc = (torch.hypot(*torch.meshgrid(*[torch.linspace(-1, 1, 64)] * 2, indexing="ij")) < 0.5).float()[None, None]
    turned = augment(disc.expand(8, -1, -1, -1), augmentation(rotate_degrees=180))
    assert float((turned - disc).abs().mean()) < 0.01, "a disc is a disc, however it is turned"


@pytest.mark.parametrize(
    ("content", "overrides", "words"),
    [
        (FINDING, ["network=null"], "a network needs the sections network and training"),
        (FINDING, ["kind=intensity-baseline"], "intensity-baseline has no sections network and training"),
        (FINDING, ["network.sise=32"], "unknown key 'network.sise'; known: .*size"),
        (FINDING, ["training.augmentation.flip=true"], r"unknown key 'training\.augmentation\.flip'; known: .*flip_h"),
        (FINDING, ["network.size=16"], r"network\.size: .* not 16"),
        (FINDING, ["network.architecture=vgg"], r"network\.architecture: .*densenet121.* not 'vgg'"),
        (FINDING, ["network.weights={path: x, sha256: abc, layout: torchvision}"], r"network\.weights\.sha256"),
        (FINDING, ["network.inputs=[label.Mass]"], "label.Mass is neither age_years nor sex nor a meta column"),
        (HEART, ["network.inputs=[meta.ivsd]"], "meta.ivsd defines an answer of chexchonet"),
        (HEART, ["network.derived={dlv: {above: {ivsd: {F: 1}}}}"], "derived labels need is_gaussian"),
        (HEART, ["network.is_gaussian=true", "network.derived={slvh: {}}"], "slvh: is none of its labels"),
        (HEART, ["network.is_gaussian=true", "network.derived={dlv: {any_of: [slvh]}}"], "derived before it"),
        (HEART, ["ordinal=[other]"], "ordinal: 'other' is none of its classes"),
        (FINDING, ["splits.redeal={}"], "redeal deals out train and validation, and nothing else"),
        (FINDING, ["training.epochs"], "sets nothing: give KEY=VALUE"),
        (FINDING, ["labels.first=3"], "labels holds a value"),
        (FINDING, ["training.epochs=[1"], "is no value"),
    ],
)
def test_a_network_recipe_that_is_wrong_is_told_what_is(content: str, overrides: list[str], words: str) -> None:
    with pytest.raises(ScanmillError, match=words):
        recipe_of(content, *overrides)


def test_overrides_are_part_of_the_recipe_and_go_through_its_file() -> None:
    plain_one, changed = recipe_of(FINDING), recipe_of(FINDING, "training.epochs=3", "training.augmentation.noise=0.1")
    assert changed.training is not None
    assert (changed.training.epochs, changed.training.augmentation.noise) == (3, 0.1)
    assert plain_one.digest != changed.digest
    again = recipes.parse(changed.as_yaml(), name="other", where="other.yaml")
    assert again == changed


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "I ran")


def test_files_that_run_on_loading_are_refused(tmp_path: Path) -> None:
    marker, evil = tmp_path / "marker", tmp_path / "evil.pt"
    torch.save({"state_dict": {"a": Payload(marker)}}, evil)
    with pytest.raises(pickle.UnpicklingError):
        weights._unpacked(evil, evil.read_bytes())
    with pytest.raises(pickle.UnpicklingError):
        WholeFiles().load_checkpoint(evil)
    assert not marker.exists()
