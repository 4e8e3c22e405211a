"""A club shared by a real Samba server: locks of its clients and of local programs, attributes.

The share is configured as one for Access databases should be, see smbserver.py.
"""
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import threading
import time

import pytest

import clubsite
import smb2
from lockers import (FREE, LAST, READ, WRITE, holder, kill, lock, others,    # noqa: F401
                     try_lock)
from opsfix import d, needs_root, place, places  # noqa: F401  pylint: disable=unused-import
from oslib import PAGE, get, pattern, put
from smb2 import AT_ONCE, EXCLUSIVE, NOT_GRANTED, NOT_LOCKED, SHARED, refuses
from smbserver import Smbd, smbd_program

USER, COMMIT = 0x10000001, 0x6FF800FF
RANGES = [(USER, 1), (0x20000001, 0x1000), (COMMIT, 1), (1 << 40, 1 << 40), (LAST - 2, 1)]


class Share:
    """An smbd that shares one directory, and its clients."""

    def __init__(self, path, top):
        self.path = path
        self.site = clubsite.Site(tempfile.mkdtemp(prefix="s", dir=top))
        self.start()

    def start(self):
        self.smbd = self.site.add(Smbd(self.site, self.path))

    def client(self):
        return smb2.Client(self.smbd.port, "club")

    def smbclient(self, command):
        """Run commands of the packaged client; what it prints."""
        done = subprocess.run(
            ["smbclient", "-s", self.smbd.config, "-N", "-p", str(self.smbd.port),
             "//127.0.0.1/club", "-c", command],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.site.top)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def share(d, top):
    needs_root()
    if not smbd_program() or not shutil.which("smbclient"):
        pytest.skip("Samba is not installed (packages samba, samba-vfs-modules, smbclient)")
    os.chmod(d, 0o777)
    here = Share(d, top)
    yield here
    problems = here.site.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def pair(share):
    """Two clients that have the same file open: [(client, handle)] * 2."""
    clients = share.client(), share.client()
    opened = [(c, c.open("base.ldb")) for c in clients]
    yield opened
    for c in clients:
        c.drop()


def local(path):
    return os.open(path, os.O_RDWR)


def until(what, true):
    return clubsite.wait_for(what, true, 20)


##### Locks

@pytest.mark.parametrize("start, length", RANGES)
def test_a_client_s_lock_is_seen_by_all(share, pair, start, length):
    (one, h1), (two, h2) = pair
    fd = local(share.path / "base.ldb")
    one.lock(h1, EXCLUSIVE | AT_ONCE, start, length)
    assert not two.try_lock(h2, EXCLUSIVE, start + length - 1, 1)
    assert not two.try_lock(h2, SHARED, start, 1)
    assert two.try_lock(h2, EXCLUSIVE, start + length, 1)
    assert two.try_lock(h2, EXCLUSIVE, start - 1, 1)
    first, second = holder(fd, start, length), holder(fd, start + length, 1)
    assert first[:3] == (WRITE, start, length)
    assert second[:3] == (WRITE, start + length, 1)
    # The owner is an open file description; a Samba that is told to tells its process.
    assert {first[3], second[3]} <= {-1, *share.smbd.children()}
    assert not try_lock(fd, READ, start, 1)
    one.unlock(h1, start, length)
    assert holder(fd, start, length) is None
    assert two.try_lock(h2, EXCLUSIVE, start, length)
    assert not one.try_lock(h1, SHARED, start, 1)
    assert holder(fd, start, length)[0] == WRITE
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_shared_locks(share, pair):
    (one, h1), (two, h2) = pair
    fd = local(share.path / "base.ldb")
    one.lock(h1, SHARED | AT_ONCE, USER, 10)
    two.lock(h2, SHARED | AT_ONCE, USER + 5, 10)
    assert holder(fd, USER, 5)[:3] == (READ, USER, 10)
    assert try_lock(fd, READ, USER, 15)
    lock(fd, FREE)
    assert not try_lock(fd, WRITE, USER + 14, 1)
    with refuses(NOT_LOCKED):
        two.unlock(h2, USER, 10)
    one.unlock(h1, USER, 10)
    assert holder(fd, USER, 5) is None and holder(fd, USER + 5, 1)[:3] == (READ, USER + 5, 10)
    os.close(fd)


