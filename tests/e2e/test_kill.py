"""The mount daemon is killed under load, again and again: what a system call had acknowledged is
there after the next mount, and nothing else has suffered.

Each worker is a process that works in one club until its calls fail.  It keeps what must be
there, and the one change that was under way, outside the mount.  A kill takes the daemon's
memory, not what it has handed to the kernel, so nothing needs an fsync to survive it.
"""
import errno
import os
import pathlib
import pickle
import random
import sqlite3
import subprocess
import time
import traceback
import zlib

import pytest

import clubsite
from oslib import PAGE, describe_tree, get, pattern, put

KILLS, SLOWER = (12, 3) if clubsite.SAN else (50, 1)
OPTS = "allow_other" if os.geteuid() == 0 else ""
# What a call gives when the daemon has gone.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


def sealed(tag, seq, size):
    """Bytes that tell what they are: tag, sequence number, checksum."""
    body = f"{tag} {seq} ".encode().ljust(32) + random.Random(seq).randbytes(size - 36)
    return body + zlib.crc32(body).to_bytes(4, "big")


def seq_of(tag, data):
    """The sequence number of a sealed text; -1 for zeros; None if it is damaged."""
    if not any(data):
        return -1
    words = data[:32].split()
    if len(data) < 36 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        return None
    return int(words[1]) if words[0] == tag.encode() else None


def still_there(club):
    """Is the mount alive?  Unlike stat, statvfs is never answered from a cache."""
    try:
        os.statvfs(club)
    except OSError:
        return False
    return True


class Worker:
    """State that outlives its process: self.__dict__ but for what begins with an underscore."""

    def __init__(self, top):
        self.top, self.seq, self.rng_seed = str(top), 0, 0
        self.dir = None

    def run(self, club, log):
        """Work until a call fails; then write the state to @log."""
        self.dir = os.path.join(club, type(self).__name__)
        self.rng_seed += 1
        rng = random.Random(self.rng_seed)
        trouble = None
        try:
            os.makedirs(self.dir, exist_ok=True)
            self.open()
            while True:
                self.seq += 1
                self.step(rng)
        except OSError as e:
            if e.errno not in GONE:
                trouble = f"{type(self).__name__}: {e}"
        except sqlite3.Error as e:
            if still_there(club):
                trouble = f"{type(self).__name__}: {e}"
        except Exception as e:          # pylint: disable=broad-except
            trouble = f"{type(self).__name__}: {traceback.format_exc()}"
        state = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        with open(log, "wb") as f:
            pickle.dump((trouble, state), f)

    def open(self):
        """Called in the process before the first step."""


def write_all(fd, data, off, acknowledged):
    """Write in as many calls as the kernel likes; a call that the kill cuts short counts so far."""
    done = 0
    while done < len(data):
        n = os.write(fd, data[done:]) if off is None else os.pwrite(fd, data[done:], off + done)
        acknowledged(data[done:done + n])
        done += n


