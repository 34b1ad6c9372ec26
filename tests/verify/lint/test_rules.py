"""Every rule, on a program that breaks it and on its like that does not, and on programs that people use."""

import numpy as np
import pytest

from mil.program import Program, load
from tests.fixtures import FIXTURES, needs_fixtures
from tests.verify.lint import cases
from tests.verify.lint.cases import CASES, enumerated, function, made, palette, relu, tensor, transformer
from verify.linting.lint import Report, lint
from verify.linting.table import RULES
from verify.linting.text import sections


def found(program: Program) -> dict[str, list[str]]:
    """Return the sentences of each rule that finds something."""
    by_rule: dict[str, list[str]] = {}
    for finding in lint(program).findings:
        by_rule.setdefault(finding.rule.id, []).append(finding.hit.sentence)
    return by_rule


def test_every_rule_that_can_be_decided_has_its_case() -> None:
    """And those that cannot say why."""
    assert set(CASES) == {rule.id for rule in RULES if not rule.undecidable}
    for rule in RULES:
        looks = [rule.function, rule.model]
        assert sum(look is not None for look in looks) == (0 if rule.undecidable else 1), rule.id
        assert all((rule.title, rule.source, rule.remedy, rule.confidence)), rule.id
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_finds_what_breaks_it_and_nothing_else(rule: str) -> None:
    """The one program has the finding, the other has not."""
    broken, sound = CASES[rule]
    assert rule in found(broken)
    assert rule not in found(sound)


def test_a_sound_program_is_only_small() -> None:
    """Half precision inside, single precision at its borders: nothing to say but that it is small."""
    program = function(
        made("fp16 1 4", "h", "cast", x="x", dtype='string("fp16")'),
        relu(name="r", x="h"),
        made("fp32 1 4", "y", "cast", x="r", dtype='string("fp32")'),
        x="fp32 1 4",
    )
    assert set(found(program)) == {"R1"}
    report = lint(program)
    assert report.neural_engine_share == 1
    assert [(s.operations, s.casts, s.full, s.crossings) for s in report.functions] == [(3, 2, 0, 0)]


def test_a_chain_of_renaming_is_followed_to_the_input() -> None:
    """Several operations that touch no value are no more than one; one with arithmetic among them is a new tensor."""
    apart = f"{tensor('int32 2')}([2, 2])", f"{tensor('int32 2')}([1, 4])"
    first = made("fp16 2 2", "a", "reshape", x="x", shape=apart[0])
    last = made("fp16 1 4", "y", "reshape", x="b", shape=apart[1])
    assert found(function(first, made("fp16 2 2", "b", "identity", x="a"), last))["A2"] == [
        "`y` is the input `x`, renamed by reshape, identity, reshape only"
    ]
    assert "A2" not in found(function(first, made("fp16 2 2", "b", "relu", x="a"), last))


def test_another_type_or_order_is_no_renaming() -> None:
    """A cast to another type and a transposition make new tensors."""
    assert "A2" not in found(function(made("fp32 1 4", "y", "cast", x="x", dtype='string("fp32")')))
    perm = tensor("int32 2")
    for order, renamed in (("[1, 0]", False), ("[0, 1]", True)):
        program = function(made("fp16 4 4", "y", "transpose", x="x", perm=f"{perm}({order})"), x="fp16 4 4")
        assert ("A2" in found(program)) is renamed


def test_stages_that_disagree_on_a_type_are_found() -> None:
    """The first makes single precision, the second reads half."""
    program = cases.pipeline("y", "y")
    second = program.spec.pipeline.models[1].mlProgram.functions["main"]
    second.inputs[0].type.tensorType.dataType = 10  # FLOAT16
    assert found(Program(program.package))["A4"] == ["stage `model1` reads `y` as fp16, the stage before makes fp32"]


