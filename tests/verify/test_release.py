"""A new release against the old one: equal ones pass, and each way of being worse is found and named."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from mil.decompile import decompile_bundle
from mil.interface import Feature
from mil.program import load
from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures
from tests.verify import broken
from tests.verify.programs import interface, model, program, written
from verify.commands.line import main
from verify.commands.release import add_arguments
from verify.releases.inputs import examples
from verify.releases.models import Model, pairs, release
from verify.releases.outputs import kind_of
from verify.releases.rows import Row, bounded, counted, grown

ACTION = ROOT / ".github" / "actions" / "release-gate" / "action.yml"
RATE_HZ = 16000
# 270 samples make one frame of seven log probabilities: how loud it is decides which is largest.
CLASSES = """
    tensor<int32, [3]> shape = const()[name = string("shape"), val = tensor<int32, [3]>([1, 40, 270])];
    tensor<fp32, [1, 40, 270]> frames = reshape(x = audio, shape = shape)[name = string("frames")];
    tensor<fp32, [1, 40, 270]> sizes = abs(x = frames)[name = string("sizes")];
    tensor<int32, [1]> axes = const()[name = string("axes"), val = tensor<int32, [1]>([-1])];
    bool keep = const()[name = string("keep"), val = bool(true)];
    tensor<fp32, [1, 40, 1]> loud = reduce_mean(x = sizes, axes = axes, keep_dims = keep)[name = string("loud")];
    tensor<fp32, [1, 40, 1]> above = sub(x = loud, y = fp32(0.2))[name = string("above")];
    tensor<fp32, [7]> slopes = const()[name = string("slopes"), val = tensor<fp32, [7]>([SLOPES])];
    tensor<fp32, [1, 40, 7]> scores = mul(x = above, y = slopes)[name = string("scores")];
    tensor<fp32, [1, 40, 7]> likely = softmax(x = scores, axis = int32(-1))[name = string("likely")];
    tensor<fp32, [1, 40, 7]> segments = log(x = likely, epsilon = fp32(0x1p-40))[name = string("segments")];
"""
HEARING, SHARPER, SWAPPED, DEAF = (
    ", ".join(map(str, (*slopes, 0, 0, 0, 0))) for slopes in ((-10, 10, 0), (-20, 20, 0), (-10, 0, 10), (10, -10, 0))
)


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a second of silence before one of noise."""
    folder = tmp_path_factory.mktemp("audio")
    samples = np.random.default_rng(0).normal(scale=0.5, size=2 * RATE_HZ)
    soundfile.write(folder / "noise.wav", np.clip(samples, -1, 1) * (np.arange(len(samples)) >= RATE_HZ), RATE_HZ)
    return folder


@pytest.fixture
def compare(audio: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, dict]]]:
    """Return the command, whose rows come back by check."""

    def run(*arguments: object, heard: Path = audio) -> tuple[int, dict[str, dict]]:
        status = main(["release", "--hop", "0.25", "--audio", str(heard), "--json", *map(str, arguments)])
        document = json.loads(capsys.readouterr().out)
        assert document["status"] == status
        return status, {row["check"]: row for row in document["rows"]}

    return run


def failing(rows: dict[str, dict]) -> set[str]:
    return {check for check, row in rows.items() if row["outcome"] == "fail"}


def segmentation(folder: Path, slopes: str = HEARING) -> tuple[Path, Path]:
    """Write a small program that hears audio and puts out log probabilities; return package and bundle."""
    body = CLASSES.replace("SLOPES", slopes)
    return written(model(program(body, "tensor<fp32, [1, 1, 10800]> audio", "segments")), folder, "small")


