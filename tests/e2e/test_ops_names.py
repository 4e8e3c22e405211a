"""Names through a mount: directories, links, renames, special files, listings, odd names."""
import errno
import os
import shutil
import socket
import stat
import subprocess

import pytest

from opsfix import d, needs_root, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import (Dir, RENAME_EXCHANGE, RENAME_NOREPLACE, fails, get, opened, put,
                   renameat2)


def test_mkdir_and_rmdir(d):
    os.mkdir(d / "sub", 0o751)
    st = os.stat(d / "sub")
    assert stat.S_ISDIR(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o751
    assert os.listdir(d / "sub") == []
    with fails(errno.EEXIST):
        os.mkdir(d / "sub")
    os.rmdir(d / "sub")
    with fails(errno.ENOENT):
        os.stat(d / "sub")
    with fails(errno.ENOENT):
        os.rmdir(d / "sub")


def test_mkdir_refusals(d):
    put(d / "f")
    with fails(errno.EEXIST):
        os.mkdir(d / "f")
    with fails(errno.ENOTDIR):
        os.mkdir(d / "f" / "x")
    with fails(errno.ENOENT):
        os.mkdir(d / "none" / "x")


@pytest.mark.parametrize("kind", ["file", "dir", "symlink"])
def test_rmdir_refuses_a_full_directory(d, kind):
    os.mkdir(d / "sub")
    child = d / "sub" / "child"
    {"file": put, "dir": os.mkdir, "symlink": lambda p: os.symlink("x", p)}[kind](child)
    with fails(errno.ENOTEMPTY):
        os.rmdir(d / "sub")
    assert os.listdir(d / "sub") == ["child"]
    if kind == "dir":
        os.rmdir(child)
    else:
        os.unlink(child)
    os.rmdir(d / "sub")


def test_rmdir_of_a_directory_that_held_long_names(d):
    """The side-cars of long names must go with their names, or the directory never empties."""
    os.mkdir(d / "sub")
    for n in (176, 200, 255):
        put(d / "sub" / ("n" * n))
        os.rename(d / "sub" / ("n" * n), d / "sub" / ("m" * n))
        os.unlink(d / "sub" / ("m" * n))
    os.rmdir(d / "sub")


def test_rmdir_and_unlink_want_their_type(d):
    put(d / "f")
    os.mkdir(d / "sub")
    with fails(errno.ENOTDIR):
        os.rmdir(d / "f")
    with fails(errno.EISDIR):
        os.unlink(d / "sub")
    with fails(errno.EINVAL):
        os.rmdir(str(d / "sub") + "/.")
    with fails(errno.ENOTEMPTY):
        os.rmdir(str(d / "sub") + "/..")


def test_link_count_of_directories(d):
    """2 plus one for every sub-directory, or 1 if the filesystem does not count."""
    before = os.stat(d).st_nlink
    os.mkdir(d / "sub")
    after = os.stat(d).st_nlink
    os.rmdir(d / "sub")
    assert (before, after, os.stat(d).st_nlink) in ((2, 3, 2), (1, 1, 1))


def test_removed_directory_that_is_still_open(d):
    os.mkdir(d / "sub")
    fd = os.open(d / "sub", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(d / "sub")
    assert os.listdir(fd) == []
    with fails(errno.ENOENT):
        os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


def test_unlink_of_an_open_file(d):
    """SQLite and every temporary file rely on it."""
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"before")
    os.unlink(d / "f")
    with fails(errno.ENOENT):
        os.stat(d / "f")
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, b"after unlink", 5000)
    os.ftruncate(fd, 5012)
    assert os.pread(fd, 6, 0) == b"before"
    assert os.pread(fd, 100, 5000) == b"after unlink"
    assert os.fstat(fd).st_size == 5012
    put(d / "f", b"another")
    assert os.pread(fd, 6, 0) == b"before"
    os.close(fd)
    assert get(d / "f") == b"another"


def test_open_file_survives_being_renamed_over(d):
    put(d / "a", b"new")
    fd = os.open(put(d / "b", b"old"), os.O_RDWR)
    os.rename(d / "a", d / "b")
    assert os.pread(fd, 10, 0) == b"old"
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert get(d / "b") == b"new"


def test_open_file_follows_its_rename(d):
    fd = os.open(d / "a", os.O_CREAT | os.O_RDWR)
    os.mkdir(d / "sub")
    os.rename(d / "a", d / "sub" / "b")
    os.write(fd, b"written later")
    os.close(fd)
    assert get(d / "sub" / "b") == b"written later"


