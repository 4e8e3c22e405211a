"""POSIX access control lists: set with setfacl, enforced by the kernel, inherited, and kept."""
import errno
import os
import shutil
import stat
import struct
import subprocess

import pytest

from clubsite import as_user
from opsfix import d, needs_root, place, places  # noqa: F401  pylint: disable=unused-import
from oslib import fails, get, pattern, put

ALICE, BOB, CAROL, CLUB_GROUP = 12001, 12002, 12003, 12099
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def setfacl(*argv):
    done = subprocess.run(["setfacl", *argv], capture_output=True, text=True, check=False,
                          timeout=20)
    assert done.returncode == 0, done.stderr


def acl(path, *options):
    """The entries of getfacl, numeric, without comments."""
    done = subprocess.run(["getfacl", "-cnpE", *options, path], capture_output=True, text=True,
                          check=True, timeout=20)
    return done.stdout.split()


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def may(uid, path, groups=()):
    """Which of r and w a user gets on a file, through open(2)."""
    def tries():
        got = ""
        for letter, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
            try:
                os.close(os.open(path, flags))
                got += letter
            except PermissionError as e:
                assert e.errno == errno.EACCES
        return got
    return as_user(uid, tries, groups=groups)


@pytest.fixture
def f(d):
    needs_root()
    path = put(d / "f", b"content")
    os.chown(path, ALICE, CLUB_GROUP)
    os.chmod(path, 0o640)
    return path


@pytest.fixture
def inheriting(d):
    """A directory whose default list gives BOB everything and others nothing."""
    needs_root()
    path = d / "shared"
    os.mkdir(path)
    os.chmod(path, 0o777)
    setfacl("-d", "-m", f"u::rwx,u:{BOB}:rwx,g::r-x,o::---", path)
    return path


WANT_DEFAULT = ["user::rwx", f"user:{BOB}:rwx", "group::r-x", "mask::rwx", "other::---"]


##### On a file

def test_a_named_user_and_group_get_what_the_list_says(f):
    assert may(BOB, f) == may(CAROL, f) == ""
    setfacl("-m", f"u:{BOB}:rw", f)
    assert may(BOB, f) == "rw" and may(CAROL, f) == ""
    setfacl("-m", f"g:{CAROL}:r", f)
    assert may(CAROL, f) == "r" and may(ALICE, f) == "rw"
    assert acl(f) == ["user::rw-", f"user:{BOB}:rw-", "group::r--", f"group:{CAROL}:r--",
                      "mask::rw-", "other::---"]
    setfacl("-m", f"u:{CAROL}:-", f)
    assert may(CAROL, f) == "", "the entry of a user comes before those of his groups"
    setfacl("-x", f"u:{BOB}", f)
    assert may(BOB, f) == ""
    assert as_user(BOB, os.access, f, os.F_OK) and not as_user(BOB, os.access, f, os.R_OK)


def test_the_mask_cuts(f):
    setfacl("-m", f"u:{BOB}:rw,g::rw,m::r", f)
    assert may(BOB, f) == "r" and may(CAROL, f, groups=[CLUB_GROUP]) == "r"
    assert may(ALICE, f) == "rw"
    assert mode_of(f) == 0o640, "the group's bits of the mode are the mask"
    os.chmod(f, 0o660)
    assert may(BOB, f) == "rw" and "mask::rw-" in acl(f)
    os.chmod(f, 0o600)
    assert may(BOB, f) == "" and "mask::---" in acl(f)
    assert f"user:{BOB}:rw-" in acl(f) and "group::rw-" in acl(f)
    os.chmod(f, 0o604)
    assert may(CAROL, f) == "r" and "other::r--" in acl(f)


def test_setting_a_list_changes_the_mode_and_the_other_way(f):
    setfacl("-m", "u::r,g::rw,o::r", f)
    assert mode_of(f) == 0o464
    assert acl(f) == ["user::r--", "group::rw-", "other::r--"]
    assert ACCESS not in os.listxattr(f), "three entries are a mode and no list"
    setfacl("-m", f"u:{BOB}:rwx", f)
    assert mode_of(f) == 0o474
    os.chmod(f, 0o751)
    assert acl(f) == ["user::rwx", f"user:{BOB}:rwx", "group::rw-", "mask::r-x", "other::--x"]
    fd = os.open(f, os.O_RDONLY)
    os.fchmod(fd, 0o4770)
    os.close(fd)
    assert mode_of(f) == 0o4770
    assert "mask::rwx" in acl(f)


