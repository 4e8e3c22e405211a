"""How large, how many, how cheap: the limits that the system promises."""
import errno
import os
import re
import signal
import subprocess
import time

import pytest

from opsfix import d, needs_root, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import PAGE, data_map, fails, get, pattern, pread, put, pwrite
from test_tamper import cipher_path

GIB, TIB = 1 << 30, 1 << 40
MAX_SIZE = 8 * TIB


def islands(path, places_, length=3 * PAGE + 11):
    """Write islands, each different, and return what to expect where."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    want = {}
    for at in places_:
        want[at] = pattern(length, at)
        assert os.pwrite(fd, want[at], at) == length
    os.fsync(fd)
    os.close(fd)
    return want


def check_islands(path, want):
    for at, data in want.items():
        assert pread(path, len(data), at) == data
        before = max(0, at - 5000)
        assert not any(pread(path, at - before, before))
        assert not any(pread(path, 5000, at + len(data)))


@pytest.mark.parametrize("size,at", [
    (9 * GIB, (0, 2 * GIB - 5, 4 * GIB - 7, 8 * GIB - PAGE, 8 * GIB + 100_000)),
    (TIB, (100, 512 * GIB + 1, TIB - 20_000)),
    (TIB + 12_345, (TIB - 100,)),
    (MAX_SIZE, (7 * TIB, MAX_SIZE - 50_000))], ids=["9GiB", "1TiB", "1TiB+", "8TiB"])
def test_huge_sparse_file(place, d, size, at):
    want = islands(d / "f", at)
    os.truncate(d / "f", size)
    for _ in range(2):
        st = os.stat(d / "f")
        assert st.st_size == size
        assert st.st_blocks * 512 < 1 << 20
        check_islands(d / "f", want)
        place.remount()
    starts = [start for start, _ in data_map(d / "f")]
    assert starts == [x // PAGE * PAGE for x in at]
    with fails(errno.ENXIO):
        fd = os.open(d / "f", os.O_RDONLY)
        try:
            os.lseek(fd, size, os.SEEK_DATA)
        finally:
            os.close(fd)
    if not place.plain:
        assert cipher_path(place, d / "f").stat().st_blocks * 512 < 1 << 20
    started = time.monotonic()
    os.truncate(d / "f", at[0] + 5)
    assert get(d / "f")[at[0]:] == want[at[0]][:5] if at[0] < GIB else True
    os.unlink(d / "f")
    assert time.monotonic() - started < 20


def test_beyond_the_largest_file(place, d):
    if place.plain:
        pytest.skip("the limit is another one there")
    put(d / "f", b"x")
    for action in (lambda: os.truncate(d / "f", MAX_SIZE + 1),
                   lambda: pwrite(d / "f", b"y", MAX_SIZE)):
        with fails(errno.EFBIG):
            action()
    assert get(d / "f") == b"x"


def test_dense_data_beyond_8_gib(place, d):
    """64 MiB in one piece around the 8 GiB mark, written and read in streams."""
    start, piece = 8 * GIB - (32 << 20), pattern(1 << 20)
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    for i in range(64):
        assert os.pwrite(fd, piece[i:] + piece[:i], start + (i << 20)) == 1 << 20
    os.close(fd)
    place.remount()
    fd = os.open(d / "f", os.O_RDONLY)
    for i in range(64):
        assert os.pread(fd, 1 << 20, start + (i << 20)) == piece[i:] + piece[:i]
    assert os.fstat(fd).st_size == start + (64 << 20)
    os.close(fd)
    assert data_map(d / "f") == [(start, start + (64 << 20))]


def test_names_of_255_bytes(place, d):
    """A directory full of the longest names, in characters of one to four bytes."""
    want = set()
    for i in range(1000):
        char = ("x", "ß", "€", "😀")[i % 4]
        size = len(char.encode())
        head = f"{i:04}" + "-" * ((255 - 4) % size)
        want.add(head + char * ((255 - len(head)) // size))
    assert {len(name.encode()) for name in want} == {255}
    for name in want:
        put(d / name, name.encode())
    for _ in range(2):
        assert set(os.listdir(d)) == want
        place.remount()
    for name in want:
        assert get(d / name) == name.encode()
    for name in want:
        os.unlink(d / name)
    assert os.listdir(d) == []


def test_100_000_entries_in_a_directory(place, d):
    count = 100_000
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    for i in range(count):
        os.close(os.open(f"Mitglied {i:06}.rtf", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    place.remount()
    names = os.listdir(d)
    assert len(names) == count
    assert set(names) == {f"Mitglied {i:06}.rtf" for i in range(count)}
    for i in range(0, count, 9973):
        assert os.stat(d / f"Mitglied {i:06}.rtf").st_size == 0
    with fails(errno.ENOENT):
        os.stat(d / "Mitglied 100000.rtf")
    with fails(errno.ENOTEMPTY):
        os.rmdir(d)
    os.rename(d / "Mitglied 050000.rtf", d / "renamed")
    os.unlink(d / "Mitglied 000007.rtf")
    names = os.listdir(d)
    assert len(names) == count - 1 and "renamed" in names


SMALL = 400 * 1024


@pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, SMALL - 1, SMALL])
def test_a_small_file_costs_its_data_and_one_page(place, d, size):
    if place.plain:
        pytest.skip("nothing is encrypted")
    put(d / "f", pattern(size))
    os.setxattr(d / "f", "user.DOSATTRIB", b"0x20" * 10)
    place.remount()
    st = cipher_path(place, d / "f").stat()
    assert st.st_size == size + PAGE
    assert st.st_blocks * 512 <= (size + PAGE - 1) // PAGE * PAGE + PAGE


def test_a_larger_file_costs_a_hundredth_more(place, d):
    if place.plain:
        pytest.skip("nothing is encrypted")
    for size in (SMALL + 1, 1 << 20, 20 << 20):
        put(d / "f", pattern(1000) * (size // 1000) + pattern(size % 1000))
        place.remount()
        st = cipher_path(place, d / "f").stat()
        assert size + 2 * PAGE <= st.st_size <= size + 2 * PAGE + size // 100 + PAGE
        assert st.st_blocks * 512 <= st.st_size + 2 * PAGE


class Trace:
    """What the mount daemon opens, as strace sees it."""

    def __init__(self, pid, path):
        self.path = path
        self.proc = subprocess.Popen(
            ["strace", "-f", "-qq", "-p", str(pid), "-o", path,
             "-e", "trace=open,openat,openat2,open_by_handle_at,fstat,newfstatat,statx,lstat"],
            stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 20
        while f"TracerPid:\t{self.proc.pid}" not in self.tracers(pid):
            assert self.proc.poll() is None, self.proc.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)

    @staticmethod
    def tracers(pid):
        """All threads are traced once the last one is."""
        found = set()
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as f:
                found.add(re.search(r"TracerPid:\t\d+", f.read()).group())
        return found if len(found) == 1 else set()

    def stop(self):
        """Returns (opens of anything but directories, stats)."""
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(20)
        with open(self.path, encoding="ascii", errors="replace") as f:
            lines = [l for l in f if "resumed>" not in l]
        # the engine opens relative to a directory; what is opened by its path is the C library's
        opens = [l for l in lines if re.search(r"\bopen\w*\((?!AT_FDCWD)", l)
                 and "O_DIRECTORY" not in l]
        return opens, len(lines) - len(opens)


def test_ls_l_of_10_000_files_opens_none(site, keyd):
    """In a club of its own: where no attribute was ever set, nobody has to look for one."""
    needs_root()
    count = 10_000
    store = site.store("alpha")
    mnt = site.mount(store)
    os.mkdir(mnt.join("alpha", "d"))
    for i in range(count):
        put(mnt.join("alpha", "d", f"file {i:05}"), b"content" if i % 10 == 0 else b"")
    mnt.umount()
    mnt = site.mount(store)
    d = mnt.join("alpha", "d")
    os.stat(d)              # the key is fetched, the way to the directory known
    log = site.path("strace.out")
    trace = Trace(mnt.pid, log)
    try:
        done = subprocess.run(["ls", "-l", d], capture_output=True, check=False, timeout=120)
    finally:
        opens, stats = trace.stop()
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.count(b"\n") == count + 1
    assert stats >= count
    assert not opens, (len(opens), opens[:3])
    trace = Trace(mnt.pid, log)     # the same way of counting does see an open
    try:
        assert get(mnt.join("alpha", "d", "file 00020")) == b"content"
    finally:
        opens, _ = trace.stop()
    assert len(opens) == 1
