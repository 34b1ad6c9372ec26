"""Publishing, as a user does it: from a commit of Quern, to a hub that is on loopback and has its bad days."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from pipeline import provenance
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.publish import licences, refusals
from pipeline.publish.release import Piece
from pipeline.types import Measurement
from pipeline.weights import SYNTHETIC
from tests.fixtures import FIXTURES
from tests.hub import TOKEN, Fault, Hub, running
from tests.pipeline.conftest import Ran
from tests.pipeline.releases import PLACED, REPOSITORY, measured_on_a_mac, planned

WEIGHTS = "w6/pyannote_segmentation.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
PACKAGES = ("contracts", "converters", "diarization", "docs", "mil", "optimizations", "pipeline", "verify")


@dataclass(frozen=True)
class Bench:
    """A commit of Quern, a matrix with a place for each variant, and what was built from it."""

    code: Path
    matrix: Path
    out: Path
    results: Path
    audio: Path


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Us", "-c", "user.email=us@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def bench(built: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return the matrix built and measured everywhere it must have been, by code that is committed."""
    home = tmp_path_factory.mktemp("publish")
    code, out, results = home / "quern", home / "out", home / "results"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "build_all_variants.py", code)
    (code / ".gitignore").write_text("__pycache__/\n*.nbi\n*.nbc\n")
    (code / "variants.yaml").write_text(PLACED)
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "All of it")):
        git(code, *command)
    shutil.copytree(built, out)
    for variant in ("fp16", "w6"):
        loads = Measurement("loads", 4, "compute units")
        measured_on_a_mac(out, f"segmentation-3.0/{variant}", results, loads)
    made = Bench(code, code / "variants.yaml", out, results, audio)
    ran = run(made)
    assert ran.status == 0, ran.out + ran.err
    return made


def run(bench: Bench, *arguments: object, hub: Hub | None = None, home: Path | None = None, **variables: str) -> Ran:
    process = start(bench, *arguments, hub=hub, home=home, **variables)
    out, err = process.communicate(timeout=900)
    assert TOKEN not in out + err
    assert "secretSignature" not in out + err
    return Ran(process.returncode, out, err)