def test_rename_keeps_the_object(d):
    put(d / "a", b"content")
    ino = os.stat(d / "a").st_ino
    os.mkdir(d / "sub")
    os.rename(d / "a", d / "b")
    os.rename(d / "b", d / "sub" / "c")
    assert os.stat(d / "sub" / "c").st_ino == ino
    assert get(d / "sub" / "c") == b"content"
    assert os.listdir(d) == ["sub"]


def test_rename_onto_itself_and_onto_a_link_of_itself(d):
    put(d / "a", b"x")
    os.rename(d / "a", d / "a")
    os.link(d / "a", d / "b")
    os.rename(d / "a", d / "b")
    assert sorted(os.listdir(d)) == ["a", "b"]
    assert os.stat(d / "a").st_nlink == 2


def test_rename_over(d):
    put(d / "f1", b"1")
    put(d / "f2", b"2")
    os.link(d / "f2", d / "f2-link")
    os.rename(d / "f1", d / "f2")
    assert get(d / "f2") == b"1"
    assert os.stat(d / "f2-link").st_nlink == 1
    for name in ("empty", "moved", "full"):
        os.mkdir(d / name)
    put(d / "moved" / "inside", b"kept")
    put(d / "full" / "x")
    os.rename(d / "moved", d / "empty")
    assert get(d / "empty" / "inside") == b"kept"
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(d / "empty", d / "full")
    assert get(d / "empty" / "inside") == b"kept"


def test_rename_between_types(d):
    put(d / "f")
    os.mkdir(d / "sub")
    with fails(errno.EISDIR):
        os.rename(d / "f", d / "sub")
    with fails(errno.ENOTDIR):
        os.rename(d / "sub", d / "f")
    os.symlink("x", d / "link")
    os.rename(d / "link", d / "f")
    assert os.readlink(d / "f") == "x"


def test_rename_refusals(d):
    os.makedirs(d / "a" / "b")
    with fails(errno.EINVAL):
        os.rename(d / "a", d / "a" / "b" / "c")
    with fails(errno.EINVAL):
        os.rename(d / "a", d / "a" / "c")
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(d / "a" / "b", d / "a")
    with fails(errno.ENOENT):
        os.rename(d / "none", d / "x")
    with fails(errno.ENOENT):
        os.rename(d / "a", d / "none" / "x")
    assert os.path.isdir(d / "a" / "b")


def test_rename_of_a_directory_with_contents(d):
    """Names are bound to the directory that holds them: a move must not make them unreadable."""
    os.makedirs(d / "a" / "b" / "c")
    put(d / "a" / "b" / "c" / "file", b"deep")
    put(d / "a" / "b" / ("long" * 60), b"long")
    os.symlink("file", d / "a" / "b" / "c" / "link")
    os.mkdir(d / "z")
    os.rename(d / "a" / "b", d / "z" / ("other" * 50))
    moved = d / "z" / ("other" * 50)
    assert sorted(os.listdir(moved)) == ["c", "long" * 60]
    assert get(moved / "c" / "link") == b"deep"
    assert get(moved / ("long" * 60)) == b"long"
    assert os.path.samefile(moved / "..", d / "z")


def test_rename_noreplace(d):
    put(d / "a", b"a")
    put(d / "b", b"b")
    with fails(errno.EEXIST):
        renameat2(d / "a", d / "b", RENAME_NOREPLACE)
    assert (get(d / "a"), get(d / "b")) == (b"a", b"b")
    renameat2(d / "a", d / "c", RENAME_NOREPLACE)
    assert sorted(os.listdir(d)) == ["b", "c"]
    long = "n" * 250
    renameat2(d / "c", d / long, RENAME_NOREPLACE)
    with fails(errno.EEXIST):
        renameat2(d / "b", d / long, RENAME_NOREPLACE)
    assert get(d / long) == b"a"


def test_rename_exchange(d):
    put(d / "f", b"file")
    os.mkdir(d / "dir")
    put(d / "dir" / "child", b"child")
    renameat2(d / "f", d / "dir", RENAME_EXCHANGE)
    assert get(d / "dir") == b"file"
    assert get(d / "f" / "child") == b"child"
    with fails(errno.ENOENT):
        renameat2(d / "f", d / "none", RENAME_EXCHANGE)
    put(d / "g", b"other")
    renameat2(d / "dir", d / "g", RENAME_EXCHANGE)
    assert (get(d / "dir"), get(d / "g")) == (b"other", b"file")


