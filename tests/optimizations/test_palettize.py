"""The pass that puts palettes in place of weights, held against coremltools' own on the same packages."""

from pathlib import Path

import numpy as np
import pytest

from mil.package import read_package, write_package
from mil.values import decode
from optimizations.palettes import palette
from optimizations.palettes.operations import decoded
from optimizations.palettes.palette import Layout, Weight
from optimizations.palettize import Options, apply
from optimizations.weights.constants import constants, top_blocks
from pipeline.types import QuernError
from tests.fixtures import FIXTURES, needs_fixtures

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.optimize.coreml import (  # noqa: E402
    OpPalettizerConfig,
    OptimizationConfig,
    palettize_weights,
)

from tests.optimizations.packages import (  # noqa: E402
    DiskMemo,
    content,
    linear_package,
    normal,
    operations,
    saved,
    varied_package,
    weights_by_coremltools,
)


def theirs(source: Path, destination: Path, **config) -> Path:
    model = ct.models.MLModel(str(source), skip_model_load=True)
    settings = OptimizationConfig(global_config=OpPalettizerConfig(mode="kmeans", **config))
    palettize_weights(model, settings).save(str(destination))
    return destination


def weights_by_us(path: Path) -> dict[str, np.ndarray]:
    """Every compressed weight of a package as our decoder reads it."""
    package = read_package(path)
    return {
        each.outputs[0].name: decoded(each, block, package)
        for _, _, block in top_blocks(package.spec)
        for each in block.operations
        if each.type.startswith("constexpr_") and not each.outputs[0].name.endswith("_unscaled")
    }


@pytest.mark.parametrize(("target", "palettes"), [(ct.target.iOS16, 1), (ct.target.iOS17, 6), (ct.target.iOS18, 6)])
def test_same_weights_in_the_same_form_as_coremltools(tmp_path, memo, target, palettes):
    """The operations that coremltools palettizes, and no others, with its inputs, attributes and types."""
    path = tmp_path / "source.mlpackage"  # the lstm of iOS 16 knows no fp16
    source = varied_package(path, target) if palettes > 1 else linear_package(path, normal(0, 64, 64), target)
    apply(source, Options(nbits=4), memo, tmp_path / "ours.mlpackage")
    reference = theirs(source, tmp_path / "theirs.mlpackage", nbits=4)
    ours, expected = operations(read_package(tmp_path / "ours.mlpackage")), operations(read_package(reference))
    assert {name for name, each in ours.items() if each.type == "constexpr_lut_to_dense"} == {
        name for name, each in expected.items() if each.type == "constexpr_lut_to_dense"
    }
    assert len([each for each in ours.values() if each.type == "constexpr_lut_to_dense"]) == palettes
    for name, each in ours.items():
        if each.type != "constexpr_lut_to_dense":
            continue
        other = expected[name]
        assert each.outputs[0].type == other.outputs[0].type
        assert sorted(each.attributes) == sorted(other.attributes)
        assert sorted(each.inputs) == sorted(other.inputs)
        for key in set(each.attributes) - {"name"}:
            assert each.attributes[key].type == other.attributes[key].type, key
            assert each.attributes[key].WhichOneof("value") == other.attributes[key].WhichOneof("value"), key
        for key in each.inputs:
            assert each.inputs[key].arguments[0].value.type == other.inputs[key].arguments[0].value.type, key


