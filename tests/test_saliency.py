"""Grad-CAM maps of a small network that learned a planted square, what is shown of its mistakes, and what is not."""

from __future__ import annotations

import base64
import copy
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from monai.networks.nets.densenet import DenseNet
from monai.visualize.class_activation_maps import GradCAM
from PIL import Image
from torch import nn

from tasks.learning import gallery, saliency
from tasks.learning.annotated import write_annotated
from tasks.learning.clinical import clinical_of
from tasks.learning.explanations import PICTURES, explain
from tasks.learning.recipe import Question, Recipe, parse
from tasks.schema import DataRefused, ScanmillError

SIZE, SQUARE = 32, 8
FINDINGS = b"""
dataset: nih-chest-xray
kind: intensity-baseline
labels: [Mass, Nodule]
splits: {train: train, test: test}
"""
Pixels = npt.NDArray[np.uint8]


class Small(nn.Module):
    """The least that has the attributes of a network of ours; the activation after the layer works in place."""

    def __init__(self, columns: Sequence[str] = ("Mass", "Nodule"), inputs: Sequence[str] = ()) -> None:
        super().__init__()
        self.columns, self.inputs, self.size, self.cam_layer = tuple(columns), tuple(inputs), SIZE, "body.3"
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8 + len(inputs), len(columns))

    def forward(self, image: torch.Tensor, clinical: torch.Tensor | None = None) -> torch.Tensor:
        """(B, columns) logits."""
        pooled = self.body(image).mean(dim=(2, 3))
        if clinical is not None:
            pooled = torch.cat([pooled, torch.nan_to_num(clinical)], dim=1)
        raw: torch.Tensor = self.head(self.dropout(pooled))
        return raw