class Pages(Worker):
    """Overwrites pages of one file, some of them far out."""

    def __init__(self, top):
        super().__init__(top)
        self.pages, self.flight = {}, None

    def open(self):
        self._fd = os.open(self.dir + "/pages", os.O_CREAT | os.O_RDWR)

    def step(self, rng):
        page = rng.randrange(120) if rng.random() < 0.9 else rng.randrange(2000)
        self.flight = (page, self.seq)
        assert os.pwrite(self._fd, sealed("page", self.seq, PAGE), page * PAGE) == PAGE
        self.pages[page] = self.seq
        if self.seq % 200 == 0:
            os.fsync(self._fd)

    def check(self, club):
        path = os.path.join(club, "Pages", "pages")
        data = get(path) if self.pages else b""
        assert len(data) % PAGE == 0
        for page in range(len(data) // PAGE):
            got = seq_of("page", data[page * PAGE:(page + 1) * PAGE])
            good = [self.pages.get(page, -1)]
            if self.flight and self.flight[0] == page:
                good.append(self.flight[1])
            assert got in good, f"page {page}: {got}, not one of {good}"
            if got != -1:
                self.pages[page] = got
        assert all(p * PAGE < len(data) for p in self.pages)


class Appends(Worker):
    """Appends records of odd lengths to a log, and begins a new one now and then."""

    def __init__(self, top):
        super().__init__(top)
        self.data, self.flight, self.number = b"", b"", 0

    def path(self, club):
        return os.path.join(club, "Appends", f"log{self.number}")

    def open(self):
        if len(self.data) > 400_000:
            self.data, self.flight, self.number = b"", b"", self.number + 1
        self._fd = os.open(self.path(os.path.dirname(self.dir)),
                           os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def step(self, rng):
        self.flight = sealed("rec", self.seq, rng.choice((40, 100, 999, 4096, 5000)))
        write_all(self._fd, self.flight, None, self.acknowledged)

    def acknowledged(self, data):
        self.data += data
        self.flight = self.flight[len(data):]

    def check(self, club):
        if not self.data:
            return
        got = get(self.path(club))
        assert got.startswith(self.data), f"of {len(self.data)} bytes {len(got)} are there"
        assert self.flight.startswith(got[len(self.data):])
        self.data, self.flight = got, b""


class Names(Worker):
    """Makes, fills, moves and removes small files."""

    def __init__(self, top):
        super().__init__(top)
        self.files, self.flight = {}, {}

    def step(self, rng):
        name = f"n{rng.randrange(60)}"
        path, other = os.path.join(self.dir, name), f"n{rng.randrange(60)}"
        self.flight = {name}
        if name not in self.files:
            put(path, sealed("file", self.seq, rng.choice((50, 3000, 9000))))
            self.files[name] = self.seq
        elif rng.random() < 0.5:
            os.unlink(path)
            del self.files[name]
        else:
            self.flight.add(other)
            os.rename(path, os.path.join(self.dir, other))
            self.files[other] = self.files.pop(name)
        self.flight = {}

    def check(self, club):
        folder = os.path.join(club, "Names")
        found = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        for name in found | set(self.files):
            if name in self.flight:     # anything whole may have come of it
                if name in found:
                    os.unlink(os.path.join(folder, name))
                self.files.pop(name, None)
                continue
            assert name in found, f"{name} is missing"
            got = seq_of("file", get(os.path.join(folder, name)))
            assert got == self.files.get(name), f"{name}: {got}, not {self.files.get(name)}"
        self.flight = {}


class Saves(Worker):
    """Saves as office programs do: write beside, rename over.  There is always a whole file."""

    def __init__(self, top):
        super().__init__(top)
        self.saved = 0

    def step(self, rng):
        tmp = os.path.join(self.dir, f"tmp{self.seq % 2}")
        put(tmp, sealed("save", self.seq, rng.choice((100, 5000, 40_000))))
        os.rename(tmp, os.path.join(self.dir, "document"))
        self.saved = self.seq

    def check(self, club):
        if not self.saved:
            return
        got = seq_of("save", get(os.path.join(club, "Saves", "document")))
        assert got is not None and self.saved <= got <= self.seq, (self.saved, got, self.seq)


class Cuts(Worker):
    """Lets a file grow and cuts it."""

    def __init__(self, top):
        super().__init__(top)
        self.data, self.flight, self.last = b"", b"", []

    def open(self):
        self._fd = os.open(self.dir + "/cut", os.O_CREAT | os.O_RDWR)

    def step(self, rng):
        size = rng.randrange(len(self.data) + 2 * PAGE)
        if len(self.data) > 100 * PAGE or rng.random() < 0.3:
            self.last = [*self.last[-9:], ("cut", len(self.data), size)]
            self.flight = self.data[:size] + bytes(max(0, size - len(self.data)))
            os.ftruncate(self._fd, size)
            self.data = self.flight
            return
        more = sealed("cut", self.seq, rng.choice((40, 3000, 8192)))
        self.last = [*self.last[-9:], ("write", len(self.data), len(more))]
        self.flight = self.data + more
        write_all(self._fd, more, len(self.data), self.acknowledged)

    def acknowledged(self, data):
        self.data += data

    def check(self, club):
        path = os.path.join(club, "Cuts", "cut")
        got = get(path) if os.path.exists(path) else b""
        grown = got.startswith(self.data) and self.flight.startswith(got)
        if got not in (self.data, self.flight) and not grown:
            same = os.path.commonprefix([got, self.data])
            raise AssertionError(f"{len(got)} bytes, not {len(self.data)}, of which {len(same)} "
                                 f"are right; the last changes were {self.last}")
        self.data = self.flight = got


class Database(Worker):
    """Counts transactions in SQLite, each acknowledged by a commit."""

    def __init__(self, top, mode="DELETE"):
        super().__init__(top)
        self.done, self.mode = 0, mode

    def open(self):
        self._db = sqlite3.connect(self.dir + "/db", isolation_level=None, timeout=30)
        self._db.execute(f"PRAGMA journal_mode={self.mode}")
        self._db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, v BLOB)")

    def step(self, rng):
        n = self.done + 1
        self._db.execute("BEGIN")
        for i in range(5):
            self._db.execute("INSERT INTO t VALUES (?, ?)", (n * 5 + i, rng.randbytes(300)))
        self._db.execute("DELETE FROM t WHERE n < ?", ((n - 300) * 5,))
        self._db.execute("COMMIT")
        self.done = n

    def check(self, club):
        if not self.done:
            return
        db = sqlite3.connect(os.path.join(club, type(self).__name__, "db"), timeout=30)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        numbers = [n for (n,) in db.execute("SELECT n FROM t ORDER BY n")]
        db.close()
        last = numbers[-1] // 5
        assert last in (self.done, self.done + 1), f"the last commit was {self.done}, not {last}"
        assert numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) % 5 == 0
        self.done = last


