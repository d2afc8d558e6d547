"""Exports: what onnxruntime says is what torch says, and the script beside it needs no scanmill."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd
import pytest
import torch
from monai.networks.nets import DenseNet, EfficientNetBN
from PIL import Image
from torch import Tensor, nn

from scanmill.images import at_depth, fitted
from tasks.learning import export, score_example
from tasks.learning.networks import Network, Scorer
from tasks.learning.prediction_csv import to_csv
from tasks.learning.reading import decode
from tasks.learning.recipe import Question, parse
from tasks.schema import DataRefused, ScanmillError

SIDE = 64
DENSITY = Question("density", "classes", ("Low", "High"))
QUESTIONS = (Question("Effusion", "label", ("Effusion",)), DENSITY, Question("wall", "target", ("wall",)))
COLUMNS = ("Effusion", "density.Low", "density.High", "wall")
INPUTS = ("age_years", "sex", "platelets")


class Small(nn.Module):
    """A backbone, clinical values with gaps, and a head for each kind of question."""

    spread: Tensor

    def __init__(self, backbone: nn.Module, inputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(8 + 2 * inputs, 4)
        self.register_buffer("spread", torch.tensor([30.0, 1.0, 250_000.0][:inputs]))

    def forward(self, image: Tensor, clinical: Tensor | None) -> Tensor:
        seen = [self.backbone((image.expand(-1, 3, -1, -1) - 0.5) / 0.25)]
        if clinical is not None:
            is_known = ~torch.isnan(clinical)
            seen += [torch.where(is_known, clinical / self.spread, torch.zeros_like(clinical)), is_known.float()]
        raw = self.head(torch.cat(seen, dim=1))
        return torch.cat([torch.sigmoid(raw[:, :1]), torch.softmax(raw[:, 1:3], dim=1), 40 + 9 * raw[:, 3:]], dim=1)


class DecidesByShape(nn.Module):
    """Answers one thing for batches of the size that is traced, and another for all others."""

    def forward(self, image: Tensor, clinical: Tensor | None) -> Tensor:
        mean = image.mean(dim=(1, 2, 3), keepdim=False).unsqueeze(1)
        return mean if len(image) == export.TRACED_BATCH else mean + 0.1


class Diverged(nn.Module):
    """Knows the first column only."""

    def forward(self, image: Tensor, clinical: Tensor | None) -> Tensor:
        mean = image.mean(dim=(1, 2, 3)).unsqueeze(1)
        return torch.cat([mean, mean * float("nan")], dim=1)


def densenet() -> nn.Module:
    torch.manual_seed(0)
    return DenseNet(2, 3, 8, init_features=16, growth_rate=8, block_config=(2, 2))


def scan(side: int = SIDE) -> npt.NDArray[np.uint8]:
    """A picture with large and small things in it."""
    noise = np.random.default_rng(3).integers(0, 256, (side, side)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 2), np.uint8)


@pytest.fixture(scope="module")
def scorer() -> nn.Module:
    return Small(densenet(), len(INPUTS)).eval()


@pytest.fixture(scope="module")
def exported(scorer: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "export"
    write(scorer, folder, example=scan())
    return folder


def write(scorer: nn.Module, folder: Path, inputs: tuple[str, ...] = INPUTS, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"columns": COLUMNS, "questions": QUESTIONS, "size": SIDE, **more}
    return export.write(scorer, folder, inputs=inputs, **given)


def about(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "export.json").read_text()))


def score(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The exported script, in a process that finds no scanmill."""
    command = [sys.executable, "-P", str(folder / "score.py"), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def by_torch(scorer: nn.Module, pixels: npt.NDArray[Any], clinical: list[float]) -> npt.NDArray[np.float32]:
    """Answers for one image (side, side)."""
    share = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    with torch.inference_mode():
        answers = scorer(torch.from_numpy(share)[None, None], torch.tensor([clinical]))
    return np.asarray(answers[0])


def test_onnx_answers_as_torch_does_at_any_batch_size_with_gaps(exported: Path, scorer: nn.Module) -> None:
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    random = np.random.default_rng(9)
    for batch in (1, 2, 5):
        image = random.random((batch, 1, SIDE, SIDE), dtype=np.float32)
        clinical = np.array([[57, 0, 250_000], [np.nan, 1, np.nan], [30, np.nan, 90_000]] * 2, np.float32)[:batch]
        (answers,) = session.run(None, {"image": image, "clinical": clinical})
        with torch.inference_mode():
            expected = scorer(torch.from_numpy(image), torch.from_numpy(clinical)).numpy()
        assert answers.shape == (batch, len(COLUMNS))
        np.testing.assert_allclose(answers, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_is_smaller_and_nearly_the_same_although_a_value_is_beyond_it(
    exported: Path, scorer: nn.Module
) -> None:
    session = onnxruntime.InferenceSession(str(exported / "model_fp16.onnx"))
    image = scan()[None, None].astype(np.float32) / 255
    answers = [
        session.run(None, {"image": image, "clinical": np.array([[57, 1, count]], np.float32)})[0][0]
        for count in (90_000, 400_000)
    ]
    for one, count in zip(answers, (90_000, 400_000), strict=True):
        np.testing.assert_allclose(one, by_torch(scorer, scan(), [57, 1, count]), atol=5e-3, rtol=5e-3)
    assert abs(answers[0] - answers[1]).max() > 0.02
    said = about(exported)
    assert 0 < said["onnx_fp16"]["max_difference"] < 5e-3
    assert said["onnx_fp16"]["bytes"] < 0.75 * said["onnx"]["bytes"]


def test_export_json_says_what_lies_there(exported: Path) -> None:
    said = about(exported)
    assert sorted(path.name for path in exported.iterdir()) == sorted([*export.FILES, "example.png"])
    for key in ("onnx", "onnx_fp16"):
        content = (exported / said[key]["path"]).read_bytes()
        assert said[key]["sha256"] == hashlib.sha256(content).hexdigest()
        assert said[key]["bytes"] == len(content)
    assert said["onnx"]["max_difference"] <= 1e-5
    assert 2 not in said["onnx"]["checked_batches"]
    assert said["columns"] == list(COLUMNS)
    assert said["questions"][1] == {"name": "density", "kind": "classes", "of": ["Low", "High"]}
    assert said["input"]["clinical"] == list(INPUTS)


def test_the_same_network_gives_the_same_bytes_in_another_process(exported: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.test_export import *\n"
        "write(Small(densenet(), len(INPUTS)).eval(), Path(sys.argv[1]), example=scan())"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parent.parent)
    for path in exported.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_scorer_itself_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, num_classes=8)
    own = Small(net, 0)
    own.train()
    said = write(own, tmp_path, inputs=())
    assert own.training
    assert type(net._swish).__name__ == "MemoryEfficientSwish"
    assert said["onnx"]["max_difference"] <= 1e-4
    assert said["example"] is None
    assert [one.name for one in onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_inputs()] == ["image"]


GAUSSIAN = b"""
dataset: chexchonet
kind: network
labels: [slvh, dlv, composite_slvh_dlv]
targets: [ivsd, lvpwd, lvidd]
splits: {train: train, validation: validation, test: test}
network:
  architecture: densenet-small
  size: 64
  inputs: [age_years, sex]
  is_gaussian: true
  derived:
    slvh: {above: {ivsd: {F: 1.4, M: 1.5}, lvpwd: {F: 1.4, M: 1.5}}}
    dlv: {above: {lvidd: {F: 5.2, M: 5.8}}}
    composite_slvh_dlv: {any_of: [slvh, dlv]}
training: {}
"""


def test_a_recipe_s_scorer_with_gaussian_answers_and_derived_labels_is_exported_whole(tmp_path: Path) -> None:
    recipe = parse(GAUSSIAN, name="made-up", where="made-up.yaml")
    torch.manual_seed(0)
    whole = Scorer(Network(recipe), recipe).eval()
    said = write(whole, tmp_path, whole.network.inputs, columns=whole.answer_columns, questions=whole.questions)
    assert said["onnx"]["max_difference"] <= 1e-5
    assert said["onnx_fp16"]["max_difference"] <= 0.01
    Image.fromarray(scan()).save(tmp_path / "film.png")
    ended = score(tmp_path, "film.png", "--csv", "out.csv", "--sex", "M")
    assert ended.returncode == 0, ended.stderr
    (row,) = rows_of(tmp_path / "out.csv")
    expected = by_torch(whole, scan(), [np.nan, 1])
    np.testing.assert_allclose([float(cell) for cell in list(row.values())[1:]], expected, rtol=1e-4)


def test_a_network_that_decides_by_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"differ from torch's by 0\.1 .*decide by shape"):
        write(DecidesByShape(), tmp_path, inputs=(), columns=("wall",), questions=QUESTIONS[2:])
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_answer_with_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="does not answer wall with a number"):
        write(Diverged(), tmp_path, inputs=(), columns=("Effusion", "wall"), questions=QUESTIONS[::2])
    with pytest.raises(DataRefused, match=r"answers .*, 2.*but 1 columns are named: wall"):
        write(Diverged(), tmp_path, inputs=(), columns=("wall",), questions=QUESTIONS[2:])


