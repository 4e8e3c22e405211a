"""Attributes through a mount: modes, owners, times, access, extended attributes, statfs."""
import errno
import os
import stat
import subprocess
import time

import pytest

from clubsite import NOBODY, as_user, errno_as
from opsfix import d, needs_root, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import fails, get, put, pwrite

ALICE, BOB, CLUB_GROUP = 12001, 12002, 12099
NOW_SLACK_NS = 2 * 10**9


def reader(path):
    def action():
        with open(path, "rb") as f:
            f.read()
    return action


def writer(path):
    return lambda: os.close(os.open(path, os.O_WRONLY))


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o777, 0o1755, 0o2755, 0o4755, 0o7777])
def test_chmod(d, mode):
    put(d / "f", b"content")
    os.mkdir(d / "dir")
    for name in ("f", "dir"):
        os.chmod(d / name, mode)
        assert stat.S_IMODE(os.stat(d / name).st_mode) == mode
    fd = os.open(d / "dir", os.O_RDONLY)
    os.fchmod(fd, 0o700)
    os.close(fd)
    assert stat.S_IMODE(os.stat(d / "dir").st_mode) == 0o700
    assert stat.S_ISREG(os.stat(d / "f").st_mode)


def test_chmod_changes_ctime_only(d):
    put(d / "f", b"content")
    os.utime(d / "f", ns=(111, 222))
    before = os.stat(d / "f")
    time.sleep(0.02)
    os.chmod(d / "f", 0o600)
    after = os.stat(d / "f")
    assert (after.st_atime_ns, after.st_mtime_ns) == (111, 222)
    assert after.st_ctime_ns > before.st_ctime_ns


def test_a_file_without_any_permission_still_works_for_its_writer(d):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR, 0o000)
    os.write(fd, b"x" * 5000)
    os.fsync(fd)
    assert os.pread(fd, 5000, 0) == b"x" * 5000
    os.close(fd)
    assert os.stat(d / "f").st_size == 5000


def test_chown(d):
    needs_root()
    put(d / "f")
    os.symlink("f", d / "link")
    os.mkdir(d / "dir")
    os.mkfifo(d / "fifo")
    for name in ("f", "link", "dir", "fifo"):
        os.chown(d / name, ALICE, CLUB_GROUP, follow_symlinks=False)
        st = os.lstat(d / name)
        assert (st.st_uid, st.st_gid) == (ALICE, CLUB_GROUP)
    os.chown(d / "f", -1, BOB)
    os.chown(d / "dir", BOB, -1)
    assert (os.stat(d / "f").st_uid, os.stat(d / "f").st_gid) == (ALICE, BOB)
    assert (os.stat(d / "dir").st_uid, os.stat(d / "dir").st_gid) == (BOB, CLUB_GROUP)
    os.chown(d / "f", 4_000_000_000, 4_000_000_001)
    assert (os.stat(d / "f").st_uid, os.stat(d / "f").st_gid) == (4_000_000_000, 4_000_000_001)


def test_chown_takes_setuid_away(d):
    needs_root()
    put(d / "f")
    os.chmod(d / "f", 0o6755)
    os.chown(d / "f", ALICE, ALICE)
    assert stat.S_IMODE(os.stat(d / "f").st_mode) == 0o755


@pytest.mark.parametrize("change", ["write", "truncate"])
def test_a_change_by_another_user_takes_setuid_away(d, change):
    needs_root()
    put(d / "f", b"program")
    os.chmod(d / "f", 0o6777)

    def act():
        if change == "write":
            pwrite(d / "f", b"other", 0)
        else:
            os.truncate(d / "f", 3)
    assert errno_as(NOBODY, act) == 0
    assert stat.S_IMODE(os.stat(d / "f").st_mode) == 0o777


NANOS = [0, 1, 999_999_999, 10**9, 1_234_567_890_123_456_789, 2**31 * 10**9 + 5,
         4_000_000_000_987_654_321]


@pytest.mark.parametrize("ns", NANOS)
def test_utimens_keeps_nanoseconds(d, ns):
    put(d / "f")
    os.symlink("f", d / "link")
    os.mkdir(d / "dir")
    for name in ("f", "link", "dir"):
        os.utime(d / name, ns=(ns, ns + 7), follow_symlinks=False)
        st = os.lstat(d / name)
        assert (st.st_atime_ns, st.st_mtime_ns) == (ns, ns + 7)


