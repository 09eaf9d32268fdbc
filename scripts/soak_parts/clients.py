"""Good clients: each asks for something, checks every byte of what it calls whole, and says how it ended.

A client returns WHOLE, or FAILED for an end that nobody takes for a whole file; it raises Wrong otherwise.
"""

import base64
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from soak_parts import site as content_of
from soak_parts.site import BLOCK, PROTECTED, LINKED, STEADY, Wrong

WHOLE, FAILED = "whole", "failed"
USER, PASSWORD = "anna", "soakpass"
# What openssl passwd -6 makes of it.
HTPASSWD = f"{USER}:$6$soaksalt$M9f59APGv75TsjACaUglX4bLhMG/SmMHeBEFVrq/buYHEmJM93je1UxVFPiDjDkHmTrwFu/lGvtHJxWc8Dtp71\n"
SOCKET_TIMEOUT_S = 60
# Whatever waits, waits for less: who has not ended by then hangs.
PROGRAM_TIMEOUT_S = 240
# Guesses are few: all clients have one address, and who guesses is slowed down.
GUESSING_SHARE = 0.03
# Statuses of `haul get` that are an honest failure: not there, network, incomplete.
GET_FAILED = (3, 4, 5)


class Broken(Exception):
    """An answer that no client takes for whole."""