def test_a_network_that_onnx_cannot_say_is_refused_in_words(tmp_path: Path) -> None:
    class Unsayable(nn.Module):
        def forward(self, image: Tensor, clinical: Tensor | None) -> Tensor:
            answers: Tensor = torch.special.i1e(image.mean(dim=(1, 2, 3))).unsqueeze(1)
            return answers

    with pytest.raises(ScanmillError, match=r"cannot be exported to ONNX .*i1e"):
        write(Unsayable(), tmp_path, inputs=(), columns=("wall",), questions=QUESTIONS[2:])


def test_without_trtexec_there_is_no_engine_and_the_reason_is_told(exported: Path) -> None:
    said = about(exported)["tensorrt"]
    assert said["engine"] is None
    assert "trtexec is not on PATH" in said["reason"]


@pytest.mark.parametrize(
    ("script", "engine", "reason"),
    [
        ('for a; do case "$a" in --saveEngine=*) echo "$@" > "${a#*=}";; esac; done', "model.plan", "built from"),
        ("echo 'no CUDA device' >&2; exit 3", None, "trtexec failed (exit code 3): no CUDA device"),
        ("exit 0", None, "wrote no engine"),
        ("exec sleep 60", None, "trtexec was ended after 1 s"),
    ],
)
def test_an_engine_is_built_where_trtexec_is(
    scorer: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, engine: str | None, reason: str
) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "trtexec"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(export, "BUILD_SECONDS", 1 if "sleep" in script else 60)
    said = write(scorer, tmp_path / "export")["tensorrt"]
    assert said["engine"] == engine
    assert reason in said["reason"]
    if engine:
        asked = (tmp_path / "export" / engine).read_text()
        assert f"--minShapes=image:1x1x{SIDE}x{SIDE},clinical:1x3" in asked
        assert "--onnx=half.onnx" in asked


