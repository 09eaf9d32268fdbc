"""The server under test: its start, its processes one after another, and what it holds."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from soak_parts.clients import HTPASSWD
from soak_parts.site import LINKED

START_TIMEOUT_S = 60
# Few, so that floods come to the end of them.
OPEN_FILES = 600
CGROUP_BYTES = 192 << 20
SQUEEZED_S = 1.5
WORKERS, DISK_WORKERS = 2, 8

CONFIG = """\
max-per-client = {per_client}
rate = '{rate}'
idle = '5s'
head-timeout = '5s'
first-byte-timeout = '5s'
send-timeout = '8s'
drain-timeout = '40s'
digests = 'asked'
"""


class Server:
    """`haul serve` and the processes that take over from it."""

    def __init__(self, program, place):
        self.program, self.place, self.root = str(program), Path(place), Path(place) / "root"
        self.said, self.processes, self.done = [], [], {}
        self.sandbox, self.group = "require", None
        self.plain, self.secure, self.admin = (("127.0.0.1", port) for port in free_ports(3))
        self._make_keys()
        self.write_config()
        self.log = self.place / "access.log"

    def _make_keys(self):
        (self.place / "users").write_text(HTPASSWD)
        key = self.place / "links"
        key.write_text(self._said_by("link", "--new-key"))
        key.chmod(0o600)
        (self.place / "users").chmod(0o600)
        self.authorities, self.tls = None, ["--tls-self"]
        if shutil.which("openssl"):
            self.pairs = [self._certificate(number) for number in range(2)]
            self.authorities = str(self.place / "authorities")
            Path(self.authorities).write_text("".join(chain for chain, _ in self.pairs))
            self.use_certificate(0)
            self.tls = ["--tls-cert", self.place / "chain.pem", "--tls-key", self.place / "key.pem"]

    def _certificate(self, number):
        chain, key = self.place / f"chain{number}", self.place / f"key{number}"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", chain],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return chain.read_text(), key.read_text()

    def use_certificate(self, number):
        chain, key = self.pairs[number]
        for name, text in [("chain.pem", chain), ("key.pem", key)]:
            fresh = self.place / f"{name}.new"
            fresh.write_text(text)
            fresh.rename(self.place / name)

    def write_config(self, per_client=400, rate="1GB", more=""):
        fresh = self.place / "haul.toml.new"
        fresh.write_text(CONFIG.format(per_client=per_client, rate=rate) + more)
        fresh.rename(self.place / "haul.toml")

    def _said_by(self, *arguments):
        return subprocess.run([self.program, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout

    def start(self):
        self.group = memory_group()
        for self.sandbox in ["require", "auto"]:
            if self._start():
                break
        else:
            sys.exit("soak: the server does not start:\n" + "\n".join(self.said[-10:]))
        self.link = self._said_by("link", "--key", self.place / "links", "--expires", "9h", LINKED).strip()
        pin = re.search(r"--pin (sha256:\S+)", "\n".join(self.said))
        self.get_trust = ["--cacert", self.authorities] if self.authorities else ["--pin", pin[1]]
        self.curl_trust = ["--cacert", self.authorities] if self.authorities else ["-k"]

    def _start(self):
        command = [
            self.program, "serve", "--root", self.root, "--sandbox", self.sandbox, "--config", self.place / "haul.toml",
            "--listen", "%s:%d" % self.plain, "--listen-tls", "%s:%d" % self.secure, "--admin", "%s:%d" % self.admin,
            "--workers", WORKERS, "--disk-workers", DISK_WORKERS, "--state", self.place / "state", "--access-log", self.log, "--log", "debug", *self.tls,
            "--htpasswd", self.place / "users", "--link-key", self.place / "links", "--protect", "private/**"]
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, preexec_fn=self._confine)
        self.first, self.processes = process, [process.pid]
        threading.Thread(target=self._listen, args=(process.stderr,), daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if any(line.startswith("admin on") for line in self.said):
                return True
            time.sleep(0.05)
        return False

    def _confine(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def _listen(self, lines):
        for line in lines:
            line = line.rstrip("\n")
            self.said.append(line)
            if found := re.match(r"process (\d+) has taken over", line):
                self.processes.append(int(found[1]))

    @property
    def pid(self):
        return self.processes[-1]

    def count(self, what):
        self.done[what] = self.done.get(what, 0) + 1

    # Disturbances.

    def rotate_log(self):
        """As logrotate does: renamed, then SIGHUP."""
        self.log.rename(self.place / f"access.log.{time.time_ns()}")
        os.kill(self.pid, signal.SIGHUP)
        self.count("log rotated")

    def reload(self, number):
        kind = ["limits", "faulty settings", "faulty certificate", "certificate"][number % 4]
        if "certificate" in kind and not self.authorities:
            return
        if kind == "limits":
            self.write_config(per_client=[350, 400][number % 3 % 2], rate=["300MB", "1GB"][number % 3 % 2])
        elif kind == "faulty settings":
            self.write_config(more="no such line\n")
        elif kind == "faulty certificate":
            (self.place / "chain.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n")
        else:
            self.use_certificate(number % 8 // 4)
        before = len(self.said)
        os.kill(self.pid, signal.SIGHUP)
        # What is read is this change and not the next one.
        self.await_said(before, "loaded anew from" if "settings" not in kind else "the settings stay")
        if kind == "faulty settings":
            self.write_config()
        if kind == "faulty certificate":
            self.use_certificate(0)
        self.count(f"reloaded: {kind}")

    def await_said(self, since, words, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(words in line for line in self.said[since:]):
                return True
            time.sleep(0.02)
        return False

    def upgrade(self):
        """Whether another process has taken over."""
        before = len(self.processes)
        os.kill(self.pid, signal.SIGUSR2)
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(self.processes) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        self.count("upgraded")
        return len(self.processes) > before

    def squeeze(self):
        """Hardly a descriptor more than there are, for a while."""
        pid = self.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 3, OPEN_FILES))
        time.sleep(SQUEEZED_S)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        self.count("hardly a descriptor left")

    # What it holds.

    def url(self, name, secure=False):
        host, port = self.secure if secure else self.plain
        return f"{'https' if secure else 'http'}://{host}:{port}/{name}"

    def metrics(self):
        with urllib.request.urlopen("http://%s:%d/metrics" % self.admin, timeout=30) as answer:
            text = answer.read().decode()
        rows = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)", text, re.MULTILINE)
        return {name: float(value) for name, value in rows}

    def under_way(self):
        """Everything that only clients make it hold."""
        metrics = self.metrics()
        held = [name for name in metrics if re.match(r"haul_(connections\{|limit_used|disk_jobs_(waiting|running))", name)]
        return {name: metrics[name] for name in held if metrics[name]}

    def holds(self):
        place = Path(f"/proc/{self.pid}")
        memory = dict(re.findall(r"^(\w+): +(\d+) kB", (place / "smaps_rollup").read_text(), re.MULTILINE))
        open_files = [link_of(path) for path in (place / "fd").iterdir()]
        pipes = sum(path.startswith("pipe:") for path in open_files)
        return {
            "memory (Pss), KiB": int(memory["Pss"]),
            "memory of its own (Pss_Anon), KiB": int(memory.get("Pss_Anon", memory["Pss"])),
            "descriptors, pipes apart": len(open_files) - pipes,
            "pipes": pipes,
            "threads": len(os.listdir(place / "task")),
            "maps": len((place / "maps").read_text().splitlines()),
        }

    def total(self, counter):
        """What all processes together said of a counter at their end."""
        return sum(int(value) for line in self.said for value in re.findall(rf"^\s+{counter}: (\d+),$", line))

    def is_running(self, pid):
        """Whether it is one of this server still: numbers of processes that have ended are given anew."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[1:2] == [b"serve"] and os.fsencode(self.root) in words

    def left_over(self):
        """Processes that handed over and did not end."""
        return [pid for pid in self.processes[:-1] if self.is_running(pid)]

    def stop(self):
        """Ends it in order: whether it did."""
        pid = self.pid
        if not self.is_running(pid):
            return False
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running(pid) and time.monotonic() < deadline:
            if pid == self.first.pid:
                self.first.poll()
            time.sleep(0.05)
        return not self.is_running(pid)

    def clear(self):
        """Nothing of it is left behind, however this ends."""
        for pid in self.processes:
            if self.is_running(pid):
                os.kill(pid, signal.SIGKILL)
        if self.processes:
            self.first.wait()
        if self.group:
            for _ in range(50):
                try:
                    self.group.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)

    def killed_for_memory(self):
        for name in ["memory.oom_control", "memory.events"]:
            if self.group and (self.group / name).exists():
                found = re.search(r"^oom_kill (\d+)", (self.group / name).read_text(), re.MULTILINE)
                return int(found[1]) if found else 0
        return 0


def link_of(path):
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def memory_group():
    """A cgroup with little memory, where one can be made: of cgroups(7) version 2, or 1."""
    for base, limit in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]:
        group = Path(base) / f"haul-soak-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            # Not created: where no controller is mounted the folder is one like any other.
            with open(group / limit, "r+") as file:
                file.write(str(CGROUP_BYTES))
            return group
        except OSError:
            group.rmdir()
    return None