@pytest.mark.parametrize("start, length", RANGES)
def test_a_local_lock_refuses_clients(share, pair, others, start, length):
    (one, h1), (two, h2) = pair
    a = others()[0]
    fa = a.open(share.path / "base.ldb")
    a.run(lock, fa, WRITE, start, length)
    for client, handle in pair:
        assert not client.try_lock(handle, EXCLUSIVE, start + length - 1, 1)
        assert not client.try_lock(handle, SHARED, start, 1)
    a.run(lock, fa, READ, start, length)
    assert one.try_lock(h1, SHARED, start, 1)
    assert not two.try_lock(h2, EXCLUSIVE, start, length)
    one.unlock(h1, start, 1)
    a.run(lock, fa, FREE)
    assert two.try_lock(h2, EXCLUSIVE, start, length)


@pytest.mark.parametrize("how", ["close", "disconnect", "kill"])
def test_locks_go_with_their_client(share, pair, how):
    (one, h1), (two, h2) = pair
    fd = local(share.path / "base.ldb")
    for i in range(20):
        one.lock(h1, EXCLUSIVE | AT_ONCE, USER + 2 * i, 1)
    two.lock(h2, EXCLUSIVE | AT_ONCE, COMMIT, 1)
    if how == "close":
        one.close(h1)
    elif how == "disconnect":
        one.drop()
    else:
        kill(share.smbd.serving(one.sock.getsockname()[1]))
    until("the locks are freed", lambda: holder(fd, USER, 100) is None)
    until("the other client gets them", lambda: two.try_lock(h2, EXCLUSIVE, USER + 38, 1))
    assert holder(fd, COMMIT, 1) is not None
    os.close(fd)


def test_a_client_waits_for_a_client(share, pair):
    (one, h1), (two, h2) = pair
    one.lock(h1, EXCLUSIVE | AT_ONCE, COMMIT, 1)
    granted = threading.Event()

    def wait():
        two.lock(h2, EXCLUSIVE, COMMIT, 1)
        granted.set()
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not granted.wait(0.3)
    one.unlock(h1, COMMIT, 1)
    assert granted.wait(30)
    waiting.join()
    with refuses(NOT_GRANTED):
        one.lock(h1, SHARED | AT_ONCE, COMMIT, 1)


def test_255_users_of_one_client_and_the_end_of_one(share):
    """The server holds all of them as one process: one handle's end must not free the others'."""
    client, late = share.client(), share.client()
    handles = [client.open("base.ldb") for _ in range(255)]
    for i, handle in enumerate(handles):
        assert client.try_lock(handle, EXCLUSIVE, USER + i, 1)
        client.write(handle, bytes([i]) * 64, 64 * i)
    other = late.open("base.ldb")
    assert not any(late.try_lock(other, EXCLUSIVE, USER + i, 1) for i in range(255))
    client.close(handles[100])
    fd = local(share.path / "base.ldb")
    assert [i for i in range(255) if holder(fd, USER + i, 1) is None] == [100]
    assert late.try_lock(other, EXCLUSIVE, USER + 100, 1)
    assert get(share.path / "base.ldb") == b"".join(bytes([i]) * 64 for i in range(255))
    os.close(fd)
    client.drop()
    late.drop()


##### At work

class LocalUser:
    """A program on the server."""

    def __init__(self, top):
        self.mdb, self.ldb = local(top / "v.mdb"), local(top / "v.ldb")

    def take(self, byte):
        return try_lock(self.ldb, WRITE, byte, 1)

    def give(self, byte):
        lock(self.ldb, FREE, byte, 1)

    def read(self, page):
        return os.pread(self.mdb, PAGE, page * PAGE)

    def write(self, page, data):
        assert os.pwrite(self.mdb, data, page * PAGE) == PAGE