def start(
    bench: Bench, *arguments: object, hub: Hub | None = None, home: Path | None = None, **variables: str
) -> subprocess.Popen:
    """Start the command line of the committed code, with nothing of ours in its environment."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("QUERN_", "OUT_DIR", "HF_", "HUGGING"))}
    network = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN} if hub else {"HF_HUB_OFFLINE": "1"}
    environment = {
        **kept,
        **network,
        "HF_HOME": str(home or bench.out.parent / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "QUERN_RESULTS": str(bench.results),
        "QUERN_REFERENCES": str(bench.out.parent / "references"),
        **variables,
    }
    command = [
        *(sys.executable, bench.code / "build_all_variants.py", "--matrix", bench.matrix, "--audio", bench.audio),
        *("--out", bench.out, "--weights-dir", FIXTURES, "--jobs", 1, *arguments),
    ]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def publish(bench: Bench, hub: Hub, *arguments: object, **variables: str) -> Ran:
    return run(bench, "--publish", "--hub-owner", "us", *arguments, hub=hub, **variables)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as state:
        yield state


@pytest.fixture(scope="module")
def published(bench: Bench) -> Iterator[Hub]:
    """Return a hub that holds the release, for tests that only look."""
    with running() as state:
        ran = publish(bench, state)
        assert ran.status == 0, ran.out + ran.err
        yield state


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Callable[..., Bench]:
    """Return a maker of benches whose matrix has been changed, with folders of their own that share the store."""

    def make(*changes: tuple[str, str]) -> Bench:
        text = bench.matrix.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "variants.yaml").write_text(text)
        shutil.copytree(bench.out, tmp_path / "out", copy_function=os.link)
        return Bench(bench.code, tmp_path / "variants.yaml", tmp_path / "out", bench.results, bench.audio)

    return make


@pytest.fixture(scope="module")
def piece(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Piece:
    """Return the first artifact of the release."""
    home = tmp_path_factory.mktemp("piece")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUERN_RESULTS", str(bench.results))
        patch.setenv("QUERN_REFERENCES", str(bench.out.parent / "references"))
        [release] = planned(bench.out, bench.audio, home).releases
    return release.pieces[0]


def expected_names(bench: Bench) -> set[str]:
    folders = [bench.out / "segmentation-3.0" / name for name in ("fp16", "w6")]
    facts = {folder.name: json.loads((folder / "manifest.json").read_text()) for folder in folders}
    return {f"{name}/{file}" for name, found in facts.items() for file in found["files"]} | {
        "README.md",
        "provenance.json",
    }


def test_a_dry_run_shows_the_exact_tree_and_sends_nothing(bench: Bench, hub: Hub, published: Hub) -> None:
    """Every path with its size and digest, and afterwards nothing else is published."""
    ran = run(bench, "--publish", "--dry-run", "--hub-owner", "us", hub=hub)
    assert ran.status == 0, ran.err
    assert hub.asked == []
    head, *lines = ran.out.splitlines()
    shown = {path: (int(size), digest) for path, size, digest in map(str.split, lines)}
    assert shown.keys() == expected_names(bench)
    assert head.startswith(f"{REPOSITORY}: {len(shown)} files, ")
    there = {path: blob for path, blob in published.files(REPOSITORY).items() if path != ".gitattributes"}
    assert {path: len(blob.content) for path, blob in there.items()} == {
        path: size for path, (size, _) in shown.items()
    }
    assert all(blob.oid == shown[path][1] for path, blob in there.items() if blob.large)


def test_a_release_is_one_commit_and_is_read_back(bench: Bench, hub: Hub) -> None:
    """Package and bundle of each variant stand where variants.yaml says; the log names the commit."""
    ran = publish(bench, hub)
    assert ran.status == 0, ran.err
    made, release = hub.repositories[REPOSITORY]
    assert list(made.files) == [".gitattributes"]
    assert release.files.keys() - {".gitattributes"} == expected_names(bench)
    assert f"read back at {release.oid}" in ran.out
    assert hub.asked[-1].startswith("GET ")


def test_publishing_twice_uploads_nothing(bench: Bench, hub: Hub) -> None:
    """The second run looks, and asks for no upload and no commit."""
    assert publish(bench, hub).status == 0
    hub.asked.clear()
    ran = publish(bench, hub)
    assert ran.status == 0
    assert "nothing uploaded" in ran.out
    assert {request.split()[0] for request in hub.asked} <= {"GET", "HEAD"}
    assert len(hub.repositories[REPOSITORY]) == 2


def test_a_file_that_two_artifacts_share_is_sent_once(bench: Bench, published: Hub) -> None:
    """Package and bundle hold the same weights: the hub keeps them once."""
    puts = [request for request in published.asked if request.startswith("PUT /lfs/")]
    assert len(puts) == len(set(puts)) == len(published.objects)
    large = [blob for blob in published.files(REPOSITORY).values() if blob.large]
    assert len(large) > len(puts)


def test_what_is_no_longer_part_of_a_release_goes_and_what_is_foreign_stays(
    bench: Bench, hub: Hub, other: Callable[..., Bench]
) -> None:
    """A file of the release before is deleted in the same commit; what somebody else put there is named and left."""
    assert publish(bench, hub).status == 0
    hub.put(REPOSITORY, {"notes.txt": b"ours"})
    sent = set(hub.objects)
    ran = publish(other(("path: '{variant}'", "path: 'v2/{variant}'")), hub)
    assert ran.status == 0, ran.err
    now = hub.files(REPOSITORY)
    assert {path.split("/")[0] for path in now} == {".gitattributes", "README.md", "notes.txt", "provenance.json", "v2"}
    assert "left alone, not published by Quern: notes.txt\n" in ran.out
    assert set(hub.objects) == sent
    assert len(hub.repositories[REPOSITORY]) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("least: 0.9}", "least: 1.1}")], "segmentation-3.0/w6: parity.argmax failed: "),
        ([("limit_mb: 20", "limit_mb: 1.5")], "MB; raise `publish: {limit_mb: 1.5}` or make it smaller"),
        ([("path: '{variant}'", "path: ''")], "is claimed by segmentation-3.0/fp16 and segmentation-3.0/w6"),
        ([("repository: tiny-diarization", "repository: tiny-diarization, instead: {segmentation-3.0/w6: {path: v}}")],
         ""),
    ],
    ids=["failed check", "too large", "one path twice", "nothing"],
)  # fmt: skip
def test_what_is_not_fit_is_refused(
    hub: Hub, other: Callable[..., Bench], changes: list[tuple[str, str]], words: str
) -> None:
    """Status 1, the reason and the way out, and not one request; without a reason it is published."""
    changed = other(*changes)
    if "failed" in words:
        assert run(changed).status == 1
    ran = publish(changed, hub)
    if not words:
        assert ran.status == 0, ran.err
        assert {path.split("/")[0] for path in hub.files(REPOSITORY)} >= {"fp16", "v"}
        return
    assert (ran.status, hub.asked) == (1, []), ran.out + ran.err
    assert words in ran.err


def test_what_never_ran_anywhere_is_refused_for_every_variant_at_once(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """Without the results of a Mac: one line for each variant, with what to do."""
    ran = publish(bench, hub, QUERN_RESULTS=str(tmp_path))
    assert ran.status == 1
    assert ran.err.count("not built, or not up to date") == 2
    shutil.copytree(bench.out, tmp_path / "out", copy_function=os.link)
    elsewhere_not = Bench(bench.code, bench.matrix, tmp_path / "out", tmp_path, bench.audio)
    assert run(elsewhere_not).status == 0
    ran = publish(elsewhere_not, hub)
    assert (ran.status, hub.asked) == (1, [])
    assert ran.err.count("placement.loads has run nowhere (needs macOS), and must have; run it where it can run") == 2


def test_weights_that_are_not_to_be_had_are_one_refusal(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """For the checkpoint, and not for each of its variants."""
    ran = publish(bench, hub, "--weights-dir", tmp_path)
    assert (ran.status, hub.asked) == (1, [])
    assert ran.err.count("segmentation-3.0: no weights: ") == 1
    assert "not up to date" not in ran.err


def test_a_piece_that_is_fit_is_not_refused(piece: Piece) -> None:
    """What the tests below change is all that stands in its way."""
    assert list(refusals.of_piece(piece)) == []


def test_stand_ins_are_refused(piece: Piece) -> None:
    """What was made from seeded weights is of no use to anybody."""
    synthetic = replace(piece, built=replace(piece.built, weights=SYNTHETIC))
    [refusal] = refusals.of_piece(synthetic)
    assert refusal == "segmentation-3.0/fp16: made from a synthetic stand-in; build it from trained weights"


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("Mine", "the licence 'Mine' is not known; read it, and add it to pipeline/publish/licences.toml if"),
        ("CC-BY-ND-4.0", "the licence 'CC-BY-ND-4.0' forbids it: a converted model is adapted material"),
        ("none", "it is made from trained weights and has no licence; name theirs under `checkpoints`"),
    ],
)
def test_a_licence_that_does_not_allow_it_is_refused(piece: Piece, licence: str, words: str) -> None:
    """One that nobody has read, one that forbids, and none at all."""
    [refusal] = refusals.of_piece(of_checkpoint(piece, licence=licence))
    assert refusal.startswith(f"segmentation-3.0/fp16: {words}")


def test_weights_that_are_not_the_pinned_ones_are_refused(piece: Piece) -> None:
    """A release must not ascribe to a repository what is not from there."""
    pins = {"repository": "them/theirs", "revision": "a" * 40}
    [refusal] = refusals.of_piece(of_checkpoint(piece, **pins, hub_files={"x.bin": "b" * 64}))
    assert "model.safetensors is not a file of them/theirs@aaaaaaaaaaaa, which it would be ascribed to" in refusal
    digest = piece.built.weights.digests["model.safetensors"]
    assert list(refusals.of_piece(of_checkpoint(piece, **pins, hub_files={"x.safetensors": digest}))) == []


def test_every_part_of_a_fused_network_is_held_against_its_licence(piece: Piece) -> None:
    """And the refusal names the part."""
    parts = tuple(replace(piece.built.variant.checkpoint, id=name, licence=name) for name in ("MIT", "Mine"))
    [refusal] = refusals.of_piece(of_checkpoint(piece, parts=parts))
    assert refusal.startswith("segmentation-3.0/fp16: Mine: the licence 'Mine' is not known")


def of_checkpoint(piece: Piece, **changes: object) -> Piece:
    """Return a piece as if its checkpoint were declared otherwise."""
    checkpoint = replace(piece.built.variant.checkpoint, **changes)  # type: ignore[arg-type]
    return replace(piece, built=replace(piece.built, variant=replace(piece.built.variant, checkpoint=checkpoint)))


def test_what_is_not_up_to_date_is_refused(hub: Hub, other: Callable[..., Bench]) -> None:
    """A matrix that asks for something else than what is there."""
    ran = publish(other(("nbits: 6", "nbits: 4")), hub)
    assert (ran.status, hub.asked) == (1, [])
    assert "run `python build_all_variants.py 'segmentation-3.0/w6'` first" in ran.err


def test_a_part_of_a_release_is_refused(bench: Bench, hub: Hub) -> None:
    """The provenance of a repository tells of all of it."""
    ran = publish(bench, hub, "*/w6")
    assert (ran.status, hub.asked) == (1, [])
    assert "tiny-diarization: segmentation-3.0/fp16 belongs to it as well" in ran.err


def test_code_that_nobody_could_find_is_refused(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """A file that is not committed, and a folder that is no checkout."""
    stray = bench.code / "pipeline" / "stray.py"
    stray.write_text("")
    try:
        ran = publish(bench, hub)
    finally:
        stray.unlink()
    assert (ran.status, hub.asked) == (1, [])
    assert "the checkout is not as it was committed: pipeline/stray.py; commit or remove" in ran.err
    shutil.copytree(bench.code, tmp_path / "quern", ignore=shutil.ignore_patterns(".git"))
    exported = Bench(tmp_path / "quern", bench.matrix, bench.out, bench.results, bench.audio)
    ran = publish(exported, hub)
    assert (ran.status, hub.asked) == (1, [])
    assert "not a git checkout with a commit" in ran.err


def test_an_altered_artifact_is_refused(hub: Hub, other: Callable[..., Bench]) -> None:
    """A byte that changed after the build, in a file of the same size."""
    changed = other()
    path = changed.out / "segmentation-3.0" / "w6" / WEIGHTS.removeprefix("w6/")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ran = publish(changed, hub)
    assert (ran.status, hub.asked) == (1, [])
    assert f"{WEIGHTS}: altered since it was built" in ran.err


def test_an_owner_and_a_token_are_needed(bench: Bench, hub: Hub) -> None:
    """Each absence is one sentence; a dry run needs neither."""
    ran = run(bench, "--publish", hub=hub)
    assert (ran.status, hub.asked) == (1, [])
    assert "tiny-diarization: whose is it? Give --hub-owner NAME" in ran.err
    ran = publish(bench, hub, HF_TOKEN="")
    assert (ran.status, hub.asked) == (4, [])
    assert "set HF_TOKEN, or run `hf auth login`" in ran.err
    assert run(bench, "--dry-run").status == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("GET /api/models/", status=401), "status 401: the hub does not know the token"),
        (Fault("POST /api/models/us/tiny-diarization/preupload", status=403), "status 403: the token may not do this"),
        (Fault("GET /api/models/", status=403, headers={"X-Error-Code": "GatedRepo"}), "accept the repository's"),
        (Fault("POST /api/models/us/tiny-diarization/commit", status=429), "status 429: the hub was asked too often"),
        (Fault("POST /api/models/us/tiny-diarization/commit", status=500), "status 500: it could not do"),
        (Fault("POST /api/models/us/tiny-diarization/commit", status=412), "somebody else changed the repository"),
        (Fault("POST /api/models/us/tiny-diarization/commit", cut=True), "the connection to the hub broke off"),
        (Fault("GET /api/models/", cut=True), "the connection to the hub broke off"),
        (Fault("POST /api/models/us/tiny-diarization/commit", corrupt=True), "holds other bytes than were sent"),
        pytest.param(Fault("PUT /lfs/", cut=True), "the connection to the hub broke off", marks=pytest.mark.slow),
        pytest.param(Fault("PUT /lfs/", status=500), "status 500: it could not do", marks=pytest.mark.slow),
    ],
    ids=[
        "401",
        "403",
        "gated",
        "429",
        "500",
        "412",
        "commit cut",
        "look cut",
        "wrong hash",
        "upload cut",
        "upload 500",
    ],
)
def test_what_the_hub_does_to_us_is_one_sentence(bench: Bench, hub: Hub, fault: Fault, words: str) -> None:
    """Status 4, no traceback, no token, no signed address; where anything was sent, the next run completes it."""
    hub.put(REPOSITORY, {".gitattributes": b""})
    hub.faults = [fault]
    ran = publish(bench, hub)
    assert ran.status == 4, ran.out + ran.err
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    sent = set(hub.objects)
    if not fault.corrupt:
        assert len(hub.repositories[REPOSITORY]) == 1
    if not sent:
        return
    hub.faults.clear()
    hub.asked.clear()
    assert publish(bench, hub).status == 0
    assert hub.files(REPOSITORY).keys() - {".gitattributes"} == expected_names(bench)
    if not fault.corrupt:
        assert not sent & {request.rpartition("/")[2] for request in hub.asked if request.startswith("PUT")}


def test_a_hub_that_stumbles_is_asked_again(bench: Bench, hub: Hub) -> None:
    """Uploads that are cut, refused for the moment, or slow: huggingface_hub tries again, and nobody notices."""
    hub.faults = [
        Fault("PUT /lfs/", cut=True, times=1),
        Fault("POST /us/tiny-diarization.git", status=500, times=1),
        Fault("POST /api/models/us/tiny-diarization/preupload", status=429, headers={"Retry-After": "0"}, times=1),
        Fault("POST /api/models/us/tiny-diarization/commit", slow_s=1.5),
    ]
    ran = publish(bench, hub)
    assert ran.status == 0, ran.err
    assert hub.files(REPOSITORY).keys() - {".gitattributes"} == expected_names(bench)


@pytest.mark.slow
def test_publishing_that_is_killed_again_and_again_ends_with_the_same_tree(
    bench: Bench, hub: Hub, published: Hub
) -> None:
    """kill -9 at random requests; whoever looks between sees all of the release or none; what was sent is kept."""
    points = random.Random(0)
    sent: list[str] = []
    for _ in range(5):
        process = start(bench, "--publish", "--hub-owner", "us", hub=hub)
        countdown = iter(range(points.randrange(2, 12), -1, -1))
        hub.watch = lambda request, left=countdown, it=process: it.kill() if next(left, -1) == 0 else None
        process.communicate(timeout=900)
        names = hub.files(REPOSITORY).keys() - {".gitattributes"}
        assert names in (set(), expected_names(bench))
        sent += [request for request in hub.asked if request.startswith("PUT")]
    hub.watch = lambda request: None
    assert publish(bench, hub).status == 0
    assert (
        hub.contents(REPOSITORY).items()
        >= {
            path: content for path, content in published.contents(REPOSITORY).items() if path != ".gitattributes"
        }.items()
    )
    assert sent


def test_what_was_published_is_what_the_provenance_says(bench: Bench, published: Hub, tmp_path: Path) -> None:
    """Downloaded as an app would, pinned to the commit, the release is intact."""
    commit = published.repositories[REPOSITORY][-1].oid
    folder = snapshot_download(
        REPOSITORY, revision=commit, endpoint=published.url, local_dir=tmp_path / "release", token=False
    )
    document = provenance.read(Path(folder))
    assert list(provenance.findings(Path(folder), document)) == []
    assert document["code"]["revision"] == git(bench.code, "rev-parse", "HEAD")
    assert (Path(folder) / WEIGHTS).is_file()


def test_no_two_artifacts_of_the_matrix_share_a_place() -> None:
    """What variants.yaml declares could be published, as far as places go."""
    places = Counter(
        (variant.publish.repository, variant.publish.path, variant.file, variant.format)
        for variant in read_matrix(ROOT / "variants.yaml").variants
        if variant.publish
    )
    assert [place for place, count in places.items() if count > 1] == []


def test_every_licence_of_the_matrix_is_known() -> None:
    """Otherwise publishing would only refuse."""
    checkpoints = read_matrix(ROOT / "variants.yaml").checkpoints.values()
    assert {c.licence for c in checkpoints if not c.parts} <= licences.known().keys()