def test_equal_releases_pass(tmp_path: Path, compare: Callable) -> None:
    """A package, what was compiled from it, and what was decompiled from that are one release."""
    package, bundle = segmentation(tmp_path / "old")
    back = decompile_bundle(bundle, tmp_path / "back.mlpackage").path
    for one, other in ((package, bundle), (bundle, back), (tmp_path / "old", tmp_path / "old")):
        status, rows = compare(one, other)
        assert (status, failing(rows)) == (0, set())
        assert rows["runs"]["new"] == 7
        assert rows["segments argmax"]["new"] == 1
        assert rows["segments relative"]["new"] == 0


def test_other_numbers_are_found(tmp_path: Path, compare: Callable) -> None:
    """Two speakers changed places, which costs no turn: only a run can tell."""
    old, _ = segmentation(tmp_path / "old")
    new, _ = segmentation(tmp_path / "new", SWAPPED)
    status, rows = compare(old, new)
    assert status == 1
    assert {"segments argmax", "segments argmax_worst_window", "segments relative"} <= failing(rows)
    assert failing(rows) <= {check for check in rows if check.startswith("segments")}


def test_sharper_probabilities_are_found_though_argmax_is_the_same(tmp_path: Path, compare: Callable) -> None:
    """Apps that average windows read the probabilities themselves."""
    old, _ = segmentation(tmp_path / "old")
    new, _ = segmentation(tmp_path / "new", SHARPER)
    _, rows = compare(old, new)
    assert rows["segments argmax"]["new"] == 1
    assert failing(rows) == {"segments relative"}
    assert compare(old, new, "--relative", 10)[0] == 0


def test_an_aliased_output_is_found(tmp_path: Path, compare: Callable) -> None:
    """The crash that came back once, found by three checks."""
    old, _ = segmentation(tmp_path)
    new = broken.edited_without_weights(old, tmp_path / "new.mlpackage", broken.aliased)
    status, rows = compare(old, new)
    assert status == 1
    assert {"alias", "lint errors"} <= failing(rows)
    assert rows["alias"]["notes"] == ["main: `audio` is both an input and an output"]


def test_what_the_old_release_did_wrong_already_is_not_new(tmp_path: Path, compare: Callable) -> None:
    """A gate that fails for what is out anyway would be turned off."""
    old, _ = segmentation(tmp_path)
    aliased = broken.edited_without_weights(old, tmp_path / "new.mlpackage", broken.aliased)
    status, rows = compare(aliased, aliased)
    assert (status, rows["alias"]["old"], rows["alias"]["new"]) == (0, 1, 1)


def test_a_renamed_input_is_found(tmp_path: Path, compare: Callable) -> None:
    """An app of the old release passes another name, and so does the run."""
    old, _ = segmentation(tmp_path)
    new = broken.edited_without_weights(old, tmp_path / "new.mlpackage", broken.renamed)
    status, rows = compare(old, new)
    assert status == 1
    assert failing(rows) == {"interface", "runs"}
    assert any("expected `audio`, found `waveform`" in note for note in rows["interface"]["notes"])
    assert "`audio`" in rows["runs"]["notes"][0]


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        (({"x": "fp32 1 8"}, {"y": "fp16 1 8"}), "dtype: output `y`: expected float32, found float16"),
        (({"x": "fp32 1 9"}, {"y": "fp32 1 9"}), "shape: input `x`: expected [1, 8], found [1, 9]"),
        (({"x": "fp32 1 8", "z": "fp32 1 8"}, {"y": "fp32 1 8"}), "requires `z`"),
        (({"x": "fp32 1 8"}, {"z": "fp32 1 8"}), "output: expected `y`, found `z`"),
    ],
)
def test_an_interface_that_changed_is_found(tmp_path: Path, compare: Callable, new: Any, sentence: str) -> None:
    """The old release is the contract, for models that no contract names as well."""
    old, _ = written(interface({"x": "fp32 1 8"}, {"y": "fp32 1 8"}), tmp_path / "old", "foreign")
    after, _ = written(interface(*new), tmp_path / "new", "foreign")
    status, rows = compare(old, after)
    assert status == 1
    assert any(sentence in note for note in rows["interface"]["notes"])