@pytest.mark.parametrize("nbits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("target", [ct.target.iOS17, ct.target.iOS18])
def test_coremltools_decodes_what_we_report(tmp_path, memo, nbits, target):
    """At each width, coremltools loads the package and decodes the weights that our decoder reads, bit for bit."""
    source = varied_package(tmp_path / "source.mlpackage", target)
    found = apply(source, Options(nbits=nbits), memo, tmp_path / "ours.mlpackage")
    ours, reference = (read(tmp_path / "ours.mlpackage") for read in (weights_by_us, weights_by_coremltools))
    original = weights_by_coremltools(source)
    assert len(ours) == len(found["weights"]) == 6
    for name, value in ours.items():
        assert np.array_equal(value, reference[name]), name
    for each in found["weights"]:
        name = each["name"].removeprefix("main/")
        error = original[name].astype(np.float64) - reference[name].astype(np.float64)
        assert each["rms"] == pytest.approx(float(np.sqrt((error**2).mean())), rel=1e-5)
        assert each["max"] == pytest.approx(float(np.abs(error).max()), rel=1e-5)
    untouched = original.keys() - ours.keys()
    assert all(np.array_equal(reference[name], original[name]) for name in untouched & reference.keys())


@pytest.mark.parametrize("nbits", [4, 6, 8])
def test_errors_are_no_larger_than_coremltools(tmp_path, memo, nbits):
    """On every weight of a package, large and small, the squared error is coremltools' or less."""
    source = varied_package(tmp_path / "source.mlpackage")
    apply(source, Options(nbits=nbits), memo, tmp_path / "ours.mlpackage")
    reference = weights_by_coremltools(theirs(source, tmp_path / "theirs.mlpackage", nbits=nbits))
    original, ours = weights_by_coremltools(source), weights_by_us(tmp_path / "ours.mlpackage")
    for name, value in ours.items():
        exact = original[name].astype(np.float64)
        error = ((exact - value) ** 2).sum()
        assert error <= ((exact - reference[f"{name}_palettized"]) ** 2).sum() * (1 + 1e-6), name


def test_threshold_is_the_most_that_is_left(tmp_path, memo):
    """Weights of as many elements as the threshold stay; one more element, and there is a palette."""
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64))
    for threshold, palettes in ((4096, 0), (4095, 1)):
        destination = tmp_path / f"{threshold}.mlpackage"
        found = apply(source, Options(4, weight_threshold=threshold), memo, destination)
        assert len(found["weights"]) == palettes
    assert (weights_by_coremltools(tmp_path / "4096.mlpackage")["linear_weight_0"] == normal(0, 64, 64)).all()


@pytest.mark.parametrize(("group_size", "groups"), [(16, 4), (1, 64), (64, 1)])
@pytest.mark.parametrize("nbits", [3, 6])
def test_grouped_palettes(tmp_path, memo, group_size, groups, nbits):
    """Each group of output channels has a palette that is the best for it, as coremltools decodes it."""
    weight = normal(0, 64, 64)
    source = linear_package(tmp_path / "source.mlpackage", weight, ct.target.iOS18)
    options = Options(nbits, granularity="per_grouped_channel", group_size=group_size)
    found = apply(source, options, memo, tmp_path / "ours.mlpackage")
    (value,) = weights_by_us(tmp_path / "ours.mlpackage").values()
    assert np.array_equal(value, weights_by_coremltools(tmp_path / "ours.mlpackage")["linear_weight_0"])
    assert found["weights"][0]["groups"] == groups
    for rows, original in zip(np.split(value, groups), np.split(weight, groups), strict=True):
        alone = palette.make(original, Layout(nbits))
        assert ((rows.astype(np.float64) - original) ** 2).sum() == pytest.approx(alone.squared_error, rel=1e-12)