class Client:
    """A thread's worth of clients: where the server is, and a directory of its own."""

    def __init__(self, server, site, seed):
        self.server, self.site = server, site
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(dir=server.place, prefix="client-"))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        if server.authorities:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(server.authorities)

    # Connections.

    def connect(self, secure=False):
        connection = socket.create_connection(self.server.secure if secure else self.server.plain, SOCKET_TIMEOUT_S)
        return self.context.wrap_socket(connection, server_hostname="localhost") if secure else connection

    def ask(self, target, fields=(), method="GET", secure=False):
        """The status, the fields and the body of an answer, which has to be as long as it says."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""]
        try:
            with self.connect(secure) as connection:
                connection.sendall("\r\n".join(lines).encode())
                parts = []
                while part := connection.recv(1 << 18):
                    parts.append(part)
        except OSError as error:
            raise Broken from error
        return understood(b"".join(parts), method)

    def any_way(self):
        return self.random.random() < 0.3

    # HTTP.

    def whole(self, name):
        """A whole file, then its tag: unchanged (304), by HEAD, and a range of just this version."""
        status, fields, body = self.ask(f"/{name}", secure=self.any_way())
        if not served(name, status):
            return FAILED
        version = self.site.whole(name, body)
        tag = fields.get("etag")
        if not tag:
            return WHOLE
        status, again, rest = self.ask(f"/{name}", [f"If-None-Match: {tag}"], secure=self.any_way())
        if status == 200:
            self.site.whole(name, rest)
        elif status != 304 and served(name, status):
            raise Wrong(f"{name}: {status} for If-None-Match")
        status, again, _ = self.ask(f"/{name}", method="HEAD")
        if status == 200 and again.get("etag") == tag and int(again["content-length"]) != len(body):
            raise Wrong(f"{name}: HEAD says {again['content-length']} bytes, under the tag of {len(body)}")
        start = self.random.randrange(len(body))
        status, again, rest = self.ask(f"/{name}", [f"Range: bytes={start}-", f"If-Range: {tag}"], secure=self.any_way())
        if status == 200:
            self.site.whole(name, rest)
        elif status == 206 and rest != content_of.content(name, version, start, len(body)):
            raise Wrong(f"{name}: a range under the tag of version {version} is not of this version")
        elif status not in (200, 206) and served(name, status):
            raise Wrong(f"{name}: {status} for a range with its tag")
        return WHOLE

    def ranges(self, name):
        """One range, several, and the last bytes."""
        start = self.random.randrange(0, 8) * BLOCK
        length = self.random.randrange(2 * BLOCK, 8 * BLOCK)
        if name == "steady-1k":
            start, length = 100, 300
        secure = self.any_way()
        status, fields, body = self.ask(f"/{name}", [f"Range: bytes={start}-{start + length - 1}"], secure=secure)
        if not served(name, status):
            return FAILED
        if status != 206 or len(body) != length:
            raise Wrong(f"{name}: {status} with {len(body)} bytes for a range of {length}")
        self.site.part(name, body, start)
        status, fields, body = self.ask(f"/{name}", [f"Range: bytes=0-199,{start + 200}-{start + length - 1}"], secure=secure)
        if status == 206 and (found := re.fullmatch("multipart/byteranges; ?boundary=(.+)", fields["content-type"])):
            versions = {self.site.part(name, part, at) for at, part in parts_of(body, found[1].encode())}
            if len(versions) > 1:
                raise Wrong(f"{name}: parts of several versions in one answer: {versions}")
        elif status == 200:
            self.site.whole(name, body)
        status, fields, body = self.ask(f"/{name}", ["Range: bytes=-700"], secure=secure)
        if status == 206:
            start = int(re.match(r"bytes (\d+)-", fields["content-range"])[1])
            self.site.part(name, body, start)
        return WHOLE

    def kept(self, name):
        """Several requests on one connection, sent at once."""
        request = f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        last = b"GET /steady-1k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        parts = []
        try:
            with self.connect(self.any_way()) as connection:
                connection.sendall(request * 3 + last)
                while part := connection.recv(1 << 18):
                    parts.append(part)
        except OSError:
            return FAILED
        answers = b"".join(parts)
        for _ in range(3):
            status, _, body, answers = first_of(answers)
            if served(name, status):
                self.site.whole(name, body)
        status, _, body = understood(answers, "GET")
        if not served("steady-1k", status):
            return FAILED
        self.site.whole("steady-1k", body)
        return WHOLE

    def named(self, name):
        """The bare-name protocol: an orderly end with bytes is a whole file."""
        try:
            with self.connect() as connection:
                ending = self.random.choice([b"\n", b"\r\n", b"\0", b""])
                connection.sendall(name.encode() + ending)
                if not ending:
                    connection.shutdown(socket.SHUT_WR)
                parts = []
                while part := connection.recv(1 << 18):
                    parts.append(part)
        except OSError:
            return FAILED
        if not parts:
            return FAILED
        self.site.whole(name, b"".join(parts))
        return WHOLE

    def listing(self, _):
        folder, begun = self.random.randrange(content_of.TREE_FOLDERS), time.monotonic()
        form = self.random.choice(["", "?format=json", "?format=ndjson"])
        status, _, body = self.ask(f"/tree/{folder}/{form}", secure=self.any_way())
        if not served("tree", status):
            return FAILED
        text = body.decode()
        if form == "?format=json":
            rows = json.loads(text)
            rows = rows["entries"] if isinstance(rows, dict) else rows
            names = [row["name"] for row in rows]
        elif form:
            names = [row["name"] for row in map(json.loads, text.splitlines()) if "name" in row]
        else:
            names = re.findall(r'href="(?:\./)?(\d+)"', text)
            names = list(dict.fromkeys(names))
        self.site.listed(folder, names, begun)
        return WHOLE

    def protected(self, _):
        """Without a password, with a wrong one, with the right one, and by a link."""
        for fields in [(), [basic(USER, "wrong")]]:
            if self.random.random() < GUESSING_SHARE:
                status, _, body = self.ask(f"/{PROTECTED}", fields)
                if status in (200, 206) or status != 401 and served(PROTECTED, status):
                    raise Wrong(f"{PROTECTED}: {status} without the password")
        status, _, body = self.ask(f"/{PROTECTED}", [basic(USER, PASSWORD)], secure=self.any_way())
        if not served(PROTECTED, status):
            return FAILED
        self.site.whole(PROTECTED, body)
        status, _, body = self.ask(self.server.link, secure=self.any_way())
        if not served(LINKED, status):
            return FAILED
        self.site.whole(LINKED, body)
        return WHOLE

    # Programs.

    def run(self, *command, but=(), timeout=PROGRAM_TIMEOUT_S):
        """The exit status of a program, which has to end by itself."""
        words = [str(word) for word in command]
        try:
            ended = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Wrong(f"it does not end: {' '.join(words[:6])} …") from None
        said = ended.stderr.decode(errors="replace")
        if "panicked" in said or ended.returncode < 0:
            raise Wrong(f"status {ended.returncode} of {' '.join(words)}: {said[-300:]}")
        self.said = said
        return ended.returncode

    def took(self, path, name):
        self.site.whole(name, path.read_bytes())
        path.unlink()
        return WHOLE

    def clean(self):
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def curl(self, name):
        path = self.folder / "curl"
        where = [self.server.url(name)] if not self.any_way() else [*self.server.curl_trust, self.server.url(name, secure=True)]
        if self.run("curl", "-sSf", "-m", SOCKET_TIMEOUT_S, "-o", path, *where) != 0:
            return FAILED
        return self.took(path, name)

    def curl_resumed(self, name):
        """It asks for the rest without naming a version: for files that do not change."""
        name = name if name in STEADY else "steady-8m"
        path = self.folder / "curl"
        length = STEADY[name]
        path.write_bytes(self.site.constant[name][: self.random.randrange(1, length)])
        if self.run("curl", "-sSf", "-m", SOCKET_TIMEOUT_S, "-C", "-", "-o", path, self.server.url(name)) != 0:
            return FAILED
        return self.took(path, name)

    def wget(self, name):
        """A second try goes on whatever the file is by then, and takes 416 for its end: for files that do not change."""
        path, tries = self.folder / "wget", "3" if name in STEADY else "1"
        if self.run("wget", "-q", "-t", tries, "-T", SOCKET_TIMEOUT_S, "-O", path, self.server.url(name)) != 0:
            return FAILED
        return self.took(path, name)

    def aria2(self, name):
        """Its segments name no version: for files that do not change."""
        name = name if name in STEADY else "steady-24m"
        path = self.folder / "aria2"
        options = ["-q", "-x4", "-s4", "-k1M", "--max-tries=3", "--retry-wait=1", "--allow-overwrite=true", "--auto-file-renaming=false"]
        if self.run("aria2c", *options, "-d", self.folder, "-o", "aria2", self.server.url(name)) != 0:
            return FAILED
        return self.took(path, name)

    # haul get.

    def get(self, *options):
        """Whether `haul get` says that all is whole."""
        status = self.run(self.server.program, "get", "-q", "--retries", "4", "--retry-wait", "200ms", *options)
        if status == 7 and "/chop-" in self.said + str(options):
            self.missed_its_digest(str(options))
            return False
        if status not in (0, *GET_FAILED):
            raise Wrong(f"status {status} of haul get {' '.join(map(str, options))}: {self.said[-300:]}")
        return status == 0

    def missed_its_digest(self, options):
        """What came has to be a version with zeros, as of a file that was cut off meanwhile."""
        name = re.search(r"/(chop-\d)", options)[1]
        for part in self.folder.glob("*.part"):
            body = part.read_bytes()
            if self.site.is_exact(name, body):
                raise Wrong(f"{name}: a whole version of {len(body)} bytes, and a digest that is not its own: {self.said[-300:]}")
            self.site.whole(name, body)

    def get_whole(self, name):
        path = self.folder / "get"
        url = self.server.url(name)
        where = self.random.choice([[url], [*self.server.get_trust, self.server.url(name, secure=True)], [url.replace("http", "name")]])
        return self.took(path, name) if self.get("-o", path, *where) else FAILED

    def get_segments(self, name):
        path = self.folder / "get"
        if not self.get("-s", "4", "-o", path, self.server.url(name)):
            return FAILED
        return self.took(path, name)

    def get_mirrors(self, name):
        """Of one server by two of its addresses, of which one is TLS."""
        path = self.folder / "get"
        mirrors = [self.server.url(name), "--mirror", self.server.url(name, secure=True), *self.server.get_trust]
        return self.took(path, name) if self.get("-s", "3", "-o", path, *mirrors) else FAILED

    def get_resumed(self, name):
        """Killed under way, then the same again."""
        path, url = self.folder / "get", self.server.url(name)
        command = [self.server.program, "get", "-q", "--rate", "3M", "-o", path, url]
        first = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
        try:
            first.wait(self.random.uniform(0.05, 1.0))
        except subprocess.TimeoutExpired:
            first.kill()
            first.wait()
        # It may have been whole by then.
        if path.exists():
            return self.took(path, name)
        return self.took(path, name) if self.get("-o", path, url) else FAILED

    def get_repaired(self, name):
        """A damaged copy of a file becomes what the server has."""
        path = self.folder / "get"
        versions = self.site.lengths[name]
        version = max(versions)
        damaged = bytearray(content_of.content(name, version, 0, versions[version][0][0]))
        for _ in range(3):
            at = self.random.randrange(len(damaged))
            damaged[at : at + 500] = bytes(len(damaged[at : at + 500]))
        path.write_bytes(damaged)
        place = ["--in-place"] if self.any_way() else []
        if self.get("--repair", path, *place, self.server.url(name)):
            return self.took(path, name)
        return FAILED

    def get_tree(self, _):
        begun = time.monotonic()
        folder = self.folder / "tree"
        if not self.get("-r", "-P", "4", "-d", folder, self.server.url("tree/")):
            return FAILED
        top = folder if (folder / "0").is_dir() else folder / "tree"
        self.site.fetched_tree(top, begun)
        return WHOLE


KINDS = {
    "HTTP: whole, 304, HEAD, If-Range": Client.whole, "HTTP: ranges": Client.ranges, "HTTP: four requests at once": Client.kept,
    "name protocol": Client.named, "listings": Client.listing, "passwords and links": Client.protected,
    "curl": Client.curl, "curl -C -": Client.curl_resumed, "wget": Client.wget, "aria2c -x4": Client.aria2,
    "haul get": Client.get_whole, "haul get -s 4": Client.get_segments, "haul get, two mirrors": Client.get_mirrors,
    "haul get, killed, resumed": Client.get_resumed, "haul get --repair": Client.get_repaired, "haul get -r": Client.get_tree,
}
NEEDS = {"curl": "curl", "curl -C -": "curl", "wget": "wget", "aria2c -x4": "aria2c"}


def served(name, status):
    """Whether the answer is one to check; what is missing or over a limit is an honest end."""
    missing = 404 if name.startswith("gone") else None
    # Who guesses passwords is slowed down.
    guessed = 429 if name.startswith("private") else None
    if status in (503, missing, guessed):
        return False
    if status in (200, 206, 304, 401):
        return True
    if name.startswith("chop") and status == 416:
        return False
    raise Wrong(f"{name}: status {status}")


def understood(answer, method):
    status, fields, body, rest = first_of(answer, method)
    if rest:
        raise Wrong(f"{len(rest)} bytes behind an answer")
    return status, fields, body


def first_of(answer, method="GET"):
    """The first answer of these bytes, and the bytes behind it."""
    head, mark, rest = answer.partition(b"\r\n\r\n")
    if not mark:
        raise Broken
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(lines[0].split()[1])
    if method == "HEAD" or status in (204, 304):
        return status, fields, b"", rest
    if "chunked" in fields.get("transfer-encoding", ""):
        body, rest = unchunked(rest)
        return status, fields, body, rest
    length = int(fields["content-length"])
    if len(rest) < length:
        raise Broken
    return status, fields, rest[:length], rest[length:]


def unchunked(rest):
    body = []
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        if not mark:
            raise Broken
        length = int(line.split(b";")[0], 16)
        if len(rest) < length + 2:
            raise Broken
        if length == 0:
            return b"".join(body), rest[2:]
        body.append(rest[:length])
        rest = rest[length + 2 :]


def parts_of(body, boundary):
    """The parts of a multipart/byteranges body, with where each begins in the file."""
    found = []
    rest = body
    while True:
        _, mark, rest = rest.partition(b"--" + boundary)
        if not mark:
            raise Wrong("a multipart body without its last line")
        if rest.startswith(b"--"):
            return found
        head, _, rest = rest.partition(b"\r\n\r\n")
        start, last = map(int, re.search(rb"bytes (\d+)-(\d+)/", head).groups())
        found.append((start, rest[: last - start + 1]))
        rest = rest[last - start + 1 :]


def basic(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
