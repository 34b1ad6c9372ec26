"""`predict` as scripts for a Mac call it: pictures, scalars, classes, optional inputs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mil
from mil.compile import compile_package
from mil.package import read_package
from mil.schema import Model_pb2

Save = Callable[..., Path]


@pytest.fixture(scope="session")
def classifier(ct: Any, save: Save) -> Path:
    """Three classes; the input is their scores."""
    import torch

    traced = torch.jit.trace(torch.nn.Softmax(dim=1), torch.zeros(1, 3))
    classes = ct.ClassifierConfig(["cat", "dog", "owl"], predicted_feature_name="animal")
    return save(traced, "classifier", inputs=[ct.TensorType("scores", (1, 3))], classifier_config=classes)


def test_a_classifier_gives_its_label_and_probabilities(classifier: Path) -> None:
    """The label as a string, the probability of each class by its name."""
    program = mil.load(classifier)
    found = program.predict({"scores": np.float32([[1, 3, 2]])})
    label, probabilities = found["animal"], next(value for value in found.values() if isinstance(value, dict))
    assert label == "dog"
    expected = np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    assert list(probabilities) == ["cat", "dog", "owl"]
    np.testing.assert_allclose(list(probabilities.values()), expected, rtol=1e-6)


def test_a_numbered_class_is_a_number(ct: Any, save: Save) -> None:
    """The label is an int where the classes are, also from a bundle."""
    import torch

    traced = torch.jit.trace(torch.nn.Softmax(dim=1), torch.zeros(1, 3))
    classes = ct.ClassifierConfig([10, 20, 30], predicted_feature_name="kind")
    path = save(traced, "numbered", inputs=[ct.TensorType("scores", (1, 3))], classifier_config=classes)
    for model in (path, compile_package(str(path), str(path.parent)).path):
        found = mil.load(model).predict({"scores": np.float32([[1, 3, 2]])})
        assert type(found["kind"]) is int
        assert found["kind"] == 20
        assert list(next(value for value in found.values() if isinstance(value, dict))) == [10, 20, 30]


@pytest.fixture(scope="session", params=["RGB", "BGR", "GRAYSCALE"])
def picture(request: pytest.FixtureRequest, ct: Any, save: Save) -> tuple[str, Path]:
    """A program that takes a picture of 3 by 2 and returns its numbers, halved and less 1."""
    import torch

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1.0

    layout = request.param
    shape = (1, 1 if layout == "GRAYSCALE" else 3, 2, 3)
    traced = torch.jit.trace(Same(), torch.zeros(shape))
    bias = -1.0 if layout == "GRAYSCALE" else [-1.0] * 3
    image = ct.ImageType("x", shape, scale=0.5, bias=bias, color_layout=getattr(ct.colorlayout, layout))
    return layout, save(traced, f"picture_{layout}", inputs=[image], outputs=[ct.TensorType("y")])


def test_a_picture_is_taken_in_the_declared_layout(picture: tuple[str, Path]) -> None:
    """A PIL image, in whatever mode it is, and the array that Core ML would make of it give the same."""
    image_module = pytest.importorskip("PIL.Image")
    layout, path = picture
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    image = image_module.fromarray(pixels)
    program = mil.load(path)
    if layout == "GRAYSCALE":
        array = np.asarray(image.convert("L"), np.float32)[None, None]
    else:
        array = np.float32(pixels if layout == "RGB" else pixels[..., ::-1]).transpose(2, 0, 1)[None]
    found = program.predict({"x": image})["y"]
    np.testing.assert_array_equal(found, array * 0.5 - 1)
    np.testing.assert_array_equal(program.run({"x": array})["y"], found)


def test_a_picture_of_wide_grays_keeps_them(ct: Any, save: Save) -> None:
    """Core ML takes PIL's mode F where 8 bits are too few."""
    import torch

    image_module = pytest.importorskip("PIL.Image")
    shape, gray = (1, 1, 2, 3), ct.colorlayout.GRAYSCALE_FLOAT16
    path = save(
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(shape)),
        "wide_grays",
        inputs=[ct.ImageType("x", shape, color_layout=gray)],
        outputs=[ct.ImageType("y", color_layout=gray)],
        compute_precision=ct.precision.FLOAT16,
    )
    pixels = np.float32([[0.25, 300.5, 0], [1, 2.125, 1000]])
    found = mil.load(path).predict({"x": image_module.fromarray(pixels)})["y"]
    np.testing.assert_array_equal(found[0, 0], pixels)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": [[1, 2], [3]]}, "input `x`: expected fp32[1, 2, 10], found a list that is no array"),
        ({1: 0}, "input `1`: the program has `x`"),
        ({"x": None}, "input `x`: expected fp32[1, 2, 10], found a shape of []"),
    ],
)
def test_what_is_no_input_is_one_sentence(small_network: Path, inputs: Any, said: str) -> None:
    """Uneven lists, names that are no names, nothing."""
    with pytest.raises(mil.MilError, match=re.escape(said)):
        mil.load(small_network).predict(inputs)