class DatabaseWal(Database):
    """The same with a write-ahead log, which is mapped into memory."""

    def __init__(self, top):
        super().__init__(top, "WAL")


WORKERS = (Pages, Appends, Names, Saves, Cuts, Database, DatabaseWal)


def work_until_killed(site, mnt, workers, seconds):
    """Run the workers, kill the daemon after @seconds, take over what they know."""
    logs, pids = [], []
    for i, worker in enumerate(workers):
        logs.append(site.path(f"worker{i}"))
        pid = os.fork()
        if pid == 0:
            try:
                worker.run(mnt.join("alpha"), logs[-1])
            finally:
                os._exit(0)
        pids.append(pid)
    time.sleep(seconds)
    mnt.kill()
    clubsite.detach(mnt.path)
    for pid in pids:
        os.waitpid(pid, 0)
    for worker, log in zip(workers, logs):
        with open(log, "rb") as f:
            trouble, state = pickle.load(f)
        assert trouble is None, f"{trouble}\n{mnt.stderr()}"
        worker.__dict__.update(state)
        os.unlink(log)
    mnt.umount()


def kill_again_and_again(site, opts, kills, between=None):
    store = site.store("alpha", "beta")
    mnt = site.mount(store, opts)
    for club in ("alpha", "beta"):
        quiet = pathlib.Path(mnt.join(club, "quiet"))
        os.makedirs(quiet / "a")
        for i in range(20):
            put(quiet / "a" / f"f{i}", pattern(i * 3000, i))
    before = [describe_tree(mnt.join(c, "quiet")) for c in ("alpha", "beta")]
    before = [{k: v[:1] + v[2:] for k, v in b.items()} for b in before]
    workers = [kind(site.top) for kind in WORKERS]
    rng = random.Random(4711)
    for n in range(kills):
        work_until_killed(site, mnt, workers, rng.uniform(0.05, 0.6) * SLOWER)
        mnt = site.mount(store, opts)
        if between:
            between(mnt)
        try:
            for worker in workers:
                worker.check(mnt.join("alpha"))
            for tree, club in zip(before, ("alpha", "beta")):
                now = describe_tree(mnt.join(club, "quiet"))
                for name in sorted(now.keys() | tree.keys()):
                    assert now[name][:1] + now[name][2:] == tree[name], f"{club}: {name}"
        except (AssertionError, OSError, sqlite3.Error) as e:
            pytest.fail(f"after kill {n + 1} of {kills}: {type(e).__name__}: {e}\n{mnt.stderr()}")
    assert all(w.seq > 0 for w in workers), {type(w).__name__: w.seq for w in workers}
    mnt.umount()
    mnt = site.mount(store, opts)
    for worker in workers:
        worker.check(mnt.join("alpha"))


