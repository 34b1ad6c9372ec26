"""What a program is once it is bound: blocks of steps over numbered slots, ready to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mil.errors import MilError
from mil.values import TensorType

Values: TypeAlias = list[Any]
Take: TypeAlias = Callable[[Values], Any]
Finish: TypeAlias = Callable[[Any], Any]

# What an operation can raise for arguments that do not fit it; anything else is a bug and passes through.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Result:
    """One output of an operation: where it goes, and what it passes through to get there."""

    name: str
    slot: int
    type: TensorType | None
    finish: Finish


@dataclass(frozen=True, slots=True)
class Call:
    """One operation, bound: `function` over constants and slots."""

    layer: str
    operation: str
    function: Callable[..., Any]
    constants: Mapping[str, Any]
    computed: tuple[tuple[str, Take], ...]
    results: tuple[Result, ...]
    frees: tuple[int, ...]

    def compute(self, values: Values) -> tuple[Any, ...]:
        """Compute the results into their slots and return them; raises MilError where the operation cannot."""
        arguments = dict(self.constants)
        for name, take in self.computed:
            arguments[name] = take(values)
        try:
            found = self.function(**arguments)
            return self._store(found if type(found) is tuple else (found,), values)
        except MilError as error:
            raise MilError(f"op `{self.operation}` ({self.layer}): {error}") from error
        except REFUSALS as error:
            raise MilError(f"op `{self.operation}` ({self.layer}): {_first_line(error)}") from error

    def _store(self, found: tuple[Any, ...], values: Values) -> tuple[Any, ...]:
        if len(found) != len(self.results):
            raise MilError(f"declares {len(self.results)} results, has {len(found)}")
        finished = []
        for result, value in zip(self.results, found, strict=True):
            try:
                value = result.finish(value)
            except MilError as error:
                raise MilError(f"result `{result.name}`: {error}") from None
            values[result.slot] = value
            finished.append(value)
        return tuple(finished)


@dataclass(frozen=True, slots=True)
class Cond:
    """A choice between two blocks."""

    layer: str
    operation: str
    predicate: Take
    branches: tuple["BoundBlock", "BoundBlock"]
    results: tuple[Result, ...]
    frees: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class While:
    """A block repeated over loop variables for as long as another says so."""

    layer: str
    operation: str
    initial: tuple[Take, ...]
    condition: "BoundBlock"
    body: "BoundBlock"
    results: tuple[Result, ...]
    frees: tuple[int, ...]


Step: TypeAlias = Call | Cond | While


@dataclass(frozen=True, slots=True)
class BoundBlock:
    """The steps of one block, the slots it is entered with and what takes its outputs."""

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Take, ...]


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """One function, ready to run in one mode.

    inputs    slot and type by name; a state's type is that of its tensor
    outputs   name and declared type, in order
    """

    block: BoundBlock
    inputs: Mapping[str, tuple[int, TensorType]]
    states: Mapping[str, tuple[int, TensorType]]
    outputs: Mapping[str, TensorType | None]
    slot_count: int


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