class RemoteUser:
    """A program on a client."""

    def __init__(self, share):
        self.client = share.client()
        self.mdb, self.ldb = self.client.open("v.mdb"), self.client.open("v.ldb")

    def take(self, byte):
        return self.client.try_lock(self.ldb, EXCLUSIVE, byte, 1)

    def give(self, byte):
        self.client.unlock(self.ldb, byte, 1)

    def read(self, page):
        return self.client.read(self.mdb, PAGE, page * PAGE)

    def write(self, page, data):
        self.client.write(self.mdb, data, page * PAGE)


def page_of(count, seed):
    """The count at both ends: a page of two writes would show."""
    number = struct.pack("<Q", count)
    return number + pattern(PAGE - 16, seed) + number


def change_pages(user, turns, pages):
    for turn in range(turns):
        page = turn % pages
        end = time.monotonic() + 60
        while not user.take(USER + page):
            assert time.monotonic() < end, "never got the lock"
            time.sleep(0.002)
        data = user.read(page)
        count = struct.unpack_from("<Q", data)[0]
        assert len(data) == PAGE and data[-8:] == struct.pack("<Q", count)
        user.write(page, page_of(count + 1, turn))
        user.give(USER + page)


def test_clients_and_a_local_program_lose_no_change(place, share, others):
    pages, turns = 3, 90
    put(share.path / "v.mdb", page_of(0, 0) * pages)
    put(share.path / "v.ldb")
    for name in ("v.mdb", "v.ldb"):
        os.chmod(share.path / name, 0o666)
    users = [RemoteUser(share), RemoteUser(share)]
    errors = []

    def work(user):
        try:
            change_pages(user, turns, pages)
        except BaseException as e:      # pylint: disable=broad-except
            errors.append(e)
    threads = [threading.Thread(target=work, args=(u,)) for u in users]
    near = others()[0]
    near.begin(work_locally, share.path, turns, pages)
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    near.result()
    near.end()      # with what it has open
    assert not errors, errors
    for user in users:
        user.client.drop()
    share.smbd.end()
    place.remount()
    data = get(share.path / "v.mdb")
    counts = [struct.unpack_from("<Q", data, n * PAGE)[0] for n in range(pages)]
    assert counts == [3 * turns // pages] * pages and len(data) == pages * PAGE
    assert os.stat(share.path / "v.ldb").st_size == 0


def work_locally(top, turns, pages):
    change_pages(LocalUser(top), turns, pages)


def test_what_one_client_writes_the_other_reads(place, share, pair):
    (one, h1), (two, h2) = pair
    data = pattern(60_000)
    one.write(h1, data, 0)
    assert two.read(h2, 60_000, 0) == data == get(share.path / "base.ldb")
    two.write(h2, b"second", 4094)
    assert one.read(h1, 8, 4093) == data[4093:4094] + b"second" + data[4100:4101]
    with open(share.path / "base.ldb", "r+b") as f:
        f.seek(59_998)
        f.write(b"local")
    assert one.read(h1, 100, 59_990) == data[59_990:59_998] + b"local"
    put(share.path.parent / "up", pattern(300_000, 1))
    out = pathlib.Path(share.site.top) / "down"
    share.smbclient(f'put "{share.path.parent}/up" "Bericht für Müller.accdb"; '
                    f'get "BERICHT FÜR MÜLLER.ACCDB" "{out}"; ls')
    assert get(share.path / "Bericht für Müller.accdb") == get(out) == pattern(300_000, 1)
    one.flush(h1)
    share.smbd.end()
    place.remount()
    assert get(share.path / "Bericht für Müller.accdb") == pattern(300_000, 1)
    assert get(share.path / "base.ldb")[4094:4100] == b"second"


def test_a_file_to_be_deleted_goes_with_its_last_handle(share):
    """Access removes its lock file in this way."""
    one, two = share.client(), share.client()
    h1 = one.open("x.ldb", smb2.FULL, options=smb2.DELETE_ON_CLOSE)
    h2 = two.open("x.ldb")
    two.lock(h2, EXCLUSIVE | AT_ONCE, USER, 1)
    one.close(h1)
    assert (share.path / "x.ldb").exists()
    with refuses(smb2.DELETE_PENDING):
        one.open("x.ldb")
    two.write(h2, b"still there", 0)
    assert get(share.path / "x.ldb") == b"still there"
    two.close(h2)
    assert os.listdir(share.path) == []
    handle = one.open("x.ldb")
    assert one.try_lock(handle, EXCLUSIVE, USER, 1)
    assert get(share.path / "x.ldb") == b""
    one.drop()
    two.drop()


##### Attributes

ALL_BITS = smb2.READ_ONLY | smb2.HIDDEN | smb2.SYSTEM | smb2.ARCHIVE


def test_dos_attributes_survive_a_remount(place, share):
    client = share.client()
    for name, value in (("hidden.mdb", smb2.HIDDEN), ("all", ALL_BITS)):
        client.set_attributes(client.open(name), value)
    client.drop()
    share.smbclient("put /etc/hostname by-client; setmode by-client +hs-a; mkdir dir; "
                    "setmode dir +h")
    assert os.getxattr(share.path / "hidden.mdb", "user.DOSATTRIB")
    share.smbd.end()
    place.remount()
    share.start()
    client = share.client()
    want = {"hidden.mdb": 2, "all": ALL_BITS, "by-client": 2 | 4, "dir": 2 | 16}
    assert {n: client.attributes(client.open(n, smb2.READ_DATA, smb2.OPEN)) for n in want} == want
    assert "attributes: HS (6)" in share.smbclient("allinfo by-client")
    client.drop()


def test_nt_acls_survive_a_remount(place, share):
    """Entries in an order and with flags that no mode and no POSIX list can hold."""
    entries = [(1, 0, 0x00010000, "S-1-5-21-1-2-3-1001"), (0, 0, 0x001F01FF, "S-1-1-0"),
               (0, 0, 0x001200A9, "S-1-5-21-1-2-3-1002"), (0, 0, 0x001F01FF, "S-1-5-18")]
    down = [(k, 3, m, s) for k, _, m, s in entries]     # files and directories below inherit
    client = share.client()
    for name, what, options in (("f.mdb", entries, 0), ("dir", down, smb2.DIRECTORY)):
        handle = client.open(name, options=options)
        client.set(handle, smb2.dacl(*what), smb2.SECURITY_INFO, 0, smb2.DACL)
        client.close(handle)
        assert os.getxattr(share.path / name, "security.NTACL")
    client.close(client.open("dir/inherits"))
    client.drop()
    share.smbd.end()
    place.remount()
    share.start()
    client = share.client()

    def kept(name):
        return smb2.entries_of(client.query(client.open(name, smb2.READ_DATA, smb2.OPEN),
                                            smb2.SECURITY_INFO, 0, smb2.DACL))
    assert kept("f.mdb") == entries and kept("dir") == down
    assert [e[:1] + e[2:] for e in kept("dir/inherits")] == [e[:1] + e[2:] for e in entries]
    deny = smb2.dacl((0, 0, 0x001200A9, "S-1-1-0"), (0, 0, 0x001F01FF, "S-1-5-18"))
    handle = client.open("f.mdb")
    client.set(handle, deny, smb2.SECURITY_INFO, 0, smb2.DACL)
    client.close(handle)
    with refuses(smb2.DENIED):
        client.open("f.mdb", 0x00000002)        # to write data
    client.close(client.open("f.mdb", smb2.READ_DATA))
    client.drop()


def test_streams_survive_a_remount(place, share):
    """What Windows puts beside the contents; Samba keeps it in extended attributes."""
    streams = {"f.mdb:Zone.Identifier": b"[ZoneTransfer]\r\nZoneId=3\r\n",
               "f.mdb:big": pattern(2000 if place.plain else 30_000)}
    client = share.client()
    client.write(client.open("f.mdb"), b"contents", 0)
    for name, data in streams.items():
        handle = client.open(name)
        client.write(handle, data, 0)
        client.close(handle)
    client.drop()
    share.smbd.end()
    assert sum(n.startswith("user.DosStream.") for n in os.listxattr(share.path / "f.mdb")) == 2
    place.remount()
    share.start()
    client = share.client()
    for name, data in streams.items():
        assert client.read(client.open(name, smb2.READ_DATA, smb2.OPEN), 60_000, 0) == data
    assert get(share.path / "f.mdb") == b"contents"
    client.drop()