def test_what_was_acknowledged_survives_fifty_kills(site, keyd):
    # pylint: disable=unused-argument
    kill_again_and_again(site, OPTS, KILLS)


def test_kills_during_frequent_commits(site, keyd):     # pylint: disable=unused-argument
    kill_again_and_again(site, ",".join(filter(None, (OPTS, "commit=1"))), KILLS // 4)


def test_kills_while_recovering(site, keyd):            # pylint: disable=unused-argument
    """Recovery itself is cut short, several times, and then run to its end."""
    store = site.store("alpha")
    mnt = site.mount(store, OPTS)
    workers = [kind(site.top) for kind in (Pages, Appends, Names, Cuts)]
    work_until_killed(site, mnt, workers, 0.7)
    for i in range(10):
        mnt = site.mount(store, OPTS)
        pid = os.fork()
        if pid == 0:            # the first access unlocks the club, and with it recovers it
            try:
                os.listdir(mnt.join("alpha"))
            except OSError:
                pass
            os._exit(0)
        time.sleep(0.002 * i)
        mnt.kill()
        os.waitpid(pid, 0)
        mnt.umount()
    mnt = site.mount(store, OPTS)
    for worker in workers:
        worker.check(mnt.join("alpha"))


def syncs_of(mnt, log, path, flag):
    """How often the daemon syncs during 20 small writes to a file opened with @flag."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | flag)
    os.pwrite(fd, b"x" * PAGE, 0)
    with Traced(mnt.pid, log):
        for i in range(20):
            os.pwrite(fd, bytes([i]) * 100, i * 1000)
    os.close(fd)
    with open(log, encoding="utf-8") as f:
        return sum("sync(" in line and "unfinished" not in line for line in f)


@pytest.mark.root
def test_sync_opened_files_reach_the_disk_with_each_write(site, keyd):
    # pylint: disable=unused-argument
    """O_SYNC and O_DSYNC, and the mount option sync: the daemon must sync for each write."""
    store = site.store("alpha")
    log = site.path("strace.log")
    mnt = site.mount(store, OPTS)
    put(mnt.join("alpha", "warm"), b"x")
    counts = {}
    for what, flag in (("none", 0), ("dsync", os.O_DSYNC), ("sync", os.O_SYNC)):
        counts[what] = syncs_of(mnt, log, mnt.join("alpha", what), flag)
    mnt.umount()
    mnt = site.mount(store, ",".join(filter(None, (OPTS, "sync"))), name="synced")
    put(mnt.join("alpha", "warm"), b"x")
    counts["mount"] = syncs_of(mnt, log, mnt.join("alpha", "mount"), 0)
    assert all(counts[what] >= 20 for what in ("dsync", "sync", "mount")), counts
    assert counts["none"] < 10, counts


class Traced:
    """strace looks at the daemon's syncs during the block."""

    def __init__(self, pid, log):
        self.argv = ["strace", "-f", "-p", str(pid), "-o", log,
                     "-e", "trace=fsync,fdatasync,sync_file_range,syncfs"]
        self.log = log

    def __enter__(self):
        self.proc = subprocess.Popen(self.argv, stderr=subprocess.PIPE, text=True)
        assert "attached" in self.proc.stderr.readline()
        return self

    def __exit__(self, *_):
        self.proc.terminate()
        self.proc.wait()
        self.proc.stderr.close()
