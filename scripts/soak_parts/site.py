"""The files that are served: every block says whose it is, so that what arrives can be told.

A file has versions, and a version is the bytes that its name and number make, as far as it is long.
What a client calls whole has to be one version, at a length that this version once had.
"""

import os
import random
import re
import threading
import time
from pathlib import Path

BLOCK = 4096
HEAD = 64
KIB, MIB = 1 << 10, 1 << 20
NOISE = random.Random(19).randbytes(MIB)

# Never changed: whoever asks for them has to get them.
STEADY = {"steady-1k": KIB, "steady-100k": 100 * KIB + 17, "steady-8m": 8 * MIB, "steady-24m": 24 * MIB + 5}
# Replaced by renaming.
SWAPPED = [f"swap-{number}" for number in range(4)]
# Truncated, appended to, and replaced.
CHOPPED = [f"chop-{number}" for number in range(3)]
# Removed, and made anew.
GONE = [f"gone-{number}" for number in range(3)]
PROTECTED, LINKED = "private/file", "private/linked"
CHANGING_BLOCKS = range(16, 1200)
TREE_FOLDERS = 6
TREE_FILES_AT_MOST = 1500
# A listing may be as old as what the server keeps of a directory.
LISTING_AGE_S = 3


class Wrong(Exception):
    """Something false was called complete, or a promise is broken in another way."""


def block(name, version, number):
    head = f"{name} {version} {number}\n".encode().ljust(HEAD, b".")
    start = (version * 2_654_435_761 + number * 40_503 * 16) % (len(NOISE) - BLOCK)
    return head + NOISE[start : start + BLOCK - HEAD]