def test_groups_lie_along_output_channels(tmp_path, memo):
    """matmul has its output channels last, conv_transpose second; uses that disagree leave the weight as it is."""

    @mb.program(input_specs=[mb.TensorSpec((1, 64, 64), dtype=types.fp16)], opset_version=ct.target.iOS18)
    def program(x):
        y = mb.matmul(x=x, y=normal(0, 64, 64), name="plain")
        y = mb.matmul(x=y, y=normal(1, 64, 64), transpose_y=True, name="turned")
        y = mb.matmul(x=normal(2, 1, 64, 64), y=y, name="left")
        y = mb.conv_transpose(x=y, weight=normal(3, 64, 32, 3), name="deconv")
        both = mb.const(val=normal(4, 66, 66), name="both")
        y = mb.matmul(x=y, y=both, name="one")
        return mb.linear(x=y, weight=both, name="other")

    source = saved(program, ct.target.iOS18, tmp_path / "source.mlpackage")
    options = Options(4, granularity="per_grouped_channel", group_size=16)
    found = apply(source, options, memo, tmp_path / "ours.mlpackage")
    shapes = {
        name.removeprefix("main/"): list(decode(each.inputs["lut"].arguments[0].value, package).shape)
        for package in [read_package(tmp_path / "ours.mlpackage")]
        for name, each in operations(package).items()
        if each.type == "constexpr_lut_to_dense"
    }
    by_use = {name.split("_")[0]: shape for name, shape in shapes.items()}
    assert by_use == {
        "plain": [1, 4, 16, 1],
        "turned": [4, 1, 16, 1],
        "left": [1, 4, 1, 16, 1],
        "deconv": [1, 2, 1, 16, 1],
    }
    assert [(each["name"], each["reason"]) for each in found["left"]] == [
        ("main/both", "its uses disagree on which axis counts output channels")
    ]


def test_channels_that_groups_do_not_divide_are_left(tmp_path, memo):
    """64 channels do not fall into groups of 24: the weight stays, and the reason is returned."""
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64), ct.target.iOS18)
    options = Options(4, granularity="per_grouped_channel", group_size=24)
    found = apply(source, options, memo, tmp_path / "ours.mlpackage")
    assert found["weights"] == []
    assert found["left"][0]["reason"] == "its 64 output channels are not a multiple of 24"


def test_scaled_channels(tmp_path, memo):
    """With a scale for each output channel, channels of very different size share one palette well."""
    weight = (normal(0, 64, 64) * np.logspace(-2, 1, 64)[:, None]).astype(np.float16)
    weight[5] = 0
    source = linear_package(tmp_path / "source.mlpackage", weight, ct.target.iOS26)
    errors = {}
    for scaled in (False, True):
        destination = tmp_path / f"{scaled}.mlpackage"
        apply(source, Options(6, per_channel_scale=scaled), memo, destination)
        value = weights_by_coremltools(destination)["linear_weight_0"].astype(np.float64)
        assert np.array_equal(value, weights_by_us(destination)["linear_weight_0"])
        assert not value[5].any() or not scaled
        error, energy = ((value - weight) ** 2).sum(axis=1), (weight.astype(np.float64) ** 2).sum(axis=1)
        errors[scaled] = (error[energy > 0] / energy[energy > 0]).mean()
    assert errors[True] < errors[False] / 50


def test_single_weights_keep_single_entries(tmp_path, memo):
    """In a program of fp32 the palette is of fp32."""
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64, dtype=np.float32))
    apply(source, Options(8), memo, tmp_path / "ours.mlpackage")
    value = weights_by_coremltools(tmp_path / "ours.mlpackage")["linear_weight_0"]
    assert value.dtype == np.float32
    assert np.array_equal(value, weights_by_us(tmp_path / "ours.mlpackage")["linear_weight_0"])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_constant_and_coarse_weights_are_lossless(tmp_path, memo, scaled, dtype):
    """A weight with no more values than entries is what it was; a constant one too."""
    weights = np.full((64, 64), 0.1, dtype), np.sign(normal(0, 64, 64)).astype(dtype), np.zeros((64, 64), dtype)
    for i, weight in enumerate(weights):
        source = linear_package(tmp_path / f"source{i}.mlpackage", weight, ct.target.iOS26)
        found = apply(source, Options(2, per_channel_scale=scaled), memo, tmp_path / f"ours{i}.mlpackage")
        assert found["weights"][0]["max"] == 0
        assert (weights_by_coremltools(tmp_path / f"ours{i}.mlpackage")["linear_weight_0"] == weight).all()


def test_exclusion_by_operation(tmp_path, memo):
    """Weights that an operation of an excluded type uses stay as they are, and the reason is returned."""
    source = varied_package(tmp_path / "source.mlpackage")
    found = apply(source, Options(4, exclude=("gather", "lstm")), memo, tmp_path / "ours.mlpackage")
    assert sorted(each["reason"] for each in found["left"]) == ["excluded: gather", "excluded: lstm"]
    assert len(found["weights"]) == 4