def test_utimens_before_1970(d):
    put(d / "f")
    os.utime(d / "f", ns=(-1, -1_000_000_001))
    st = os.stat(d / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (-1, -1_000_000_001)


def test_utimens_now(d):
    put(d / "f")
    os.utime(d / "f", ns=(0, 0))
    os.utime(d / "f")
    st = os.stat(d / "f")
    for value in (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns):
        assert abs(value - time.time_ns()) < NOW_SLACK_NS


def test_utimens_of_one_time_leaves_the_other(d):
    put(d / "f", b"x")
    os.utime(d / "f", ns=(5, 6))
    subprocess.run(["touch", "-a", "-d", "@1000", d / "f"], check=True)
    assert (os.stat(d / "f").st_atime_ns, os.stat(d / "f").st_mtime_ns) == (1000 * 10**9, 6)
    subprocess.run(["touch", "-m", "-d", "@2000.5", d / "f"], check=True)
    assert (os.stat(d / "f").st_atime_ns, os.stat(d / "f").st_mtime_ns) == \
        (1000 * 10**9, 2000_500_000_000)


def test_utimens_through_a_handle_that_wrote(d):
    """cp -p and rsync set the times last, with the file still open."""
    fd = os.open(d / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"data" * 3000)
    os.utime(fd, ns=(123_456_789, 987_654_321))
    os.close(fd)
    time.sleep(0.05)
    st = os.stat(d / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (123_456_789, 987_654_321)


def test_times_written_last_survive_a_remount(place, d):
    for i in range(10):
        fd = os.open(d / f"f{i}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"data" * 3000 * i)
        os.utime(fd, ns=(i, 10**18 + i))
        os.close(fd)
    place.remount()
    assert [os.stat(d / f"f{i}").st_mtime_ns for i in range(10)] == \
        [10**18 + i for i in range(10)]


def test_directory_times_follow_its_entries(d):
    for action in (lambda: put(d / "f"), lambda: os.rename(d / "f", d / "g"),
                   lambda: os.link(d / "g", d / "h"), lambda: os.unlink(d / "g"),
                   lambda: os.mkdir(d / "sub"), lambda: os.rmdir(d / "sub"),
                   lambda: os.symlink("x", d / "s"), lambda: os.mkfifo(d / "p")):
        os.utime(d, ns=(10**18, 10**18))
        action()
        st = os.stat(d)
        assert st.st_mtime_ns > 10**18 and st.st_ctime_ns > 10**18


def test_setgid_directory_hands_its_group_down(d):
    needs_root()
    os.mkdir(d / "shared")
    os.chown(d / "shared", ALICE, CLUB_GROUP)
    os.chmod(d / "shared", 0o2777)
    for path in (d, d.parent):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o001

    def make():
        put(d / "shared" / "f")
        os.mkdir(d / "shared" / "sub")
        os.symlink("f", d / "shared" / "link")
        os.mkfifo(d / "shared" / "fifo")
    as_user(BOB, make)
    for name in ("f", "sub", "link", "fifo"):
        st = os.lstat(d / "shared" / name)
        assert (st.st_uid, st.st_gid) == (BOB, CLUB_GROUP), name
    assert os.stat(d / "shared" / "sub").st_mode & stat.S_ISGID
    assert not os.stat(d / "shared" / "f").st_mode & stat.S_ISGID


def test_owner_of_new_objects_is_who_made_them(d):
    needs_root()
    os.chmod(d, 0o777)

    def make():
        put(d / "f", b"mine")
        os.mkdir(d / "dir")
        os.symlink("f", d / "link")
        os.mkfifo(d / "fifo")
    as_user(ALICE, make, gid=BOB)
    for name in ("f", "dir", "link", "fifo"):
        st = os.lstat(d / name)
        assert (st.st_uid, st.st_gid) == (ALICE, BOB)


def test_access_of_files_by_mode(d):
    needs_root()
    f = put(d / "f", b"content")
    os.chown(f, ALICE, CLUB_GROUP)
    for mode, who, may_read, may_write in (
            (0o600, ALICE, True, True), (0o600, BOB, False, False), (0o644, BOB, True, False),
            (0o400, ALICE, True, False), (0o066, ALICE, False, False), (0o606, BOB, True, True)):
        os.chmod(f, mode)
        assert errno_as(who, reader(f)) == (0 if may_read else errno.EACCES), (oct(mode), who)
        assert errno_as(who, writer(f)) == (0 if may_write else errno.EACCES), (oct(mode), who)
    os.chmod(f, 0o060)
    assert errno_as(BOB, reader(f), groups=[CLUB_GROUP]) == 0
    assert errno_as(BOB, reader(f)) == errno.EACCES


def test_access_of_directories_by_mode(d):
    needs_root()
    os.mkdir(d / "dir")
    put(d / "dir" / "f", b"x")
    for mode, may_list, may_pass, may_make in ((0o755, True, True, False),
                                               (0o711, False, True, False),
                                               (0o744, True, False, False),
                                               (0o700, False, False, False),
                                               (0o777, True, True, True)):
        os.chmod(d / "dir", mode)
        for wanted, action in ((may_list, lambda: os.listdir(d / "dir")),
                               (may_pass, reader(d / "dir" / "f")),
                               (may_make, lambda: put(d / "dir" / "new"))):
            assert errno_as(NOBODY, action) == (0 if wanted else errno.EACCES), oct(mode)


def test_refusals_to_who_is_not_the_owner(d):
    needs_root()
    os.chmod(d, 0o1777)
    f = put(d / "f", b"x", 0o666)
    os.chmod(f, 0o666)
    for action in (lambda: os.chmod(f, 0o777), lambda: os.utime(f, ns=(1, 1)),
                   lambda: os.chown(f, NOBODY, NOBODY)):
        assert errno_as(NOBODY, action) == errno.EPERM
    for action in (lambda: os.unlink(f), lambda: os.rename(f, d / "g")):
        assert errno_as(NOBODY, action) in (errno.EPERM, errno.EACCES)
    assert errno_as(NOBODY, lambda: os.utime(f)) == 0
    assert get(f) == b"x"


def test_access_call(d):
    needs_root()
    f = put(d / "f")
    os.chmod(f, 0o640)
    assert not as_user(NOBODY, os.access, f, os.R_OK)
    assert as_user(NOBODY, os.access, f, os.F_OK)
    os.chmod(f, 0o604)
    assert as_user(NOBODY, os.access, f, os.R_OK)
    assert not as_user(NOBODY, os.access, f, os.W_OK)
    assert not os.access(f, os.X_OK)


def test_programs_run(d):
    put(d / "script", b"#!/bin/sh\necho ran \"$1\"\n", 0o755)
    done = subprocess.run([d / "script", "well"], capture_output=True, check=True, timeout=20)
    assert done.stdout == b"ran well\n"
    put(d / "echo", get("/bin/echo"), 0o755)
    done = subprocess.run([d / "echo", "binary"], capture_output=True, check=True, timeout=20)
    assert done.stdout == b"binary\n"
    os.chmod(d / "script", 0o644)
    with fails(errno.EACCES):
        subprocess.run([d / "script"], check=True)


##### Extended attributes

@pytest.fixture(params=["file", "dir"])
def obj(request, d):
    path = d / "object"
    if request.param == "file":
        put(path, b"content")
    else:
        os.mkdir(path)
    return path


def test_xattr_set_get_list_remove(obj):
    assert os.listxattr(obj) == []
    values = {"user.a": b"one", "user.empty": b"", "user.bin": bytes(range(256)),
              "user.Ümlaut": b"x", "user." + "n" * 250: b"longest name"}
    for name, value in values.items():
        os.setxattr(obj, name, value)
    assert sorted(os.listxattr(obj)) == sorted(values)
    assert {n: os.getxattr(obj, n) for n in os.listxattr(obj)} == values
    os.removexattr(obj, "user.bin")
    del values["user.bin"]
    assert sorted(os.listxattr(obj)) == sorted(values)
    with fails(errno.ENODATA):
        os.getxattr(obj, "user.bin")
    with fails(errno.ENODATA):
        os.removexattr(obj, "user.bin")


def test_xattr_flags(obj):
    with fails(errno.ENODATA):
        os.setxattr(obj, "user.a", b"1", os.XATTR_REPLACE)
    assert os.listxattr(obj) == []
    os.setxattr(obj, "user.a", b"2", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        os.setxattr(obj, "user.a", b"3", os.XATTR_CREATE)
    assert os.getxattr(obj, "user.a") == b"2"
    os.setxattr(obj, "user.a", b"a longer value", os.XATTR_REPLACE)
    assert os.getxattr(obj, "user.a") == b"a longer value"
    os.setxattr(obj, "user.a", b"4")
    assert os.getxattr(obj, "user.a") == b"4"
    assert os.listxattr(obj) == ["user.a"]


def test_xattr_through_a_handle(d):
    fd = os.open(put(d / "f"), os.O_RDWR)
    os.setxattr(fd, "user.fd", b"by handle")
    assert os.getxattr(d / "f", "user.fd") == b"by handle"
    assert os.listxattr(fd) == ["user.fd"]
    os.unlink(d / "f")
    assert os.getxattr(fd, "user.fd") == b"by handle"
    os.setxattr(fd, "user.fd", b"though it has no name")
    assert os.getxattr(fd, "user.fd") == b"though it has no name"
    os.close(fd)


def test_xattr_namespaces(obj):
    needs_root()
    for name in ("trusted.t", "security.s", "user.u"):
        os.setxattr(obj, name, name.encode())
    assert sorted(os.listxattr(obj)) == ["security.s", "trusted.t", "user.u"]
    for name in ("trusted.t", "security.s", "user.u"):
        assert os.getxattr(obj, name) == name.encode()
    os.chmod(obj, 0o755)
    assert errno_as(NOBODY, lambda: os.getxattr(obj, "trusted.t")) == errno.ENODATA
    assert errno_as(NOBODY, lambda: os.setxattr(obj, "trusted.t", b"")) == errno.EPERM
    assert errno_as(NOBODY, lambda: os.setxattr(obj, "user.u", b"")) == errno.EACCES
    with fails(errno.EOPNOTSUPP):
        os.setxattr(obj, "nonsense.x", b"")


def test_xattr_of_other_types(d):
    os.symlink("x", d / "link")
    os.mkfifo(d / "fifo")
    for name in ("link", "fifo"):
        with fails(errno.EPERM):
            os.setxattr(d / name, "user.a", b"", follow_symlinks=False)
    assert os.listxattr(d / "link", follow_symlinks=False) == []


def test_xattr_buffer_sizes(d):
    """getfattr asks with size 0 first; too small a buffer must give ERANGE, never less data."""
    put(d / "f")
    os.setxattr(d / "f", "user.v", b"v" * 1000)
    out = subprocess.run(["getfattr", "--only-values", "-n", "user.v", d / "f"], check=True,
                         capture_output=True, timeout=20).stdout
    assert out == b"v" * 1000
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    path, buf = os.fsencode(d / "f"), ctypes.create_string_buffer(1000)
    assert libc.getxattr(path, b"user.v", None, 0) == 1000
    assert libc.getxattr(path, b"user.v", buf, 999) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert libc.getxattr(path, b"user.v", buf, 1000) == 1000
    assert libc.listxattr(path, None, 0) == 7
    assert libc.listxattr(path, buf, 6) == -1
    assert ctypes.get_errno() == errno.ERANGE


@pytest.mark.parametrize("size", [1, 100, 1000, 2000, 3000, 4096, 5000, 16_384, 32_768, 60_000])
def test_xattr_value_sizes(place, d, size):
    if place.plain and size > 3000:
        pytest.skip("ext4 has no room for it")
    for name, make in (("f", put), ("dir", os.mkdir)):
        make(d / name)
        os.setxattr(d / name, "user.small", b"stays")
        os.setxattr(d / name, "user.v", os.urandom(1) * size)
        value = bytes(i * 31 & 255 for i in range(size))
        os.setxattr(d / name, "user.v", value)
        assert os.getxattr(d / name, "user.v") == value
        assert os.getxattr(d / name, "user.small") == b"stays"
    put(d / "f", b"content is not disturbed")
    place.remount()
    for name in ("f", "dir"):
        assert os.getxattr(d / name, "user.v") == value
        os.setxattr(d / name, "user.v", b"short again")
        assert os.getxattr(d / name, "user.v") == b"short again"
        os.removexattr(d / name, "user.v")
        assert os.listxattr(d / name) == ["user.small"]
    assert get(d / "f") == b"content is not disturbed"


def test_xattr_total_limit(place, obj):
    if place.plain:
        pytest.skip("the limit is another one there")
    os.setxattr(obj, "user.one", b"1" * 40_000)
    with fails(errno.ENOSPC):
        os.setxattr(obj, "user.two", b"2" * 40_000)
    assert os.listxattr(obj) == ["user.one"]
    assert os.getxattr(obj, "user.one") == b"1" * 40_000
    os.setxattr(obj, "user.one", b"small")
    os.setxattr(obj, "user.two", b"2" * 40_000)
    assert os.getxattr(obj, "user.two") == b"2" * 40_000


def test_many_xattrs(place, obj):
    count = 30 if place.plain else 300
    want = {f"user.number{i}": f"value {i}".encode() * (i % 7) for i in range(count)}
    for name, value in want.items():
        os.setxattr(obj, name, value)
    place.remount()
    assert {n: os.getxattr(obj, n) for n in os.listxattr(obj)} == want
    for i in range(0, count, 2):
        os.removexattr(obj, f"user.number{i}")
    assert sorted(os.listxattr(obj)) == sorted(f"user.number{i}" for i in range(1, count, 2))


def test_xattrs_go_with_the_object(place, d):
    if place.plain:
        pytest.skip("ext4 has no room for it")
    put(d / "f", b"x")
    os.setxattr(d / "f", "user.big", b"b" * 20_000)
    os.setxattr(d / "f", "user.small", b"s")
    os.link(d / "f", d / "link")
    os.mkdir(d / "sub")
    os.rename(d / "f", d / "sub" / "g")
    assert os.getxattr(d / "sub" / "g", "user.big") == b"b" * 20_000
    assert os.getxattr(d / "link", "user.small") == b"s"
    os.unlink(d / "sub" / "g")
    assert os.getxattr(d / "link", "user.big") == b"b" * 20_000
    os.unlink(d / "link")
    put(d / "f")
    assert os.listxattr(d / "f") == []


##### The filesystem as a whole

def test_statfs(d):
    st = os.statvfs(d)
    assert st.f_namemax == 255
    assert st.f_bsize > 0 and st.f_frsize > 0
    assert 0 < st.f_bavail <= st.f_bfree <= st.f_blocks
    assert st.f_files >= st.f_ffree > 0
    assert not st.f_flag & os.ST_RDONLY


def test_statfs_tells_the_space_of_the_disk_beneath(place, d):
    beneath = os.statvfs(place.root.parent if place.plain else place.store)
    here = os.statvfs(d)
    assert here.f_blocks * here.f_frsize == beneath.f_blocks * beneath.f_frsize
    assert abs(here.f_bavail * here.f_frsize - beneath.f_bavail * beneath.f_frsize) < 1 << 32
    out = subprocess.run(["df", "--output=target", d], check=True, capture_output=True,
                         timeout=20).stdout
    assert place.plain or out.split()[-1] == os.fsencode(place.root)


def test_blocks_tell_what_the_disk_holds(d):
    put(d / "f", os.urandom(100 * 4096))
    fd = os.open(d / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert 100 * 4096 <= os.stat(d / "f").st_blocks * 512 <= 110 * 4096


def test_setting_an_attribute_leaves_the_mtime_alone(place, d):
    """Also what is written to the store for it, later, must not show through."""
    put(d / "closed", b"x" * 5000)
    put(d / "open", b"x" * 5000)
    for name in ("closed", "open"):
        os.utime(d / name, (1000, 2000))
    place.remount()
    fd = os.open(d / "open", os.O_RDWR)
    for name in ("closed", "open"):
        os.setxattr(d / name, "user.note", b"n")
        assert os.stat(d / name).st_mtime == 2000
    os.close(fd)
    place.remount()
    for name in ("closed", "open"):
        assert os.stat(d / name).st_mtime == 2000
        assert os.getxattr(d / name, "user.note") == b"n"