def test_without_a_list_the_mode_is_left(f):
    setfacl("-m", f"u:{BOB}:rw,m::rw", f)
    assert ACCESS in os.listxattr(f)
    setfacl("-b", f)
    assert ACCESS not in os.listxattr(f)
    assert mode_of(f) == 0o640 and may(BOB, f) == ""
    setfacl("-m", f"u:{BOB}:rw", f)
    os.removexattr(f, ACCESS)
    assert may(BOB, f) == "" and len(acl(f)) == 3


def test_only_the_owner_sets_a_list(f):
    setfacl("-m", f"u:{BOB}:rw", f)
    before = acl(f)
    value = os.getxattr(f, ACCESS)
    for action in (lambda: os.setxattr(f, ACCESS, value), lambda: os.removexattr(f, ACCESS)):
        with fails(errno.EPERM):
            as_user(BOB, action)
    as_user(ALICE, setfacl, "-m", f"u:{CAROL}:r", f)
    assert may(CAROL, f) == "r"
    assert set(before) < set(acl(f))


@pytest.mark.parametrize("name", [ACCESS, DEFAULT])
def test_what_is_no_list_is_refused(f, name):
    header, entry = struct.pack("<I", 2), struct.Struct("<HHI").pack
    for value in (b"nonsense", struct.pack("<I", 3) + entry(1, 6, 0), header + entry(77, 6, 0),
                  header + entry(1, 6, 0), header + entry(1, 6, 0)[:5],
                  header + entry(1, 6, 0) + entry(2, 6, BOB) + entry(4, 4, 0) + entry(32, 0, 0)):
        with fails(errno.EINVAL, errno.EOPNOTSUPP):
            os.setxattr(f.parent, name, value)
    assert len(acl(f.parent)) == 3
    setfacl("-m", f"u:{BOB}:rw", f)
    value = os.getxattr(f, ACCESS)
    with fails(errno.EACCES, errno.EPERM, errno.EOPNOTSUPP):
        os.setxattr(f, DEFAULT, value)      # of a file
    os.symlink("f", f.parent / "link")
    with fails(errno.EOPNOTSUPP, errno.EPERM):
        os.setxattr(f.parent / "link", ACCESS, value, follow_symlinks=False)


def test_a_directory_is_entered_by_its_list(d):
    needs_root()
    os.mkdir(d / "sub", 0o700)
    put(d / "sub" / "f", b"x")
    assert may(BOB, d / "sub" / "f") == ""
    setfacl("-m", f"u:{BOB}:x", d / "sub")
    assert may(BOB, d / "sub" / "f") == "r"
    with fails(errno.EACCES):
        as_user(BOB, os.listdir, d / "sub")
    setfacl("-m", f"u:{BOB}:rwx", d / "sub")
    assert as_user(BOB, os.listdir, d / "sub") == ["f"]
    as_user(BOB, put, d / "sub" / "bob's")
    as_user(BOB, os.rename, d / "sub" / "f", d / "sub" / "g")
    os.chmod(d / "sub", 0o700)
    with fails(errno.EACCES):
        as_user(BOB, os.listdir, d / "sub")


def test_a_write_leaves_the_list(f):
    setfacl("-m", f"u:{BOB}:rwx,m::rw", f)
    os.chmod(f, os.stat(f).st_mode | stat.S_ISUID)
    before = acl(f)
    as_user(BOB, put, f, b"changed by another user")
    assert acl(f) == before
    assert not os.stat(f).st_mode & stat.S_ISUID
    os.chown(f, CAROL, -1)
    assert acl(f) == before and may(ALICE, f) == ""


##### Inherited

def test_a_file_inherits_the_default_list(inheriting):
    old = os.umask(0o077)
    try:
        put(inheriting / "f", b"x", 0o666)
        put(inheriting / "private", b"x", 0o600)
        os.mknod(inheriting / "node", stat.S_IFREG | 0o660)
    finally:
        os.umask(old)
    assert acl(inheriting / "f") == ["user::rw-", f"user:{BOB}:rwx", "group::r-x", "mask::rw-",
                                     "other::---"]
    assert mode_of(inheriting / "f") == 0o660, "the umask does not count here"
    assert may(BOB, inheriting / "f") == "rw" and may(CAROL, inheriting / "f") == ""
    assert mode_of(inheriting / "private") == 0o600
    assert may(BOB, inheriting / "private") == ""
    assert acl(inheriting / "node") == acl(inheriting / "f")
    assert DEFAULT not in os.listxattr(inheriting / "f")


