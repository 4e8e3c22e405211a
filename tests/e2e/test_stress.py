"""Many threads on the same objects, with commits and freezes between; short, for `make tsan` too.

Every page tells who wrote it when, so a torn or misplaced one is seen.  Readers go past the page
cache (O_DIRECT), so they read what the daemon gives.
"""
import contextlib
import errno
import mmap
import os
import pathlib
import random
import threading
import time

import pytest

import clubsite
from oslib import PAGE, RENAME_EXCHANGE, describe_tree, get, put, renameat2
from test_freeze import freeze, state, thaw
from test_kill import sealed, seq_of

SECONDS = 6 if clubsite.SAN else 4
OPTS = ("allow_other," if os.geteuid() == 0 else "") + "commit=1"
NPAGES = 150        # some of them under an index page


@pytest.fixture
def busy(site, keyd):       # pylint: disable=unused-argument
    """A mount that commits each second."""
    mnt = site.mount(site.store("alpha", "beta"), OPTS)
    return mnt, pathlib.Path(mnt.join("alpha"))


class Crowd:
    """Runs functions in threads, each again and again until the time is up."""

    def __init__(self):
        self.stop, self.errors, self.threads, self.rounds = threading.Event(), [], [], {}
        self.fds = []

    def open(self, path, flags):
        self.fds.append(os.open(path, flags))
        return self.fds[-1]

    def add(self, what, function, pause=0.0):
        def loop():
            rng = random.Random(what)
            n = 0
            try:
                while not self.stop.is_set():
                    function(rng, n)
                    n += 1
                    if pause:
                        self.stop.wait(pause)
            except BaseException as e:      # pylint: disable=broad-except
                self.errors.append((what, e))
                self.stop.set()
            self.rounds[what] = n
        self.threads.append(threading.Thread(target=loop))

    def run(self, seconds=SECONDS):
        for t in self.threads:
            t.start()
        self.stop.wait(seconds)
        self.stop.set()
        for t in self.threads:
            t.join()
        for fd in self.fds:
            os.close(fd)
        if self.errors:
            what, error = self.errors[0]
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert all(self.rounds.values()), self.rounds


def direct_pages(crowd, path):
    """A function that reads a page of @path from the daemon itself."""
    fd, buffer = crowd.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, PAGE)

    def read(page):
        n = os.preadv(fd, [buffer], page * PAGE)
        return bytes(buffer[:n])
    return read


def check_page(data, where):
    assert seq_of("page", data) is not None, f"page {where} is torn"


def page_writer(crowd, path):
    fd = crowd.open(path, os.O_RDWR)

    def write(rng, n):
        page = rng.randrange(NPAGES)
        os.pwrite(fd, sealed("page", n, PAGE), page * PAGE)
        if n % 50 == 0:
            os.fsync(fd)
    return write


def freezer(mnt):
    def cycle(rng, _):
        freeze(mnt)
        time.sleep(rng.uniform(0, 0.2))
        if state(mnt)["frozen"]:        # it may have run full
            thaw(mnt)
        time.sleep(rng.uniform(0, 0.1))
    return cycle


def test_readers_and_writers_of_one_file(busy):
    mnt, club = busy
    path = put(club / "f", b"".join(sealed("page", i, PAGE) for i in range(NPAGES)))
    crowd = Crowd()
    for i in range(4):
        crowd.add(f"writer {i}", page_writer(crowd, path), 0.001)
        read = direct_pages(crowd, path)

        def look(rng, _, read=read):
            page = rng.randrange(NPAGES)
            check_page(read(page), page)
        crowd.add(f"reader {i}", look)
    crowd.run()
    before = get(path)
    mnt.umount()
    again = mnt.site.mount(mnt.store, OPTS, name="again")
    assert get(again.join("alpha", "f")) == before
    for page in range(NPAGES):
        check_page(before[page * PAGE:(page + 1) * PAGE], page)


def test_cutting_against_writing_and_reading(busy):
    mnt, club = busy
    path = put(club / "f", b"".join(sealed("page", i, PAGE) for i in range(NPAGES)))
    crowd = Crowd()
    fd = crowd.open(path, os.O_RDWR)

    def cut(rng, _):
        os.ftruncate(fd, rng.randrange(NPAGES) * PAGE)

    def punch(rng, _):
        import subprocess
        subprocess.run(["fallocate", "-p", "-o", str(rng.randrange(NPAGES) * PAGE), "-l",
                        str(rng.randrange(1, 20) * PAGE), path], check=True)
    crowd.add("cutter", cut, 0.003)
    crowd.add("puncher", punch, 0.05)
    for i in range(3):
        crowd.add(f"writer {i}", page_writer(crowd, path), 0.001)
        read = direct_pages(crowd, path)

        def look(rng, _, read=read):
            page = rng.randrange(NPAGES)
            data = read(page)
            assert len(data) in (0, PAGE)
            if data:
                check_page(data, page)
        crowd.add(f"reader {i}", look)
    crowd.run()
    before = get(path)
    mnt.umount()
    again = mnt.site.mount(mnt.store, OPTS, name="again")
    assert get(again.join("alpha", "f")) == before


