"""Who may do what to an object, what changes its mode, and names in odd situations."""
import ctypes
import errno
import os
import stat
import struct
import time

import pytest

from clubsite import as_user, errno_as
from opsfix import d, needs_root, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import (AT_FDCWD, KEEP_SIZE, PAGE, PUNCH_HOLE, RENAME_EXCHANGE, fails, fallocate, get,
                   opened, pattern, put, pwrite, renameat2)

ALICE, BOB, CLUB_GROUP = 12001, 12002, 12099
RENAME_WHITEOUT = 4
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = 0x100, 0x400
STATX_BTIME = 0x800

_libc = ctypes.CDLL(None, use_errno=True)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_sticky_directory_of_two_users(d):
    """/tmp: each removes his own; whose directory it is removes everything."""
    needs_root()
    top = d / "tmp"
    os.mkdir(top)
    os.chmod(top, 0o1777)
    os.chown(top, CLUB_GROUP, CLUB_GROUP)       # a user of that number
    as_user(ALICE, lambda: [put(top / n, b"alice") for n in ("a1", "a2", "a3", "a4")])
    as_user(ALICE, os.mkdir, top / "adir")
    as_user(BOB, lambda: [put(top / n, b"bob") for n in ("b1", "b2")])
    for action in (lambda: os.unlink(top / "a1"), lambda: os.rename(top / "a1", top / "x"),
                   lambda: os.rename(top / "b1", top / "a1"), lambda: os.rmdir(top / "adir"),
                   lambda: renameat2(top / "b1", top / "a1", RENAME_EXCHANGE)):
        assert errno_as(BOB, action) == errno.EPERM
    assert get(top / "a1") == b"alice" and get(top / "b1") == b"bob"
    assert errno_as(BOB, lambda: os.rename(top / "b1", top / "b2")) == 0
    assert errno_as(ALICE, lambda: os.unlink(top / "a2")) == 0
    assert errno_as(CLUB_GROUP, lambda: os.unlink(top / "a3")) == 0
    os.chmod(top, 0o777)
    assert errno_as(BOB, lambda: os.unlink(top / "a4")) == 0
    assert sorted(os.listdir(top)) == ["a1", "adir", "b2"]


def through_a_handle(path, action):
    with opened(path) as f:
        action(f.fileno())


@pytest.mark.parametrize("action", [
    lambda fd: fallocate(fd, 0, 0, 2 * PAGE),
    lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 2),
    lambda fd: os.ftruncate(fd, 1), lambda fd: os.pwritev(fd, [b"w"], 0),
    lambda fd: os.write(fd, b"w"),
    lambda fd: os.copy_file_range(fd, fd, 2, 0, 4)],
    ids=["fallocate", "punch", "ftruncate", "pwritev", "write", "copy_file_range"])
def test_each_change_by_another_user_takes_set_ids_away(d, action):
    needs_root()
    put(d / "f", b"programs")
    for mode, left in ((0o6777, 0o777), (0o4666, 0o666), (0o2770, 0o770)):
        os.chmod(d / "f", mode)
        assert errno_as(BOB, lambda: through_a_handle(d / "f", action), groups=[0]) == 0
        assert mode_of(d / "f") == left, oct(mode)
        put(d / "f", b"programs")


def test_chown_by_the_owner(d):
    """To a group of one's own only; and it takes set-user-id away, of a directory it does not."""
    needs_root()
    put(d / "f")
    os.mkdir(d / "sub")
    for path in (d / "f", d / "sub"):
        os.chown(path, ALICE, ALICE)
        os.chmod(path, 0o6755)
    mine = {"groups": [CLUB_GROUP]}
    assert errno_as(ALICE, lambda: os.chown(d / "f", -1, BOB), **mine) == errno.EPERM
    assert errno_as(ALICE, lambda: os.chown(d / "f", BOB, -1), **mine) == errno.EPERM
    assert mode_of(d / "f") == 0o6755
    for path in (d / "f", d / "sub"):
        assert errno_as(ALICE, lambda p=path: os.chown(p, -1, CLUB_GROUP), **mine) == 0
        assert os.stat(path).st_gid == CLUB_GROUP
    assert mode_of(d / "f") == 0o755
    assert mode_of(d / "sub") == 0o6755


