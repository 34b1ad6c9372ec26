"""For each rule a program that breaks it, and one as like it as can be that does not."""

from collections.abc import Mapping
from typing import Any

from mil.package import Package
from mil.program import Program
from mil.schema import Model_pb2
from tests.verify.programs import interface, model, package, program

VERSIONS = {"com.github.apple.coremltools.version": "9.0"}
BLOB = '(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64({offset})))'


def made(kind: str, name: str, operation: str, attributes: str = "", **arguments: str) -> str:
    """Return one operation as text: `fp16 1 4` is a tensor of 1 × 4; arguments are names, or values."""
    given = ", ".join(f"{argument.rstrip('_')} = {value}" for argument, value in arguments.items())
    return f'{tensor(kind)} {name} = {operation}({given})[{attributes}name = string("{name}")];'


def tensor(kind: str) -> str:
    element, *sizes = kind.split()
    return f"tensor<{element}, [{', '.join(sizes)}]>"


def constant(kind: str, name: str, value: str) -> str:
    return f'{tensor(kind)} {name} = const()[name = string("{name}"), val = {tensor(kind)}({value})];'


def stored(kind: str, name: str, offset: int = 64) -> str:
    """Return a constant in a weight file, which is not there."""
    return (
        f'{tensor(kind)} {name} = const()[name = string("{name}"), val = {tensor(kind)}{BLOB.format(offset=offset)}];'
    )


def function(*lines: str, x: str = "fp16 1 4", more: str = "", outputs: str = "y", opset: str = "ios17") -> Program:
    """Return a program of one function with the input `x`."""
    return Program(package(model(program("\n".join(lines), f"{tensor(x)} x{more}", outputs, opset), VERSIONS)))


def relu(kind: str = "fp16 1 4", name: str = "y", x: str = "x") -> str:
    return made(kind, name, "relu", x=x)


def changed(source: Program, *changes: Any) -> Program:
    """Return a program after changing its protobuf."""
    spec = Model_pb2.Model()
    spec.CopyFrom(source.spec)
    for change in changes:
        change(spec)
    return Program(Package(spec, None))


def pipeline(first: str, second: str) -> Program:
    """Return two models, `x` to `first` and `second` to `z`, one after the other."""
    spec = Model_pb2.Model(specificationVersion=8)
    stages = interface({"x": "fp32 1 4"}, {first: "fp32 1 4"}), interface({second: "fp32 1 4"}, {"z": "fp32 1 4"})
    spec.pipeline.models.extend(stages)
    spec.description.input.extend(stages[0].description.input)
    spec.description.output.extend(stages[1].description.output)
    return Program(Package(spec, None))


def transformer(
    *lines: str, batch: int = 1, norm: bool = True, x: str = "fp16 1 8 16", transposed: bool = False
) -> Program:
    """Return attention of one head over 8 frames, after a layer norm; `lines` stand before it."""
    last = {"axes": f"{tensor('int32 1')}([-1])", "epsilon": "fp16(0x1p-10)"}
    weighing = {"x": "n", "y": "w", "transpose_y": "bool(true)"} if transposed else {"x": "w", "y": "n"}
    return function(
        *lines,
        made("fp16 1 8 16", "h", "relu", x="x"),
        made("fp16 1 8 16", "n", "layer_norm", x="h", **last) if norm else relu("fp16 1 8 16", "n", "h"),
        made(f"fp16 {batch} 1 8 8", "s", "matmul", x="n", y="n", transpose_y="bool(true)"),
        made(f"fp16 {batch} 1 8 8", "w", "softmax", x="s", axis="int32(-1)"),
        made(f"fp16 {batch} 1 8 16", "y", "matmul", **weighing),
        x=x,
    )


def enumerated(count: int, inputs: int = 1, source: Program | None = None) -> Program:
    """Return a program whose inputs have lists of shapes."""
    ports = {f"x{i}": "fp32 1..2 4" for i in range(inputs)}
    base = source or Program(package(interface(ports, {"y": "fp32 1..2 4"}, VERSIONS)))

    def listed(spec: Any) -> None:
        for feature in spec.description.input:
            array = feature.type.multiArrayType
            array.ClearField("shapeRange")
            for size in range(1, count + 1):
                array.enumeratedShapes.shapes.add(shape=[size, 4])

    return changed(base, listed)


def palette(entries: int, kind: str = "fp16", opset: str = "ios16") -> Program:
    """Return a product with a palettized matrix."""
    return function(lut(entries, kind), matrix(), opset=opset)


def lut(entries: int, kind: str = "fp16") -> str:
    indices = f"indices = tensor<uint8, [8]>{BLOB.format(offset=64)}"
    table = f"lut = tensor<{kind}, [{entries}]>{BLOB.format(offset=128)}"
    return made("fp16 4 4", "w", "constexpr_lut_to_dense", f"{indices}, {table}, shape = tensor<uint32, [2]>([4, 4]), ")


