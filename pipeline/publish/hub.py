"""The hub as publishing needs it: what a repository holds, one commit that makes it hold a release, and its troubles.

huggingface_hub does the work: what it has uploaded stays on the hub under its digest, so that an upload that broke off
goes on from there, and files appear all at once, with the commit.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import provenance
from pipeline.publish.release import File, Release
from pipeline.types import EnvironmentTroubleError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SILENCE_S = 300.0  # a hub that has sent nothing for so long is not going to


@dataclass(frozen=True)
class Remote:
    """What a repository holds: path → sha256 of a large file, git's digest of a small one. No commit: no repository."""

    commit: str | None
    files: Mapping[str, str]


@dataclass(frozen=True)
class Changes:
    """What a commit would have to change for a repository to hold a release.

    foreign   what is there and was not published by Quern; it is left alone
    """

    add: tuple[str, ...]
    delete: tuple[str, ...]
    foreign: tuple[str, ...]


def connect() -> "HfApi":
    """Return the hub, as the user who is logged in; raises EnvironmentTroubleError where nobody is."""
    from huggingface_hub import HfApi, get_session, get_token
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if get_token() is None:
        raise EnvironmentTroubleError("no token for the hub: set HF_TOKEN, or run `hf auth login`")
    logging.set_verbosity_error()  # its warnings hold signed addresses; what goes wrong is said in our own words
    if not sys.stderr.isatty():
        disable_progress_bars()
    get_session().timeout = _SILENCE_S
    return HfApi()


def look(api: "HfApi", repository: str) -> Remote:
    """Return what a repository holds now, all of it at one commit."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with _troubles(repository):
        try:
            commit = api.model_info(repository).sha
        except GatedRepoError:  # there is one, and it is closed to us; for huggingface_hub a kind of the next
            raise
        except RepositoryNotFoundError:
            return Remote(None, {})
        found = api.list_repo_tree(repository, recursive=True, revision=commit)
        files = {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in found if isinstance(e, RepoFile)}
    return Remote(commit, files)


def changes(api: "HfApi", release: Release, remote: Remote) -> Changes:
    """Return what has to change; files of the release before this one that are in it no more are deleted."""
    wanted = release.files
    others = sorted(
        path for path in remote.files.keys() - wanted.keys() if path.split("/")[0] not in provenance.NOT_OURS
    )
    before = _published_before(api, release.repository, remote) if others else set()
    return Changes(
        add=tuple(path for path, file in wanted.items() if not _holds(remote, path, file)),
        delete=tuple(path for path in others if path in before),
        foreign=tuple(path for path in others if path not in before),
    )


def commit(api: "HfApi", release: Release, remote: Remote, planned: Changes, message: str) -> str:
    """Make the changes in one commit and return it; the repository is made if there is none.

    Raises EnvironmentTroubleError where the network or the hub does not let it be; nothing is half published then.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = release.files
    additions = [CommitOperationAdd(path, _source(files[path])) for path in planned.add]
    deletions = [CommitOperationDelete(path, is_folder=False) for path in planned.delete]
    once = {files[addition.path_in_repo].sha256: addition for addition in additions}
    with _troubles(release.repository):
        if remote.commit is None:
            api.create_repo(release.repository, exist_ok=True)
        # Package and bundle share their weights, which a commit would send twice if the hub had neither.
        api.preupload_lfs_files(release.repository, once.values(), free_memory=False)
        made = api.create_commit(
            release.repository, [*additions, *deletions], commit_message=message, parent_commit=remote.commit
        )
    return made.oid


def differences(release: Release, remote: Remote) -> list[str]:
    """Return the files of a release that a repository does not hold, or holds with other bytes."""
    return [path for path, file in release.files.items() if not _holds(remote, path, file)]


def _holds(remote: Remote, path: str, file: File) -> bool:
    found = remote.files.get(path)
    return found is not None and found == (file.sha256 if len(found) == 64 else git_digest(file))


def git_digest(file: File) -> str:
    """Return the name that git gives to the bytes of a file."""
    content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _source(file: File) -> str | bytes:
    return str(file.content) if isinstance(file.content, Path) else file.content


def _published_before(api: "HfApi", repository: str, remote: Remote) -> set[str]:
    """Return the files that the repository's own provenance names; none where it has none that can be read."""
    if provenance.NAME not in remote.files:
        return set()
    with _troubles(repository):
        path = api.hf_hub_download(repository, provenance.NAME, revision=remote.commit)
    try:
        return set(provenance.files(json.loads(Path(path).read_text())))
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


@contextlib.contextmanager
def _troubles(repository: str) -> Iterator[None]:
    """Turn what the network and the hub raise into one sentence; anything else passes.

    An error's own text is never shown: it may hold a signed address.
    """
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        yield
    except (httpx2.HTTPError, LocalEntryNotFoundError, RuntimeError, ValueError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise EnvironmentTroubleError(f"{repository}: {sentence}") from None


def _sentence(error: BaseException) -> str | None:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, HfHubHTTPError) and each.response is not None:
            return _of_status(each.response.status_code)
    if any(isinstance(each, httpx2.TimeoutException) for each in chain):
        return f"the hub has sent nothing for {_SILENCE_S:.0f} s; {_GO_ON}"
    if any(isinstance(each, httpx2.HTTPError) for each in chain):
        return f"the connection to the hub broke off; {_GO_ON}"
    if isinstance(error, RuntimeError):
        return f"the upload broke off; {_GO_ON}"
    return (
        f"the hub's answer was not understood ({str(error).splitlines()[0]})" if isinstance(error, ValueError) else None
    )


_GO_ON = "what was uploaded is kept, and the next run goes on from there"
_STATUSES = {
    401: "the hub does not know the token; set HF_TOKEN to one that may write, or run `hf auth login`",
    403: "the token may not do this; accept the repository's conditions if it is gated, or use a token that may write",
    404: "there is no such repository, or the token may not see it",
    409: "somebody else changed the repository meanwhile; run again",
    412: "somebody else changed the repository meanwhile; run again",
    429: f"the hub was asked too often; wait, and run again: {_GO_ON}",
}


def _of_status(status: int) -> str:
    said = _STATUSES.get(status, f"it could not do what it was asked; {_GO_ON}")
    return f"status {status}: {said}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def summary(planned: Changes) -> Sequence[str]:
    """Return the lines that tell what a commit changes."""
    kept = [f"left alone, not published by Quern: {', '.join(planned.foreign)}"] if planned.foreign else []
    gone = [f"removed, no longer part of the release: {', '.join(planned.delete)}"] if planned.delete else []
    return [*gone, *kept]


def as_json(planned: Changes) -> dict[str, Any]:
    return {"added": list(planned.add), "deleted": list(planned.delete), "left_alone": list(planned.foreign)}
