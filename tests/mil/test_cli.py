"""The command line as its users meet it, and the library beneath each command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mil
from mil.cli import COMMANDS, main
from mil.diff import Side, compare
from mil.info import describe
from mil.trace import trace
from tests.fixtures import FIXTURES, needs_fixtures

X = np.random.default_rng(0).standard_normal((1, 2, 10)).astype(np.float32)


@pytest.fixture
def x(tmp_path: Path) -> str:
    """An input as the option that names its file."""
    np.save(tmp_path / "x.npy", X)
    return f"x={tmp_path / 'x.npy'}"


Capture = pytest.CaptureFixture[str]


def test_info_counts_what_a_program_is_made_of(small_network: Path) -> None:
    """Worked out by hand from the network's sizes."""
    (found,) = describe(mil.load(small_network))
    assert (found.name, found.opset) == ("main", "CoreML7")
    assert found.outputs == (("y", "fp32[1, 4, 5]"),)
    assert found.operations == {"cast": 2, "conv": 1, "relu": 1, "linear": 1, "softmax": 1}
    assert found.macs == 4 * 8 * (2 * 3) + 4 * 5 * 8
    assert found.unknown_macs == found.unknown_values == 0
    assert found.weights["fp16"].stored_bytes == found.weights["fp16"].decoded_bytes == 2 * (4 * 2 * 3 + 5 * 8 + 5)
    layers = {layer.operation: layer for layer in found.layers}
    assert layers["linear"].stored_bytes == 2 * (5 * 8 + 5)
    assert layers["conv"].macs == 4 * 8 * 6
    assert found.peak_live_bytes == 2 * (4 * 8) * 2  # conv's result and relu's, fp16; more than x as fp32 and fp16: 120
    assert found.peak_layer == "hidden_cast_fp16"


@needs_fixtures
def test_info_tells_compressed_weights_from_decoded_ones(capsys: Capture) -> None:
    """A palette of 6 bits stores six sixteenths of fp16 and the palettes, and is called that."""
    path = next((FIXTURES / "apple_pairs" / "silero_palette_6bit").glob("*.mlpackage"))
    assert main(["info", str(path), "--json"]) == 0
    (function,) = json.loads(capsys.readouterr().out)["functions"]
    palette = function["weights"]["palette of 6 bits"]
    assert palette["count"] == 7
    # two of the seven decode to fp32, the others to fp16; each has a palette of 64 entries
    assert 6 / 32 < palette["stored_bytes"] / palette["decoded_bytes"] < 6 / 16
    assert main(["info", str(path)]) == 0
    assert "palette of 6 bits" in capsys.readouterr().out


def test_info_imports_neither_torch_nor_coremltools(small_network: Path) -> None:
    """It answers in a fraction of a second because it imports nothing heavy."""
    code = "import sys; from mil.cli import main; main(['info', sys.argv[1]]); print('torch' in sys.modules, end='')"
    found = subprocess.run([sys.executable, "-c", code, str(small_network)], capture_output=True, text=True, timeout=60)
    assert found.stdout.endswith("False"), found.stderr


def test_run_saves_what_the_library_returns(small_network: Path, tmp_path: Path, x: str, capsys: Capture) -> None:
    """The arrays of `program.run`, in an .npz file; shapes and ranges on the screen."""
    out = tmp_path / "out.npz"
    assert (
        main(["run", str(small_network), "--input", x, "--precision", "float64", "--output", str(out), "--json"]) == 0
    )
    described = json.loads(capsys.readouterr().out)["y"]
    expected = mil.load(small_network).run({"x": X}, "float64")["y"]
    np.testing.assert_array_equal(np.load(out)["y"], expected)
    assert described["shape"] == [1, 4, 5]
    assert described["max"] == expected.max()


def test_run_without_inputs_says_what_it_wants(small_network: Path, capsys: Capture) -> None:
    """As the options that would say so."""
    assert main(["run", str(small_network)]) == 2
    assert "--input x=FILE   x: fp32[1, 2, 10]" in capsys.readouterr().out


