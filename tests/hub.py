"""A hub on loopback: the endpoints through which huggingface_hub looks, uploads, commits and downloads, with faults.

It keeps repositories as lists of commits, and large files by their sha256, as the real one does: what was uploaded and
not committed is kept, and is not asked for again.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretTokenOfATest"
_LARGE = (".bin", ".mlmodel", ".onnx", ".safetensors")


@dataclass
class Fault:
    """What goes wrong with requests that begin like this, such as "PUT /lfs/", and how often.

    status    answered instead, with `headers`, after the request was read; 0 for another kind of fault
    cut       the connection is closed in the middle of what is sent or received
    slow_s    how long the answer takes to begin
    corrupt   other bytes are kept, or sent, than should be
    """

    request: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    slow_s: float = 0
    corrupt: bool = False
    times: int = 1_000_000


@dataclass(frozen=True)
class Blob:
    """A file of a repository: its bytes, and whether it is kept as a large one."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.large else git_oid(self.content)


@dataclass(frozen=True)
class Commit:
    oid: str
    files: Mapping[str, Blob]


@dataclass
class Hub:
    """The state of the hub, and a log of what it was asked; `watch` is told of each request before it is answered."""

    url: str = ""
    repositories: dict[str, list[Commit]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    watch: Callable[[str], None] = lambda request: None

    def put(self, repository: str, files: Mapping[str, bytes], oid: str = "") -> None:
        """Commit files to a repository, which is made if there is none."""
        blobs = {path: Blob(content, path.endswith(_LARGE)) for path, content in files.items()}
        self.commit(repository, self.files(repository) | blobs, oid)

    def commit(self, repository: str, files: Mapping[str, Blob], oid: str = "") -> Commit:
        history = self.repositories.setdefault(repository, [])
        listing = json.dumps([len(history), sorted((path, blob.oid) for path, blob in files.items())])
        history.append(Commit(oid or hashlib.sha1(listing.encode()).hexdigest(), dict(files)))
        return history[-1]

    def files(self, repository: str) -> dict[str, Blob]:
        history = self.repositories.get(repository, [])
        return dict(history[-1].files) if history else {}

    def contents(self, repository: str) -> dict[str, bytes]:
        """Return every file of a repository, as it is now."""
        return {path: blob.content for path, blob in self.files(repository).items()}

    def fault(self, request: str) -> Fault | None:
        """Return what goes wrong with this request, and count it."""
        found = next((f for f in self.faults if f.times > 0 and request.startswith(f.request)), None)
        if found:
            found.times -= 1
        return found


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """Run a hub on loopback for as long as the context lasts."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()


class _Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, code: str = "", **answer: object) -> None:
        super().__init__(status)
        self.status, self.headers, self.answer = status, {"X-Error-Code": code} if code else {}, answer


class _Cut(Exception):
    """The connection is closed."""


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Hub

    def do_GET(self) -> None:
        self.handle_one()

    def do_HEAD(self) -> None:
        self.handle_one()

    def do_POST(self) -> None:
        self.handle_one()

    def do_PUT(self) -> None:
        self.handle_one()

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_one(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        self.state.asked.append(request)
        self.state.watch(request)
        self.trouble = self.state.fault(request)
        try:
            body = self.body()
            if self.trouble:
                time.sleep(self.trouble.slow_s)
                if self.trouble.status:
                    self.answer(self.trouble.status, {"error": "as asked"}, self.trouble.headers)
                    return
            self.route(path, body)
        except _Refusal as refusal:
            self.answer(refusal.status, refusal.answer, refusal.headers)
        except (_Cut, ConnectionError):
            self.close_connection = True

    def body(self) -> bytes:
        """Read what is sent, by its length or in chunks; half of it where the connection is to be cut."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while length := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            found = b"".join(parts)
        else:
            length = int(self.headers.get("Content-Length", 0))
            found = self.rfile.read(length // 2 if self.trouble and self.trouble.cut and length else length)
        if self.trouble and self.trouble.cut and self.command in ("POST", "PUT"):
            raise _Cut
        return found

    def answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.trouble and self.trouble.cut:
            self.wfile.write(sent[: len(sent) // 2])
            raise _Cut
        self.wfile.write(sent)

    def route(self, path: str, body: bytes) -> None:
        for method, pattern, endpoint, needs_token in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                if needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise _Refusal(401, error="Invalid username or password.")
                endpoint(self, body, **found.groupdict())
                return
        raise _Refusal(404, error=f"no such endpoint: {self.command} {path}")

    def found(self, repository: str, revision: str = "main") -> Commit:
        history = self.state.repositories.get(repository)
        if not history:
            raise _Refusal(404, "RepoNotFound", error="Repository not found")
        at = [commit for commit in history if revision in ("main", commit.oid)]
        if not at:
            raise _Refusal(404, "RevisionNotFound", error="Revision not found")
        return at[-1]

    def create(self, body: bytes) -> None:
        told = json.loads(body)
        repository = f"{told['organization']}/{told['name']}"
        if repository in self.state.repositories:
            raise _Refusal(409, error="You already created this model repo", url=f"{self.state.url}/{repository}")
        self.state.put(repository, {".gitattributes": b"*.bin filter=lfs\n"})
        self.answer(200, {"url": f"{self.state.url}/{repository}", "id": repository})

    def info(self, body: bytes, repository: str, revision: str | None = None) -> None:
        commit = self.found(repository, revision or "main")
        self.answer(200, {"id": repository, "sha": commit.oid, "private": False, "siblings": [], "tags": []})

    def tree(self, body: bytes, repository: str, revision: str) -> None:
        listed: list[dict[str, Any]] = []
        for path, blob in sorted(self.found(repository, revision).files.items()):
            entry = {"type": "file", "path": path, "size": len(blob.content), "oid": git_oid(blob.content)}
            large = {"lfs": {"oid": blob.oid, "size": len(blob.content), "pointerSize": 134}} if blob.large else {}
            listed.append(entry | large)
        self.answer(200, listed)

    def validate(self, body: bytes) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        files = self.found(repository, revision).files
        answers = []
        for told in json.loads(body)["files"]:
            mode = "lfs" if told["path"].endswith(_LARGE) else "regular"
            known = {"oid": files[told["path"]].oid} if told["path"] in files else {}
            answers.append({"path": told["path"], "uploadMode": mode, "shouldIgnore": False} | known)
        self.answer(200, {"files": answers})

    def batch(self, body: bytes, repository: str) -> None:
        answers = []
        for told in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.state.url}/lfs/{told['oid']}?X-Signature=secretSignature"}}
            answers.append(told if told["oid"] in self.state.objects else told | {"actions": upload})
        self.answer(200, {"transfer": "basic", "objects": answers})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refusal(400, error="the content is not what its name says")
        self.state.objects[oid] = body
        self.answer(200, {})

    def commit(self, body: bytes, repository: str, revision: str) -> None:
        now = self.found(repository, revision)
        files = dict(now.files)
        for line in body.decode().splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "header" and value.get("parentCommit", now.oid) != now.oid:
                raise _Refusal(412, error="the parent commit is no longer the last one")
            if told["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
            elif told["key"] == "lfsFile":
                if value["oid"] not in self.state.objects:
                    raise _Refusal(400, error=f"{value['path']} was not uploaded")
                files[value["path"]] = Blob(self.kept(self.state.objects[value["oid"]]), large=True)
            elif told["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.state.commit(repository, files)
        self.answer(200, {"commitUrl": f"{self.state.url}/{repository}/commit/{commit.oid}", "commitOid": commit.oid})

    def kept(self, content: bytes) -> bytes:
        corrupt = self.trouble and self.trouble.corrupt
        return content[:-1] + bytes([content[-1] ^ 1]) if corrupt else content

    def resolve(self, body: bytes, repository: str, revision: str, file: str) -> None:
        commit = self.found(repository, revision)
        if file not in commit.files:
            raise _Refusal(404, "EntryNotFound", error="Entry not found")
        blob = commit.files[file]
        content = self.kept(blob.content)
        headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.command == "GET":
            self.state.ranges.append(self.headers["Range"])
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], headers)
        else:
            self.answer(200, content, headers)


_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_ROUTES: tuple[tuple[tuple[str, ...], str, Callable[..., None], bool], ...] = (
    (("POST",), r"/api/repos/create", _Handler.create, True),
    (("POST",), r"/api/validate-yaml", _Handler.validate, False),
    (("POST",), rf"/api/models/{_REPOSITORY}/preupload/(?P<revision>[^/]+)", _Handler.preupload, True),
    (("POST",), rf"/api/models/{_REPOSITORY}/commit/(?P<revision>[^/]+)", _Handler.commit, True),
    (("GET",), rf"/api/models/{_REPOSITORY}/tree/(?P<revision>[^/]+)", _Handler.tree, False),
    (("GET",), rf"/api/models/{_REPOSITORY}(/revision/(?P<revision>[^/]+))?", _Handler.info, False),
    (("POST",), rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler.batch, True),
    (("PUT",), r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.store, False),
    (("GET", "HEAD"), rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve, False),
)
