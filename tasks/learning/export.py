"""A trained model as files that need no scanmill: ONNX, the same in half precision, a TensorRT engine where one can be
built, a script that scores images with them, and export.json, which says what goes in and what comes out.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.code_version import library_versions
from tasks.files import write_bytes, write_json
from tasks.schema import DataRefused, ScanmillError
from tasks.storage import Location, remove

if TYPE_CHECKING:
    import onnx
    import torch

    from tasks.learning.recipe import Question

FORMAT_VERSION = 1
OPSET = 20
"""The newest that torch 2.13's tracing exporter writes; onnxruntime has read it since 1.17."""
TRACED_BATCH = 2
CHECKED_BATCHES = (1, 3, 7)
"""Others than the one that was traced, so that a batch size that was baked in is noticed."""
ALLOWED_DIFFERENCE = 1e-3
"""Of fp32 to torch. Measured are some 1e-6; more is another network."""
PACKAGES = ("onnx", "onnxruntime", "torch", "monai", "numpy")
SCORING = Path(__file__).with_name("score_example.py")
FILES = ("model.onnx", "model_fp16.onnx", "score.py", "export.json")
"""What is always there; example.png and model.plan only where there is an example image, and a TensorRT."""
ENGINE_BATCHES = (1, 8, 64)
"""Least, best and most images at once of a TensorRT engine."""
CAST_SECONDS, BUILD_SECONDS = 600, 1800

Picture = npt.NDArray[np.uint8]
"""(size, size) grey."""
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """What goes in at once when an export is checked."""

    image: Array
    """(n, 1, size, size), share of white."""
    clinical: Array
    """(n, inputs) raw values, NaN unknown; no columns where the model takes images only."""

    def feeds(self) -> dict[str, Array]:
        """By the names of the exported model's inputs."""
        return {"image": self.image, **({"clinical": self.clinical} if self.clinical.shape[1] else {})}