def test_drawn_inputs_follow_their_seed(small_network: Path, capsys: Capture) -> None:
    """The same seed, the same output."""
    outputs = []
    for seed in ("1", "1", "2"):
        assert main(["run", str(small_network), "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_trace_describes_every_result(small_network: Path, tmp_path: Path, x: str, capsys: Capture) -> None:
    """In order, with its range, and on request as files."""
    assert main(["trace", str(small_network), "--input", x, "--save", str(tmp_path / "t"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["operation"] for line in lines] == ["cast", "conv", "relu", "linear", "softmax", "cast"]
    saved = sorted((tmp_path / "t").glob("*.npy"))
    assert len(saved) == len(lines)
    for line, path in zip(lines, saved, strict=True):
        array = np.load(path)
        assert (list(array.shape), array.min(), array.max()) == (line["shape"], line["low"], line["high"])
    assert lines[2]["low"] == 0
    np.testing.assert_array_equal(np.load(saved[-1]), mil.load(small_network).run({"x": X})["y"])


def test_trace_counts_what_is_not_a_number(small_network: Path) -> None:
    """One nan in reaches the windows that hold it, and the softmax of their rows."""
    bad = X.copy()
    bad[0, 0, 0] = np.nan
    bad[0, 1, 9] = np.inf
    traced = {found.operation: found for found, _ in trace(mil.load(small_network), {"x": bad})}
    assert traced["conv"].nans == 4
    assert traced["conv"].infinities == 4
    assert traced["softmax"].nans == 4 * 5


def test_diff_of_a_program_and_itself_is_nothing(small_network: Path, x: str, capsys: Capture) -> None:
    """Every value compared, none apart."""
    assert main(["diff", str(small_network), "--input", x, "--tolerance", "0"]) == 0
    assert "6 values compared, 0 only in the first, 0 in the second" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "trace", "diff", "info"])
def test_json_is_json(command: str, small_network: Path, tmp_path: Path, capsys: Capture) -> None:
    """Infinities and what is no number are strings in it: readers other than Python's know no bare word for them."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    np.save(tmp_path / "x.npy", np.where(np.arange(20).reshape(1, 2, 10) == 3, np.inf, 0).astype(np.float32))
    inputs = [] if command == "info" else ["--input", f"x={tmp_path / 'x.npy'}"]
    assert main([command, str(small_network), *inputs, "--json"]) == 0
    text = capsys.readouterr().out
    for line in text.splitlines() if command == "trace" else [text]:
        json.loads(line, parse_constant=refuse)
    assert ('"Infinity"' in text) == (command in ("trace", "diff"))


def test_diff_finds_where_modes_part(small_network: Path, x: str, capsys: Capture) -> None:
    """Rounding to fp16 first shows where the input is cast to it."""
    arguments = ["diff", str(small_network), "--input", x, "--other-precision", "float64", "--tolerance", "1e-6"]
    assert main([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["parting"] == found["differences"][0]["name"]
    assert found["differences"][0]["operation"] == "cast"
    assert main(arguments) == 1
    assert "they part at op `cast`" in capsys.readouterr().out


def test_diff_finds_the_operation_that_was_changed(small_network: Path, tmp_path: Path) -> None:
    """relu made identity: values before it agree, its own is the first that does not."""
    from mil.package import read_package, write_package
    from mil.values import specialization

    package = read_package(small_network)
    weights = "weights/weight.bin"
    for operation in specialization(package.spec.mlProgram.functions["main"]).operations:
        if operation.type == "relu":
            operation.type = "identity"
    write_package(package.spec, {weights: package.blob_path(f"@model_path/{weights}")}, tmp_path / "m.mlpackage")
    sides = [Side(mil.load(path), {"x": X}) for path in (small_network, tmp_path / "m.mlpackage")]
    found = compare(*sides)
    parting = found.parting(1e-6)
    assert parting.operation == "relu"
    assert [each.relative for each in found.differences[:2]] == [0, 0]
    assert found.worst(1)[0].relative >= parting.relative
    assert compare(sides[0], sides[0]).parting(0) is None


@pytest.mark.parametrize(
    ("a", "b", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf], [np.inf], 0),
        ([np.inf], [-np.inf], np.inf),
        ([0.0], [1e-9], np.inf),
        ([], [], 0),
    ],
)
def test_distances(a: list[float], b: list[float], relative: float) -> None:
    """Equal infinities and nans are equal; one of them alone is infinitely far."""
    from mil.diff import _distance

    assert _distance(np.array(a), np.array(b))[1] == relative
    assert _distance(np.array(a), np.zeros((3, 3)))[1] == np.inf


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda package, tmp: ["info", str(tmp / "absent.mlpackage")], "cannot read the model"),
        (lambda package, tmp: ["run", package, "--input", "x"], "expected NAME=FILE"),
        (lambda package, tmp: ["run", package, "--input", f"x={tmp}/absent.npy"], "No such file"),
        (lambda package, tmp: ["run", package, "--input", f"x={__file__}"], "not a .npy or .npz file"),
        (lambda package, tmp: ["run", package, "--seed", "1", "--function", "f"], "function `f`: the program has"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(
    small_network: Path, tmp_path: Path, capsys: Capture, arguments: Callable[..., list[str]], said: str
) -> None:
    """And a status that is not 0."""
    assert main(arguments(str(small_network), tmp_path)) in (2, 4)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_help_lists_every_command(capsys: Capture) -> None:
    """One line each."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, summary in COMMANDS.items():
        assert any(line.split()[:1] == [name] for line in lines), (name, summary)


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["nothing"], 2), (["run", "--help"], 0), (["run"], 2)])
def test_usage_is_refused_with_2(arguments: list[str], status: int, capsys: Capture) -> None:
    """As other command lines do."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status


def test_a_reader_that_leaves_is_no_error(small_network: Path) -> None:
    """`| head` ends quietly."""
    command = f"{sys.executable} -m mil ops --markdown | head -1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert (found.stdout, found.stderr) == ("# Operations\n", "")


def test_predict_takes_what_coremltools_takes(small_network: Path) -> None:
    """A dictionary, or a list of them; the same arrays as run."""
    program = mil.load(small_network)
    expected = program.run({"x": X})["y"]
    np.testing.assert_array_equal(program.predict({"x": X})["y"], expected)
    both = program.predict([{"x": X}, {"x": 2 * X}])
    np.testing.assert_array_equal(both[0]["y"], expected)
    assert not np.array_equal(both[1]["y"], expected)
    with pytest.raises(mil.MilError, match="expected inputs by name in a dictionary, found ndarray"):
        program.predict(X[0, 0, 0:1].squeeze())