def test_a_narrower_range_and_lost_metadata_are_found(tmp_path: Path, compare: Callable) -> None:
    """An app of the old release passes batches of 32, and reads the string."""
    ports = {"x": "fp32 1..32 8"}, {"y": "fp32 1..32 8"}
    old, _ = written(interface(*ports, {"chunk_len": "6", "kind": "any"}), tmp_path / "old", "foreign")
    narrow = {"x": "fp32 1..16 8"}, {"y": "fp32 1..16 8"}
    new, _ = written(interface(*narrow, {"chunk_len": "7"}), tmp_path / "new", "foreign")
    _, rows = compare(old, new)
    assert [note.split(":")[0] for note in rows["interface"]["notes"]] == ["flexible", "metadata", "metadata"]


def test_a_missing_model_is_found_and_a_new_one_is_told(tmp_path: Path, compare: Callable) -> None:
    """Files are matched by where they lie; a package and the bundle beside it are one model."""
    segmentation(tmp_path / "old" / "v3")
    written(interface({"x": "fp32 1 8"}, {"y": "fp32 1 8"}), tmp_path / "old", "second")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    for left in (tmp_path / "new" / "v3").iterdir():
        shutil.rmtree(left)
    status, rows = compare(tmp_path / "old", tmp_path / "new")
    assert (status, failing(rows)) == (1, {"there"})
    assert compare(tmp_path / "new", tmp_path / "old")[0] == 0


def test_models_that_moved_are_still_pairs() -> None:
    """By path, else by file name where there is one of it."""

    def models(*names: str) -> dict[str, Model]:
        return {name: Model(name, Path(f"{name}.mlmodelc"), None) for name in names}

    found = pairs(models("a/one", "a/two", "b/two", "gone"), models("c/one", "a/two", "d/two", "new"))
    assert {name: tuple(m.name if m else None for m in pair) for name, pair in found.items()} == {
        "a/two": ("a/two", "a/two"),
        "c/one": ("a/one", "c/one"),
        "d/two": ("b/two", "d/two"),
        "gone": ("gone", None),
        "new": (None, "new"),
    }


def test_models_inside_models_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    """A pipeline's bundles are its own; a store is no release."""
    for name in ("a/one.mlmodelc/model0.mlmodelc", "a/one.mlpackage", ".store/two.mlpackage"):
        (tmp_path / name).mkdir(parents=True)
    [found] = release(tmp_path).values()
    assert (found.name, len(found.files)) == ("a/one", 2)


@needs_fixtures
def test_programs_of_other_people_are_compared(audio: Path, compare: Callable) -> None:
    """A voice activity network, whole and in palettes: smaller, and too far off at 2 bits."""
    pairs_ = FIXTURES / "apple_pairs"
    [old] = (pairs_ / "silero_fp").glob("*.mlpackage")
    status, rows = compare(old, pairs_ / "silero_fp" / f"{old.stem}.mlmodelc")
    assert (status, failing(rows)) == (0, set())
    status, rows = compare(old, pairs_ / "silero_palette_2bit")
    assert status == 1
    assert {"vad_output relative", "new_hidden_state relative"} <= failing(rows)
    assert rows["weights"]["new"] < rows["weights"]["old"] / 10
    status, rows = compare(pairs_ / "silero_palette_2bit", old)
    assert "weights" in failing(rows)


@needs_fixtures
def test_one_layer_with_shuffled_weights_is_found(tmp_path: Path, compare: Callable) -> None:
    """Same size, same interface, same lint: the outputs tell."""
    [old] = (FIXTURES / "apple_pairs" / "silero_fp").glob("*.mlpackage")
    [name] = broken.inputs_of(old, "lstm", ("weight_hh",))
    new = broken.reweighted(old, tmp_path / "new.mlpackage", {name: broken.shuffled})
    status, rows = compare(old, new)
    assert status == 1
    assert failing(rows) <= {check for check in rows if check.startswith(("vad_output", "new_"))}