@pytest.fixture
def optional(small_network: Path, tmp_path: Path) -> Path:
    """The small network with its input made optional: 0.5 everywhere where it is left out."""
    spec = Model_pb2.Model()
    package = read_package(small_network)
    spec.CopyFrom(package.spec)
    kind = spec.description.input[0].type
    kind.isOptional = True
    kind.multiArrayType.floatDefaultValue = 0.5
    from mil.package import write_package

    weights = "weights/weight.bin"
    write_package(spec, {weights: package.blob_path(f"@model_path/{weights}")}, tmp_path / "optional.mlpackage")
    return tmp_path / "optional.mlpackage"


def test_an_optional_input_has_its_default(optional: Path) -> None:
    """The value that the description gives, in its default shape."""
    program = mil.load(optional)
    expected = program.predict({"x": np.full((1, 2, 10), 0.5, np.float32)})["y"]
    np.testing.assert_array_equal(program.predict({})["y"], expected)


def test_a_scalar_is_a_tensor_of_one_element(ct: Any, save: Save) -> None:
    """Where the program wants one element, a number will do."""
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(1,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.add(x=x, y=1.0, name="y")

    loaded = mil.load(save(program, "scalar"))
    np.testing.assert_array_equal(loaded.predict({"x": 2})["y"], [3])
    np.testing.assert_array_equal(loaded.predict({"x": 2.5})["y"], [3.5])


@pytest.mark.parametrize(
    "awkward",
    [
        lambda x: x[:, ::-1],
        lambda x: np.asfortranarray(x),
        lambda x: np.broadcast_to(x[:, :1], x.shape),
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float16),
        lambda x: x.tolist(),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    ],
    ids=["backwards", "columns first", "broadcast", "big-endian", "fp16", "lists", "unaligned and read-only"],
)
def test_inputs_of_any_layout_are_taken(small_network: Path, awkward: Callable[[np.ndarray], Any]) -> None:
    """Whatever numpy can view, and lists: as its plain copy."""
    x = np.random.default_rng(0).standard_normal((1, 2, 10)).astype(np.float32)
    program = mil.load(small_network)
    given = awkward(x)
    plain = np.array(given, np.float32, order="C")
    np.testing.assert_array_equal(program.run({"x": given})["y"], program.run({"x": plain})["y"])


def test_results_are_the_callers_own(ct: Any, save: Save) -> None:
    """Writing to what a program returned changes neither its inputs nor its weights."""
    mb = ct.converters.mil.Builder
    weight = np.arange(64, dtype=np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(64,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.identity(x=x, name="same"), mb.identity(x=mb.const(val=weight), name="weight")

    loaded, x = mil.load(save(program, "own")), np.ones(64, np.float32)
    for _ in range(2):
        found = loaded.run({"x": x})
        np.testing.assert_array_equal(found["same"], np.ones(64))
        np.testing.assert_array_equal(found["weight"], weight)
        found["same"][:] = found["weight"][:] = -1