def test_rename_exchange_of_long_and_short_names(d):
    long = "ü" * 127
    put(d / "short", b"short")
    put(d / long, b"long")
    renameat2(d / "short", d / long, RENAME_EXCHANGE)
    assert (get(d / "short"), get(d / long)) == (b"long", b"short")
    assert sorted(os.listdir(d)) == ["short", long]
    other = "m" * 255
    put(d / other, b"other")
    renameat2(d / other, d / long, RENAME_EXCHANGE)
    assert (get(d / other), get(d / long)) == (b"short", b"other")
    assert sorted(os.listdir(d)) == [other, "short", long]


def test_rename_bad_flags(d):
    put(d / "a")
    put(d / "b")
    with fails(errno.EINVAL):
        renameat2(d / "a", d / "b", RENAME_NOREPLACE | RENAME_EXCHANGE)


def test_hard_links(d):
    put(d / "a", b"one")
    os.mkdir(d / "sub")
    os.link(d / "a", d / "sub" / "b")
    os.link(d / "a", d / ("l" * 255))
    a, b = os.stat(d / "a"), os.stat(d / "sub" / "b")
    assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 3
    put(d / "sub" / "b", b"through b")
    assert get(d / "a") == get(d / ("l" * 255)) == b"through b"
    os.unlink(d / "a")
    assert os.stat(d / "sub" / "b").st_nlink == 2
    assert get(d / "sub" / "b") == b"through b"


def test_open_file_whose_only_known_name_was_removed(place, d):
    """It has more names, but nobody has looked at them since the mount."""
    for sub in ("in", "in/deep", "in/empty", "l" * 255):
        os.mkdir(d / sub)
    put(d / "a", b"x" * 10000)
    os.link(d / "a", d / "in/deep" / ("l" * 255))
    place.remount()
    with opened(d / "a") as f:
        os.unlink(d / "a")
        assert os.pwrite(f.fileno(), b"y" * 4096, 0) == 4096
        os.fsync(f.fileno())
        os.ftruncate(f.fileno(), 9000)
        os.fchmod(f.fileno(), 0o640)
        assert os.fstat(f.fileno()).st_nlink == 1
        with open(f"/proc/self/fd/{f.fileno()}", "rb") as again:
            assert again.read() == b"y" * 4096 + b"x" * 4904
    place.remount()
    assert get(d / "in/deep" / ("l" * 255)) == b"y" * 4096 + b"x" * 4904


def test_link_refusals(d):
    put(d / "a")
    put(d / "b")
    os.mkdir(d / "sub")
    with fails(errno.EEXIST):
        os.link(d / "a", d / "b")
    with fails(errno.EPERM):
        os.link(d / "sub", d / "dirlink")
    with fails(errno.ENOENT):
        os.link(d / "none", d / "c")


def test_hard_link_of_symlink_and_fifo(d):
    os.symlink("target", d / "s")
    os.link(d / "s", d / "s2", follow_symlinks=False)
    assert os.readlink(d / "s2") == "target"
    assert os.lstat(d / "s").st_nlink == 2
    os.mkfifo(d / "p")
    os.link(d / "p", d / "p2")
    assert os.stat(d / "p2").st_ino == os.stat(d / "p").st_ino


@pytest.mark.parametrize("length", [1, 2, 15, 16, 255, 256, 1000, 3054, 3055])
def test_symlink_targets(d, length):
    target = ("ä/" * 2000).encode()[:length]
    os.symlink(target, os.fsencode(d / "s"))
    assert os.readlink(os.fsencode(d / "s")) == target
    st = os.lstat(d / "s")
    assert stat.S_ISLNK(st.st_mode) and st.st_size == length


def test_symlink_target_too_long(place, d):
    if place.plain:
        pytest.skip("a plain filesystem takes longer ones")
    with fails(errno.ENAMETOOLONG):
        os.symlink("x" * 3056, d / "s")
    assert os.listdir(d) == []


def test_symlinks_are_followed(d):
    os.mkdir(d / "sub")
    put(d / "sub" / "f", b"found")
    os.symlink("sub", d / "rel")
    os.symlink(str(d / "sub" / "f"), d / "abs")
    os.symlink("../rel/f", d / "sub" / "up")
    assert get(d / "rel" / "f") == get(d / "abs") == get(d / "sub" / "up") == b"found"
    put(d / "abs", b"through the link")
    assert get(d / "sub" / "f") == b"through the link"
    with fails(errno.EEXIST):
        os.symlink("again", d / "rel")
    os.symlink("nowhere", d / "dangling")
    with fails(errno.ENOENT):
        os.stat(d / "dangling")
    os.unlink(d / "rel")
    assert os.path.isdir(d / "sub")