def write(
    scorer: torch.nn.Module,
    folder: Location,
    *,
    columns: Sequence[str],
    questions: Sequence[Question],
    size: int,
    inputs: Sequence[str],
    example: Picture | None = None,
    about: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the export of a scorer to ``folder`` and return the content of its export.json.

    ``scorer(image, clinical)`` takes float32 (n, 1, size, size) in shares of white and (n, inputs) raw values, NaN
    unknown (None where ``inputs`` is empty), and answers float32 (n, columns). ``example`` is (size, size) uint8 that
    may be published beside the model. ``about`` names the run for people. Raises :class:`ScanmillError` where the
    packages are missing or the network cannot be exported, :class:`DataRefused` where onnxruntime does not say what
    torch says.
    """
    insist_on_packages()
    cases = tuple(_cases(size, inputs, example))
    module = _prepared(scorer)
    truth = [_by_torch(module, case) for case in cases]
    _insist_on_answers(truth, columns)
    model = _exported(module, size, inputs, columns)
    single, half = _bytes_of(model), _bytes_of(_halved(model))
    single_difference = _largest_difference(single, cases, truth)
    if single_difference is None or single_difference > ALLOWED_DIFFERENCE:
        raise DataRefused(
            f"{folder / 'model.onnx'} is not written: its answers differ from torch's by "
            f"{'NaN' if single_difference is None else f'{single_difference:.2g}'} (allowed {ALLOWED_DIFFERENCE:g}) "
            f"at batches of {', '.join(map(str, CHECKED_BATCHES))}; does the network decide by shape or by value?"
        )
    engine, tensorrt = _engine(single, half, size, len(inputs))
    content = {
        "format_version": FORMAT_VERSION,
        "about": dict(about or {}),
        "columns": list(columns),
        "questions": [{"name": one.name, "kind": one.kind, "of": list(one.of)} for one in questions],
        "input": {
            "image": "float32 (batch, 1, size, size), 0..1 share of white",
            "clinical": list(inputs),
            "clinical_values": "float32 (batch, inputs), raw; NaN where unknown; sex F=0 M=1; no input where none",
            "geometry": "grey, longer side scaled down to size by area averaging, never enlarged, centred on black",
            "depth": "8 bits: v/255; 16 bits, after scaling: round(v/257)/255, as in training (v/65535 is as good)",
        },
        "size": size,
        "onnx": _entry("model.onnx", single, single_difference),
        "onnx_fp16": _entry("model_fp16.onnx", half, _largest_difference(half, cases, truth)),
        "tensorrt": tensorrt,
        "example": None if example is None else _example(single, example, len(inputs)),
        "versions": {"python": ".".join(map(str, sys.version_info[:2])), **library_versions(PACKAGES)},
    }
    for stale in ("export.json", "model.plan", "example.png"):
        remove(folder / stale)
    write_bytes(folder / "model.onnx", single)
    write_bytes(folder / "model_fp16.onnx", half)
    write_bytes(folder / "score.py", SCORING.read_bytes())
    if engine is not None:
        write_bytes(folder / "model.plan", engine)
    if example is not None:
        write_bytes(folder / "example.png", _png(example))
    write_json(folder / "export.json", content)  # last: it says that all the others are there
    return content


def insist_on_packages() -> None:
    """Raise :class:`ScanmillError` where what an export needs is not installed."""
    missing = [name for name in ("torch", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ScanmillError(f"an export needs {' and '.join(missing)}: pip install 'scanmill[learn]'")


def _cases(size: int, inputs: Sequence[str], example: Picture | None) -> Iterator[Case]:
    """The example and its mirror image, coarse blocks, and noise; clinical values with gaps.

    No plain black or white: a network that never saw such may answer in thousands, where single precision rounds away
    what is compared (measured: 5.6 of 4,230, EfficientNet-B0, batch norms settled on noise).
    """
    random = np.random.default_rng(0)
    for batch in CHECKED_BATCHES:
        image = random.random((batch, 1, size, size), dtype=np.float32)
        real = [] if example is None else [example, example[:, ::-1]]
        known = [np.asarray(one, np.float32) / np.float32(255) for one in real]
        coarse = np.kron(random.random((8, 8), dtype=np.float32), np.ones((-(-size // 8),) * 2, np.float32))
        for place, one in enumerate([*known, coarse[:size, :size]][:batch]):
            image[place, 0] = one
        clinical = (
            np.stack([_likely(name, random, batch) for name in inputs], axis=1) if inputs else np.zeros((batch, 0))
        )
        clinical[random.random(clinical.shape) < 0.3] = np.nan
        clinical[-1] = np.nan  # the one of a batch of 1 as well
        yield Case(image, clinical.astype(np.float32))


def _likely(name: str, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Values that a clinical input may have."""
    return random.integers(0, 2, count).astype(float) if name == "sex" else random.uniform(18, 90, count)


def _prepared(scorer: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU, for inference; EfficientNet's swish without the autograd function, which no exporter knows."""
    module = copy.deepcopy(scorer).cpu().float().eval().requires_grad_(False)
    for part in module.modules():
        choose = getattr(part, "set_swish", None)
        if callable(choose):
            choose(memory_efficient=False)
    return module


def _by_torch(module: torch.nn.Module, case: Case) -> Array:
    import torch

    with torch.inference_mode():
        clinical = torch.from_numpy(case.clinical) if case.clinical.shape[1] else None
        answers: Array = module(torch.from_numpy(case.image), clinical).numpy()
    return answers


def _insist_on_answers(answers: Sequence[Array], columns: Sequence[str]) -> None:
    """Raise :class:`DataRefused` for a scorer whose answers are of another form than was said, or no numbers."""
    wrong = next((one.shape for one in answers if one.ndim != 2 or one.shape[1] != len(columns)), None)
    if wrong is not None:
        raise DataRefused(f"the model answers {wrong}, but {len(columns)} columns are named: {', '.join(columns)}")
    unknown = np.flatnonzero(~np.isfinite(np.concatenate(list(answers))).all(axis=0))
    if len(unknown):
        said = ", ".join(columns[int(place)] for place in unknown)
        raise DataRefused(
            f"the model does not answer {said} with a number for every image: has it diverged? train again"
        )


def _exported(module: torch.nn.Module, size: int, inputs: Sequence[str], columns: Sequence[str]) -> onnx.ModelProto:
    """The network as ONNX, any batch size.

    By tracing (``dynamo=False``): 1–2 s where the exporter by ``torch.export`` takes 9–36 s, the same answers, no
    places of source files in the graph, and no onnxscript (measured, torch 2.13, three networks).
    """
    import onnx
    import torch

    values: tuple[Any, ...] = (torch.rand(TRACED_BATCH, 1, size, size, generator=torch.Generator().manual_seed(0)),)
    names = ["image"]
    if inputs:
        gap = torch.full((1, len(inputs)), float("nan"))
        values += (torch.cat([torch.ones(TRACED_BATCH - 1, len(inputs)), gap]),)
        names.append("clinical")
    else:
        values += (None,)
    try:
        with tempfile.TemporaryDirectory(prefix="scanmill-export-") as temporary, _quiet(), torch.inference_mode():
            traced = Path(temporary, "model.onnx")
            torch.onnx.export(
                module,
                values,
                traced,
                dynamo=False,
                input_names=names,
                output_names=["answers"],
                dynamic_axes={name: {0: "batch"} for name in (*names, "answers")},
                opset_version=OPSET,
            )
            model = onnx.load(traced)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ScanmillError(f"the network cannot be exported to ONNX (opset {OPSET}): {_ending(str(error))}") from error
    said = {"columns": list(columns), "clinical": list(inputs), "size": size}
    onnx.helper.set_model_props(model, {f"scanmill.{name}": json.dumps(value) for name, value in said.items()})
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecation, and of constants in the tracing that the check would notice."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with weights and images in half precision; inputs and outputs stay float32.

    What deals with clinical values stays in single precision, for a platelet count is beyond fp16 (65,504), and so does
    what comes after the last layer with weights: probabilities would lose digits there, and nothing be won.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    single = copy.deepcopy(model)
    with _quiet():
        converted = convert_float_to_float16(single, keep_io_types=True, node_block_list=_delicate(single.graph))
        _cast_only_once(converted)
        ordered = OnnxModel(converted)
        ordered.topological_sort(is_deterministic=True)  # casts were added at the end
    half: onnx.ModelProto = ordered.model
    return half


def _delicate(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that stay in single precision, with the constants that only they use."""
    of_image, of_clinical = _reached(graph, "image"), _reached(graph, "clinical")
    before_weights, used = set[str](), set[str]()
    found = []
    for node in reversed(graph.node):  # against the order of computation
        has_weights = node.op_type in ("Conv", "Gemm", "MatMul")
        is_before = not before_weights.isdisjoint(node.output)
        if has_weights or is_before:
            before_weights.update(node.input)
        is_late = not has_weights and not is_before
        is_constant = of_image.isdisjoint(node.output) and of_clinical.isdisjoint(node.output)
        is_clinical = of_image.isdisjoint(node.output) and not is_constant
        if is_late or is_clinical or (is_constant and used.isdisjoint(node.output)):
            found.append(node.name)
        else:
            used.update(node.input)
    return found


def _cast_only_once(model: onnx.ModelProto) -> None:
    """Undo float32 to half and back to float32, which the converter puts around what stays in single precision."""
    import onnx

    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    graph = onnx.shape_inference.infer_shapes(model).graph
    kind = {one.name: one.type.tensor_type.elem_type for one in (*graph.input, *graph.value_info)}
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    for node in casts.values():
        before = casts.get(node.input[0])
        if before is not None and (node.attribute[0].i, before.attribute[0].i) == (single, half):
            origin = before.input[0]
            if kind.get(origin) == single:
                node.input[0] = origin
    used = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    for name, node in casts.items():
        if name not in used:
            model.graph.node.remove(node)


def _reached(graph: onnx.GraphProto, name: str) -> set[str]:
    """All values that depend on an input."""
    found = {name}
    for node in graph.node:
        if not found.isdisjoint(node.input):
            found.update(node.output)
    return found


def _bytes_of(model: onnx.ModelProto) -> bytes:
    """One checked file; no notes of where and when, so that the same network gives the same bytes."""
    import onnx

    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.value_info[:]  # shapes and types of what lies between: readers infer them
    for node in model.graph.node:
        node.doc_string = ""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ScanmillError(f"the exported network is no valid ONNX: {_ending(str(error))}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def session_of(content: bytes, threads: int = 1) -> Any:
    """A model opened by onnxruntime on the CPU; one thread adds up in one order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _largest_difference(content: bytes, cases: Sequence[Case], truth: Sequence[Array]) -> float | None:
    """Largest |a − b| / max(1, |b|) to torch, to two digits; None where an answer is no number."""
    session = session_of(content)
    largest = 0.0
    for case, expected in zip(cases, truth, strict=True):
        answers = session.run(["answers"], case.feeds())[0]
        if not np.isfinite(answers).all():
            return None
        largest = max(largest, float((np.abs(answers - expected) / np.maximum(1, np.abs(expected))).max()))
    return float(f"{largest:.2g}")


def _entry(path: str, content: bytes, difference: float | None) -> dict[str, Any]:
    entry = {
        "path": path,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": OPSET,
        "max_difference": difference,
        "checked_batches": list(CHECKED_BATCHES),
    }
    if difference is None:
        entry["reason"] = "some of its answers are no numbers: a value within the network is beyond fp16 (65,504)"
    return entry


def _example(single: bytes, example: Picture, inputs: int) -> dict[str, Any]:
    """The picture that goes along, and what the model says of it where no clinical value is known."""
    image = np.asarray(example, np.float32)[None, None] / np.float32(255)
    case = Case(image, np.full((1, inputs), np.nan, np.float32))
    answers = session_of(single).run(["answers"], case.feeds())[0][0]
    said = [float(f"{value:.6g}") for value in answers]
    return {"path": "example.png", "clinical": [None] * inputs, "answers": said}


def _png(example: Picture) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(example)).save(buffer, "PNG")
    return buffer.getvalue()


def _engine(single: bytes, half: bytes, size: int, inputs: int) -> tuple[bytes | None, dict[str, Any]]:
    """A TensorRT engine for this machine's GPU, and its entry in export.json, which gives the reason for none.

    TensorRT 11 takes its precision from the graph. NVIDIA's autocast lowers it where it is installed, else the fp16
    graph is taken as it is.
    """
    if shutil.which("trtexec") is None:
        return None, {
            "engine": None,
            "reason": "trtexec is not on PATH: there is no TensorRT on the machine that exported",
        }
    with tempfile.TemporaryDirectory(prefix="scanmill-tensorrt-") as temporary:
        place = Path(temporary)
        (place / "model.onnx").write_bytes(single)
        (place / "half.onnx").write_bytes(half)
        origin = "model_fp16.onnx (nvidia-modelopt is not installed)"
        if importlib.util.find_spec("modelopt") is not None:
            module = (sys.executable, "-m", "modelopt.onnx.autocast", "--keep_io_types")
            cast = (*module, "--onnx_path", "model.onnx", "--output_path", "half.onnx")
            failure = _failure(cast, place, CAST_SECONDS)
            if failure:
                return None, {"engine": None, "reason": failure}
            origin = "model.onnx by modelopt.onnx.autocast"
        build = ("trtexec", "--onnx=half.onnx", "--saveEngine=model.plan", *engine_shapes(size, inputs))
        failure = _failure(build, place, BUILD_SECONDS)
        if failure or not (place / "model.plan").is_file():
            return None, {"engine": None, "reason": failure or "trtexec ended well, but wrote no engine"}
        return (place / "model.plan").read_bytes(), {"engine": "model.plan", "reason": f"built from {origin}"}


def engine_shapes(size: int, inputs: int) -> tuple[str, ...]:
    """trtexec's arguments for a batch of any of the sizes that an engine is built for."""
    return tuple(
        f"--{word}Shapes=image:{batch}x1x{size}x{size}" + (f",clinical:{batch}x{inputs}" if inputs else "")
        for word, batch in zip(("min", "opt", "max"), ENGINE_BATCHES, strict=True)
    )


def _failure(command: Sequence[str], folder: Path, seconds: float) -> str | None:
    """What went wrong with a command, in words with the end of what it said; None where nothing did."""
    name = "modelopt.onnx.autocast" if "modelopt.onnx.autocast" in command else Path(command[0]).name
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"{name} was ended after {seconds:,.0f} s"
    except OSError as error:
        return f"{name} cannot be run: {error}"
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).decode(errors="replace")
        return f"{name} failed (exit code {ended.returncode}): {_ending(said.replace(str(folder), '.'))}"
    return None


def _ending(said: str) -> str:
    """The last words of an error, on one line."""
    return " ".join(said.split())[-400:]
