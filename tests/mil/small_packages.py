"""Small packages that coremltools builds: one for each feature of the format."""

import itertools
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder
from coremltools.converters.mil.mil import types
from coremltools.optimize.coreml import (
    OpLinearQuantizerConfig,
    OpPalettizerConfig,
    OptimizationConfig,
    linear_quantize_weights,
    palettize_weights,
)

mb = Builder
_RNG = np.random.default_rng(7)


def _saved(model: ct.models.MLModel, path: Path) -> Path:
    model.save(str(path))
    return path


def _convert(program: object, target: ct.target, **options: object) -> ct.models.MLModel:
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        skip_model_load=True,
        **options,
    )


def _weights(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def linear(path: Path, target: ct.target = ct.target.iOS16, bias: float = 0.5) -> Path:
    """One linear layer with weights in a file: x (2, 64) to y (2, 32)."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 64))], opset_version=target)
    def program(x):
        return mb.linear(x=x, weight=_weights(32, 64), bias=np.full(32, bias, np.float32), name="y")

    return _saved(_convert(program, target), path)


def ranged(path: Path, target: ct.target) -> Path:
    """Two inputs, of which one has a range of lengths: b (1, 4 to 300), a (1, 1)."""
    import torch

    class Sum(torch.nn.Module):
        def forward(self, b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
            return b * 2 + a

    traced = torch.jit.trace(Sum(), (torch.zeros(1, 16), torch.zeros(1, 1)))
    inputs = [
        ct.TensorType("b", shape=(1, ct.RangeDim(4, 300, default=16))),
        ct.TensorType("a", shape=(1, 1)),
    ]
    return _saved(_convert(traced, target, inputs=inputs), path)


def enumerated(path: Path) -> Path:
    """One input of enumerated shapes."""
    import torch

    traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 16))
    shapes = ct.EnumeratedShapes(shapes=[(1, 16), (1, 32)], default=(1, 16))
    return _saved(_convert(traced, ct.target.iOS16, inputs=[ct.TensorType("x", shape=shapes)]), path)


def several_functions(path: Path) -> Path:
    """Two functions that share a weight file: `narrow`, the default, and `wide`."""
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, bias in (("narrow", 0.25), ("wide", 4.0)):
        single = linear(path.with_name(f"{name}.mlpackage"), ct.target.iOS18, bias)
        descriptor.add_function(str(single), src_function_name="main", target_function_name=name)
    descriptor.default_function_name = "narrow"
    ct.utils.save_multifunction(descriptor, str(path))
    return path


def stateful(path: Path) -> Path:
    """A sum that a state keeps: x (4,) and the state total (4,)."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(4,), dtype=types.fp16), mb.StateTensorSpec((4,), dtype=types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x, total):
        summed = mb.add(x=mb.read_state(input=total), y=x)
        return mb.mul(x=mb.coreml_update_state(state=total, value=summed), y=np.float16(2), name="y")

    return _saved(_convert(program, ct.target.iOS18), path)


def pipeline(path: Path) -> Path:
    """Two linear layers, one after the other, each with weights of its own."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 32))], opset_version=ct.target.iOS16)
    def second(y):
        return mb.linear(x=y, weight=_weights(48, 32), name="z")

    one = ct.models.MLModel(str(linear(path.with_name("one.mlpackage"))), skip_model_load=True)
    joined = ct.utils.make_pipeline(one, _convert(second, ct.target.iOS16))
    return _saved(joined, path)


def compressed(path: Path, target: ct.target) -> Path:
    """A palette of 16 entries and, from iOS18, a layer in 4-bit blocks."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 64))], opset_version=target)
    def program(x):
        x = mb.linear(x=x, weight=_weights(64, 64), name="first")
        return mb.linear(x=x, weight=_weights(64, 64), name="second")

    model = _convert(program, target)
    new = target >= ct.target.iOS18
    palette = OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=16)
    model = palettize_weights(model, OptimizationConfig(op_name_configs={"first": palette}, global_config=palette))
    if new:
        blocks = OpLinearQuantizerConfig(dtype="int4", granularity="per_block", block_size=32, weight_threshold=16)
        model = linear_quantize_weights(_convert(program, target), OptimizationConfig(global_config=blocks))
    return _saved(model, path)


def nested(path: Path) -> Path:
    """A palette of 16 entries that are themselves stored as 8-bit integers with a scale."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 64))], opset_version=ct.target.iOS18)
    def program(x):
        return mb.linear(x=x, weight=_weights(64, 64), name="y")

    palette = OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=16)
    entries = OpLinearQuantizerConfig(granularity="per_tensor", weight_threshold=16)
    model = palettize_weights(_convert(program, ct.target.iOS18), OptimizationConfig(global_config=palette))
    quantized = linear_quantize_weights(model, OptimizationConfig(global_config=entries), joint_compression=True)
    return _saved(quantized, path)


def classifier(path: Path) -> Path:
    """A classifier of three numbered classes."""
    import torch

    traced = torch.jit.trace(torch.nn.Softmax(dim=1), torch.zeros(1, 3))
    classes = ct.ClassifierConfig([10, 20, 30], predicted_feature_name="kind")
    inputs = [ct.TensorType("scores", (1, 3))]
    return _saved(_convert(traced, ct.target.iOS16, inputs=inputs, classifier_config=classes), path)


def control_flow(path: Path) -> Path:
    """A loop with a branch in it, and a branch with a loop in it."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1,)), mb.TensorSpec(shape=(1,), dtype=types.int32)],
        opset_version=ct.target.iOS16,
    )
    def program(x, n):
        def more(i, value):
            return mb.less(x=i, y=mb.squeeze(x=n))

        def step(i, value):
            low = mb.less(x=mb.reduce_sum(x=value, keep_dims=False), y=10.0)
            grown = mb.cond(
                pred=low,
                _true_fn=lambda: mb.mul(x=value, y=2.0),
                _false_fn=lambda: mb.add(x=value, y=1.0),
            )
            return mb.add(x=i, y=1), grown

        _, result = mb.while_loop(_cond=more, _body=step, loop_vars=(0, x))
        return mb.identity(x=result, name="y")

    return _saved(_convert(program, ct.target.iOS16), path)


def many_types(path: Path) -> Path:
    """Constants of every element type that coremltools writes, with hard values."""
    floats = np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, 0.1, -3.5e38 / 2, 65504.0], np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(8,))], opset_version=ct.target.iOS17)
    def program(x):
        x = mb.add(x=x, y=floats)
        halves = mb.cast(x=np.array([6e-8, -0.0, 0.1, np.inf, 65504, 1, 2, 3], np.float16), dtype="fp32")
        small = [
            mb.cast(x=np.arange(8).astype(kind), dtype="fp32") for kind in (np.int8, np.uint8, np.int16, np.uint16)
        ]
        for term in itertools.chain([halves], small):
            x = mb.add(x=x, y=term)
        return mb.identity(x=x, name="y")

    return _saved(_convert(program, ct.target.iOS17, pass_pipeline=ct.PassPipeline.EMPTY), path)