def integers() -> str:
    data = f"quantized_data = tensor<int8, [4, 4]>{BLOB.format(offset=64)}"
    return made("fp16 4 4", "w", "constexpr_affine_dequantize", f"axis = int32(0), {data}, scale = fp16(0x1p-3), ")


def matrix(kind: str = "fp16 1 4") -> str:
    return made(kind, "y", "linear", x="x", weight="w")


def blocks(element: str = "int4", size: int = 4) -> Program:
    return function(
        stored(f"{element} {size} {size}", "data"),
        made(
            f"fp16 {size} {size}",
            "w",
            "constexpr_blockwise_shift_scale",
            data="data",
            scale=f"{tensor('fp16 1 1')}([[0x1p-3]])",
        ),
        made(f"fp16 1 {size}", "y", "linear", x="x", weight="w"),
        x=f"fp16 1 {size}",
        opset="ios18",
    )


def stateful(width: int) -> Program:
    return function(
        made(f"fp16 1 {width}", "y", "read_state", input="s"),
        more=f", state<tensor<fp16, [1, {width}]>> s",
        opset="ios18",
    )


def lstm(operation: str = "lstm") -> Program:
    return function(made("fp16 1 4", "y", operation, x="x"))


def older_specification(spec: Any) -> None:
    spec.specificationVersion = 7


SOUND = function(relu())
FLOAT = function(made("fp32 1 4", "y", "relu", x="x"), x="fp32 1 4")
LARGE = function(
    stored("fp16 40000 40000", "w"), made("fp16 1 40000", "y", "linear", x="x", weight="w"), x="fp16 1 40000"
)
MIDDLE = function(stored("fp16 8000 8000", "w"), made("fp16 1 8000", "y", "linear", x="x", weight="w"), x="fp16 1 8000")
PLAIN_MATRIX = function(stored("fp16 4 4", "w"), matrix())
LOG = made("fp16 1 4", "y", "log", x="p", epsilon="fp16(0x0p+0)")
WHOLE = ", tensor<int32, [1, 4]> i"


def quotient(element: str, *names: str) -> Program:
    """Return the floor of i / x, where the whole numbers i are cast to an element type."""
    return function(
        made(f"{element} 1 4", "c", "cast", x="i", dtype=f'string("{element}")'),
        made(f"{element} 1 4", "q", "real_div", x="c", y="c"),
        made(f"{element} 1 4", "y", "floor", x="q"),
        more=WHOLE,
    )


def tests_itself(other: str) -> Program:
    return function(relu(name="z"), made("bool 1 4", "y", "not_equal", x="x", y=other), outputs="z")


def scalars(second: str) -> Program:
    return function(
        made("fp16 1", "a", "exp", x="x"),
        made("fp16 1", "b", second, x="x"),
        made("fp16 1", "y", "add", x="a", y="b"),
        x="fp16 1",
    )


def clipped(operation: str) -> Program:
    return function(
        constant("fp16 1 4", "m", "[[0x0p+0, 0x1p+0, -inf, 0x1p+1]]"), made("fp16 1 4", "y", operation, x="x", y="m")
    )


def masked(value: str) -> Program:
    return function(
        constant("fp32 1 4", "m", f"[[0x0p+0, {value}, 0x0p+0, 0x0p+0]]"),
        made("fp32 1 4", "y", "add", x="x", y="m"),
        x="fp32 1 4",
    )


def pooled(stride: int) -> Program:
    sizes = tensor("int32 1")
    return function(
        made("fp16 1 4 8", "y", "max_pool", x="x", kernel_sizes=f"{sizes}([3])", strides=f"{sizes}([{stride}])"),
        x="fp16 1 4 8",
    )


def normed(epsilon: str) -> Program:
    return function(made("fp16 1 4", "y", "layer_norm", x="x", epsilon=f"fp16({epsilon})"))


def repeated(repetitions: str) -> Program:
    return function(
        made("fp16 ? 4", "y", "tile", x="x", reps=repetitions), more=", tensor<int32, [2]> r", opset="ios18"
    )