def test_set_group_id_needs_membership(d):
    needs_root()
    put(d / "f")
    os.chown(d / "f", ALICE, CLUB_GROUP)
    assert errno_as(ALICE, lambda: os.chmod(d / "f", 0o2755)) == 0
    assert mode_of(d / "f") == 0o755
    assert errno_as(ALICE, lambda: os.chmod(d / "f", 0o2755), groups=[CLUB_GROUP]) == 0
    assert mode_of(d / "f") == 0o2755
    os.mkdir(d / "shared")
    os.chown(d / "shared", BOB, CLUB_GROUP)
    os.chmod(d / "shared", 0o2777)

    def make():
        os.umask(0)
        put(d / "shared" / "f", mode=0o2775)
        os.mkdir(d / "shared" / "sub", 0o700)
    as_user(ALICE, make)
    assert mode_of(d / "shared" / "f") == 0o775
    assert mode_of(d / "shared" / "sub") == 0o2700
    assert os.stat(d / "shared" / "f").st_gid == CLUB_GROUP


##### Names

def test_whiteouts_are_refused_or_made(d):
    needs_root()
    put(d / "a", b"content")
    try:
        renameat2(d / "a", d / "b", RENAME_WHITEOUT)
    except OSError as e:
        assert e.errno == errno.EINVAL
        assert os.listdir(d) == ["a"] and get(d / "a") == b"content"
        return
    st = os.lstat(d / "a")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert get(d / "b") == b"content"


def link_by_handle(fd, path):
    source = b"/proc/self/fd/%d" % fd
    if _libc.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(path), AT_SYMLINK_FOLLOW) < 0:
        raise OSError(ctypes.get_errno(), "linkat")


def test_files_without_a_name(place, d):
    try:
        fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP
        assert not place.plain
        pytest.skip("not supported, and says so")
    os.write(fd, pattern(2 * PAGE))
    assert os.listdir(d) == [] and os.fstat(fd).st_nlink == 0
    link_by_handle(fd, d / "named")
    os.close(fd)
    place.remount()
    assert get(d / "named") == pattern(2 * PAGE) and mode_of(d / "named") == 0o640


def test_a_handle_gives_a_further_name_but_not_to_what_is_gone(d):
    put(d / "f", b"x")
    with opened(d / "f") as f:
        link_by_handle(f.fileno(), d / "g")
        assert os.fstat(f.fileno()).st_nlink == 2
        os.unlink(d / "f")
        os.unlink(d / "g")
        with fails(errno.ENOENT):
            link_by_handle(f.fileno(), d / "h")
    assert os.listdir(d) == []


def test_a_directory_that_is_gone_takes_nothing(d):
    os.mkdir(d / "sub", 0o751)
    put(d / "f")
    fd = os.open(d / "sub", os.O_RDONLY | os.O_DIRECTORY)
    before = os.fstat(fd)
    os.rmdir(d / "sub")
    os.mkdir(d / "sub")
    after = os.fstat(fd)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert after.st_nlink == 0 and os.stat(d / "sub").st_ino != after.st_ino
    for action in (lambda: os.mkdir("n", dir_fd=fd), lambda: os.symlink("x", "n", dir_fd=fd),
                   lambda: os.mkfifo("n", dir_fd=fd), lambda: os.stat("n", dir_fd=fd),
                   lambda: os.link(d / "f", "n", dst_dir_fd=fd),
                   lambda: os.rename(d / "f", "n", dst_dir_fd=fd)):
        with fails(errno.ENOENT):
            action()
    assert os.listdir(fd) == []
    os.close(fd)
    assert sorted(os.listdir(d)) == ["f", "sub"] and os.listdir(d / "sub") == []


##### Time of birth

def birth(path):
    """When it was made, in nanoseconds, or None if the filesystem does not tell."""
    buf = ctypes.create_string_buffer(256)
    if _libc.statx(AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW, STATX_BTIME, buf) < 0:
        raise OSError(ctypes.get_errno(), "statx")
    if not struct.unpack_from("=I", buf, 0)[0] & STATX_BTIME:
        return None
    seconds, nanos = struct.unpack_from("=qI", buf, 0x50)
    return seconds * 10**9 + nanos


def test_time_of_birth(place, d):
    start = time.time_ns() - 10**9
    put(d / "f", b"x")
    os.mkdir(d / "sub")
    os.symlink("f", d / "link")
    born = {n: birth(d / n) for n in ("f", "sub", "link")}
    assert all(b and start < b < start + 60 * 10**9 for b in born.values())
    time.sleep(0.02)
    pwrite(d / "f", b"later", 3)
    os.utime(d / "f", ns=(5, 5))
    for name in ("f", "sub"):
        os.chmod(d / name, 0o700)
    os.rename(d / "f", d / "sub" / "f")
    put(d / "sub" / "g")
    place.remount()
    assert birth(d / "sub" / "f") == born["f"]
    assert birth(d / "sub") == born["sub"] and birth(d / "link") == born["link"]
    put(d / "f")
    assert birth(d / "f") > born["f"]
