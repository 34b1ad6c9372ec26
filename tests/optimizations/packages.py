"""Small packages whose weights have many uses, and how coremltools reads them: for the tests of passes over weights."""

import hashlib
import json
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.converters.mil.mil import types

from mil.package import Package
from mil.schema import MIL_pb2
from optimizations.weights.constants import top_blocks


class DiskMemo:
    """Results by recipe, in folders; counts what had to be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def __call__(self, recipe, run, resumes=False) -> Path:
        place = self.folder / hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        if not place.exists():
            work = place.with_suffix(".work")
            work.mkdir(parents=True, exist_ok=resumes)
            run(work)
            work.rename(place)
            self.made += 1
        return place


def normal(seed: int, *shape: int, dtype=np.float16) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(dtype)


def saved(program, target, path: Path, precision=None) -> Path:
    ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=precision or ct.precision.FLOAT16,
        skip_model_load=True,
    ).save(str(path))
    return path


def varied_package(path: Path, target=ct.target.iOS17) -> Path:
    """Weights of many uses: conv, linear, lstm, matmul on both sides, gather, one shared, one small, one of rank 1."""
    half = types.fp16
    table, shared = normal(8, 300, 16), normal(3, 80, 80)

    @mb.program(
        input_specs=[mb.TensorSpec((1, 80, 50), dtype=half), mb.TensorSpec((4,), dtype=types.int32)],
        opset_version=target,
    )
    def program(x, tokens):
        x = mb.conv(x=x, weight=normal(0, 80, 80, 3), pad_type="same", bias=normal(1, 80), name="conv")
        x = mb.add(x=x, y=normal(2, 1, 80, 50), name="positions")
        x = mb.transpose(x=x, perm=[0, 2, 1], name="turned")
        kept = mb.const(val=shared, name="shared")
        x = mb.linear(x=x, weight=kept, name="linear")
        x = mb.matmul(x=x, y=kept, transpose_y=True, name="matmul")
        x = mb.matmul(x=x, y=normal(4, 80, 80), name="plain_matmul")
        x = mb.linear(x=x, weight=normal(5, 8, 80), name="small")
        long = mb.add(x=mb.reshape(x=x, shape=[400]), y=normal(6, 400), name="vector")
        sequence = mb.reshape(x=long, shape=[50, 1, 8], name="sequence")
        gates, hidden = normal(9, 4 * 40, 8), normal(10, 4 * 40, 40)
        zeros = np.zeros((1, 40), np.float16)
        y, _, _ = mb.lstm(
            x=sequence, initial_h=zeros, initial_c=zeros, weight_ih=gates, weight_hh=hidden, bias=normal(11, 160)
        )
        return mb.relu(x=y, name="out"), mb.gather(x=table, indices=tokens, axis=0, name="rows")

    return saved(program, target, path)


def linear_package(path: Path, weight: np.ndarray, target=ct.target.iOS17, rows: int = 4) -> Path:
    """One linear operation; fp32 weights make a program of fp32."""
    element = types.fp16 if weight.dtype == np.float16 else types.fp32

    @mb.program(input_specs=[mb.TensorSpec((rows, weight.shape[1]), dtype=element)], opset_version=target)
    def program(x):
        return mb.relu(x=mb.linear(x=x, weight=weight, name="linear"), name="out")

    precision = ct.precision.FLOAT16 if weight.dtype == np.float16 else ct.precision.FLOAT32
    return saved(program, target, path, precision)


def operations(package: Package) -> dict[str, MIL_pb2.Operation]:
    """Every operation but plain constants, by the name of its first output without coremltools' suffix."""
    return {
        f"{function}/{each.outputs[0].name.removesuffix('_palettized')}": each
        for function, _, block in top_blocks(package.spec)
        for each in block.operations
        if each.outputs and each.type != "const"
    }


def weights_by_coremltools(path: Path) -> dict[str, np.ndarray]:
    """Every weight of a package as coremltools loads and decodes it."""
    model = ct.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    found = {}
    for function in load_program(spec, spec.specificationVersion, model.weights_dir).functions.values():
        for op in function.operations:
            name = op.outputs[0].name
            if op.op_type.startswith("constexpr_"):
                found[name] = op.materialized_val_inference()
            elif op.op_type == "const" and isinstance(op.outputs[0].val, np.ndarray):
                found[name] = op.outputs[0].val
    return found


def content(package: Path) -> dict[str, bytes]:
    return {str(path.relative_to(package)): path.read_bytes() for path in sorted(package.rglob("*")) if path.is_file()}