def test_two_symlinks_of_one_target(d):
    for name in ("a", "b", "c" * 200):
        os.symlink("same target", d / name)
    os.rename(d / "a", d / "renamed")
    for name in ("renamed", "b", "c" * 200):
        assert os.readlink(d / name) == "same target"


def test_mknod_of_regular_and_fifo(d):
    os.mknod(d / "f", stat.S_IFREG | 0o600)
    assert get(d / "f") == b""
    put(d / "f", b"usable")
    assert get(d / "f") == b"usable"
    os.mkfifo(d / "p", 0o622 & ~0o022)
    st = os.lstat(d / "p")
    assert stat.S_ISFIFO(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600
    with fails(errno.EEXIST):
        os.mkfifo(d / "p")
    reader = subprocess.Popen(["cat", d / "p"], stdout=subprocess.PIPE)
    with open(d / "p", "wb") as f:
        f.write(b"through the pipe")
    assert reader.communicate(timeout=20)[0] == b"through the pipe"


def test_mknod_of_devices(d):
    needs_root()
    os.mknod(d / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(d / "blk", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    st = os.lstat(d / "null")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)
    st = os.lstat(d / "blk")
    assert stat.S_ISBLK(st.st_mode) and st.st_rdev == os.makedev(259, 70_000)


def test_sockets(d):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.getcwd()
    os.chdir(d)             # the path of a socket has 107 bytes at most
    try:
        server.bind("sock")
        server.listen()
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect("sock")
    finally:
        os.chdir(old)
    assert stat.S_ISSOCK(os.lstat(d / "sock").st_mode)
    other = server.accept()[0]
    client.sendall(b"hello")
    assert other.recv(5) == b"hello"
    for s in (server, client, other):
        s.close()


ODD_NAMES = [b"a", b" ", b"  two  blanks  ", b".hidden", b"...", b"=x", b"-rf", b"new\nline",
             b"tab\there", b"back\\slash", b"q'uote\"s", b"star*?[x]", b"$HOME`id`", b"%s%n", b"~",
             b"\xff\xfe", b"\xc3", b"caf\xc3\xa9", b"cafe\xcc\x81", "Übungsstätte ß €".encode(),
             "日本語.accdb".encode(), "😀".encode(), b"\x01\x7f", b"CON", b"x.ldb", b"club", b"tree",
             b"journal", b"gocryptfs.diriv", b".nfs0001", b".fuse_hidden0001", b"a" * 174,
             b"a" * 175, b"a" * 176, b"a" * 177, b"a" * 254, b"a" * 255, b"\xff" * 255,
             "ä".encode() * 127, "😀".encode() * 63 + b"abc", b"=" * 200, b"\n" * 255]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda n: f"{len(n)}-{n[:8]!r}")
def test_odd_name(d, name):
    """Each is made, found, listed, linked, renamed and removed, as a file and as a directory."""
    b = os.fsencode(d) + b"/"
    put(b + name, name)
    assert get(b + name) == name
    assert os.listdir(b) == [name]
    with fails(errno.EEXIST):
        os.open(b + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.rename(b + name, b + b"plain name")
    with fails(errno.ENOENT):
        os.lstat(b + name)
    os.link(b + b"plain name", b + name)
    assert sorted(os.listdir(b)) == sorted([name, b"plain name"])
    os.unlink(b + b"plain name")
    assert get(b + name) == name
    os.unlink(b + name)
    os.mkdir(b + name)
    put(b + name + b"/" + name, b"inside")
    assert os.listdir(b + name) == [name]
    assert get(b + name + b"/" + name) == b"inside"
    shutil.rmtree(b + name)
    os.symlink(name, b + name)
    assert os.readlink(b + name) == name
    os.unlink(b + name)
    assert os.listdir(b) == []


def test_odd_names_together(place, d):
    """None shadows another, and all are there after a remount."""
    b = os.fsencode(d) + b"/"
    for name in ODD_NAMES:
        put(b + name, name)
    assert sorted(os.listdir(b)) == sorted(ODD_NAMES)
    place.remount()
    assert sorted(os.listdir(b)) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert get(b + name) == name


def test_too_long_names(d):
    long = d / ("x" * 256)
    put(d / "f")
    for action in (lambda: put(long), lambda: os.mkdir(long), lambda: os.stat(long),
                   lambda: os.rename(d / "f", long), lambda: os.link(d / "f", long),
                   lambda: os.symlink("t", long), lambda: os.unlink(long),
                   lambda: put(d / ("ä" * 128)), lambda: os.mkfifo(long)):
        with fails(errno.ENAMETOOLONG):
            action()
    assert os.listdir(d) == ["f"]


def test_names_differ_by_case_and_normal_form(d):
    for name in ("Datei", "datei", "DATEI", "caf\u00e9", "cafe\u0301"):
        put(d / name, name.encode())
    assert len(os.listdir(d)) == 5
    assert get(d / "caf\u00e9") == "caf\u00e9".encode()


def test_deep_directories(place, d):
    """A path near PATH_MAX, reached step by step."""
    fd = os.open(d, os.O_RDONLY)
    names = [f"{i:03}" + "x" * 60 for i in range(80)]
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    place.remount()
    fd = os.open(d, os.O_RDONLY)
    for name in names:
        assert os.listdir(fd) == [name]
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert os.listdir(fd) == ["leaf"]
    os.close(fd)
    subprocess.run(["rm", "-r", d / names[0]], check=True, timeout=60)


def test_listing_10_000_names(place, d):
    want = {f"entry number {i:05}" for i in range(10_000)}
    fd = os.open(d, os.O_RDONLY)
    for name in want:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    for _ in range(2):
        got = os.listdir(d)
        assert len(got) == 10_000 and set(got) == want
        with os.scandir(d) as entries:
            assert all(e.is_file(follow_symlinks=False) for e in entries)
        place.remount()
    r = Dir(d)
    assert len(r.rest()) == 10_002
    r.close()


def test_entries_carry_type_and_inode(d):
    put(d / "f")
    os.mkdir(d / "sub")
    os.symlink("f", d / "link")
    os.mkfifo(d / "fifo")
    with os.scandir(d) as entries:
        got = {e.name: e for e in entries}
    assert got["f"].is_file(follow_symlinks=False)
    assert got["sub"].is_dir(follow_symlinks=False)
    assert got["link"].is_symlink()
    for name, entry in got.items():
        assert entry.inode() == os.lstat(d / name).st_ino


def test_dot_and_dotdot(d):
    os.mkdir(d / "sub")
    r = Dir(d / "sub")
    assert sorted(r.rest()) == [b".", b".."]
    r.close()
    assert os.path.samefile(d / "sub" / ".", d / "sub")
    assert os.path.samefile(d / "sub" / "..", d)


def test_positions_in_a_directory(d):
    for i in range(3000):
        os.mkfifo(d / f"e{i}")
    r = Dir(d)
    seen, positions = [], []
    while True:
        positions.append(r.tell())
        name = r.read()
        if name is None:
            break
        seen.append(name)
    assert len(set(seen)) == len(seen) == 3002
    for i in (0, 1, 17, 1500, 2999, 3001, 3002):
        r.seek(positions[i])
        assert r.rest() == seen[i:]
    r.rewind()
    os.mkfifo(d / "new")
    r.rewind()
    assert b"new" in r.rest()
    r.close()


def test_listing_while_deleting(d):
    """rm -r: what is deleted while reading must not make the reader skip others."""
    for i in range(3000):
        put(d / f"file{i}")
    r = Dir(d)
    seen = set()
    for name in iter(r.read, None):
        assert name not in seen
        seen.add(name)
        if name not in (b".", b".."):
            os.unlink(os.path.join(os.fsencode(d), name))
    r.close()
    assert len(seen) == 3002
    assert os.listdir(d) == []


def test_listing_while_creating(d):
    """What was there all the time comes exactly once."""
    old = {f"old{i}".encode() for i in range(1500)}
    for name in old:
        put(os.fsencode(d) + b"/" + name)
    r = Dir(d)
    seen = []
    for i, name in enumerate(iter(r.read, None)):
        seen.append(name)
        if i < 500:
            put(d / f"new{i}")
    r.close()
    assert len(set(seen)) == len(seen)
    assert old <= set(seen)


def test_a_removed_directory_is_opened_again_through_a_descriptor(d):
    (d / "sub").mkdir()
    fd = os.open(d / "sub", os.O_PATH)
    (d / "sub").rmdir()
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY)
    assert os.listdir(again) == []
    os.fsync(again)
    os.close(again)
    os.close(fd)
