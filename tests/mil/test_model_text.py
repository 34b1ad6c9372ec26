"""`model.mil`: printed as Apple prints it, and read back."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.emit import emit
from mil.errors import MilError
from mil.grammar import DIALECTS
from mil.immediates import read_literals, store_literals
from mil.package import read_package
from mil.parse import parse, parse_value
from mil.schema import MIL_pb2
from mil.types import BY_NAME
from tests.fixtures import FIXTURES, needs_fixtures

TEXTS = sorted([*FIXTURES.glob("apple_pairs/*/*.mlmodelc/model.mil"), *FIXTURES.glob("published/*/model.mil")])
PACKAGES = sorted(FIXTURES.glob("apple_pairs/*/*.mlpackage"))

EVERYTHING = """program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"k", "a \\"quoted\\" \\\\ value\\n"}})]
{
    func main<ios17>(tensor<fp32, [1, ?]> a, state<tensor<fp16, [4]>> s) [FlexibleShapeInformation = tuple<tuple<tensor<string, []>, dict<tensor<string, []>, tensor<int32, [?]>>>, tuple<tensor<string, []>, dict<tensor<string, []>, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"a", [1, 1]}}), ("RangeDims", {{"a", [[1, 1], [1, 32000]]}})))] {
            tensor<fp16, [2, 0]> none = const()[val = tensor<fp16, [2, 0]>([[], []])];
            tensor<bf16, [2]> halves = const()[val = tensor<bf16, [2]>([0x1p+0, nan(0x41)])];
            tensor<uint64, []> most = const()[val = tensor<uint64, []>(18446744073709551615)];
            tensor<int4, [3]> nibbles = const()[val = tensor<int4, [3]>([-8, 7, 0])];
            tensor<fp64, [2]> doubles = const()[val = tensor<fp64, [2]>([0x1p-1074, -inf])];
            tensor<string, [2]> words = const()[val = tensor<string, [2]>(["", "é×"])];
            tensor<fp32, [...]> any = op(a = a, l = list<tensor<string, []>, 2>(["x", "y"]), n = (), t = tuple<>(()), v = (none, tensor<int32, []>(-3)));
            write_state(data = any, input = s)[name = tensor<string, []>("w")];
            tensor<fp32, [1]> y, tensor<int32, []> z = while_loop(loop_vars = (a, most))[name = tensor<string, []>("loop")] (tensor<fp32, [1]> i) {
                    tensor<bool, []> go = cond(pred = i) {
                        } -> (a) {
                        } -> (a);
                } -> (go) (tensor<fp32, [1]> i) {
                } -> (i);
        } -> (y, z);
    func other<ios17>() {
        } -> ();
}"""  # noqa: E501


@needs_fixtures
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.parent.stem)
def test_real_texts_print_again_as_they_were(path: Path) -> None:
    """What Apple's compiler printed is read, and printed byte for byte; among it wespeaker's 700 kB and 1001 slices."""
    text = path.read_text()
    assert emit(*parse(text)) == text


@needs_fixtures
@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.stem)
def test_real_texts_are_read_as_the_program_of_the_package(path: Path) -> None:
    """The block that is read equals that of the package the text was compiled from, message for message."""
    program, _ = parse((path.with_suffix(".mlmodelc") / "model.mil").read_text())
    packaged = read_package(path).spec.mlProgram
    assert sorted(program.functions) == sorted(packaged.functions)
    for name, function in packaged.functions.items():
        assert program.functions[name].block_specializations == function.block_specializations


def test_every_construct_survives() -> None:
    """Nested blocks, states, ranges, lists, tuples, empty tensors and every width of number print as they were."""
    program, dialect = parse(EVERYTHING)
    assert emit(program, dialect) == EVERYTHING
    newer = emit(program, DIALECTS["1.3"])
    assert "uint64 most = const()[val = uint64(18446744073709551615)];" in newer
    assert "dict<string, tensor<int32, [?]>>" in newer
    again, dialect = parse(newer)
    assert again == program
    assert dialect is DIALECTS["1.3"]


def test_inputs_arguments_and_attributes_are_sorted() -> None:
    """Function inputs, arguments and attributes print in the order of their names; outputs keep theirs."""
    text = (
        "program(1.0)\n{ func main<ios15>(tensor<fp32, []> b, tensor<fp32, []> a) "
        '{ tensor<fp32, []> z = add(y = b, x = a)[w = tensor<bool, []>(true), name = tensor<string, []>("z")]; }'
        " -> (z, a); }"
    )
    printed = emit(*parse(text))
    assert "func main<ios15>(tensor<fp32, []> a, tensor<fp32, []> b) {" in printed
    assert 'add(x = a, y = b)[name = tensor<string, []>("z"), w = tensor<bool, []>(true)];' in printed
    assert "} -> (z, a);" in printed


NUMBERS = {name: row for name, row in BY_NAME.items() if row.kind in ("int", "uint")}


@settings(deadline=None)
@given(st.data())
def test_integers_of_every_width_survive(data: st.DataObject) -> None:
    """Integers from the smallest to the largest of their type are stored and read as they are, and no others."""
    row = data.draw(st.sampled_from(sorted(NUMBERS.values(), key=lambda row: row.name)))
    signed = row.kind == "int"
    low, high = -(signed << (row.bits - 1)), (1 << (row.bits - signed)) - 1
    literals = [str(value) for value in data.draw(st.lists(st.integers(low, high), max_size=9))]
    tensor = MIL_pb2.TensorValue()
    store_literals(tensor, row, literals)
    assert read_literals(tensor, row, len(literals)) == literals
    for outside in (low - 1, high + 1):
        with pytest.raises(MilError, match="fit"):
            store_literals(MIL_pb2.TensorValue(), row, [str(outside)])


def test_half_floats_are_stored_as_little_endian_bytes() -> None:
    """fp16 immediates lie in `bytes` as coremltools writes them."""
    value = parse_value("tensor<fp16, [2]>([0x1.8p+0, -inf])")
    assert value.immediateValue.tensor.bytes.values == np.array([1.5, -np.inf], "<f2").tobytes()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "line 1, column 1", "'program'"),
        ("program(2.0)", "line 1, column 9", "1.0 or 1.3"),
        ("program(1.0)\n{\n    func main<ios99>() { } -> (); }", "line 3, column 15", "ios15"),
        ("program(1.0) { func f<ios15>() { } -> (x) }", "line 1, column 43", "';'"),
        ("program(1.0) { } x", "line 1, column 18", "end of the file"),
        ("program(1.0) { § }", "line 1, column 16", "'§'"),
        ("program(1.0) [a = tensor<int32, [2]>([1])] { }", "line 1, column 41", "1 elements"),
        ("program(1.0) [a = tensor<int32, []>(0x1p+0)] { }", "line 1, column 43", "an integer"),
        ("program(1.0) [a = tensor<int8, []>(200)] { }", "line 1, column 39", "does not fit int8"),
        ("program(1.0) [a = widget(3)] { }", "line 1, column 25", "a type"),
    ],
)
def test_errors_say_where(text: str, where: str, what: str) -> None:
    """A text that is not of the grammar is refused with line, column and what was expected."""
    with pytest.raises(MilError) as caught:
        parse(text)
    assert where in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"program(1.0) [a = {'tuple<' * 5000}",
        f"program(1.0) {{ func f<ios15>() {{ {'cond(p = q) { ' * 5000}",
        f"program(1.0) [a = tensor<int32, [{', '.join(['1'] * 5000)}]>({'[' * 5000}",
        "program(1.0) [a = tensor<int32, [99999999999999]>([1",
        '"' + "a" * 100000,
    ],
    ids=["types", "blocks", "rank", "size", "string"],
)
def test_hostile_nesting_is_refused(text: str) -> None:
    """Nesting beyond any model's, and sizes beyond the file's, are refused quickly and without a deep stack."""
    with pytest.raises(MilError):
        parse(text)


def test_what_the_text_cannot_hold_is_refused_with_its_place() -> None:
    """Names that are no words, missing blocks and stray attributes name the function and operation."""
    program, dialect = parse(EVERYTHING)
    program.functions["main"].block_specializations["CoreML7"].operations[0].outputs[0].name = "1 x"
    with pytest.raises(MilError, match=r"function main: op `const` \(1 x\): the name '1 x'"):
        emit(program, dialect)
    program, dialect = parse(EVERYTHING)
    program.functions["other"].opset = "CoreML6"
    with pytest.raises(MilError, match="function other"):
        emit(program, dialect)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_texts_give_clear_errors_only(seed: int) -> None:
    """Any text near a valid one is either a program, which then survives a round trip, or a MilError."""
    rng = random.Random(seed)
    for _ in range(25):
        text = EVERYTHING
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(text))
            end = min(len(text), start + rng.randint(0, 6))
            other = rng.randrange(len(text))
            text = text[:start] + rng.choice(["", text[other : other + 8], chr(rng.randrange(1, 255))]) + text[end:]
        try:
            printed = emit(*parse(text))
            assert emit(*parse(printed)) == printed
        except MilError:
            pass
