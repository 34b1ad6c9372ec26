"""What stands in the way of publishing: every reason, each with the way out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipeline.line import Built
from pipeline.publish import licences
from pipeline.publish.release import Piece, Release, altered, clashes
from pipeline.publish.revision import Revision
from pipeline.types import CheckResult, QuernError, Variant
from pipeline.verdict import blocks


class RefusedError(QuernError):
    """What was built is not fit to be published."""

    status = 1


def of_selection(selected: Sequence[Variant], declared: Iterable[Variant]) -> Iterator[str]:
    """Yield a refusal for each repository of which only a part was selected: its provenance tells of the whole."""
    chosen = {variant.id for variant in selected}
    wanted = {variant.publish.repository for variant in selected if variant.publish}
    left_out: dict[str, list[str]] = {}
    for variant in declared:
        if variant.publish and variant.publish.repository in wanted and variant.id not in chosen:
            left_out.setdefault(variant.publish.repository, []).append(variant.id)
    for repository, ids in sorted(left_out.items()):
        yield (
            f"{repository}: {_few(ids)} belong{'s' if len(ids) == 1 else ''} to it as well; "
            f"publish {'it' if len(ids) == 1 else 'them'} too, or take `publish` out of the block"
        )


def of_source(revision: Revision | None) -> Iterator[str]:
    """Yield a refusal if nobody could find the code that built the artifacts."""
    if revision is None:
        yield "the code is not a git checkout with a commit, so that nobody could build this again; clone it"
    elif revision.changed:
        yield f"the checkout is not as it was committed: {_few(revision.changed)}; commit or remove the changes"


def of_missing(variant: Variant, command: str) -> str:
    """Return the refusal of a variant that is not built, or not from what variants.yaml and the code are now."""
    if command:
        return f"{variant.id}: its format is not installed; run: {command}, and build it"
    return f"{variant.id}: not built, or not up to date; run `python build_all_variants.py '{variant.id}'` first"


def of_piece(piece: Piece) -> Iterator[str]:
    """Yield what stands in the way of one artifact."""
    built = piece.built
    assert built.variant.publish is not None
    for reason in (*_of_weights(built), *_of_checks(built.results), *(f"{path}: altered since it was built; "
                   "remove its folder and build again" for path in altered(piece))):  # fmt: skip
        yield f"{built.variant.id}: {reason}"
    size_mb, limit_mb = piece.size_bytes / 1e6, built.variant.publish.limit_mb
    if size_mb > limit_mb:
        yield f"{built.variant.id}: {size_mb:.2f} MB; raise `publish: {{limit_mb: {limit_mb:g}}}` or make it smaller"


def of_release(release: Release, needs_owner: bool) -> Iterator[str]:
    """Yield what stands in the way of a repository as a whole."""
    if needs_owner and "/" not in release.repository:
        yield f"{release.repository}: whose is it? Give --hub-owner NAME, or set QUERN_HUB_OWNER"
    for path, first, second in clashes(release):
        yield f"{release.repository}: {path} is claimed by {first} and {second}; give one of them another `path`"


def _of_weights(built: Built) -> Iterator[str]:
    if built.weights.kind == "synthetic":
        yield "made from a synthetic stand-in; build it from trained weights"
        return
    checkpoint = built.variant.checkpoint
    for part in checkpoint.parts or (checkpoint,):
        source = built.weights.parts.get(part.id, built.weights)
        if objection := licences.objection(part.licence, source.kind == "trained"):
            yield f"{part.id}: {objection}" if checkpoint.parts else objection
        yield from _of_pins(part.repository, part.revision, part.hub_files, source.digests)


def _of_pins(repository: str, revision: str, pinned: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that were taken for those of a repository, and are not the ones that are pinned there."""
    if repository:
        for name in sorted(name for name, digest in found.items() if digest not in pinned.values()):
            yield (
                f"{name} is not a file of {repository}@{revision[:12]}, which it would be ascribed to; "
                "build from the pinned files, or declare a checkpoint of its own"
            )


def _of_checks(results: Sequence[CheckResult]) -> Iterator[str]:
    if not results:
        yield "nothing about it was checked; give it checks and limits"
    for result in results:
        if result.outcome == "fail":
            yield f"{result.name} failed: {_measured(result)}, limit {result.limit}; mend it, or do not publish it"
        elif blocks(result, "publish") or blocks(result, "build"):
            way = "run it where it can run with --results-out DIR, and build again with QUERN_RESULTS=DIR"
            yield f"{result.name} has run nowhere ({result.note}), and must have; {way}"


def _measured(result: CheckResult) -> str:
    return "no number" if result.measured is None else f"{result.measured:.6g} {result.unit}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