# What may come of a call while others move and remove the same names.
RACES = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.ESTALE, errno.ENOTDIR,
         errno.EISDIR, errno.ELOOP, errno.ENODATA, errno.EPERM)


def name_worker(club):
    """One random call on a few names in a few directories."""
    def spot(rng):
        return club / f"d{rng.randrange(3)}" / f"n{rng.randrange(6)}"

    def call(rng, n):
        a, b = spot(rng), spot(rng)
        calls = [lambda: put(a, sealed("file", n, rng.choice((50, 5000)))),
                 lambda: os.mkdir(a), lambda: os.rename(a, b), lambda: os.rename(a, b),
                 lambda: renameat2(a, b, RENAME_EXCHANGE), lambda: os.unlink(a),
                 lambda: os.rmdir(a), lambda: os.link(a, b), lambda: os.symlink("x", a),
                 lambda: os.listdir(a.parent), lambda: os.lstat(a),
                 lambda: os.chmod(a, 0o600 + rng.randrange(64)),
                 lambda: os.setxattr(a, "user.n", b"%d" % n),
                 lambda: os.getxattr(a, "user.n"), lambda: os.truncate(a, rng.randrange(9000)),
                 lambda: os.rename(a.parent, club / f"d{rng.randrange(3)}"),
                 lambda: os.utime(a, (n, n))]
        try:
            rng.choice(calls)()
        except OSError as e:
            if e.errno not in RACES:
                raise
    return call


def open_reader(club):
    """Opens what it finds; a file that is open stays readable, whatever becomes of its name."""
    def call(rng, _):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            with open(club / f"d{rng.randrange(3)}" / f"n{rng.randrange(6)}", "rb") as f:
                f.read()
                time.sleep(0.001)
                f.seek(0)
                f.read()
    return call


def settle(mnt, club):
    """At rest, everything can be read, and is the same after a remount and a kill."""
    before = {k: v[:1] + v[2:] for k, v in describe_tree(club).items()}
    mnt.umount()
    again = mnt.site.mount(mnt.store, OPTS, name="again")
    found = {k: v[:1] + v[2:] for k, v in describe_tree(again.join("alpha")).items()}
    for name in sorted(found.keys() | before.keys()):
        assert found.get(name) == before.get(name), name


def test_names_moved_by_many(busy):
    mnt, club = busy
    for i in range(3):
        os.mkdir(club / f"d{i}")
    crowd = Crowd()
    for i in range(6):
        crowd.add(f"names {i}", name_worker(club))
    for i in range(2):
        crowd.add(f"opener {i}", open_reader(club))
    crowd.run()
    settle(mnt, club)


def test_everything_with_freezes_between(busy):
    mnt, club = busy
    path = put(club / "f", b"".join(sealed("page", i, PAGE) for i in range(NPAGES)))
    for i in range(3):
        os.mkdir(club / f"d{i}")
    crowd = Crowd()
    crowd.add("freezer", freezer(mnt))
    for i in range(2):
        crowd.add(f"writer {i}", page_writer(crowd, path), 0.002)
        crowd.add(f"opener {i}", open_reader(club))
        read = direct_pages(crowd, path)
        crowd.add(f"reader {i}", lambda rng, _, read=read: check_page(
            read(rng.randrange(NPAGES)), "read while it freezes and thaws"))
    for i in range(4):
        crowd.add(f"names {i}", name_worker(club))
    crowd.run(SECONDS * 2)
    assert not state(mnt)["frozen"]
    settle(mnt, club)


def test_a_club_closed_and_opened_under_load(busy):
    """The last user goes, the next comes: keys, nodes and the journal's end against new work."""
    mnt, club = busy
    crowd = Crowd()

    def visit(rng, n):
        name = club / f"v{threading.get_ident()}"
        put(name, sealed("file", n, rng.choice((50, 5000))))
        assert seq_of("file", get(name)) == n
        os.unlink(name)

    def forget(_, __):
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                put("/proc/sys/vm/drop_caches", b"2")
    for i in range(4):
        crowd.add(f"visitor {i}", visit, 0.01)
    crowd.add("forgetter", forget, 0.2)
    crowd.run()
    assert os.listdir(club) == []