def test_score_imports_nothing_but_what_it_says() -> None:
    tree = ast.parse(export.SCORING.read_text())
    found = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert found - set(sys.stdlib_module_names) == {"numpy", "PIL", "onnxruntime"}


def test_score_says_of_a_large_image_what_torch_says_of_it_as_training_sees_it(
    exported: Path, scorer: nn.Module, tmp_path: Path
) -> None:
    large = scan(300)[:221]
    for name, pixels in (("a.png", large), ("b.png", large.astype(np.uint16) * 257)):
        cv2.imwrite(str(tmp_path / name), pixels)
    table = tmp_path / "out.csv"
    ended = score(exported, tmp_path / "a.png", tmp_path / "b.png", "--age", 57, "--sex", "F", "--csv", table)
    assert ended.returncode == 0, ended.stderr
    expected = by_torch(scorer, fitted(large, SIDE), [57, 0, np.nan])
    for row in rows_of(table):
        given = [float(row[name]) for name in row if name.startswith(("probability", "predicted."))]
        np.testing.assert_allclose(given, expected, atol=1e-3, rtol=1e-4)
        assert row["predicted_label"] == DENSITY.of[int(expected[1:3].argmax())]
    exact = [float(rows_of(table)[0][f"probability.{name}"]) for name in COLUMNS[:3]]
    np.testing.assert_allclose(exact, expected[:3], atol=2e-6)


def test_score_prints_words_and_checks_itself(exported: Path) -> None:
    ended = score(exported, "example.png", "--sex", "M", "--clinical", "platelets=250000")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("example.png\n  probability.Effusion")
    for more in ((), ("--fp16",)):
        ended = score(exported, "--check", *more)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("same answers as at export")


def test_score_notices_another_model_than_the_exported(exported: Path, scorer: nn.Module, tmp_path: Path) -> None:
    write(scorer, tmp_path, example=scan())
    said = about(tmp_path)
    said["example"]["answers"][0] += 0.01
    (tmp_path / "export.json").write_text(json.dumps(said))
    ended = score(tmp_path, "--check")
    assert ended.returncode == 1
    assert ended.stdout.startswith("OTHER answers")


