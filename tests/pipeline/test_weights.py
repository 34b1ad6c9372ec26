"""Weights are looked for where a user would have them: in folders, in the cache, and on a hub, here on loopback."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.code import ROOT
from pipeline.types import Checkpoint, EnvironmentTroubleError
from pipeline.weights import find
from tests.hub import Fault, Hub, running

CONTENT = b"weights" * 1000
REVISION = "a" * 40
HUB_FILE = "segmentation/pytorch_model.bin"

# Asks for weights in a process of its own, because huggingface_hub reads its environment when it is imported.
ASK = """
import json, sys
from pathlib import Path
from pipeline.types import Checkpoint, QuernError
from pipeline.weights import find
told = json.loads(sys.argv[1])
try:
    source = find(Checkpoint(**told["checkpoint"]), told["mode"], None)
    print(json.dumps([source.kind, source.origin, sorted(source.digests.items())]))
except QuernError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def checkpoint(gated: bool = True, digest: str = hashlib.sha256(CONTENT).hexdigest()) -> Checkpoint:
    return Checkpoint("mine", "segmentation", "MIT", "us/mine", REVISION, gated, {HUB_FILE: digest})


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Return a hub on loopback that knows one file."""
    with running() as state:
        state.put("us/mine", {HUB_FILE: CONTENT}, REVISION)
        yield state


def ask(hub: Hub, home: Path, mode: str, token: str = "", **changes: object) -> list:
    told = {"checkpoint": vars(checkpoint(**changes)), "mode": mode}  # type: ignore[arg-type]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-c", ASK, json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert token == "" or token not in done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_folder_comes_first(tmp_path: Path) -> None:
    """`<dir>/<checkpoint id>/<file>` is taken, with its digest, and the preferred format wins."""
    home = tmp_path / "mine"
    home.mkdir()
    (home / "pytorch_model.bin").write_bytes(b"old")
    (home / "model.safetensors").write_bytes(CONTENT)
    source = find(checkpoint(), "real", tmp_path)
    assert (source.kind, source.digests) == ("trained", {"model.safetensors": hashlib.sha256(CONTENT).hexdigest()})


def test_synthetic_looks_nowhere(tmp_path: Path) -> None:
    """A stand-in is wanted even where weights are."""
    assert find(checkpoint(), "synthetic", tmp_path / "nowhere").kind == "synthetic"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A misspelt --weights-dir must not fall through to a stand-in."""
    with pytest.raises(EnvironmentTroubleError, match="nowhere: the folder of weights does not exist"):
        find(checkpoint(), "auto", tmp_path / "nowhere")


def test_real_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    """Without a token a gated network cannot be had: the sentence says what to accept, where, and the other ways."""
    kind, sentence = ask(hub, tmp_path, "real")
    assert kind == "EnvironmentTroubleError"
    for part in ("https://huggingface.co/us/mine", "HF_TOKEN", "--weights-dir DIR", "DIR/mine/", "--weights synthetic"):
        assert part in sentence
    assert hub.asked == []


def test_auto_makes_no_call_without_a_token(hub: Hub, tmp_path: Path) -> None:
    """Nobody asked for the network."""
    assert ask(hub, tmp_path, "auto", gated=False)[0] == "synthetic"
    assert hub.asked == []


def test_weights_are_downloaded_once_at_the_pinned_revision(hub: Hub, tmp_path: Path) -> None:
    """The second time they come from the cache, without a call."""
    kind, origin, digests = ask(hub, tmp_path, "auto", token="hf_secret")
    assert (kind, origin) == ("trained", f"us/mine@{REVISION[:12]}")
    assert digests == [["pytorch_model.bin", hashlib.sha256(CONTENT).hexdigest()]]
    assert all(f"/resolve/{REVISION}/" in path for path in hub.asked if "/resolve/" in path)
    calls = len(hub.asked)
    assert ask(hub, tmp_path, "auto")[0] == "trained"
    assert len(hub.asked) == calls


def test_an_open_network_needs_no_token(hub: Hub, tmp_path: Path) -> None:
    """Mode "real" asks a hub that has no gate."""
    assert ask(hub, tmp_path, "real", gated=False)[0] == "trained"


def test_other_bytes_than_the_pinned_ones_are_refused(hub: Hub, tmp_path: Path) -> None:
    """Whatever the hub says it is, a file with another sha256 is not used, not even by auto."""
    kind, sentence = ask(hub, tmp_path, "auto", token="hf_secret", digest="0" * 64)
    assert kind == "EnvironmentTroubleError"
    assert "expected sha256 000000000000…, found" in sentence


@pytest.mark.parametrize(
    ("fault", "words"),
    [(403, "accept the conditions"), (401, "mine"), pytest.param(500, "mine", marks=pytest.mark.slow)],
)
def test_what_the_hub_refuses_is_one_sentence(hub: Hub, tmp_path: Path, fault: int, words: str) -> None:
    """Gated, unauthorised, broken: no traceback, no token in the text."""
    hub.faults = [Fault("HEAD", status=fault, headers={"X-Error-Code": "GatedRepo"} if fault == 403 else {})]
    kind, sentence = ask(hub, tmp_path, "real", token="hf_secret")
    assert kind == "EnvironmentTroubleError"
    assert words in sentence
    assert "\n" not in sentence


def test_a_download_that_broke_off_is_resumed(hub: Hub, tmp_path: Path) -> None:
    """What came is kept, in pieces of 10 MiB, and the rest is asked for; the whole is held against the digest."""
    content = os.urandom(1 << 20) * 24
    digest = hashlib.sha256(content).hexdigest()
    hub.put("us/mine", {HUB_FILE: content}, REVISION)
    hub.faults = [Fault("GET /us/mine/resolve", cut=True, times=1)]
    kind, _, digests = ask(hub, tmp_path, "real", gated=False, digest=digest)
    assert (kind, digests) == ("trained", [["pytorch_model.bin", digest]])
    assert hub.ranges == [f"bytes={10 << 20}-"]


def test_a_download_with_other_bytes_is_refused(hub: Hub, tmp_path: Path) -> None:
    """The hub names the right digest and sends something else: nothing is made of it."""
    hub.faults = [Fault("GET /us/mine/resolve", corrupt=True)]
    kind, sentence = ask(hub, tmp_path, "real", gated=False)
    assert kind == "EnvironmentTroubleError"
    assert "expected sha256" in sentence


def test_a_slow_hub_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    """An answer that takes a second is an answer."""
    hub.faults = [Fault("GET /us/mine/resolve", slow_s=1)]
    assert ask(hub, tmp_path, "real", gated=False)[0] == "trained"
