"""Apply one pass to any package by hand.

    python -m optimizations PASS PACKAGE --out PACKAGE [OPTION=VALUE …]

Options are those that variants.yaml takes for the pass, written as in YAML: nbits=6 'exclude=[fbank]'. The result is
written whole, or not at all. With inputs, source and result are both run, and what differs is shown: the outputs, and
every logarithm that both have (of a spectrum, a log-mel).
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, get_type_hints

import yaml

from mil.commands.inputs import add_input_arguments, gathered
from mil.diff import Difference, Side, compare
from mil.errors import MilError
from mil.program import load
from mil.text import table
from pipeline.options import Complaints, build, describe
from pipeline.types import EnvironmentTroubleError, Memo, QuernError

INTERRUPTED, BUG = 130, 3
MOST_ROWS = 8
FOLDER = Path(__file__).parent

EPILOG = """\
passes:
{passes}

`python -m optimizations PASS --help` tells what a pass does and which options it has.

exit status: 0 done; 2 wrong usage, options or package; 3 a bug in Quern; 4 the system refuses; 130 interrupted
"""


def names() -> list[str]:
    """Return the names of the passes."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if not file.name.startswith("_"))


def module(name: str) -> ModuleType:
    """Return the module of a pass; raises QuernError where there is none of that name."""
    if name not in names():
        raise QuernError(f"{name}: no such pass; there is {', '.join(names())}")
    return importlib.import_module(f"optimizations.{name}")


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser, which tells of one pass where one is chosen."""
    known = chosen if chosen in names() else None
    description, epilog = (__doc__ or "", EPILOG.format(passes=_summaries())) if known is None else _described(known)
    p = argparse.ArgumentParser(
        prog="python -m optimizations",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("name", metavar="PASS", help="which pass")
    p.add_argument("package", type=Path, metavar="PACKAGE", help="a .mlpackage or .mlmodel")
    p.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="options of the pass, each written as in YAML")
    p.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="the .mlpackage to write")
    p.add_argument("--force", action="store_true", help="replace what is at --out")
    p.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    add_input_arguments(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser(next((each for each in argv if not each.startswith("-")), None)).parse_intermixed_args(argv)
    try:
        return run(args)
    except (QuernError, MilError) as error:
        print(f"optimizations {args.name}: {error}", file=sys.stderr)
        return getattr(error, "status", QuernError.status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"optimizations {args.name}: {where}{error.strerror or error}", file=sys.stderr)
        return EnvironmentTroubleError.status
    except KeyboardInterrupt:
        return INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Apply the pass, then say what it found and what it changed."""
    chosen = module(args.name)
    options = options_of(args.name, chosen, args.options)
    _check_paths(args.package, args.out, args.force)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{args.out.name}.", dir=args.out.parent) as folder:
        made = Path(folder) / "made.mlpackage"
        found = apply(chosen, args.package, options, Path(folder) / "memo", made)
        if args.input or args.seed is not None:
            found["compared"] = [dataclasses.asdict(each) for each in differences(args.package, made, args)]
        if args.out.exists():
            args.out.rename(Path(folder) / "replaced")
        made.rename(args.out)
    print(json.dumps(found, indent=1, sort_keys=True) if args.json else told(found))
    if not args.json:
        print(args.out)
    return 0


def options_of(name: str, chosen: ModuleType, written: Sequence[str]) -> Any:
    """Return the options of a pass from `key=value` texts; raises QuernError that says all that is wrong with them."""
    values: dict[str, Any] = {}
    for text in written:
        key, separator, value = text.partition("=")
        if not separator:
            raise QuernError(f"{text}: expected OPTION=VALUE")
        if key in values:
            raise QuernError(f"{key}: given twice")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise QuernError(f"{text}: the value is no YAML") from None
    complaints = Complaints()
    options = build(chosen.Options, values, name, complaints)
    if complaints:
        raise QuernError("; ".join(complaints))
    return options