def test_functions_stages_and_nested_blocks_are_looked_at() -> None:
    """Wherever an operation stands; the finding says where."""
    text = (
        "program(1.0)\n{ func a<ios17>(tensor<fp16, [1, 4]> x) { "
        'tensor<bool, []> p = const()[name = string("p"), val = tensor<bool, []>(true)]; '
        'tensor<fp16, [1, 4]> y = cond(pred = p)[name = string("c")] '
        '{ tensor<fp16, [1, 4]> t = lstm(x = x)[name = string("t")]; } -> (t) '
        '{ tensor<fp16, [1, 4]> f = relu(x = x)[name = string("f")]; } -> (f); } -> (y); '
        'func b<ios17>(tensor<fp16, [1, 4]> x) { tensor<fp16, [1, 4]> y = gru(x = x)[name = string("y")]; } -> (y); }'
    )
    report = lint(Program(cases.package(cases.model(text))))
    places = {
        (f.where, f.hit.operation.block, f.hit.operation.type)
        for f in report.findings
        if f.rule.id == "O1" and f.hit.operation
    }
    assert places == {("a", "c[0]/", "lstm"), ("b", "", "gru")}
    stages = lint(cases.pipeline("y", "y"))
    assert {f.where for f in stages.findings if f.rule.id == "P1"} == {"model0.main", "model1.main"}


def test_a_list_of_shapes_is_not_taken_for_a_range() -> None:
    """Listed shapes may run on the Neural Engine; more than one list needs iOS 18."""
    assert "S1" not in found(enumerated(2))
    assert found(enumerated(2, inputs=2))["S2"] == ["2 inputs have lists of shapes; before iOS 18 only one may"]
    assert found(enumerated(2, source=palette(64)))["S3"] == [
        "input `x` has a list of 2 shapes and its weights are palettes"
    ]


def test_a_long_axis_of_a_weight_is_none_of_a_tensor() -> None:
    """Weights lie in memory; what is computed must be addressed. Each axis has its own limit."""
    wide = made("fp16 1 4", "y", "linear", x="x", weight="w")
    indices = made(
        "fp16 4 70000", "w", "constexpr_cast", source_val=f"{tensor('fp16 1')}([0x0p+0])", output_dtype='string("fp16")'
    )
    assert "D1" not in found(function(indices, wide))
    assert "D1" in found(function(relu("fp16 1 1 20000 4"), x="fp16 1 1 20000 4"))
    assert "D1" not in found(function(relu("fp16 1 20000 1 4"), x="fp16 1 20000 1 4"))
    assert "D1" in found(function(relu("fp16 1 70000 1 4"), x="fp16 1 70000 1 4"))


def test_attention_without_norms_is_no_transformer() -> None:
    """Rules for transformers leave a single weighted mean alone."""
    assert "D6" not in found(transformer(batch=2, norm=False))


def test_attention_by_einsum_is_attention() -> None:
    """One head at a time in (batch, channel, 1, frame), keys before queries, as Apple writes it."""
    product = {"equation": 'string("nchw,nwhu->nchu")'}
    scored = made("fp16 2 8 1 8", "s", "einsum", values="(k, n)", **product)
    weighed = made("fp16 2 8 1 8", "w", "softmax", x="s", axis="int32(1)")
    heard = made("fp16 2 16 1 8", "y", "einsum", values="(n, w)", **product)
    norm = made("fp16 2 16 1 8", "n", "layer_norm", x="x", axes=f"{tensor('int32 1')}([1])", epsilon="fp16(0x1p-10)")
    key = made("fp16 2 8 1 16", "k", "transpose", x="n", perm=f"{tensor('int32 4')}([0, 3, 2, 1])")
    assert found(function(norm, key, scored, weighed, heard, x="fp16 2 16 1 8"))["D6"] == ["attends in a batch of 2"]


def test_integers_and_indices_are_told_apart() -> None:
    """Both run on the CPU, for different reasons; a cast is neither."""
    whole = ", tensor<int32, [1, 4]> i"
    assert found(function(made("int32 1 4", "y", "add", x="i", y="i"), more=whole))["O4"] == [
        "computes whole numbers, which runs on the CPU"
    ]
    assert "O4" not in found(function(made("fp16 1 4", "y", "cast", x="i", dtype='string("fp16")'), more=whole))