@needs_fixtures
def test_what_cannot_be_run_is_not_passed_unless_allowed(compare: Callable, tmp_path: Path) -> None:
    """Weights that neither release has are not run; weights that only the new one lacks are worse."""
    [sound] = (FIXTURES / "apple_pairs" / "silero_fp").glob("*.mlmodelc")
    lost = Path(shutil.copytree(sound, tmp_path / sound.name))
    (lost / "weights" / "weight.bin").unlink()
    status, rows = compare(lost, lost)
    assert (status, failing(rows), rows["runs"]["outcome"]) == (1, set(), "not run")
    assert compare(lost, lost, "--allow-not-run")[0] == 0
    status, rows = compare(sound, lost, "--allow-not-run")
    assert status == 1
    assert {"bundle", "weights", "runs"} <= failing(rows)


def test_the_error_against_labels_is_compared(tmp_path: Path, audio: Path, compare: Callable) -> None:
    """Turns of both releases against the labels beside the recordings; without labels it has not run."""
    old, _ = segmentation(tmp_path / "old")
    new, _ = segmentation(tmp_path / "new", DEAF)
    _, rows = compare(old, old)
    assert (rows["diarization cost"]["outcome"], rows["diarization cost"]["notes"]) == ("not run", ["no labels"])
    labelled = Path(shutil.copytree(audio, tmp_path / "labelled"))
    (labelled / "noise.rttm").write_text("SPEAKER noise 1 1.0 1.0 <NA> <NA> anna <NA> <NA>\n")
    status, rows = compare(old, old, heard=labelled)
    assert (status, rows["diarization cost"]["new"], rows["diarization cost"]["outcome"]) == (0, 0, "pass")
    assert rows["diarization error"]["new"] < 10
    _, rows = compare(old, new, heard=labelled)
    assert rows["diarization cost"]["new"] > 90
    assert rows["diarization cost"]["outcome"] == "fail"
    _, rows = compare(old, new, "--hop", 1, heard=labelled)
    assert rows["diarization cost"]["outcome"] == "not run"
    assert "leave gaps" in rows["diarization cost"]["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere", "nowhere", "--audio", "AUDIO"], "expected a .mlpackage, a .mlmodelc or a folder of them"),
        (["EMPTY", "EMPTY", "--audio", "AUDIO"], "somewhere below, found none"),
        (["OLD", "OLD", "--audio", "EMPTY"], "expected a folder of recordings"),
        (["OLD", "OLD", "--audio", "AUDIO", "--hop", "0"], "expected more than 0 seconds"),
    ],
)
def test_bad_usage_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And status 2."""
    (tmp_path / "empty").mkdir()
    old, _ = segmentation(tmp_path / "old")
    places = {"AUDIO": str(audio), "EMPTY": str(tmp_path / "empty"), "OLD": str(old)}
    assert main(["release", *(places.get(each, each) for each in arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_share_above_one_is_bad_usage(audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit that nothing could keep, or everything, is a slip."""
    with pytest.raises(SystemExit) as stop:
        main(["release", "a", "b", "--audio", str(audio), "--argmax", "99"])
    assert stop.value.code == 2
    assert "expected a number from 0 to 1" in capsys.readouterr().err


