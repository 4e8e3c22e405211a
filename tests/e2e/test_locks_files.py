"""Locks of open file descriptions and of whole files, and what becomes of locks with the file."""
import errno
import fcntl
import os
import struct

import pytest

from lockers import (FREE, LAST, OFD_GET, OFD_SET, READ, WAIT, WRITE, holder, kernel_locks,
                     lock, others, try_flock, try_lock)     # noqa: F401
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import fails, get, pattern, put, pwrite


@pytest.fixture
def f(d):
    return put(d / "base.ldb", b"short")


def test_descriptions_of_one_process_refuse_each_other(f, others):
    a, b = others(2)
    one, two, fb = a.open(f), a.open(f), b.open(f)
    a.run(lock, one, WRITE, 1 << 61, 7, OFD_SET)
    assert not a.run(try_lock, two, READ, 1 << 61, 1, OFD_SET)
    assert not a.run(try_lock, two, READ, 1 << 61, 1), "the process's own locks are others too"
    assert a.run(holder, two, 0, 0, WRITE, OFD_GET) == (WRITE, 1 << 61, 7, -1)
    assert b.run(holder, fb) == (WRITE, 1 << 61, 7, -1)
    assert not b.run(try_lock, fb, WRITE)
    a.run(os.close, two)
    assert b.run(holder, fb) == (WRITE, 1 << 61, 7, -1), "another handle's end frees nothing"
    again = a.run(os.dup, one)
    a.run(os.close, one)
    assert b.run(holder, fb) == (WRITE, 1 << 61, 7, -1), "a dup holds it"
    a.run(os.close, again)
    assert b.run(holder, fb) is None


def test_a_process_s_lock_refuses_a_description(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, READ, 0, 10)
    assert not b.run(try_lock, fb, WRITE, 9, 1, OFD_SET)
    assert b.run(holder, fb, 0, 0, WRITE, OFD_GET) == (READ, 0, 10, a.pid)
    assert b.run(try_lock, fb, READ, 9, 1, OFD_SET)
    assert a.run(holder, fa) == (READ, 9, 1, -1)
    with fails(errno.EINVAL):
        b.run(lock_with_pid, fb)


def lock_with_pid(fd):
    """The pid must be 0 where a description is the owner."""
    fcntl.fcntl(fd, OFD_SET, struct.pack("hhqqi4x", WRITE, 0, 100, 1, 1))


def test_whole_file_locks_are_a_world_of_their_own(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    assert a.run(try_flock, fa, fcntl.LOCK_EX)
    assert b.run(try_lock, fb, WRITE) and a.run(holder, fa)[3] == b.pid
    assert not b.run(try_flock, fb, fcntl.LOCK_SH)
    assert not a.run(try_flock, a.open(f), fcntl.LOCK_SH), "another handle is another owner"
    assert a.run(try_flock, fa, fcntl.LOCK_SH)
    assert b.run(try_flock, fb, fcntl.LOCK_SH)
    assert not a.run(try_flock, fa, fcntl.LOCK_EX)
    b.run(os.close, fb)
    assert a.run(try_flock, fa, fcntl.LOCK_EX)
    assert a.run(holder, fa) is None


##### The file meanwhile

def overwrite(fd, data, offset):
    assert os.pwrite(fd, data, offset) == len(data)


def test_a_lock_keeps_nobody_from_reading_and_writing(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, WRITE)
    data = pattern(20_000)
    b.run(overwrite, fb, data, 0)
    assert a.run(os.pread, fa, 30_000, 0) == data
    a.run(overwrite, fa, b"mine", 4094)
    assert b.run(os.pread, fb, 4, 4094) == b"mine"
    pwrite(f, b"by path", 0)
    os.truncate(f, 3)
    put(f, b"emptied by open, and written again")
    assert b.run(os.pread, fb, 100, 0) == b"emptied by open, and written again"
    assert b.run(holder, fb) == (WRITE, 0, 0, a.pid)
    b.run(os.ftruncate, fb, 0)
    assert not b.run(try_lock, fb, READ, LAST, 1)


def test_a_lock_goes_with_the_file(f, others):
    a, b = others(2)
    fa, early = a.open(f), b.open(f)
    a.run(lock, fa, WRITE, 0x10000001, 1)
    want = (WRITE, 0x10000001, 1, a.pid)
    os.mkdir(f.parent / "sub")
    moved = f.parent / "sub" / ("moved" * 50)
    os.rename(f, moved)
    late = b.open(moved)
    assert b.run(holder, late) == b.run(holder, early) == want
    fresh = b.open(f)
    assert b.run(holder, fresh) is None, "another file of the old name"
    assert b.run(try_lock, fresh, WRITE, 0x10000001, 1)
    os.link(moved, f.parent / "link")
    os.unlink(moved)
    assert b.run(holder, b.open(f.parent / "link")) == want
    os.rename(f, f.parent / "link")
    assert b.run(holder, late) == want, "renamed over"
    os.unlink(f.parent / "link")
    assert b.run(holder, early) == want, "no name is left"
    assert not b.run(try_lock, late, WRITE)
    a.run(lock, fa, FREE)
    assert b.run(holder, early) is None
    assert b.run(try_lock, late, WRITE, LAST, 1)


def test_files_do_not_share_locks(place, d, others):
    """Nor do the clubs: the same name there is another file."""
    a, b = others(2)
    names = [d / "one", d / "two", place.club("beta") / "one"]
    for path in names:
        a.run(lock, a.open(path), WRITE)
        fb = b.open(path)
        assert b.run(holder, fb) == (WRITE, 0, 0, a.pid)
        b.run(os.close, fb)
    for path in names[1:]:
        a.run(put, path)        # its close frees the locks on that file only
        assert b.run(holder, b.open(path)) is None
    assert b.run(holder, b.open(names[0])) == (WRITE, 0, 0, a.pid)


def test_the_list_of_locks_names_file_and_owner(f, others):
    """lslocks and smbstatus read it."""
    a = others()[0]
    a.run(lock, a.open(f), WRITE, LAST, 1)
    assert (False, a.pid, os.stat(f).st_ino) in kernel_locks()


def test_directories_can_be_locked_as_a_whole(place, d, others):
    a, b = others(2)
    for path in (d, place.club()):
        fa, fb = a.open(path, os.O_RDONLY), b.open(path, os.O_RDONLY)
        assert a.run(try_flock, fa, fcntl.LOCK_EX)
        assert not b.run(try_flock, fb, fcntl.LOCK_SH)
        put(path / "meanwhile")
        os.unlink(path / "meanwhile")
        a.run(os.close, fa)
        assert b.run(try_flock, fb, fcntl.LOCK_EX)


def test_locks_of_a_frozen_club(place, f, others):
    """A backup makes nobody wait who only reads, writes and locks."""
    if place.plain:
        pytest.skip("nothing freezes there")
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, WRITE, LAST, 1)
    place.site.ctl("freeze", str(place.store), "alpha")
    assert b.run(holder, fb) == (WRITE, LAST, 0, a.pid)
    b.begin(lock, fb, WRITE, 0, 0, WAIT)
    b.wait_blocked()
    a.run(overwrite, fa, b"while frozen", 0)
    a.run(lock, fa, FREE)
    b.result()
    place.site.ctl("thaw", str(place.store), "alpha")
    assert a.run(holder, fa) == (WRITE, 0, 0, b.pid)
    a.end()
    b.end()
    place.remount()
    assert get(f) == b"while frozen"
