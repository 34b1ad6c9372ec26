"""`--publish`: hold what is built against every reason not to publish it, upload it, and read it back."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cards, provenance, schedule, weights
from pipeline.code import ROOT
from pipeline.line import Built, Settings
from pipeline.publish import hub, origin, refusals
from pipeline.publish.release import CARD, PROVENANCE, Release, piece, releases, tree, written
from pipeline.publish.revision import Revision, revision
from pipeline.types import EnvironmentTroubleError, QuernError, Variant

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Plan:
    """The releases of the selected variants, and everything that stands in their way."""

    releases: tuple[Release, ...]
    refusals: tuple[str, ...]
    without_place: int


def publish(
    declared: Sequence[Variant],
    selected: Sequence[Variant],
    settings: Settings,
    matrix: Path,
    owner: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Publish the selected variants that have a place, or show what would be published; return the exit status.

    Raises RefusedError with every refusal before anything is sent, and EnvironmentTroubleError where the hub is not
    to be had or holds something else afterwards.
    """
    planned = plan(declared, selected, settings, matrix, owner, needs_owner=not dry_run)
    if dry_run:
        _show(planned, as_json)
        return refusals.RefusedError.status if planned.refusals else 0
    if planned.refusals:
        raise refusals.RefusedError("\n".join(planned.refusals))
    for release in planned.releases:
        provenance.validate(json.loads(release.provenance), f"{release.repository}/{PROVENANCE}")
    api = hub.connect()
    done = [_upload(api, release, as_json) for release in planned.releases]
    if as_json:
        print(json.dumps({"status": 0, "releases": done}, indent=2))
    return 0


def plan(
    declared: Sequence[Variant],
    selected: Sequence[Variant],
    settings: Settings,
    matrix: Path,
    owner: str,
    needs_owner: bool,
) -> Plan:
    """Return what would be published, whole and described, and what stands in the way."""
    placed = [variant for variant in selected if variant.publish]
    if not placed:
        raise QuernError("none of the selected variants has a place; name one with `publish` in variants.yaml")
    code = revision(ROOT)
    troubles = dict(_weight_troubles(placed, settings))
    possible = [variant for variant in placed if variant.checkpoint.id not in troubles]
    commands = {id_: found.command for id_, found in schedule.not_installed(possible).items()}
    built = schedule.fresh([variant for variant in possible if variant.id not in commands], settings)
    pieces = [piece(each) for each in built.values() if each.folder]
    found = list(releases(pieces, owner))
    stands = [
        *refusals.of_source(code),
        *refusals.of_selection(selected, declared),
        *troubles.values(),
        *(refusals.of_missing(v, commands.get(v.id, "")) for v in possible if not _is_built(built.get(v.id))),
        *(refusal for each in pieces for refusal in refusals.of_piece(each)),
        *(refusal for release in found for refusal in refusals.of_release(release, needs_owner)),
    ]
    described = tuple(_described(release, code, settings, matrix) for release in found)
    return Plan(described, tuple(stands), len(selected) - len(placed))


def _weight_troubles(variants: Sequence[Variant], settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each checkpoint whose weights are not to be had, with the reason: nobody can say what it would become."""
    for checkpoint in {variant.checkpoint.id: variant.checkpoint for variant in variants}.values():
        try:
            weights.find(checkpoint, settings.weights, settings.weights_dir)
        except EnvironmentTroubleError as error:
            yield checkpoint.id, str(error)


def _is_built(built: Built | None) -> bool:
    return built is not None and built.folder is not None


def _described(release: Release, code: Revision | None, settings: Settings, matrix: Path) -> Release:
    """Return a release with its model card and its provenance."""
    named = code or Revision("0" * 40, None, ())  # refused before anybody reads it
    recordings = settings.audio.recordings
    card = written({CARD: cards.card(origin.document(release, named, matrix, recordings, {}))})
    document = origin.document(release, named, matrix, recordings, card)
    return replace(
        release, written=card | written({PROVENANCE: json.dumps(document, indent=2, ensure_ascii=False) + "\n"})
    )


def _show(planned: Plan, as_json: bool) -> None:
    if as_json:
        status = refusals.RefusedError.status if planned.refusals else 0
        shown = [_record(release) for release in planned.releases]
        print(json.dumps({"status": status, "releases": shown, "refusals": planned.refusals}, indent=2))
    else:
        for release in planned.releases:
            print("\n".join(tree(release)))
        if planned.without_place:
            print(f"stay here, for variants.yaml names no place: {planned.without_place} variants")
        for refusal in planned.refusals:
            print(f"refused: {refusal}", file=sys.stderr)


def _upload(api: "HfApi", release: Release, as_json: bool) -> dict[str, Any]:
    """Make a repository hold a release, read it back, and return what became of it."""
    screen = sys.stderr if as_json else sys.stdout
    remote = hub.look(api, release.repository)
    planned = hub.changes(api, release, remote)
    for line in hub.summary(planned):
        print(f"{release.repository}: {line}", file=screen)
    if not planned.add and not planned.delete:
        print(f"{release.repository}: holds it already, at {remote.commit}; nothing uploaded", file=screen)
        return _record(release) | hub.as_json(planned) | {"commit": remote.commit}
    commit = hub.commit(api, release, remote, planned, f"Publish {len(release.pieces)} models built by Quern")
    _read_back(release, hub.look(api, release.repository), planned)
    size_mb = sum(release.files[path].size_bytes for path in planned.add) / 1e6
    print(f"{release.repository}: {len(planned.add)} files, {size_mb:.2f} MB, read back at {commit}", file=screen)
    digest = release.files[PROVENANCE].sha256
    print(f"{release.repository}: sha256 of {PROVENANCE}: {digest}", file=screen)
    return _record(release) | hub.as_json(planned) | {"commit": commit}


def _read_back(release: Release, remote: hub.Remote, planned: hub.Changes) -> None:
    wrong = [*hub.differences(release, remote), *(path for path in planned.delete if path in remote.files)]
    if wrong:
        raise EnvironmentTroubleError(
            f"{release.repository}: {remote.commit} holds other bytes than were sent: {', '.join(sorted(wrong))}; "
            "do not use it, and publish again"
        )


def _record(release: Release) -> dict[str, Any]:
    files = {path: {"sha256": f.sha256, "size_bytes": f.size_bytes} for path, f in release.files.items()}
    return {"repository": release.repository, "files": files}
