"""What a bad disk does: blocks that cannot be read, syncs that fail, no space, no writing at all.

The error reaches who caused it, everything else goes on, and after repair all is well again.
"""
import contextlib
import errno
import faulthandler
import mmap
import os
import re
import subprocess
import time

import pytest

import clubsite
from clubsite import wait_for
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import PAGE, fails, get, pattern, pread, put, pwrite
from test_freeze import Waiting, ctl, freeze, state, thaw
from test_tamper import Victim, span

OPTS = "allow_other" if os.geteuid() == 0 else ""
as_root = pytest.mark.root


##### A damaged block

@pytest.fixture
def hurt(place, d):
    """A file of 20 blocks and a bit, of which block 7 does not verify."""
    if place.plain:
        pytest.skip("a plain directory notices nothing")
    victim = Victim(place, d, 20 * PAGE + 100)
    with victim.unmounted() as raw:
        raw[span(7).start + 100] ^= 1
    victim.check({7})
    return victim


def said_zeros(victim):
    return re.search(r"reads as zeros from now on", victim.place.said())


def test_all_around_a_damaged_block_can_be_read(hurt):
    assert pread(hurt.path, 7 * PAGE, 0) == hurt.data[:7 * PAGE]
    assert pread(hurt.path, 12 * PAGE + 100, 8 * PAGE) == hurt.data[8 * PAGE:]
    with fails(errno.EIO):
        pread(hurt.path, 10, 7 * PAGE + 5)
    assert not said_zeros(hurt)
    hurt.place.remount()        # reading has changed nothing
    hurt.check({7})


def test_overwriting_it_as_a_whole_makes_it_whole_without_a_word_of_loss(hurt):
    hurt.overwrite(7)
    assert not said_zeros(hurt)
    hurt.check([])
    hurt.place.remount()
    hurt.check([])


def test_overwriting_with_its_neighbours_makes_it_whole(hurt):
    new = pattern(3 * PAGE, "three")
    pwrite(hurt.path, new, 6 * PAGE)
    hurt.data[6 * PAGE:9 * PAGE] = new
    assert not said_zeros(hurt)
    hurt.check([])


@pytest.mark.parametrize("at,length", [(0, 10), (100, 1), (PAGE - 5, 5), (2048, 2048)])
def test_overwriting_a_part_loses_the_rest_and_says_so(hurt, at, length):
    fd = os.open(hurt.path, os.O_WRONLY)
    os.pwrite(fd, b"n" * length, 7 * PAGE + at)
    os.fsync(fd)
    os.close(fd)
    assert said_zeros(hurt), hurt.place.said()
    hurt.data[7 * PAGE:8 * PAGE] = bytes(at) + b"n" * length + bytes(PAGE - at - length)
    hurt.check([])
    hurt.place.remount()
    hurt.check([])


def test_a_write_across_its_edge_keeps_the_good_neighbour(hurt):
    pwrite(hurt.path, b"n" * 200, 7 * PAGE - 100)
    hurt.data[7 * PAGE - 100:8 * PAGE] = b"n" * 200 + bytes(PAGE - 100)
    assert said_zeros(hurt)
    hurt.check([])


def test_cutting_in_or_before_it(hurt):
    os.truncate(hurt.path, 7 * PAGE)
    del hurt.data[7 * PAGE:]
    hurt.check([])
    os.truncate(hurt.path, 9 * PAGE)
    hurt.data += bytes(2 * PAGE)
    hurt.check([])
    hurt.place.remount()
    hurt.check([])