def test_the_table_names_what_is_worse(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check, both values, the limit and the sentence; and a line that sums up."""
    old, _ = segmentation(tmp_path)
    new = broken.edited_without_weights(old, tmp_path / "new.mlpackage", broken.aliased)
    assert main(["release", str(old), str(new), "--audio", str(audio), "--hop", "0.5"]) == 1
    lines = capsys.readouterr().out.splitlines()
    [row] = [number for number, line in enumerate(lines) if line.split()[:1] == ["alias"]]
    assert lines[row].split() == ["alias", "0", "1", "no", "new", "ones", "fail", "findings"]
    assert lines[row + 1].strip() == "main: `audio` is both an input and an output"
    assert lines[-1].endswith("something is worse")


def test_values_say_what_an_output_is() -> None:
    """By the values of the old release; embeddings by their name."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(1, 5, 7))
    logs = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    kinds = {
        "segments": (logs, "log probability"),
        "preds": (generator.uniform(size=(1, 5, 4)), "probability"),
        "embeddings": (scores, "embedding"),
        "valid": (np.array([0.0, 1.0]), "0 or 1"),
        "distances": (scores, "value"),
    }
    assert {name: kind_of(name, {"": values}) for name, (values, _) in kinds.items()} == {
        name: kind for name, (_, kind) in kinds.items()
    }


def test_inputs_are_what_their_names_say(tmp_path: Path, audio: Path) -> None:
    """Audio in every row, masks of ones and zeros, lengths that say it is all there; the same every time."""
    ports = {"waveform": "fp32 3 1600", "mask": "fp32 3 589", "mel": "fp32 1 128 32", "mel_length": "int32 1"}
    package, _ = written(interface(ports, {"y": "fp32 3 1600"}), tmp_path, "model")
    features: tuple[Feature, ...] = load(package).inputs()
    found = list(examples(features, [audio / "noise.wav"], 0.05))
    first = found[0].inputs
    assert found[0].name == "noise@0s,noise@0.05s,noise@0.1s"
    assert np.array_equal(first["waveform"][1, :800], first["waveform"][0, 800:])
    assert set(np.unique(first["mask"])) == {0, 1}
    assert first["mel_length"].tolist() == [32]
    again = next(examples(features, [audio / "noise.wav"], 0.05))
    assert all(np.array_equal(first[name], again.inputs[name]) for name in first)


def test_rows_can_fail() -> None:
    """A number that is none is outside of any limit; a cost that cannot be told any more is worse."""
    row = Row("m", "c", None, float("nan"), "")
    assert bounded(row, most=1).outcome == "fail"
    assert bounded(Row("m", "c", None, None, ""), least=1).outcome == "not run"
    assert grown("m", "c", 1.0, "no weights", "MB", 2).outcome == "fail"
    assert grown("m", "c", "no weights", "no weights", "MB", 2).outcome == "not run"
    assert grown("m", "c", 1.0, 1.1, "MB", 1.05).outcome == "fail"
    assert counted("m", "c", {"one"}, {"two"}).outcome == "fail"


def test_what_the_documentation_says_of_the_gate_is_so() -> None:
    """Every option has the default that docs/verification.md gives, and its workflow the inputs of the action."""
    page = (ROOT / "docs" / "verification.md").read_text().partition("## The release gate")[2]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    told = dict(re.findall(r"`?--([a-z-]+) ([\d.]+|error)`", page))
    assert len(told) == 9
    for option, default in told.items():
        assert str(parser.get_default(option.replace("-", "_"))) == default, option
    [step] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text())["inputs"])


@pytest.mark.slow
def test_the_action_runs_the_command(tmp_path: Path, audio: Path) -> None:
    """Its last step, as a runner would run it: the inputs come in by the environment, the status goes out."""
    action = yaml.safe_load(ACTION.read_text())
    step = action["runs"]["steps"][-1]
    old, _ = segmentation(tmp_path / "my releases")
    aliased = broken.edited_without_weights(old, tmp_path / "new.mlpackage", broken.aliased)
    for new, status in ((old, 0), (aliased, 1)):
        inputs = {"old": old, "new": new, "audio": audio, "options": "--hop 0.5 --json"}
        assert set(inputs) <= set(action["inputs"])
        environment = {
            key: str(inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")])
            for key, value in step["env"].items()
            if "inputs." in value
        }
        environment |= {
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == status, done.stderr
        assert json.loads(done.stdout)["status"] == status
