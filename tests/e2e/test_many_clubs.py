"""Many clubs in one store, and clubs and files that nobody uses any more."""
import errno
import os
import pathlib
import re
import subprocess
import threading
import time

import pytest

import clubsite
from oslib import get, put

CLUBS = 5000
TOUCHED = 200


def key_requests(keyd):
    return [r for r in keyd.audit() if r["ev"] == "key.get"]


def memory_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def add_many(site, store, names):
    for i in range(0, len(names), 500):
        site.ctl("add", store, *names[i:i + 500], timeout=600)


def test_thousands_of_clubs_cost_nothing_until_they_are_used(site, keyd):
    names = [f"club{i:04}" for i in range(CLUBS)]
    store = site.store()
    add_many(site, store, names)
    before = len(key_requests(keyd))
    began = time.monotonic()
    mnt = site.mount(store)
    took = time.monotonic() - began
    empty = memory_kib(mnt.pid), descriptors(mnt.pid)
    assert took < 1 * (5 if clubsite.SAN else 1)
    assert sorted(os.listdir(mnt.path)) == names
    subprocess.run(["ls", "-l", mnt.path], check=True, stdout=subprocess.DEVNULL)
    assert len(key_requests(keyd)) == before, "looking at clubs asks for no key"
    if not clubsite.SAN:
        assert memory_kib(mnt.pid) - empty[0] < 20 << 10
    assert descriptors(mnt.pid) - empty[1] < 10

    failed = []

    def touch(name):
        try:
            put(pathlib.Path(mnt.join(name), "report.txt"), name.encode() * 100)
            if get(pathlib.Path(mnt.join(name), "report.txt")) != name.encode() * 100:
                failed.append(name)
        except OSError as e:
            failed.append((name, e))

    crowd = [threading.Thread(target=touch, args=(n,)) for n in names[::CLUBS // TOUCHED]]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert not failed
    asked = [r["club"] for r in key_requests(keyd)[before:]]
    assert sorted(asked) == names[::CLUBS // TOUCHED], "one key for each club that was touched"
    mnt.umount()


@pytest.mark.root
def test_an_idle_club_is_closed_and_its_plaintext_dropped(site, keyd):
    store = site.store("quiet", "busy", "held")
    mnt = site.mount(store, "idle=1,commit=1")
    quiet, busy, held = (pathlib.Path(mnt.join(n)) for n in ("quiet", "busy", "held"))
    for d in (quiet, busy, held):
        (d / "deep").mkdir()
        put(d / "deep/f", b"plaintext" * 10000)
    before = len(key_requests(keyd))
    cached = resident(quiet / "deep/f")
    assert cached > 0
    with open(held / "deep/f", "rb") as f:
        end = time.monotonic() + 20
        while len(locks(store)) > 2 and time.monotonic() < end:
            os.stat(busy / "deep")
            os.listdir(busy)
            time.sleep(0.1)
        assert locks(store) == {"busy", "held"}
        assert f.read(9) == b"plaintext"
    assert len(key_requests(keyd)) == before, "no key for the busy one, nor the one held open"
    assert get(quiet / "deep/f") == b"plaintext" * 10000
    assert [r["club"] for r in key_requests(keyd)[before:]] == ["quiet"], "asked anew"


def test_without_idle_a_club_stays(site, keyd):
    store = site.store("quiet")
    mnt = site.mount(store, "idle=0,commit=1")
    put(pathlib.Path(mnt.join("quiet"), "f"), b"x")
    before = len(key_requests(keyd))
    time.sleep(3)
    assert locks(store) == {"quiet"}
    assert get(pathlib.Path(mnt.join("quiet"), "f")) == b"x"
    assert len(key_requests(keyd)) == before


def locks(store):
    """The clubs that a process has unlocked: it holds their lock files."""
    held = set()
    with open("/proc/locks", encoding="ascii") as f:
        inodes = {line.split()[5 if "->" not in line else 6].split(":")[2] for line in f}
    for path in pathlib.Path(store, "clubs").glob("*/lock"):
        if str(path.stat().st_ino) in inodes:
            held.add(path.parent.name)
    return held


def resident(path):
    """How many bytes of the file the kernel has in memory."""
    done = subprocess.run(["fincore", "-b", "-n", "-o", "RES", path], check=True,
                          capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.root
def test_many_files_need_few_descriptors_and_bounded_memory(site, keyd):
    """More files than the daemon lets the kernel remember (INODE_MANY)."""
    count, dirs = 120_000, 24
    mnt = site.mount(site.store("alpha"), "commit=1")
    top = pathlib.Path(mnt.join("alpha"))
    first = top / "d0/n0"
    for i in range(dirs):
        (top / f"d{i}").mkdir()
        for k in range(count // dirs):
            os.mknod(top / f"d{i}/n{k}", 0o600)
    assert descriptors(mnt.pid) < 1500
    assert first.stat().st_size == 0
    find = subprocess.run(["find", top, "-size", "0", "-type", "f"], check=True,
                          stdout=subprocess.PIPE)
    assert find.stdout.count(b"\n") == count
    clubsite.wait_for("the kernel forgot some",
                      lambda: fuse_inodes() < 100_000, timeout=30)
    assert first.exists() and not (top / "d0/none").exists()
    put(first, b"still writable")
    assert get(first) == b"still writable"


def fuse_inodes():
    """How many FUSE inodes the kernel has, of all mounts."""
    with open("/proc/slabinfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("fuse_inode"):
                return int(line.split()[1])
    return 0


@pytest.mark.root
def test_a_file_handle_is_refused_or_means_the_same_file(site, keyd):
    """There is no export over NFS: a handle must never come to mean another file."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    class Handle(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int),
                    ("data", ctypes.c_char * 128)]

    def handle_of(path):
        h, mount_id = Handle(bytes=128), ctypes.c_int()
        if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(h),
                                  ctypes.byref(mount_id), 0) == 0:
            return h
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        return None

    def opened(mnt, h):
        where = os.open(mnt.path, os.O_RDONLY | os.O_DIRECTORY)
        fd = libc.open_by_handle_at(where, ctypes.byref(h), os.O_RDONLY)
        err = ctypes.get_errno()
        os.close(where)
        return fd, err

    store = site.store("alpha")
    mnt = site.mount(store)
    for name in ("a", "b", "c"):
        put(pathlib.Path(mnt.join("alpha"), name), name.encode())
    handles = {n: handle_of(mnt.join("alpha", n)) for n in ("a", "b", "c")}
    inodes = {n: os.stat(mnt.join("alpha", n)).st_ino for n in "abc"}
    mnt.umount()
    mnt = site.mount(store)
    for name in ("c", "b", "a"):
        assert get(pathlib.Path(mnt.join("alpha"), name)) == name.encode()
        assert os.stat(mnt.join("alpha", name)).st_ino == inodes[name], "numbers are stable"
    for h in filter(None, handles.values()):
        fd, err = opened(mnt, h)
        assert fd == -1 and err in (errno.ESTALE, errno.EOPNOTSUPP)