def test_a_map_of_a_damaged_file_gives_a_bus_error_only_there(hurt):
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        with open(hurt.path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            good = m[:7 * PAGE] == hurt.data[:7 * PAGE] and m[8 * PAGE:] == hurt.data[8 * PAGE:]
            if not good:
                os._exit(1)
            _ = m[7 * PAGE]
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -7       # SIGBUS


def test_copying_tools_save_what_there_is(hurt, tmp_path):
    done = subprocess.run(["dd", f"if={hurt.path}", f"of={tmp_path}/saved", "bs=4096",
                           "conv=noerror,sync"], check=False, capture_output=True)
    assert b"Input/output error" in done.stderr
    saved = get(tmp_path / "saved")
    assert saved[:7 * PAGE] == hurt.data[:7 * PAGE]
    assert saved[8 * PAGE:20 * PAGE + 100] == hurt.data[8 * PAGE:]


##### Syncs and writes that fail

class Inject:
    """System calls of the daemon fail during the block, by strace."""

    def __init__(self, mnt, *rules):
        self.argv = ["strace", "-f", "-p", str(mnt.pid), "-o", mnt.site.path("inject.log")]
        for rule in rules:
            self.argv += ["-e", "inject=" + rule]

    def __enter__(self):
        self.proc = subprocess.Popen(self.argv, stderr=subprocess.PIPE, text=True)
        assert "attached" in self.proc.stderr.readline()
        return self

    def stop(self):
        self.proc.terminate()
        self.proc.wait()
        self.proc.stderr.close()

    def __exit__(self, *_):
        if self.proc.returncode is None:
            self.stop()


SYNCS = "fsync,fdatasync,sync_file_range,syncfs"


def changes(club):
    """Everything that changes a club, each of which must fail in a club that is read-only."""
    path = os.path.join(club, "f")
    return [lambda: pwrite(path, b"x", 0), lambda: put(path, b""),
            lambda: os.truncate(path, 5), lambda: os.chmod(path, 0o600),
            lambda: os.mkdir(os.path.join(club, "new")),
            lambda: put(os.path.join(club, "new")), lambda: os.unlink(path),
            lambda: os.rename(path, path + "2"), lambda: os.setxattr(path, "user.a", b"b"),
            lambda: os.symlink("x", os.path.join(club, "new")),
            lambda: os.link(path, os.path.join(club, "new"))]


def check_read_only(mnt, club, data):
    """Nothing is acknowledged any more, reading goes on, and people are told."""
    for change in changes(club):
        with fails(errno.EROFS, errno.EIO):
            change()
    assert get(os.path.join(club, "f")) == data
    assert sorted(os.listdir(club)) == ["f", "g"]
    assert state(mnt)["readonly"] is True
    assert re.search(r"read-only", mnt.stderr())
    assert "READ-ONLY" in mnt.site.ctl("status", mnt.store).stdout
    put(mnt.join("beta", "other clubs go on"), b"x")


def recovered(mnt):
    """Mounted again, when the disk is well."""
    mnt.umount()
    again = mnt.site.mount(mnt.store, OPTS, name="again")
    os.listdir(again.join("alpha"))
    assert state(again)["readonly"] is False
    return again


@pytest.fixture
def two_files(mnt, club):
    """The path of a club with the files f, synced, and g."""
    for name in ("f", "g"):
        fd = os.open(os.path.join(club, name), os.O_CREAT | os.O_WRONLY)
        os.write(fd, pattern(10 * PAGE, name))
        os.fsync(fd)
        os.close(fd)
    os.mkdir(mnt.join("beta", "d"))
    return club


@as_root
def test_a_failed_fsync_makes_the_club_read_only(mnt, two_files):
    data = pattern(10 * PAGE, "f")
    fd = os.open(os.path.join(two_files, "g"), os.O_RDWR)
    os.pwrite(fd, b"before", 0)
    with Inject(mnt, SYNCS + ":error=EIO"):
        with fails(errno.EIO):
            os.fsync(fd)
    with fails(errno.EROFS, errno.EIO):     # once failed is failed: no second fsync says yes
        os.fsync(fd)
    with fails(errno.EROFS, errno.EIO):
        os.pwrite(fd, b"x", 100)
    with contextlib.suppress(OSError):      # a close may say it, too
        os.close(fd)
    check_read_only(mnt, two_files, data)
    again = recovered(mnt)
    assert get(again.join("alpha", "f")) == data
    assert get(again.join("alpha", "g"))[6:] == pattern(10 * PAGE, "g")[6:]
    assert get(again.join("alpha", "g"))[:6] in (b"before", pattern(10 * PAGE, "g")[:6])
    for change in changes(again.join("alpha"))[:5]:
        change()


@as_root
def test_a_sync_of_the_daemon_itself_that_fails(site, keyd):    # pylint: disable=unused-argument
    """Nobody asked for a sync; the next commit fails, and from then on nothing is taken."""
    mnt = site.mount(site.store("alpha", "beta"), OPTS + ",commit=1")
    club = mnt.join("alpha")
    for name in ("f", "g"):
        put(os.path.join(club, name), pattern(10 * PAGE, name))
    time.sleep(2)
    with Inject(mnt, SYNCS + ":error=EIO"):
        pwrite(os.path.join(club, "g"), b"x", 0)
        wait_for("the failed commit", lambda: state(mnt)["readonly"], 15)
    check_read_only(mnt, club, pattern(10 * PAGE, "f"))
    assert get(recovered(mnt).join("alpha", "f")) == pattern(10 * PAGE, "f")


@as_root
def test_a_freeze_that_cannot_be_written_is_none(mnt, two_files):
    pwrite(os.path.join(two_files, "g"), b"x", 0)
    with Inject(mnt, SYNCS + ":error=EIO"):
        done = ctl(mnt, "freeze")
        assert done.returncode == 1 and "not frozen" in done.stderr, done.stderr
    assert not state(mnt)["frozen"]
    check_read_only(mnt, two_files, pattern(10 * PAGE, "f"))
    assert get(recovered(mnt).join("alpha", "f")) == pattern(10 * PAGE, "f")


@as_root
def test_a_thaw_that_cannot_be_written_loses_nothing(mnt, two_files):
    freeze(mnt)
    fd = os.open(os.path.join(two_files, "g"), os.O_RDWR)
    os.pwrite(fd, b"meanwhile", 0)
    os.fsync(fd)
    os.close(fd)
    with Inject(mnt, SYNCS + ":error=EIO"), \
            Waiting({"mkdir": lambda: os.mkdir(os.path.join(two_files, "new"))}) as waiting:
        time.sleep(0.3)
        done = ctl(mnt, "thaw")
        assert done.returncode == 1, done.stdout
        # who waits must learn that it is in vain
        assert waiting.all()["mkdir"] in (errno.EROFS, errno.EIO)
    again = recovered(mnt)
    assert get(again.join("alpha", "g"))[:9] == b"meanwhile"
    assert get(again.join("alpha", "f")) == pattern(10 * PAGE, "f")


@as_root
@pytest.mark.parametrize("error", ["EROFS", "EIO", "ENOSPC"])
def test_a_store_that_cannot_be_written_can_be_read(mnt, two_files, error):
    data = pattern(10 * PAGE, "f")
    calls = ("pwrite64,ftruncate,mkdirat,renameat,renameat2,unlinkat,symlinkat,linkat,fchmod,"
             "fchmodat,chmod,fchown,utimensat")
    with Inject(mnt, f"{calls}:error={error}", "fallocate:error=" + error):
        for i, change in enumerate(changes(two_files)):
            try:
                change()
            except OSError as e:
                assert e.errno in (errno.EROFS, errno.EIO, errno.ENOSPC)
                continue
            pytest.fail(f"change {i} was acknowledged")
        assert get(os.path.join(two_files, "f")) == data
    again = recovered(mnt)
    assert get(again.join("alpha", "f")) == data
    assert sorted(os.listdir(again.join("alpha"))) == ["f", "g"]


##### No space

@contextlib.contextmanager
def small_disk(site, megabytes):
    """An ext4 of its own for the store."""
    image, where = site.path("disk.img"), site.mkdir("disk")
    with open(image, "wb") as f:
        f.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, where], check=False).returncode != 0:
        pytest.skip("no loop devices here")
    try:
        yield where
    finally:
        for daemon in reversed(list(site.daemons)):
            if isinstance(daemon, clubsite.Mount):
                daemon.umount()
        subprocess.run(["umount", where], check=True)