def test_an_export_that_is_written_again_leaves_nothing_of_the_last(scorer: nn.Module, tmp_path: Path) -> None:
    write(scorer, tmp_path, example=scan())
    (tmp_path / "model.plan").write_bytes(b"an engine of the last network")
    write(scorer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(export.FILES)
    assert "no example image" in score(tmp_path, "--check").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no image is given"),
        (("missing.png",), "missing.png is not there"),
        (("score.py",), "score.py is no image"),
        (("example.png", "--clinical", "bmi=20"), "does not take bmi; it takes age_years, sex, platelets"),
        (("example.png", "--clinical", "platelets=many"), "with a number for VALUE"),
    ],
)
def test_score_refuses_in_words(exported: Path, arguments: tuple[str, ...], words: str) -> None:
    ended = score(exported, *arguments)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def saved(pixels: npt.NDArray[Any], path: Path, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_pictures_of_all_kinds_become_the_grey_that_training_reads(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(score_example.opened(saved(colour, tmp_path / "rgb.png")), luma)
    np.testing.assert_array_equal(score_example.opened(saved(colour, tmp_path / "rgba.png", "RGBA")), luma)
    few = (colour // 128) * 255
    palette = saved(few, tmp_path / "palette.png", "P")
    np.testing.assert_array_equal(score_example.opened(palette), decode(palette.read_bytes()))
    deep = (luma.astype(np.uint16) * 200) + 7
    np.testing.assert_array_equal(score_example.opened(saved(deep, tmp_path / "deep.png")), deep)
    jpeg = saved(luma, tmp_path / "grey.jpg")
    np.testing.assert_array_equal(score_example.opened(jpeg), decode(jpeg.read_bytes()))


def test_pictures_that_would_have_to_be_guessed_at_are_refused_in_words(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (40, 30, 4)).astype(np.uint8)
    with pytest.raises(score_example.Refused, match="transparent here and there"):
        score_example.opened(saved(colour, tmp_path / "alpha.png"))
    cv2.imwrite(str(tmp_path / "deep.png"), colour[..., :3].astype(np.uint16) * 257)
    with pytest.raises(score_example.Refused, match=r"colour.*at 16 bits"):
        score_example.opened(tmp_path / "deep.png")
    whole = saved(scan(), tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(score_example.Refused, match="cannot be decoded"):
        score_example.opened(tmp_path / "half.png")
    frames = [Image.fromarray(scan()), Image.fromarray(255 - scan())]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(score_example.Refused, match="2 frames"):
        score_example.opened(tmp_path / "two.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(300, 221), (221, 300), (64, 64), (128, 128), (20, 31)])
def test_the_model_is_given_what_the_training_reader_gives(
    tmp_path: Path, shape: tuple[int, int], kind: type[Any]
) -> None:
    pixels = np.random.default_rng(5).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    cv2.imwrite(str(tmp_path / "image.png"), pixels)
    expected = at_depth(fitted(pixels, SIDE), 8).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(score_example.prepared(tmp_path / "image.png", SIDE)[0], expected)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("height", "width"), [(1024, 1024), (448, 448), (672, 448), (672, 672), (300, 225), (225, 3), (1000, 1), (449, 448)]
)
def test_area_averages_are_those_of_opencv_to_the_last_bit(kind: type[Any], height: int, width: int) -> None:
    pixels = np.random.default_rng(height).integers(0, np.iinfo(kind).max + 1, (height, width)).astype(kind)
    scale = 224 / max(height, width)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    expected = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(
        score_example.area_averaged(pixels, target[1], target[0]), expected.reshape(target[::-1])
    )


SAMPLES = pd.DataFrame({"sample_id": ["x1", "x2"], "member": ["images/a, b.png", "images/deep/c.png"]})
ANSWERS = {
    "Effusion": np.array([[0.25], [0.75]]),
    "density": np.array([[0.5, 0.5], [0.1, 0.9]]),
    "wall": np.array([[9.1234567], [np.nan]]),
}


def test_predictions_as_csv_have_published_names_labels_and_probabilities() -> None:
    table = to_csv(SAMPLES, QUESTIONS, ANSWERS, thresholds={"Effusion": 0.75})
    assert table.decode().splitlines() == [
        "image_name,sample_id,probability.Effusion,present.Effusion,predicted_label,"
        "probability.density.Low,probability.density.High,predicted.wall",
        '"a, b.png",x1,0.25,0,Low,0.5,0.5,9.12346',
        "c.png,x2,0.75,1,High,0.1,0.9,",
    ]


def test_questions_that_were_not_answered_have_empty_columns_and_two_of_classes_have_names() -> None:
    questions = (DENSITY, Question("view", "classes", ("AP", "PA")))
    table = to_csv(SAMPLES, questions, {"density": ANSWERS["density"]}, ["one", "two"])
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert [row["image_name"] for row in rows] == ["one", "two"]
    assert [row["predicted_label.density"] for row in rows] == ["Low", "High"]
    assert {row[name] for row in rows for name in ("predicted_label.view", "probability.view.AP")} == {""}


def test_csv_and_score_name_their_columns_alike(exported: Path) -> None:
    heading = to_csv(SAMPLES, QUESTIONS, ANSWERS).decode().splitlines()[0].split(",")
    assert heading[2:] == score_example.headings(about(exported))[1:]