def test_exclusion_of_what_an_output_is_made_of(tmp_path, memo):
    """All weights that it depends on, whatever uses them, and no others."""
    source = varied_package(tmp_path / "source.mlpackage")
    rows = apply(source, Options(4, exclude=("rows",)), memo, tmp_path / "rows.mlpackage")
    assert [(each["shape"], each["reason"]) for each in rows["left"]] == [([300, 16], "excluded: rows")]
    out = apply(source, Options(4, exclude=("out",)), memo, tmp_path / "out.mlpackage")
    assert [each["shape"] for each in out["weights"]] == [[300, 16]]
    assert {each["reason"] for each in out["left"]} == {"excluded: out"}


def test_exclusion_of_the_front_end(tmp_path, memo):
    """`fbank` is the filters before a logarithm; what follows it, and a network before a log-softmax, is not."""

    @mb.program(input_specs=[mb.TensorSpec((1, 1, 1600), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        spectrum = mb.square(x=mb.conv(x=x, weight=normal(0, 40, 1, 100), strides=[10], name="windowed"))
        mel = mb.conv(x=spectrum, weight=np.abs(normal(1, 60, 40, 1)), name="mel")
        features = mb.log(x=mb.maximum(x=mel, y=np.float16(1e-4)), name="features")
        y = mb.relu(x=mb.conv(x=features, weight=normal(2, 64, 60, 1), name="network"))
        scores = mb.conv(x=y, weight=normal(3, 40, 64, 1), name="head")
        return mb.log(x=mb.softmax(x=scores, axis=1), name="out")

    source = saved(program, ct.target.iOS17, tmp_path / "source.mlpackage")
    found = apply(source, Options(4, exclude=("fbank",)), memo, tmp_path / "ours.mlpackage")
    assert [each["name"].split("_")[0] for each in found["left"]] == ["main/windowed", "main/mel"]
    assert [each["name"].split("_")[0] for each in found["weights"]] == ["main/network", "main/head"]


def test_exclusion_that_matches_nothing_is_an_error(tmp_path, memo):
    """A misspelt exclusion would compress silently what it was to protect."""
    source = varied_package(tmp_path / "source.mlpackage")
    for name in ("gathr", "fbank"):
        with pytest.raises(QuernError, match=f"`{name}` is neither used here nor a part of this program"):
            apply(source, Options(4, exclude=(name,)), memo, tmp_path / "ours.mlpackage")


def branched_package(path: Path) -> Path:
    """A weight used inside and outside of a branch, one in the branch, and one that a branch returns."""

    @mb.program(
        input_specs=[mb.TensorSpec((64, 64), dtype=types.fp16), mb.TensorSpec((1,), dtype=types.bool)],
        opset_version=ct.target.iOS17,
    )
    def program(x, flag):
        shared = mb.const(val=normal(0, 64, 64), name="shared")

        def yes():
            return mb.linear(x=mb.linear(x=x, weight=shared), weight=normal(1, 64, 64), name="inner")

        def no():
            return mb.const(val=normal(2, 64, 64), name="returned")

        chosen = mb.cond(pred=mb.squeeze(x=flag), _true_fn=yes, _false_fn=no)
        return mb.linear(x=chosen, weight=shared, name="out")

    return saved(program, ct.target.iOS17, path)


def test_nested_blocks(tmp_path, memo):
    """Weights in branches are palettized where they stand; one that a branch returns is left, with the reason."""
    source = branched_package(tmp_path / "source.mlpackage")
    found = apply(source, Options(4), memo, tmp_path / "ours.mlpackage")
    assert [each["name"] for each in found["weights"]] == ["main/shared", "main/inner_weight_0"]
    assert [each["name"] for each in found["left"]] == ["main/returned"]
    weights_by_coremltools(tmp_path / "ours.mlpackage")
    written = read_package(tmp_path / "ours.mlpackage")
    ((_, _, block),) = top_blocks(written.spec)
    (kept,) = [each for each in constants(block) if each.name == "returned"]
    assert np.array_equal(decode(kept.operation.attributes["val"], written), normal(2, 64, 64))


def test_functions_share_palettes(tmp_path, memo):
    """Two functions with equal weights make each palette once, and hold it once in the weight file."""
    parts = [
        linear_package(tmp_path / f"{rows}.mlpackage", normal(0, 128, 128), ct.target.iOS18, rows) for rows in (1, 2)
    ]
    description = ct.utils.MultiFunctionDescriptor()
    for i, part in enumerate(parts):
        description.add_function(str(part), "main", f"f{i}")
    description.default_function_name = "f0"
    source = tmp_path / "source.mlpackage"
    ct.utils.save_multifunction(description, str(source))
    found = apply(source, Options(8), memo, tmp_path / "ours.mlpackage")
    assert [each["name"].partition("/")[0] for each in found["weights"]] == ["f0", "f1"]
    assert memo.made == 1
    assert found["weight_bytes"]["after"] < 128 * 128 + 2000
    assert len(weights_by_us(tmp_path / "ours.mlpackage")) == 1  # the same name in both


def test_palettes_are_made_once_for_all_packages(tmp_path, memo):
    """A second package with the same weights recalls every palette; another width makes its own."""
    first = linear_package(tmp_path / "first.mlpackage", normal(0, 64, 64))
    second = linear_package(tmp_path / "second.mlpackage", normal(0, 64, 64), ct.target.iOS18)
    apply(first, Options(6), memo, tmp_path / "a.mlpackage")
    apply(second, Options(6), memo, tmp_path / "b.mlpackage")
    assert memo.made == 1
    apply(second, Options(4), memo, tmp_path / "c.mlpackage")
    assert memo.made == 2


def test_a_palette_of_another_weight_is_noticed(tmp_path, memo):
    """A store that hands back the palette of the weight times 1.01 does not pass silently."""
    weight = normal(0, 64, 64)
    source = linear_package(tmp_path / "source.mlpackage", weight)

    def confused(recipe, run):
        folder = memo(recipe, run)
        right = palette.load(folder)
        wrong = Weight(right.indices, (right.entries * 1.01).astype(np.float16), None, right.squared_error)
        palette.save(wrong, folder)
        return folder

    apply(source, Options(8), memo, tmp_path / "ours.mlpackage")
    with pytest.raises(QuernError, match="damaged or belongs to another weight"):
        apply(source, Options(8), confused, tmp_path / "recalled.mlpackage")


def test_equal_inputs_give_equal_bytes(tmp_path, memo):
    """Made anew or recalled, in another place, from a spec whose maps were filled in another order."""
    source = varied_package(tmp_path / "source.mlpackage")
    package = read_package(source)
    shuffled = type(package.spec)()
    shuffled.CopyFrom(package.spec)
    for _, _, block in top_blocks(shuffled):
        for operation in block.operations:
            entries = dict(sorted(operation.inputs.items(), reverse=True))
            copies = {key: type(value).FromString(value.SerializeToString()) for key, value in entries.items()}
            operation.ClearField("inputs")
            for key, value in copies.items():
                operation.inputs[key].CopyFrom(value)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "other.mlpackage"
    write_package(shuffled, {"weights/weight.bin": package.blob_path("@model_path/weights/weight.bin")}, other)
    apply(source, Options(6), memo, tmp_path / "a.mlpackage")
    apply(source, Options(6), memo, tmp_path / "b.mlpackage")
    apply(other, Options(6), DiskMemo(tmp_path / "fresh"), tmp_path / "elsewhere" / "c.mlpackage")
    a, b, c = (content(tmp_path / name) for name in ("a.mlpackage", "b.mlpackage", "elsewhere/c.mlpackage"))
    assert a == b == c


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ({"nbits": 4}, ct.target.iOS15, "palettes need iOS 16, and the program is for iOS 15"),
        ({"nbits": 3}, ct.target.iOS17, "3-bit palettes need iOS 18, and the program is for iOS 17"),
        ({"nbits": 4, "granularity": "per_grouped_channel"}, ct.target.iOS16, "per grouped channel need iOS 18"),
        ({"nbits": 4, "per_channel_scale": True}, ct.target.iOS18, "need iOS 26, and the program is for iOS 18"),
    ],
)
def test_what_the_target_lacks_is_refused(tmp_path, memo, options, target, message):
    """A width or a form that the target cannot decode is a sentence, not a package that fails on a phone."""
    element = np.float32 if target == ct.target.iOS15 else np.float16
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64, dtype=element), target)
    with pytest.raises(QuernError, match=message):
        apply(source, Options(**options), memo, tmp_path / "ours.mlpackage")
    assert not (tmp_path / "ours.mlpackage").exists()