def write_until_full(path, data, limit=4000):
    """Append @data to a new file until there is no space; how much was acknowledged."""
    fd, n = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 0
    try:
        for _ in range(limit):
            n += os.write(fd, data)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return n
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    raise AssertionError("the disk was never full")


def fill_from_outside(where):
    """Take all the space that is left, without clubfs."""
    with open(os.path.join(where, "ballast"), "wb") as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(bytes(1 << 20))
                f.flush()
        with contextlib.suppress(OSError):
            while True:
                os.write(f.fileno(), bytes(512))


def eventually(what, function):
    """Space that a removal gives back may take a commit or two to arrive."""
    def tried():
        try:
            function()
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            return False
        return True
    wait_for(what, tried, 20)


@as_root
def test_a_full_disk(site, keyd):       # pylint: disable=unused-argument
    with small_disk(site, 160) as where:
        mnt = site.mount(site.store("alpha", "beta", name="disk/store"), OPTS + ",commit=1")
        club = mnt.join("alpha")
        for name in ("kept", "other"):
            put(os.path.join(club, name), pattern(300 * PAGE, name))
        put(mnt.join("beta", "kept"), pattern(100 * PAGE, "beta"))
        chunk = pattern(10 * PAGE + 100, "chunk")
        took = write_until_full(os.path.join(club, "big"), chunk)
        whole = get(os.path.join(club, "big"))
        assert whole == (chunk * (took // len(chunk) + 2))[:len(whole)] and len(whole) >= took
        assert get(os.path.join(club, "kept")) == pattern(300 * PAGE, "kept")
        assert get(mnt.join("beta", "kept")) == pattern(100 * PAGE, "beta")
        os.unlink(os.path.join(club, "big"))
        eventually("space after rm", lambda: put(os.path.join(club, "new"),
                                                 pattern(1000 * PAGE, "new")))
        assert not state(mnt)["readonly"], mnt.stderr()
        again = recovered(mnt)
        assert get(again.join("alpha", "kept")) == pattern(300 * PAGE, "kept")
        assert get(again.join("alpha", "new")) == pattern(1000 * PAGE, "new")
        assert get(again.join("beta", "kept")) == pattern(100 * PAGE, "beta")
        assert where


@as_root
def test_somebody_else_fills_the_disk(site, keyd):      # pylint: disable=unused-argument
    with small_disk(site, 160) as where:
        mnt = site.mount(site.store("alpha", "beta", name="disk/store"), OPTS + ",commit=1")
        club = mnt.join("alpha")
        data = bytearray(pattern(2000 * PAGE, "f"))
        put(os.path.join(club, "f"), data)
        put(os.path.join(club, "g"), pattern(10 * PAGE, "g"))
        time.sleep(2)
        fill_from_outside(where)
        fd, refused = os.open(os.path.join(club, "f"), os.O_RDWR), 0
        for i in range(2000):
            try:
                os.pwrite(fd, pattern(PAGE, f"new{i}"), i * PAGE)
                data[i * PAGE:(i + 1) * PAGE] = pattern(PAGE, f"new{i}")
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
                refused += 1
        assert refused > 0
        # what was refused may stand in the page cache; the store must have what was taken
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with fails(errno.ENOSPC):
            put(os.path.join(club, "new"), pattern(5000 * PAGE))
        assert get(os.path.join(club, "g")) == pattern(10 * PAGE, "g")
        os.unlink(os.path.join(where, "ballast"))
        eventually("writing again", lambda: os.pwrite(fd, b"again", 0))
        data[:5] = b"again"
        eventually("a sync again", lambda: os.fsync(fd))
        os.close(fd)
        assert not state(mnt)["readonly"], mnt.stderr()
        again = recovered(mnt)
        assert get(again.join("alpha", "f")) == data
        assert get(again.join("alpha", "g")) == pattern(10 * PAGE, "g")


@as_root
def test_a_full_disk_during_a_freeze(site, keyd):       # pylint: disable=unused-argument
    """The journal of the freeze finds no room: who writes is told, and the thaw goes well."""
    with small_disk(site, 100) as where:
        mnt = site.mount(site.store("alpha", "beta", name="disk/store"), OPTS + ",commit=1")
        club = mnt.join("alpha")
        data = bytearray(pattern(2000 * PAGE, "f"))
        put(os.path.join(club, "f"), data)
        freeze(mnt)
        fd = os.open(os.path.join(club, "f"), os.O_RDWR)
        os.pwrite(fd, b"taken", 0)
        data[:5] = b"taken"
        fill_from_outside(where)
        refused = 0
        for i in range(1, 2000):
            try:
                os.pwrite(fd, pattern(PAGE, f"new{i}"), i * PAGE)
                data[i * PAGE:(i + 1) * PAGE] = pattern(PAGE, f"new{i}")
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
                refused += 1
        assert refused > 0
        os.unlink(os.path.join(where, "ballast"))
        thaw(mnt)
        os.close(fd)
        again = recovered(mnt)
        assert get(again.join("alpha", "f")) == data


@as_root
def test_a_kill_on_a_full_disk(site, keyd):             # pylint: disable=unused-argument
    with small_disk(site, 160) as where:
        mnt = site.mount(site.store("alpha", name="disk/store"), OPTS)
        club = mnt.join("alpha")
        put(os.path.join(club, "kept"), pattern(300 * PAGE, "kept"))
        chunk = pattern(10 * PAGE, "chunk")
        took = write_until_full(os.path.join(club, "big"), chunk)
        fill_from_outside(where)
        mnt.kill()
        mnt.umount()
        again = site.mount(mnt.store, OPTS, name="again")
        assert get(again.join("alpha", "kept")) == pattern(300 * PAGE, "kept")
        whole = get(again.join("alpha", "big"))
        assert len(whole) >= took and whole == (chunk * (took // len(chunk) + 2))[:len(whole)]
        os.unlink(os.path.join(where, "ballast"))
        os.unlink(again.join("alpha", "big"))
        eventually("space after rm", lambda: put(again.join("alpha", "new"),
                                                 pattern(1000 * PAGE, "new")))
