"""When values die: never before their last use, and not after it."""

import pytest

import mil
from mil.bound import Call
from mil.liveness import last_uses, names_defined, names_read
from mil.package import read_package
from mil.schema import MIL_pb2
from mil.values import specialization
from tests.fixtures import FIXTURES, needs_fixtures

BLOCK = """
    operations { type: "relu" inputs { key: "x" value { arguments { name: "x" } } } outputs { name: "a" } }
    operations { type: "relu" inputs { key: "x" value { arguments { name: "x" } } } outputs { name: "unused" } }
    operations {
      type: "cond" inputs { key: "pred" value { arguments { name: "p" } } } outputs { name: "c" }
      blocks {
        operations { type: "relu" inputs { key: "x" value { arguments { name: "a" } } } outputs { name: "inner" } }
        outputs: "inner"
      }
      blocks { outputs: "b" }
    }
    operations {
      type: "add" outputs { name: "y" }
      inputs { key: "x" value { arguments { name: "c" } } } inputs { key: "y" value { arguments { name: "c" } } }
    }
    outputs: "y"
"""


def parsed(text: str) -> MIL_pb2.Block:
    from google.protobuf import text_format

    return text_format.Parse(text, MIL_pb2.Block())


def test_values_die_with_the_operation_that_reads_them_last() -> None:
    """A nested block's reading counts for the operation that holds it; outputs and inputs of outside live on."""
    block = parsed(BLOCK)
    assert last_uses(block, ["x", "p", "b"]) == [set(), {"x", "unused"}, {"p", "a", "b"}, {"c"}]
    assert last_uses(block, []) == [set(), {"unused"}, {"a"}, {"c"}]
    assert sorted(names_read(block.operations[2])) == ["a", "b", "p"]
    assert list(names_defined(block)) == ["a", "unused", "c", "inner", "y"]


@needs_fixtures
def test_every_slot_of_a_real_program_is_freed_once() -> None:
    """All computed values but the outputs are freed, each right after the last step that takes it."""
    path = next((FIXTURES / "apple_pairs" / "silero_fp").glob("*.mlpackage"))
    bound = mil.load(path).bound(0, "declared")
    freed = [slot for step in bound.block.steps for slot in step.frees]
    assert len(freed) == len(set(freed))
    made = {result.slot for step in bound.block.steps for result in step.results}
    kept = made - set(freed)
    assert len(kept) == len(bound.outputs)
    assert all(isinstance(step, Call) for step in bound.block.steps)


@needs_fixtures
@pytest.mark.parametrize("name", ["silero_fp", "parakeet160_spec8"])
def test_no_value_is_read_after_it_died(name: str) -> None:
    """By walking real blocks with the sets alone."""
    path = next((FIXTURES / "apple_pairs" / name).glob("*.mlpackage"))
    function = read_package(path).spec.mlProgram.functions["main"]
    block = specialization(function)
    inputs = [value.name for value in function.inputs]
    dead: set[str] = set()
    for operation, dying in zip(block.operations, last_uses(block, inputs), strict=True):
        assert dead.isdisjoint(names_read(operation))
        dead |= dying
    assert dead.isdisjoint(block.outputs)