@pytest.mark.parametrize("options", [{}, {"granularity": "per_grouped_channel"}, {"per_channel_scale": True}])
def test_weights_that_are_not_numbers_are_refused(tmp_path, memo, options):
    """nan and infinity are named with their weight."""
    weight = normal(0, 64, 64)
    weight[3, 4:6] = np.nan, np.inf
    source = linear_package(tmp_path / "source.mlpackage", weight, ct.target.iOS26)
    with pytest.raises(QuernError, match=r"weight `main/linear_weight_0`: 2 of \d+ values are nan or infinite"):
        apply(source, Options(4, **options), memo, tmp_path / "ours.mlpackage")


def test_a_model_without_a_program_is_refused(tmp_path, memo):
    """A neural network of the older kind has no constants to look at."""
    network = ct.proto.Model_pb2.Model()
    network.specificationVersion = 4
    network.neuralNetwork.SetInParent()
    path = tmp_path / "old.mlmodel"
    path.write_bytes(network.SerializeToString())
    with pytest.raises(QuernError, match="holds no ML program"):
        apply(path, Options(4), memo, tmp_path / "ours.mlpackage")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nbits": 5}, "nbits: expected one of 1, 2, 3, 4, 6, 8, found 5"),
        ({"nbits": 4, "granularity": "per_block"}, "granularity: expected per_tensor or per_grouped_channel"),
        ({"nbits": 4, "group_size": 0}, "group_size: expected at least 1 channel, found 0"),
        ({"nbits": 4, "weight_threshold": -1}, "weight_threshold: expected 0 elements or more, found -1"),
        ({"nbits": 4, "exclude": "gather"}, "exclude: expected a list of operation types"),
        ({"nbits": 4, "exclude": ("",)}, "exclude: expected a list of operation types"),
    ],
)
def test_bad_options_are_sentences(options, message):
    """Options that mean nothing are refused where they are written."""
    with pytest.raises(ValueError, match=message):
        Options(**options)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize(("nbits", "megabytes"), [(8, 1.51), (6, 1.13), (4, 0.76)])
def test_segmentation_has_the_known_size(segmentation, tmp_path, memo, nbits, megabytes):
    """The trained segmentation network comes to the sizes that coremltools' palettes give it."""
    found = apply(segmentation, Options(nbits), memo, tmp_path / "ours.mlpackage")
    assert found["weight_bytes"]["after"] / 1e6 == pytest.approx(megabytes, abs=0.006)
    assert len(found["weights"]) == 21
    assert found["left"] == []
    assert min(each["cosine"] for each in found["weights"]) > {8: 0.9999, 6: 0.998, 4: 0.98}[nbits]


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory) -> Path:
    from converters.formats import coreml
    from converters.models import segmentation as network

    state = network.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})
    form = network.Form()
    path = tmp_path_factory.mktemp("segmentation") / "segmentation.mlpackage"
    tensors = network.inputs(form), network.outputs(form)
    coreml.convert(network.load(state, form), *tensors, {}, coreml.Options(), path)
    return path