def test_lengths_are_followed_through_sums_to_the_whole_numbers_they_were() -> None:
    """A length halved, plus one, and floored, as networks that count frames do; a bare scaling rounds nothing."""
    cast = made("fp16 1 4", "c", "cast", x="i", dtype='string("fp16")')
    half = made("fp16 1 4", "h", "mul", x="c", y="fp16(0x1p-1)")
    one = made("fp16 1 4", "o", "add", x="h", y="fp16(0x1p+0)")
    whole = ", tensor<int32, [1, 4]> i"
    assert "P3" in found(function(cast, half, one, made("fp16 1 4", "y", "floor", x="o"), more=whole))
    assert "P3" in found(
        function(cast, half, one, made("int32 1 4", "y", "cast", x="o", dtype='string("int32")'), more=whole)
    )
    assert "P3" not in found(function(cast, half, made("fp16 1 4", "y", "relu", x="h"), more=whole))
    assert "P3" not in found(
        function(made("fp16 1 4", "h", "mul", x="x", y="x"), made("fp16 1 4", "y", "floor", x="h"))
    )


def test_what_the_rule_on_whole_numbers_says_is_so() -> None:
    """3048 mel frames are 381 groups of eight; in half precision, rounded up to 3056, they are 382."""
    program = function(
        made("int32 1", "a", "add", x="x", y="int32(7)"),
        made("fp16 1", "c", "cast", x="a", dtype='string("fp16")'),
        made("fp16 1", "q", "floor_div", x="c", y="fp16(0x1p+3)"),
        made("int32 1", "y", "cast", x="q", dtype='string("int32")'),
        x="int32 1",
    )
    assert "P3" in found(program)
    counted = [int(program.run({"x": np.array([n], np.int32)})["y"][0]) for n in (112, 3048)]
    assert counted == [14, 382]


def test_a_rule_about_the_whole_takes_everything_off() -> None:
    """A batched transformer has no operation left on the Neural Engine; the share says so."""
    assert lint(transformer(batch=2)).neural_engine_share == 0
    assert lint(transformer()).neural_engine_share == 1


def test_crossings_count_the_ways_there_and_back() -> None:
    """On, off, on again: two."""
    report = lint(function(relu(name="a"), made("fp16 1 4", "b", "lstm", x="a"), relu(x="b")))
    assert [(s.leaving, s.crossings) for s in report.functions] == [(1, 2)]


def shown(report: Report) -> dict[str, list[tuple[str, int]]]:
    """Return the sections of a report: of each finding the rule and how many operations."""
    return {title: [(group.rule.id, group.count) for group in groups] for title, groups in sections(report)}


@needs_fixtures
def test_the_published_embedding() -> None:
    """A thousand slices of a waveform that is too long, all in single precision: nothing of it may run there."""
    report = lint(load(FIXTURES / "published" / "wespeaker_v2.mlmodelc"))
    assert shown(report) == {"leaves the Neural Engine": [("D1", 1002), ("O4", 2), ("P1", 1148)], "notes": [("R1", 1)]}
    assert report.neural_engine_share == 0
    assert report.notes == ("@model_path/weights/weight.bin is not there: constants in it were not looked at",)


@needs_fixtures
@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("silero_fp", []),
        ("silero_int8", [("Q6", 7)]),
        ("silero_palette_4bit", [("Q5", 7)]),
        ("silero_palette_6bit", []),
    ],
)
def test_the_silero_programs(name: str, beside: list) -> None:
    """One LSTM in single precision is all that cannot run there; package and bundle are found alike."""
    folder = FIXTURES / "apple_pairs" / name
    reports = [lint(load(path)) for path in sorted(folder.iterdir())]
    for report in reports:
        assert shown(report)["leaves the Neural Engine"] == [("O1", 1), ("P1", 1)]
        assert shown(report)["warnings"] == [*beside, ("R5", 1)]
        assert report.count("error") == 0
    assert [f.key for f in reports[0].findings] == [f.key for f in reports[1].findings]
