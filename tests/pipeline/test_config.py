from pathlib import Path

import pytest
import yaml

from pipeline.code import ROOT
from pipeline.config import Matrix, read_matrix
from pipeline.types import QuernError

SMALL = """
checkpoints:
  mine: {network: segmentation, licence: MIT}
variants:
  segmentation:
    checkpoint: [mine]
    file: segmentation
    checks: [alias, parity]
    axes:
      precision:
        fp16: {convert: {precision: fp16}}
        w6: {optimize: [palettize: {nbits: 6}], only: {window: [default]}}
      window:
        default: {}
        5s: {form: {window_s: 5}}
    limits:
      alias.package: {most: 0, unit: findings, reason: it crashes, required: build}
      parity.argmax: {least: {trained: 0.99, synthetic: 0.9}, unit: share of frames, reason: same speakers}
"""

# What says that an artifact does what it came from does.
FAITHFUL = {
    "parity.argmax",
    "embedding.cosine_worst",
    "equality.max_difference",
    "streaming.agreement",
    "functions.differing",
}


def read(tmp_path: Path, text: str) -> Matrix:
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    return read_matrix(path)


def complaints(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(QuernError) as error:
        read(tmp_path, text)
    return str(error.value).splitlines()


def test_axes_expand_to_named_variants(tmp_path: Path) -> None:
    """Every combination is a variant; `default` is not spelled; `only` leaves combinations out."""
    assert [v.id for v in read(tmp_path, SMALL).variants] == ["mine/fp16", "mine/fp16-5s", "mine/w6"]


def test_axis_values_are_laid_over_the_block(tmp_path: Path) -> None:
    """Settings merge; what only one axis says stands."""
    _, short, palettized = read(tmp_path, SMALL).variants
    assert short.form.window_s == 5
    assert [(each.name, each.options.nbits) for each in palettized.optimize] == [("palettize", 6)]


def test_limits_have_a_column_for_each_kind_of_weights(tmp_path: Path) -> None:
    """One number serves both columns, a mapping tells them apart."""
    alias, argmax = read(tmp_path, SMALL).variants[0].limits
    assert (alias.most, alias.synthetic, alias.required) == (0, (None, 0), "build")
    assert (argmax.least, argmax.synthetic) == (0.99, (0.9, None))


def test_a_checkpoint_of_ones_own_is_two_lines(tmp_path: Path) -> None:
    """A fine-tuned network is an id with its licence, named in the block of its network."""
    text = SMALL.replace("  mine:", "  yours: {network: segmentation, licence: MIT}\n  mine:")
    found = read(tmp_path, text.replace("[mine]", "[mine, yours]"))
    assert {v.checkpoint.id for v in found.variants} == {"mine", "yours"}


def test_one_more_context_is_one_line(tmp_path: Path) -> None:
    """Another window length is one more value of its axis."""
    found = read(tmp_path, SMALL.replace("        5s:", "        20s: {form: {window_s: 20}}\n        5s:"))
    assert "mine/fp16-20s" in [v.id for v in found.variants]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "nbits: 6",
            "nbit: 6",
            "@.axes.precision.w6.optimize[0].palettize.nbit: unknown option; did you mean 'nbits'?",
        ),
        (
            "palettize:",
            "paletize:",
            "@.axes.precision.w6.optimize[0].paletize: unknown pass; did you mean 'palettize'?",
        ),
        ("nbits: 6", "nbits: 5", "@.axes.precision.w6.optimize[0].palettize: nbits"),
        ("window_s: 5", "window: 5", "@.axes.window.5s.form.window: unknown option; did you mean 'window_s'?"),
        ("window_s: 5", "window_s: long", "@.axes.window.5s.form.window_s: expected a number, found 'long'"),
        ("checkpoint: [mine]", "checkpoint: [mime]", "@.checkpoint.mime: unknown checkpoint; did you mean 'mine'?"),
        ("[alias, parity]", "[alias, party]", "@.checks.party: unknown check; did you mean 'parity'?"),
        (
            "checks: [alias, parity]",
            "checks: [alias]",
            "@/fp16.limits.parity.argmax: a limit without its check; add the check to `checks`",
        ),
        ("parity.argmax:", "parity.argmin:", "@.limits.parity.argmin: unknown measurement; did you mean"),
        (
            "unit: findings",
            "unit: tensors",
            "@.limits.alias.package.unit: expected 'findings', which is what the check measures, found 'tensors'",
        ),
        ("most: 0, unit", "unit", "@/fp16.limits.alias.package: expected `least` or `most`, found neither"),
        (", reason: it crashes", "", "@/fp16.limits.alias.package.reason: missing; expected text"),
        (
            "required: build",
            "required: always",
            "@.limits.alias.package.required: expected build or publish or nothing, found 'always'",
        ),
        (
            "synthetic: 0.9",
            "sintetic: 0.9",
            "@.limits.parity.argmax.least.sintetic: unknown column; did you mean 'synthetic'?",
        ),
        ("    file: segmentation\n", "", "@/fp16.file: missing; expected the name of the artifact's file"),
        (
            "network: segmentation",
            "network: segmentaton",
            "checkpoints.mine.network.segmentaton: unknown network; did you mean 'segmentation'?",
        ),
        (
            "licence: MIT}",
            "licence: MIT, hub: {repository: a/b, revision: main, files: {}}}",
            "checkpoints.mine.hub: revision: expected a commit of 40 hex digits, found 'main'",
        ),
        (
            "    axes:\n",
            "    axes:\n      extra: []\n",
            "@.axes.extra: expected a mapping from the name of each value to its settings",
        ),
        ("checkpoints:", "chekpoints:", "chekpoints: unknown section; did you mean 'checkpoints'?"),
    ],
)
def test_a_mistake_is_named_with_its_path(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """The path in the file (`@` is the block's), what is wrong, and the nearest name that exists."""
    assert old in SMALL
    found = complaints(tmp_path, SMALL.replace(old, new))
    wanted = f"variants.yaml: {complaint}".replace("@", "variants.segmentation")
    assert any(line.startswith(wanted) for line in found), found


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """Nobody mends a file one error a run."""
    text = SMALL.replace("nbits: 6", "nbit: 6").replace("window_s", "window").replace("unit: findings", "unit: x")
    assert len(complaints(tmp_path, text)) >= 3


def test_a_variant_declared_twice_is_reported(tmp_path: Path) -> None:
    """Two blocks that make the same name would overwrite each other's artifact."""
    block = yaml.safe_load(SMALL)
    block["variants"]["twice"] = block["variants"]["segmentation"]
    found = complaints(tmp_path, yaml.safe_dump(block))
    assert found[0] == (
        "variants.yaml: variants.twice: 'mine/fp16-5s' is declared twice; give an axis value another name"
    )


@pytest.mark.parametrize("text", ["- a\n- b\n", ""])
def test_what_is_no_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    """A list and an empty file are refused without a traceback."""
    assert len(complaints(tmp_path, text)) == 1


def test_the_declared_matrix_is_sound() -> None:
    """Ours has every form at every width, ids that apps know, and a limit on parity for each variant."""
    matrix = read_matrix(ROOT / "variants.yaml")
    ids = [variant.id for variant in matrix.variants]
    for name in ("fp16", "w8", "w6", "w4", "fp16-5s", "w8-b1to32", "w6-b4", "fp16-b32", "fp16-io16"):
        assert f"segmentation-3.0/{name}" in ids
    for variant in matrix.variants:
        limited = {limit.measurement for limit in variant.limits}
        assert limited & FAITHFUL, variant.id
        assert variant.format != "coreml" or {"alias.package", "alias.bundle"} <= limited, variant.id


def test_a_variant_of_no_axes_is_called_default(tmp_path: Path) -> None:
    """Everything has a name."""
    written = yaml.safe_load(SMALL)
    del written["variants"]["segmentation"]["axes"]
    assert [v.id for v in read(tmp_path, yaml.safe_dump(written)).variants] == ["mine/default"]


def functions_of(*names: str, **changes: object) -> str:
    """Return the small matrix with a block that puts variants together."""
    written = yaml.safe_load(SMALL)
    written["variants"]["together"] = {
        "checkpoint": ["mine"],
        "file": "both",
        "functions": {f"f{i}": name for i, name in enumerate(names)},
        "checks": ["functions"],
        "limits": {"functions.differing": {"most": 0, "unit": "functions", "reason": "each is its part"}},
    } | changes
    return yaml.safe_dump(written, sort_keys=False)


def test_functions_are_variants_declared_above(tmp_path: Path) -> None:
    """Of the same checkpoint, by name, the first being the default."""
    together = read(tmp_path, functions_of("fp16-5s", "w6")).variants[-1]
    assert {name: part.id for name, part in together.functions.items()} == {"f0": "mine/fp16-5s", "f1": "mine/w6"}
    assert together.form == next(iter(together.functions.values())).form


def test_a_function_that_is_no_variant_is_named(tmp_path: Path) -> None:
    """With the nearest that is one."""
    (complaint,) = complaints(tmp_path, functions_of("fp16-5"))
    assert "together/default.functions.f0.fp16-5: unknown variant of mine above; did you mean 'fp16-5s'?" in complaint


def test_an_artifact_of_functions_is_not_run_as_one(tmp_path: Path) -> None:
    """Parity would run the default function alone."""
    (complaint,) = complaints(tmp_path, functions_of("fp16", checks=["functions", "parity"]))
    assert "checks.parity: runs one function; use `functions`, which looks at each" in complaint


def test_a_common_limit_holds_for_all_that_have_the_check(tmp_path: Path) -> None:
    """And a block may lay its own over it."""
    written = yaml.safe_load(SMALL)
    written["limits"] = {
        "parity.argmax": {"least": 0.5, "required": "build"},
        "size.package": {"most": 3, "unit": "MB", "reason": "downloads"},
    }
    variant = read(tmp_path, yaml.safe_dump(written)).variants[0]
    limits = {limit.measurement: limit for limit in variant.limits}
    assert "size.package" not in limits
    assert (limits["parity.argmax"].least, limits["parity.argmax"].required) == (0.99, "build")


def test_a_common_limit_is_checked_even_where_nothing_has_the_check(tmp_path: Path) -> None:
    """A name that is misspelt would otherwise bound nothing, silently."""
    written = yaml.safe_load(SMALL) | {"limits": {"parity.argmx": {"least": 0.5}}}
    (complaint,) = complaints(tmp_path, yaml.safe_dump(written))
    assert "limits.parity.argmx: unknown measurement; did you mean 'argmax'?" in complaint