def test_what_can_have_no_list_inherits_the_rights_of_the_three(inheriting):
    """A list where the filesystem keeps one of such objects, else what the group's entry says."""
    old = os.umask(0o077)
    try:
        os.mkfifo(inheriting / "fifo", 0o660)
    finally:
        os.umask(old)
    entries = acl(inheriting / "fifo")
    assert "group::r-x" in entries or "group::r--" in entries
    assert mode_of(inheriting / "fifo") == (0o660 if len(entries) > 3 else 0o640)


def test_directories_inherit_all_the_way_down(inheriting):
    os.makedirs(inheriting / "a" / "b" / "c")
    put(inheriting / "a" / "b" / "c" / "f", b"x", 0o660)
    for path in (inheriting / "a", inheriting / "a" / "b" / "c"):
        assert acl(path, "-a") == acl(path, "-d") == WANT_DEFAULT
    assert may(BOB, inheriting / "a" / "b" / "c" / "f") == "rw"
    as_user(BOB, put, inheriting / "a" / "b" / "bob's", b"y", 0o660)
    assert f"user:{BOB}:rwx" in acl(inheriting / "a" / "b" / "bob's")
    with fails(errno.EACCES):
        as_user(CAROL, os.listdir, inheriting / "a")


def test_without_a_default_list_the_umask_counts_again(inheriting):
    setfacl("-k", inheriting)
    old = os.umask(0o027)
    try:
        put(inheriting / "f", b"x", 0o666)
        os.mkdir(inheriting / "sub", 0o777)
    finally:
        os.umask(old)
    assert mode_of(inheriting / "f") == 0o640 and len(acl(inheriting / "f")) == 3
    assert mode_of(inheriting / "sub") == 0o750 and len(acl(inheriting / "sub")) == 3


def test_a_default_list_with_three_entries_stands_for_the_umask(d):
    os.mkdir(d / "sub")
    setfacl("-d", "-m", "u::rwx,g::rx,o::r", d / "sub")
    old = os.umask(0o077)
    try:
        put(d / "sub" / "f", b"x", 0o666)
        os.mkdir(d / "sub" / "deeper", 0o777)
    finally:
        os.umask(old)
    assert mode_of(d / "sub" / "f") == 0o644 and mode_of(d / "sub" / "deeper") == 0o754
    assert ACCESS not in os.listxattr(d / "sub" / "f")
    assert acl(d / "sub" / "deeper", "-d") == ["user::rwx", "group::r-x", "other::r--"]


def test_a_moved_or_linked_object_keeps_its_own(inheriting, d):
    put(d / "plain", b"x", 0o644)
    os.rename(d / "plain", inheriting / "moved")
    assert len(acl(inheriting / "moved")) == 3
    put(inheriting / "f", b"x", 0o664)
    want = acl(inheriting / "f")
    os.rename(inheriting / "f", d / "out")
    os.link(d / "out", d / "link")
    assert acl(d / "out") == acl(d / "link") == want
    shutil.copy(d / "out", d / "copied")
    assert len(acl(d / "copied")) == 3
    subprocess.run(["cp", "-p", d / "out", d / "preserved"], check=True, timeout=20)
    assert acl(d / "preserved") == want


##### Kept

def test_lists_survive_a_remount(place, inheriting, f):
    setfacl("-m", f"u:{BOB}:rw,g:{CAROL}:-,m::rw", f)
    put(inheriting / "f", pattern(10_000), 0o660)
    os.mkdir(inheriting / "sub")
    os.setxattr(f, "user.note", b"beside it")
    paths = [f, inheriting, inheriting / "f", inheriting / "sub"]
    before = [acl(p) for p in paths]
    names = [sorted(os.listxattr(p)) for p in paths]
    assert names[0] == [ACCESS, "user.note"] and names[1] == [DEFAULT]
    place.remount()
    assert [acl(p) for p in paths] == before
    assert [sorted(os.listxattr(p)) for p in paths] == names
    assert may(BOB, f) == "rw" and may(ALICE + 100, f, groups=[CLUB_GROUP]) == "r"
    assert may(BOB, inheriting / "f") == "rw"
    assert get(inheriting / "f") == pattern(10_000)
    put(inheriting / "sub" / "new", b"x", 0o660)
    assert f"user:{BOB}:rwx" in acl(inheriting / "sub" / "new")


def test_a_long_list(place, f):
    users = [20_000 + i for i in range(40)]
    setfacl("-m", ",".join(f"u:{u}:{'rw' if u % 2 else 'r'}" for u in users), f)
    place.remount()
    assert len(acl(f)) == 40 + 4
    assert may(users[-1], f) == "rw" and may(users[-2], f) == "r" and may(users[-1] + 1, f) == ""