# Rule → the program that breaks it, the one that does not.
CASES: Mapping[str, tuple[Program, Program]] = {
    "A1": (function(relu(), outputs="y, x"), SOUND),
    "A2": (function(made("fp16 1 4", "y", "identity", x="x")), SOUND),
    "A3": (changed(SOUND, lambda spec: spec.description.metadata.Clear()), SOUND),
    "A4": (pipeline("y", "h"), pipeline("y", "y")),
    "D1": (function(relu("fp16 1 1 16385"), x="fp16 1 1 16385"), function(relu("fp16 1 1 16384"), x="fp16 1 1 16384")),
    "D2": (
        function(relu("fp16 1 1 1 1 1 4"), x="fp16 1 1 1 1 1 4"),
        function(relu("fp16 1 1 1 1 4"), x="fp16 1 1 1 1 4"),
    ),
    "D3": (function(relu("fp16 1 1 1 1 4"), x="fp16 1 1 1 1 4"), function(relu("fp16 1 1 1 4"), x="fp16 1 1 1 4")),
    "D4": (function(relu("fp16 1 16384 1"), x="fp16 1 16384 1"), function(relu("fp16 1 1 16384"), x="fp16 1 1 16384")),
    "D5": (transformer(x="fp16 1 1536 128"), transformer(x="fp16 1 1376 128")),
    "D6": (transformer(batch=2), transformer()),
    "D7": (stateful(30), stateful(32)),
    "D8": (LARGE, MIDDLE),
    "S1": (function(relu("fp16 ? 4"), x="fp16 ? 4"), SOUND),
    "S2": (enumerated(129), enumerated(128)),
    "S3": (enumerated(2), SOUND),
    "S4": (repeated("r"), repeated(f"{tensor('int32 2')}([2, 1])")),
    "O1": (lstm(), SOUND),
    "O2": (
        function(made("fp16 1 4", "y", "scatter_along_axis", data="x", indices="i", updates="x"), more=WHOLE),
        SOUND,
    ),
    "O3": (clipped("add"), function(made("fp16 1 4", "y", "clip", x="x", alpha="fp16(-inf)", beta="fp16(0x1p+0)"))),
    "O4": (function(made("fp16 1 4", "y", "gather", x="x", indices="i"), more=WHOLE), SOUND),
    "O5": (function(made("fp16 1", "y", "reduce_prod", x="x")), function(made("fp16 1", "y", "reduce_sum", x="x"))),
    "O5-trigonometry": (function(made("fp16 1 4", "y", "sin", x="x")), function(made("fp16 1 4", "y", "tanh", x="x"))),
    "O6": (pooled(3), pooled(2)),
    "O7": (function(relu("fp16 0 4"), x="fp16 0 4"), SOUND),
    "O8": (stateful(32), SOUND),
    "O9": (
        function(made("int32 4 4", "y", "matmul", x="x", y="x"), x="int32 4 4"),
        function(made("fp16 4 4", "y", "matmul", x="x", y="x"), x="fp16 4 4"),
    ),
    "O10": (scalars("exp"), scalars("sqrt")),
    "O11": (transformer(transposed=True), transformer()),
    "P1": (FLOAT, SOUND),
    "P2": (function(made("fp16 1 4", "y", "exp", x="x")), function(made("fp32 1 4", "y", "exp", x="x"), x="fp32 1 4")),
    "P2-log-probability": (
        function(made("fp16 1 4", "p", "softmax", x="x", axis="int32(-1)"), LOG),
        function(made("fp16 1 4", "p", "relu", x="x"), LOG),
    ),
    "P2-epsilon": (normed("0x0p+0"), normed("0x1p-24")),
    "P2-constant": (masked("0x1p+16"), masked("0x1p+15")),
    "P3": (quotient("fp16"), quotient("fp32")),
    "P4": (tests_itself("x"), tests_itself("z")),
    "P5": (SOUND, FLOAT),
    "Q1": (palette(8), palette(64)),
    "Q2": (
        transformer(integers(), made("fp16 1 8 4", "l", "linear", x="x", weight="w")),
        function(integers(), matrix(), opset="ios16"),
    ),
    "Q3": (blocks(), PLAIN_MATRIX),
    "Q5": (palette(16), palette(64)),
    "Q6": (function(integers(), matrix(), opset="ios16"), PLAIN_MATRIX),
    "Q7": (blocks("int4"), blocks("int8")),
    "Q8": (
        function(made("int8 1 4", "q", "quantize", input="x"), made("fp16 1 4", "y", "dequantize", input="q")),
        SOUND,
    ),
    "Q9": (transformer(integers(), made("fp16 1 8 4", "l", "linear", x="x", weight="w")), transformer()),
    "Q10": (
        function(lut(64), matrix(), made("fp16 1 4", "z", "add", x="y", y="fifo"), more=", tensor<fp16, [1, 4]> fifo"),
        palette(64),
    ),
    "R1": (PLAIN_MATRIX, MIDDLE),
    "R5": (lstm("gru"), SOUND),
    "T2": (
        function(
            stored("int8 4 4", "d"),
            made("fp16 1 4", "y", "scaled_dot_product_attention", query="x", key="x", value="x"),
        ),
        SOUND,
    ),
    "T2-specification": (changed(SOUND, older_specification), SOUND),
    "T2-apps": (function(relu(), opset="ios18"), SOUND),
}