def apply(chosen: ModuleType, source: Path, options: Any, memo: Path, destination: Path) -> dict[str, Any]:
    """Apply a pass without a store and without recordings; one that needs recordings says so."""
    calibration = (None,) if hasattr(chosen, "calibrated") else ()
    return chosen.apply(source, options, _memo(memo), destination, *calibration)


def _memo(folder: Path) -> Memo:
    """Return a memo that lasts for one command."""

    def recalled(recipe: Mapping[str, Any], make: Callable[[Path], None], resumes: bool = False) -> Path:
        place = folder / hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        if not place.exists():
            place.mkdir(parents=True)
            make(place)
        return place

    return recalled


def _check_paths(package: Path, out: Path, force: bool) -> None:
    if not package.exists():
        raise QuernError(f"{package}: not there")
    if package.suffix == ".mlmodelc":
        raise QuernError(f"{package}: a compiled bundle; make it a package first: python -m mil decompile")
    if out.suffix != ".mlpackage":
        raise QuernError(f"--out {out}: expected a name that ends in .mlpackage")
    if out.exists() and not force:
        raise QuernError(f"--out {out}: exists already; --force replaces it")


def differences(source: Path, made: Path, args: argparse.Namespace) -> list[Difference]:
    """Return how far the outputs, and the logarithms that both programs have, are apart on the given inputs."""
    before, after = load(source), load(made)
    inputs = gathered(before, args)
    found = compare(Side(before, inputs, function=args.function), Side(after, inputs, function=args.function))
    outputs = set(before.outputs(args.function))
    return [each for each in found.differences if each.name in outputs or each.operation == "log"]


def told(found: Mapping[str, Any]) -> str:
    """Return what a pass found, for people: its lists as tables, without what repeats from row to row."""
    parts = []
    for heading, content in found.items():
        if isinstance(content, list) and content:
            columns = list(dict.fromkeys(key for row in content for key in row))
            rows = [tuple(_short(row.get(key, "")) for key in columns) for row in content[:MOST_ROWS]]
            more = f"\n  … and {len(content) - MOST_ROWS} more; --json has all" if len(content) > MOST_ROWS else ""
            parts.append(f"{heading}: {len(content)}\n{table(tuple(columns), rows)}{more}")
        elif isinstance(content, Mapping) and set(content) == {"before", "after"}:
            parts.append(_change(heading, content["before"], content["after"]))
        elif content:
            parts.append(f"{heading}: {_short(content)}")
    return "\n\n".join(parts)


def _change(heading: str, before: Any, after: Any) -> str:
    if not isinstance(before, Mapping):
        return f"{heading}: {before} → {after}"
    return "\n".join(f"{key}: {before[key]} → {after[key]}" for key in before)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summaries() -> str:
    return "\n".join(f"  {name:28} {_docstring(name).partition(chr(10))[0]}" for name in names())


def _docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""


def _described(name: str) -> tuple[str, str]:
    """Return what a pass says of itself, and its options with their types and defaults."""
    options = module(name).Options
    hints = get_type_hints(options)
    rows = [f"  {each.name:18} {describe(hints[each.name])}{_default(each)}" for each in dataclasses.fields(options)]
    listed = "\n".join(rows) or "  none"
    return _docstring(name), f"options of {name}:\n{listed}\n\n{options.__doc__ or ''}"


def _default(option: "dataclasses.Field[Any]") -> str:
    if option.default is not dataclasses.MISSING:
        return f" (default: {option.default if option.default not in ((), '') else 'none'})"
    return " (default: none)" if option.default_factory is not dataclasses.MISSING else " (required)"


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say that an error nobody foresaw is ours, and leave with the status that says so."""
    traceback.print_exception(kind, error, trace)
    print("This is a bug in Quern; please report it with the lines above.", file=sys.stderr, flush=True)
    os._exit(BUG)


if __name__ == "__main__":
    sys.excepthook = report_bug
    sys.exit(main())