def content(name, version, start, end):
    """The bytes from start to end of this version, however long it is."""
    first = start // BLOCK
    joined = b"".join(block(name, version, number) for number in range(first, -(-end // BLOCK)))
    return joined[start - first * BLOCK : end - first * BLOCK]


class Site:
    """The directory, and every version that its files ever had."""

    def __init__(self, root, seed):
        self.root = Path(root)
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        # Of each file and version the lengths that it had, as pairs of least and most.
        self.lengths = {}
        # Of each file the places behind which a version was cut off.
        self.cuts = {}
        self.tree_may, self.tree_must = {}, {}
        self.changes = {}
        self._make()

    def _make(self):
        (self.root / "private").mkdir(parents=True)
        self.constant = {}
        for name, length in [*STEADY.items(), (PROTECTED, 300 * KIB), (LINKED, 3 * MIB)]:
            self._write(name, 1, length)
            self.constant[name] = content(name, 1, 0, length)
        for name in SWAPPED + CHOPPED + GONE:
            self._replace(name)
        for folder in range(TREE_FOLDERS):
            (self.root / f"tree/{folder}").mkdir(parents=True)
            self.tree_may[folder], self.tree_must[folder] = set(), {}
            for _ in range(10):
                self._add(folder)

    def _write(self, name, version, length):
        with self.lock:
            self.lengths.setdefault(name, {}).setdefault(version, []).append((length, length))
        path = self.root / name
        fresh = path.with_name(f".new-{path.name}")
        fresh.write_bytes(content(name, version, 0, length))
        fresh.rename(path)

    def _replace(self, name):
        version = max(self.lengths.get(name, {0: None})) + 1
        self._write(name, version, self.random.choice(CHANGING_BLOCKS) * BLOCK + self.random.choice([0, 1, 999]))

    def _add(self, folder):
        number = len(self.tree_may[folder])
        self.tree_may[folder].add(number)
        self._write(f"tree/{folder}/{number}", 1, KIB * (number % 40 + 1))
        self.tree_must[folder][number] = time.monotonic()

    # Changes, one at a time.

    def replace(self):
        self._replace(self.random.choice(SWAPPED))

    def append(self):
        name = self.random.choice(CHOPPED)
        version = max(self.lengths[name])
        path = self.root / name
        length = path.stat().st_size
        if length > CHANGING_BLOCKS[-1] * BLOCK:
            return self._replace(name)
        end = length + self.random.choice([1, 5 * BLOCK, 40 * BLOCK])
        with self.lock:
            # A write of several pages may be seen before it is over.
            self.lengths[name][version].append((length, end))
        with path.open("ab") as file:
            file.write(content(name, version, length, end))

    def truncate(self):
        name = self.random.choice(CHOPPED)
        version = max(self.lengths[name])
        length = (self.root / name).stat().st_size
        least = CHANGING_BLOCKS[0] * BLOCK
        if length < 2 * least:
            return self._replace(name)
        end = self.random.randrange(least, length, BLOCK)
        with self.lock:
            self.lengths[name][version].append((end, end))
            self.cuts.setdefault(name, []).append((version, end))
        os.truncate(self.root / name, end)

    def remove(self):
        name = self.random.choice(GONE)
        if (self.root / name).exists():
            (self.root / name).unlink()
        else:
            self._replace(name)

    def grow(self):
        folder = self.random.randrange(TREE_FOLDERS)
        if len(self.tree_may[folder]) < TREE_FILES_AT_MOST // TREE_FOLDERS:
            self._add(folder)

    def forget(self):
        """The kernel drops what it has of a file: it is read from the disk again."""
        with (self.root / self.random.choice([*STEADY, *SWAPPED])).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def change(self):
        kinds = {"replaced": self.replace, "appended": self.append, "truncated": self.truncate,
                 "removed or made anew": self.remove, "tree grown": self.grow, "page cache dropped": self.forget}
        kind = self.random.choice(list(kinds))
        kinds[kind]()
        self.changes[kind] = self.changes.get(kind, 0) + 1

    # What came, against what was.

    def whole(self, name, body):
        """The version that these bytes are, all of it; raises Wrong if they are none."""
        if name in self.constant:
            if body != self.constant[name]:
                raise Wrong(f"{name}: {len(body)} of {len(self.constant[name])} bytes, or others; {self._blocks(name, body)}")
            return 1
        found = re.match(rb"%s (\d+) 0\n" % name.encode(), body)
        if not found:
            raise Wrong(f"{name}: {len(body)} bytes that do not begin as it does; {self._blocks(name, body)}")
        version = int(found[1])
        with self.lock:
            lengths = list(self.lengths[name].get(version, []))
        if not any(least <= len(body) <= most for least, most in lengths):
            raise Wrong(f"{name}: version {version} never had {len(body)} bytes")
        if body != content(name, version, 0, len(body)):
            self._differs(name, version, body)
        return version

    def is_exact(self, name, body):
        """Whether these are the bytes of a version, with no zeros of a cut among them."""
        found = re.match(rb"%s (\d+) 0\n" % name.encode(), body)
        return bool(found) and body == content(name, int(found[1]), 0, len(body))

    def _differs(self, name, version, body):
        """Wrong, unless the file was cut off while these bytes waited in the kernel, as the README says."""
        whole = content(name, version, 0, len(body))
        different = [at for at in range(0, len(body), BLOCK) if body[at : at + BLOCK] != whole[at : at + BLOCK]]
        with self.lock:
            ends = [end for of, end in self.cuts.get(name, []) if of == version]
        # A block may be on its way out of the queue while it is zeroed.
        others = [at for at in different if any(body[at + i] not in (0, whole[at + i]) for i in range(len(body[at : at + BLOCK])))]
        if ends and different[0] >= min(ends) and not others:
            self.changes["zeros of a cut in the kernel's queue"] = self.changes.get("zeros of a cut in the kernel's queue", 0) + 1
            return
        raise Wrong(
            f"{name}: {len(different)} blocks of version {version} are wrong from {different[0]} on, {len(others)} of them "
            f"by more than zeros, of {len(body)} bytes; it was cut at {ends}; {self._blocks(name, body)}")

    @staticmethod
    def _blocks(name, body):
        """What the blocks say of themselves, shortly."""
        said, last = [], None
        for at in range(0, len(body), BLOCK):
            head = body[at : at + HEAD].split(b"\n")[0][:40].decode("latin-1")
            owner = head.rsplit(" ", 1)[0]
            if owner != last:
                said.append(f"{at}: {head!r}")
                last = owner
        return "; ".join(said[:6])

    def part(self, name, body, start):
        """The version whose bytes from start on these are."""
        with self.lock:
            versions = sorted(self.lengths[name], reverse=True)
        stamped = re.search(rb"(?:^|[^ ])%s (\d+) \d+\n" % name.encode(), body)
        if stamped:
            versions = [int(stamped[1])]
        for version in versions:
            if content(name, version, start, start + len(body)) == body:
                return version
        if name in CHOPPED and not any(body[-BLOCK:]):
            return versions[0]
        raise Wrong(f"{name}: bytes from {start} on, {len(body)} of them, are of no version; {self._blocks(name, body)}")

    def listed(self, folder, names, begun):
        """These names are the folder's, with all that were there when the request began."""
        if len(names) != len(set(names)):
            raise Wrong(f"tree/{folder}: a name twice in a listing")
        may = {str(number) for number in list(self.tree_may[folder])}
        must = {str(number) for number, since in list(self.tree_must[folder].items()) if since < begun - LISTING_AGE_S}
        if unknown := set(names) - may:
            raise Wrong(f"tree/{folder}: names that never were: {sorted(unknown)[:3]}")
        if missing := must - set(names):
            raise Wrong(f"tree/{folder}: {len(missing)} names missing in a listing, such as {sorted(missing)[:3]}")

    def fetched_tree(self, folder, begun):
        """A directory with what a client fetched of the tree holds it all, and each file is right."""
        for number in range(TREE_FOLDERS):
            here = Path(folder) / str(number)
            names = sorted(path.name for path in here.iterdir()) if here.is_dir() else []
            self.listed(number, names, begun)
            for name in names:
                self.whole(f"tree/{number}/{name}", (here / name).read_bytes())