def films(count: int, seed: int) -> tuple[Pixels, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Noise, and a bright square in every second image: (n, 1, S, S), its corner x, y, and whether it is there."""
    rng = np.random.default_rng(seed)
    images = rng.integers(20, 90, (count, 1, SIZE, SIZE)).astype(np.uint8)
    corners = rng.integers(0, SIZE - SQUARE, (count, 2))
    truth = (np.arange(count) % 2).astype(np.float64)
    for image, (x, y), is_there in zip(images, corners, truth, strict=True):
        if is_there:
            image[0, y : y + SQUARE, x : x + SQUARE] = 220
    return images, corners, truth


@pytest.fixture(scope="module")
def learned() -> Small:
    """Trained on one film after the other, the first column to see the square and the second to see its absence."""
    torch.manual_seed(0)
    images, _, truth = films(64, 1)
    network = Small().train()
    network.dropout.p = 0.0
    wanted = torch.tensor(np.column_stack([truth, 1 - truth]), dtype=torch.float32)
    shares = torch.from_numpy(images).float() / 255
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(network(shares), wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.1
    return network.eval()


@pytest.fixture
def found(learned: Small) -> dict[str, Any]:
    """A sample table of 40 films in two splits, their images, and what the network says of them."""
    images, corners, truth = films(40, 2)
    boxes = [[{"label": "Mass", "x": x * 2.0, "y": y * 2.0, "w": 16.0, "h": 16.0}] for x, y in corners]
    samples = pd.DataFrame(
        {
            "sample_id": [f"film-{row}" for row in range(40)],
            "group_id": [f"patient {row // 2}" for row in range(40)],
            "split": ["test"] * 30 + ["train"] * 10,
            "width": 2 * SIZE,  # stored at twice the network's size
            "height": 2 * SIZE,
            "boxes_scaled": [own if is_there else None for own, is_there in zip(boxes, truth, strict=True)],
        }
    )
    with torch.no_grad():
        said = torch.sigmoid(learned(torch.from_numpy(images).float() / 255)).numpy().astype(np.float64)
    said[1, 0], said[0, 0] = 0.001, 0.999  # one miss and one false alarm, whatever it learned
    return {
        "images": lambda rows: images[list(rows)],
        "samples": samples,
        "truths": {"Mass": truth, "Nodule": np.where(np.arange(40) == 5, np.nan, 1 - truth)},
        "answers": {"Mass": said[:, :1], "Nodule": said[:, 1:]},
        "recipe": parse(FINDINGS, name="findings", where="a test"),
    }


def test_a_map_is_hot_where_the_square_is(learned: Small) -> None:
    images, corners, truth = films(24, 3)
    heats = saliency.maps(learned, images, None, [0] * 24, batch=5)
    assert heats.shape == (24, SIZE, SIZE)
    assert heats.dtype == np.float32
    assert heats.min() >= 0
    assert heats.max() <= 1
    for heat, (x, y), is_there in zip(heats, corners, truth, strict=True):
        if is_there:
            inside = heat[y : y + SQUARE, x : x + SQUARE]
            assert inside.max() == 1.0
            assert inside.mean() > 3 * heat.mean()


def test_every_image_is_asked_about_its_own_output(learned: Small) -> None:
    images, _, _ = films(6, 4)
    pairs = [(1, 0), (1, 1), (3, 0), (0, 1)]
    together = saliency.maps(learned, images, None, pairs)
    alone = [saliency.maps(learned, images[[row]], None, [column])[0] for row, column in pairs]
    assert np.abs(together - np.stack(alone)).max() < 1e-4
    assert np.abs(together[0] - together[1]).max() > 0.5
    as_shares = saliency.maps(learned, images[[1]].astype(np.float32) / 255, None, [0])
    assert np.array_equal(as_shares[0], saliency.maps(learned, images[[1]], None, [0])[0])


def test_a_map_is_that_of_monai(learned: Small) -> None:
    images, _, _ = films(8, 5)
    own = saliency.maps(learned, images, None, [0, 0, 1, 1, 0, 0, 1, 1])
    theirs = copy.deepcopy(learned)
    theirs.body[4] = nn.ReLU()  # with an activation in place MONAI's hooks raise
    asked = GradCAM(theirs, "body.3", postprocessing=lambda heat: heat)
    spreads = []
    for row, heat in enumerate(own):
        image = torch.from_numpy(images[[row]]).float() / 255
        raw = asked(image, class_idx=row // 2 % 2)[0, 0].detach().numpy()
        spreads.append(raw.max() - raw.min())
        assert heat == pytest.approx((raw - raw.min()) / (spreads[-1] or 1.0), abs=1e-4)
    assert sum(spread > 0 for spread in spreads) >= 4


def test_the_layer_before_an_activation_in_place_can_be_asked() -> None:
    network: Any = DenseNet(2, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2))
    network.cam_layer, network.inputs, network.size = "features.norm5", (), SIZE
    images, _, _ = films(2, 5)
    assert saliency.maps(network, images, None, [0, 1]).shape == (2, SIZE, SIZE)


def test_grad_cam_pp_finds_the_square_too(learned: Small) -> None:
    images, corners, _ = films(8, 6)
    heats = saliency.maps(learned, images, None, [0] * 8, method="gradcam++")
    for heat, (x, y) in zip(heats[1::2], corners[1::2], strict=True):
        assert heat[y : y + SQUARE, x : x + SQUARE].max() == 1.0


def test_the_network_is_left_as_it_was() -> None:
    network = Small(inputs=["age_years", "sex"]).train()
    network.body[1].eval()
    network.head.weight.grad = torch.full_like(network.head.weight, 3.0)
    network.body[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, _, _ = films(3, 7)
    clinical = np.array([[50, 1], [np.nan, 0], [60, np.nan]], np.float32)
    with torch.inference_mode():
        first = saliency.maps(network, images, clinical, [0, 1, 0])
    assert np.array_equal(first, saliency.maps(network, images, clinical, [0, 1, 0]))
    assert [network.training, network.body[1].training, network.dropout.training] == [True, False, True]
    assert torch.equal(network.head.weight.grad, torch.full_like(network.head.weight, 3.0))
    assert network.head.bias.grad is None
    assert not network.body[3]._forward_hooks
    assert not network.body[0].weight.requires_grad
    assert torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_no_pixel_speaks_for_has_a_map_of_zeros() -> None:
    network = Small()
    nn.init.zeros_(network.head.weight)
    images, _, _ = films(2, 8)
    assert not saliency.maps(network, images, None, [0, 1]).any()
    last = network.body[3]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.ones_(last.bias)
    nn.init.ones_(network.head.weight)  # the same everywhere: no place is hotter, though the sum is large
    assert not saliency.maps(network, images, None, [0, 1]).any()
    assert saliency.maps(network, images[:0], None, []).shape == (0, SIZE, SIZE)


def test_what_cannot_be_explained_is_said() -> None:
    network = Small()
    images, _, _ = films(2, 8)
    with pytest.raises(ScanmillError, match="1 columns for 2 images"):
        saliency.maps(network, images, None, [0])
    network.cam_layer = "body.9"
    with pytest.raises(ScanmillError, match="the network has no layer"):
        saliency.maps(network, images, None, [0, 1])
    network.cam_layer = "head"
    with pytest.raises(ScanmillError, match="gives no map"):
        saliency.maps(network, images, None, [0, 1])
    network.cam_layer = "body.3"
    nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(ScanmillError, match="not finite"):
        saliency.maps(network, images, None, [0, 1])


def test_explanations_of_a_split(learned: Small, found: dict[str, Any]) -> None:
    told = explain(learned, split="test", names_samples=True, **found)
    own = told["localisation"]["labels"]["Mass"]
    assert list(told["localisation"]["labels"]) == ["Mass"]
    assert (own["boxes"], own["patients"]) == (15, 15)
    assert own["pointing"] > 0.9
    assert own["above_random"]["low"] > 0.5
    assert own["pointing"] > own["swapped"]["pointing"] + 0.5
    assert told["localisation"]["cells"] == [8, 8]
    kinds = {(entry["sample_id"], entry["question"], entry["kind"]) for entry in told["gallery"]}
    assert {("film-1", "Mass", "worst false negative"), ("film-0", "Mass", "worst false positive")} <= kinds
    assert {entry["split"] for entry in told["gallery"]} == {"test"}
    assert not [entry for entry in told["gallery"] if entry["sample_id"] == "film-5" and entry["question"] == "Nodule"]
    assert {entry["question"] for entry in told["maps"]} == {"Mass", "Nodule"}
    assert "film-1" in {entry["sample_id"] for entry in told["maps"]}  # boxed, and the least sure
    assert len({(entry["sample_id"], entry["question"]) for entry in told["maps"]}) == len(told["maps"])
    assert told["withheld"] is None
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told == explain(learned, split="test", names_samples=True, **found)


def test_pictures_decode_and_leave_the_image_alone(learned: Small, found: dict[str, Any]) -> None:
    told = explain(learned, split="test", names_samples=True, **found)
    for entry in [*told["gallery"], *told["maps"]]:
        picture = decoded(entry["image"])
        side = gallery.SHOWN_PIXELS
        assert picture.width == (2 * side + gallery.MARGIN if entry in told["maps"] else side)
        assert picture.height == side
        assert len(entry["image"]) < 60_000
    row = 4  # no square, so no box
    image = found["images"]([row])[0, 0]
    drawn = np.asarray(decoded(gallery.draw(image)).convert("L"), dtype=np.float64)
    expected = image.repeat(7, axis=0).repeat(7, axis=1)
    assert np.abs(drawn - expected).mean() < 6  # JPEG and nothing else


def test_heat_and_boxes_are_drawn_where_they_are() -> None:
    image = np.full((SIZE, SIZE), 100, np.uint8)
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[:, SIZE // 2 :] = 1
    hot = gallery.heated(image, heat)
    assert (hot[:, : SIZE // 2] == 100).all()
    assert (hot[:, SIZE // 2 :, 0] > 150).all()
    drawn = np.asarray(gallery.framed(image, np.array([[4.0, 8.0, 16.0, 8.0]])))
    rows, columns = np.nonzero((drawn == gallery.OUTLINE).all(axis=2))
    assert (columns.min() // 7, columns.max() // 7, rows.min() // 7, rows.max() // 7) == (4, 19, 8, 15)


def test_nothing_of_a_restricted_dataset_is_shown(learned: Small, found: dict[str, Any], tmp_path: Path) -> None:
    told = explain(learned, split="test", names_samples=False, **found)
    assert (told["gallery"], told["maps"]) == ([], [])
    assert "terms" in told["withheld"]
    assert "film" not in repr(told)
    assert "patient " not in repr(told)
    assert told["localisation"]["labels"]["Mass"]["boxes"] == 15  # a count, of no one
    with pytest.raises(DataRefused, match="forbid showing pictures"):
        annotated(found, tmp_path / "pictures", names_samples=False)
    assert not (tmp_path / "pictures").exists()


def test_mistakes_are_chosen_worst_first_and_one_of_a_patient() -> None:
    samples = pd.DataFrame({"split": ["test"] * 6 + ["train"], "group_id": ["a", "a", "b", "c", "d", "e", "f"]})
    truth = np.array([0, 0, 0, 1, 1, np.nan, 0], dtype=np.float64)
    answer = np.array([0.4, 0.3, 0.1, 0.2, 0.05, 0.99, 0.99])[:, None]
    question = Question("Mass", "label", ("Mass",))
    chosen = gallery.choose(samples, truth, answer, question, "test", 5)
    # Two have it, so the two most probable are said to: both of patient a, of whom one is shown.
    assert [(shown.row, shown.kind, shown.said) for shown in chosen] == [
        (0, "worst false positive", "present"),
        (4, "worst false negative", "absent"),
        (3, "worst false negative", "absent"),
    ]
    at_threshold = gallery.choose(samples, truth, answer, question, "test", 5, threshold=0.15)
    assert [(shown.row, shown.kind) for shown in at_threshold] == [
        (0, "worst false positive"),
        (4, "worst false negative"),
        (3, "right"),
    ]
    assert {shown.threshold for shown in chosen} == {0.3}
    nowhere = gallery.choose(samples, np.zeros(7), answer, question, "test", 5)
    assert nowhere == []  # none has it and none is said to


def test_confusions_go_round_the_pairs_of_classes_and_targets_show_both_sides() -> None:
    samples = pd.DataFrame({"split": "test", "group_id": list("abcdef")})
    question = Question("density", "classes", ("low", "mid", "high"))
    answer = np.array(
        [[0.1, 0.9, 0], [0.2, 0.8, 0], [0.3, 0.0, 0.7], [0.95, 0.05, 0], [0.6, 0.4, 0], [0, 0.5, 0.5]], dtype=np.float64
    )
    truth = np.array([0, 0, 0, 0, 0, 2], dtype=np.float64)
    chosen = gallery.choose(samples, truth, answer, question, "test", 3)
    assert [(s.row, s.kind, s.truth, s.said) for s in chosen] == [
        (0, "confusion", "low", "mid"),
        (2, "confusion", "low", "high"),
        (5, "confusion", "high", "mid"),
        (3, "right", "low", "low"),
        (4, "right", "low", "low"),
    ]
    sizes = np.array([1.0, 5.0, 3.0, 2.0, 0.9, np.nan])
    shown = gallery.choose(samples, np.full(6, 2.0), sizes[:, None], Question("ivsd", "target", ("ivsd",)), "test", 1)
    assert [(s.row, s.kind, s.truth, s.said) for s in shown] == [
        (1, "too high", "2", "5"),
        (4, "too low", "2", "0.9"),
        (3, "right", "2", "2"),
    ]


def test_a_folder_of_annotated_images(found: dict[str, Any], tmp_path: Path) -> None:
    names = annotated(found, tmp_path / "first")
    assert names == [f"film-{row}.jpg" for row in (3, 1, 5)]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(names)
    annotated(found, tmp_path / "second")
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
        with Image.open(tmp_path / "first" / name) as picture:
            assert picture.width == gallery.SHOWN_PIXELS
            strip = np.asarray(picture)[gallery.SHOWN_PIXELS + 4 :]
            assert strip.std() > 20  # there is writing


def test_clinical_inputs_are_read_from_the_sample_table() -> None:
    samples = pd.DataFrame({"age_years": [50.0, None], "sex": ["M", "F"], "meta.BMI": ["22.5", "n/a"]})
    read = clinical_of(samples, ("age_years", "sex", "meta.BMI"))
    assert read == pytest.approx(np.array([[50, 1, 22.5], [np.nan, 0, np.nan]]), nan_ok=True)


def test_pictures_are_bounded_and_every_question_keeps_some(learned: Small, found: dict[str, Any]) -> None:
    labels = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Hernia"]
    unions = "".join(f"\n  any{number}: [Mass, Nodule]" for number in range(20))
    recipe = parse(
        f"dataset: nih-chest-xray\nkind: intensity-baseline\nlabels: {labels}\nunions:{unions}\n"
        f"splits: {{train: train, test: test}}".encode(),
        name="many",
        where="a test",
    )
    names = [question.name for question in recipe.questions()]
    many = {**found, "recipe": recipe}
    many["truths"] = dict.fromkeys(names, found["truths"]["Mass"])
    many["answers"] = dict.fromkeys(names, found["answers"]["Mass"])
    told = explain(learned, split="test", names_samples=True, **many)
    assert len(told["gallery"]) == PICTURES
    assert [name for name in names if name in {entry["question"] for entry in told["gallery"]}] == names
    assert set(told["not_mapped"]) == set(names) - {"Mass", "Nodule"}


def annotated(found: dict[str, Any], folder: Path, *, names_samples: bool = True) -> list[str]:
    """Three films, in an order of one's own."""
    recipe: Recipe = found["recipe"]
    images: Callable[[Sequence[int]], Pixels] = found["images"]
    return write_annotated(
        folder,
        [3, 1, 5],
        images,
        found["samples"],
        found["truths"],
        found["answers"],
        recipe.questions(),
        names_samples=names_samples,
    )


def decoded(uri: str) -> Image.Image:
    """The picture of a data URI."""
    head, _, content = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))
