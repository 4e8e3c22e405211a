"""Contents of files through a mount: open, read, write, truncate, fallocate, lseek, mmap."""
import errno
import mmap
import os
import time
import stat
import threading

import pytest

from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import (COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PAGE, PUNCH_HOLE, ZERO_RANGE,
                   data_map, fails, fallocate, get, pattern, pread, put, pwrite)

# A file's tags stand in its header page up to this many blocks, beyond it in pages of their own.
DIRECT = 100


def test_create_makes_an_empty_file(d):
    fd = os.open(d / "new", os.O_CREAT | os.O_WRONLY, 0o640)
    os.close(fd)
    st = os.stat(d / "new")
    assert (st.st_size, st.st_nlink, stat.S_IMODE(st.st_mode)) == (0, 1, 0o640)
    assert get(d / "new") == b""
    assert st.st_ino == os.lstat(d / "new").st_ino != 0


def test_create_excl_refuses_what_exists(d):
    put(d / "f", b"old")
    os.symlink("nowhere", d / "dangling")
    os.mkdir(d / "dir")
    for name in ("f", "dangling", "dir"):
        with fails(errno.EEXIST):
            os.open(d / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert get(d / "f") == b"old"


def test_create_of_existing_opens_it(d):
    put(d / "f", b"old")
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR, 0o600)
    assert os.read(fd, 10) == b"old"
    os.close(fd)


def test_create_honours_umask(d):
    old = os.umask(0o027)
    try:
        put(d / "f", mode=0o666)
        os.mkdir(d / "dir", 0o777)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(d / "f").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(d / "dir").st_mode) == 0o750


def test_open_modes(d):
    put(d / "f", b"0123456789")
    fd = os.open(d / "f", os.O_RDONLY)
    with fails(errno.EBADF):
        os.write(fd, b"x")
    os.close(fd)
    fd = os.open(d / "f", os.O_WRONLY)
    with fails(errno.EBADF):
        os.read(fd, 1)
    assert os.pwrite(fd, b"ab", 4) == 2
    os.close(fd)
    fd = os.open(d / "f", os.O_RDWR)
    assert os.pread(fd, 20, 0) == b"0123ab6789"
    os.close(fd)


def test_open_refuses_wrong_types(d):
    os.mkdir(d / "dir")
    put(d / "f")
    os.symlink("f", d / "link")
    os.symlink("loop", d / "loop")
    with fails(errno.EISDIR):
        os.open(d / "dir", os.O_WRONLY)
    with fails(errno.ENOTDIR):
        os.open(d / "f", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ELOOP):
        os.open(d / "link", os.O_RDONLY | os.O_NOFOLLOW)
    with fails(errno.ELOOP):
        os.open(d / "loop", os.O_RDONLY)
    with fails(errno.ENOENT):
        os.open(d / "none", os.O_RDWR)
    with fails(errno.ENOTDIR):
        os.open(d / "f" / "below", os.O_RDONLY)


def test_open_for_write_of_a_read_only_mode_as_owner(d):
    """The mode counts at open only: a file created 0444 is written through its first handle."""
    fd = os.open(d / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    assert os.write(fd, b"data") == 4
    os.close(fd)
    assert get(d / "f") == b"data"


def test_trunc_at_open_empties(d):
    put(d / "f", pattern(3 * PAGE + 5))
    fd = os.open(d / "f", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    assert os.read(fd, 10) == b""
    os.write(fd, b"fresh")
    os.close(fd)
    assert get(d / "f") == b"fresh"


def test_trunc_at_open_is_seen_by_other_handles(d):
    put(d / "f", b"x" * 5000)
    reader = os.open(d / "f", os.O_RDONLY)
    os.close(os.open(d / "f", os.O_WRONLY | os.O_TRUNC))
    assert os.pread(reader, 10, 0) == b""
    assert os.fstat(reader).st_size == 0
    os.close(reader)


ALIGNMENTS = sorted({max(0, base + delta) for base in (0, PAGE, 2 * PAGE, 3 * PAGE)
                     for delta in (-1, 0, 1)})


@pytest.mark.parametrize("length", [1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 7])
def test_overwrite_at_every_alignment(d, length):
    model = bytearray(pattern(6 * PAGE + 33))
    put(d / "f", model)
    fd = os.open(d / "f", os.O_RDWR)
    for n, offset in enumerate(ALIGNMENTS):
        data = pattern(length, n)
        assert os.pwrite(fd, data, offset) == length
        model[offset:offset + length] = data
        assert os.pread(fd, length + 2, max(0, offset - 1)) == \
            model[max(0, offset - 1):max(0, offset - 1) + length + 2]
    os.close(fd)
    assert get(d / "f") == model


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 1, 7 * PAGE + 5])
def test_write_beyond_the_end_leaves_zeros(d, offset):
    put(d / "f", b"head")
    pwrite(d / "f", b"tail", offset)
    want = bytearray(b"head".ljust(offset, b"\0"))
    want[offset:offset + 4] = b"tail"
    assert get(d / "f") == want
    assert os.stat(d / "f").st_size == len(want)


def test_read_at_every_alignment(d):
    data = pattern(3 * PAGE + 100)
    put(d / "f", data)
    fd = os.open(d / "f", os.O_RDONLY)
    for offset in ALIGNMENTS + [len(data) - 1, len(data), len(data) + 1, 1 << 40]:
        for length in (1, PAGE - 1, PAGE, PAGE + 1, 1 << 16):
            assert os.pread(fd, length, offset) == data[offset:offset + length]
    os.close(fd)


@pytest.mark.parametrize("edge", [DIRECT, DIRECT + 128, DIRECT + 128 + 128 * 128])
def test_content_around_places_where_the_tag_tree_grows(d, edge):
    """Blocks whose tags stand in the header, in the first and second tag page, and deeper."""
    put(d / "f")
    start = (edge - 2) * PAGE + 1000
    data = pattern(4 * PAGE, edge)
    pwrite(d / "f", data, start)
    assert os.stat(d / "f").st_size == start + len(data)
    assert pread(d / "f", len(data) + 10, start) == data
    assert pread(d / "f", 100, start - 100) == bytes(100)
    pwrite(d / "f", b"again", start + 2 * PAGE)
    place_data = data[:2 * PAGE] + b"again" + data[2 * PAGE + 5:]
    assert pread(d / "f", len(data), start) == place_data
    os.truncate(d / "f", start + PAGE)
    os.truncate(d / "f", start + 3 * PAGE)
    assert pread(d / "f", 3 * PAGE, start) == data[:PAGE] + bytes(2 * PAGE)


def test_sequential_small_writes(d):
    """A log: many short appends over the edge of blocks."""
    data = pattern(50_000)
    with open(d / "f", "wb", buffering=0) as f:
        for i in range(0, len(data), 37):
            f.write(data[i:i + 37])
    assert get(d / "f") == data


def test_vectored_io(d):
    parts = [pattern(n, n) for n in (1, PAGE, 10, 2 * PAGE + 1)]
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    assert os.writev(fd, parts) == sum(map(len, parts))
    into = [bytearray(len(p)) for p in parts]
    assert os.preadv(fd, into, 0) == sum(map(len, parts))
    assert into == parts
    os.close(fd)


def test_append_goes_to_the_end(d):
    put(d / "f", b"one,")
    a = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
    b = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
    os.write(a, b"two,")
    os.write(b, b"three,")
    os.lseek(a, 0, os.SEEK_SET)
    os.write(a, b"four")
    os.close(a)
    os.close(b)
    assert get(d / "f") == b"one,two,three,four"


def test_appending_threads_lose_nothing(d):
    put(d / "f")

    def work(letter):
        fd = os.open(d / "f", os.O_WRONLY | os.O_APPEND)
        for _ in range(100):
            os.write(fd, letter * 61)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(c,)) for c in (b"a", b"b", b"c", b"d")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    data = get(d / "f")
    assert len(data) == 4 * 100 * 61
    for letter in b"abcd":
        assert data.count(letter) == 6100
    assert all(len(set(data[i:i + 61])) == 1 for i in range(0, len(data), 61))


@pytest.mark.parametrize("size", [0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 4 * PAGE, 4 * PAGE + 9])
def test_truncate_shrinks_and_what_grows_again_is_zero(d, size):
    data = pattern(5 * PAGE + 123)
    put(d / "f", data)
    os.truncate(d / "f", size)
    assert os.stat(d / "f").st_size == size
    assert get(d / "f") == data[:size]
    os.truncate(d / "f", len(data))
    assert get(d / "f") == data[:size].ljust(len(data), b"\0")


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1, 200 * PAGE, 40_000 * PAGE + 17])
def test_truncate_grows_sparse(d, size):
    put(d / "f")
    os.truncate(d / "f", size)
    st = os.stat(d / "f")
    assert st.st_size == size
    assert st.st_blocks * 512 <= 64 * 1024
    assert pread(d / "f", 3 * PAGE, max(0, size - PAGE)) == bytes(min(size, PAGE))
    assert pread(d / "f", PAGE, size // 2) == bytes(min(PAGE, size - size // 2))


def test_ftruncate_through_a_handle(d):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 9000)
    os.ftruncate(fd, 4097)
    assert os.fstat(fd).st_size == 4097
    assert os.pread(fd, 10_000, 4090) == b"x" * 7
    os.close(fd)
    fd = os.open(d / "f", os.O_RDONLY)
    with fails(errno.EINVAL, errno.EBADF):
        os.ftruncate(fd, 1)
    os.close(fd)


def test_truncate_refusals(d):
    os.mkdir(d / "dir")
    with fails(errno.EISDIR):
        os.truncate(d / "dir", 0)
    with fails(errno.ENOENT):
        os.truncate(d / "none", 0)


def test_fallocate_extends(d):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"head")
    fallocate(fd, 0, 0, 3 * PAGE + 5)
    assert os.fstat(fd).st_size == 3 * PAGE + 5
    assert os.pread(fd, 4 * PAGE, 0) == b"head".ljust(3 * PAGE + 5, b"\0")
    fallocate(fd, 0, PAGE, 10)
    assert os.fstat(fd).st_size == 3 * PAGE + 5
    os.close(fd)


def test_fallocate_keep_size(d):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"head")
    fallocate(fd, KEEP_SIZE, 0, 10 * PAGE)
    assert os.fstat(fd).st_size == 4
    assert os.pread(fd, 100, 0) == b"head"
    os.close(fd)
    assert get(d / "f") == b"head"


HOLES = [(0, PAGE), (PAGE, 2 * PAGE), (10, 20), (PAGE - 1, 2), (100, 3 * PAGE), (5 * PAGE, 9999),
         (0, 100 * PAGE), (6 * PAGE + 10, 5)]


@pytest.mark.parametrize("offset,length", HOLES)
@pytest.mark.parametrize("mode", [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE, ZERO_RANGE],
                         ids=["punch", "zero-keep", "zero"])
def test_holes_read_zero_and_the_rest_stays(d, mode, offset, length):
    model = bytearray(pattern(6 * PAGE + 99))
    put(d / "f", model)
    fd = os.open(d / "f", os.O_RDWR)
    fallocate(fd, mode, offset, length)
    end = min(offset + length, len(model))
    if end > offset:
        model[offset:end] = bytes(end - offset)
    if mode == ZERO_RANGE:
        model.extend(bytes(max(0, offset + length - len(model))))
    assert os.fstat(fd).st_size == len(model)
    assert os.pread(fd, len(model) + 10, 0) == model
    os.pwrite(fd, b"into the hole", min(offset, 5 * PAGE))
    os.close(fd)
    start = min(offset, 5 * PAGE)
    model[start:start + 13] = b"into the hole"
    assert get(d / "f") == model


def test_punch_frees_space(d):
    put(d / "f", pattern(300 * PAGE))
    fd = os.open(d / "f", os.O_RDWR)
    os.fsync(fd)
    before = os.fstat(fd).st_blocks
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 10 * PAGE, 280 * PAGE)
    os.fsync(fd)
    os.close(fd)
    assert before * 512 >= 300 * PAGE
    deadline = time.monotonic() + 20    # a checkpoint gives it back
    while os.stat(d / "f").st_blocks * 512 > 40 * PAGE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert get(d / "f")[290 * PAGE:] == pattern(300 * PAGE)[290 * PAGE:]


@pytest.mark.parametrize("mode", [COLLAPSE_RANGE, INSERT_RANGE, PUNCH_HOLE], ids=hex)
def test_fallocate_refuses_what_it_cannot(place, d, mode):
    if place.plain and mode != PUNCH_HOLE:
        pytest.skip("the plain filesystem can do this")
    put(d / "f", pattern(4 * PAGE))
    fd = os.open(d / "f", os.O_RDWR)
    with fails(errno.EOPNOTSUPP):
        fallocate(fd, mode, 0, PAGE)
    os.close(fd)
    assert get(d / "f") == pattern(4 * PAGE)


def test_fallocate_refusals(d):
    put(d / "f", b"x")
    fd = os.open(d / "f", os.O_RDONLY)
    with fails(errno.EBADF):
        fallocate(fd, 0, 0, 10)
    os.close(fd)
    fd = os.open(d / "f", os.O_RDWR)
    with fails(errno.EINVAL):
        fallocate(fd, 0, 0, 0)
    with fails(errno.EFBIG):
        fallocate(fd, 0, (1 << 63) - 10, 100)
    os.close(fd)


def islands(fd, blocks):
    for b in blocks:
        os.pwrite(fd, pattern(PAGE, b), b * PAGE)


@pytest.mark.parametrize("blocks,size", [
    ([0], PAGE), ([1], 5 * PAGE), ([0, 2, 4], 5 * PAGE), ([0, 1, 5, 6, 9], 20 * PAGE),
    ([99, 100, 101], 300 * PAGE), ([0, 227, 228, 229], 400 * PAGE), ([3, 20_000], 50_000 * PAGE),
    ([], 7 * PAGE), ([2], 2 * PAGE + 100)])
def test_seek_tells_data_and_holes(d, blocks, size):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    islands(fd, blocks)
    os.ftruncate(fd, size)
    os.close(fd)
    want = []
    for b in blocks:
        end = min((b + 1) * PAGE, size)
        if want and want[-1][1] == b * PAGE:
            want[-1] = (want[-1][0], end)
        else:
            want.append((b * PAGE, end))
    assert data_map(d / "f") == want


def test_seek_inside_data_and_holes(d):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    islands(fd, [2])
    os.ftruncate(fd, 6 * PAGE)
    assert os.lseek(fd, 5, os.SEEK_HOLE) == 5
    assert os.lseek(fd, 5, os.SEEK_DATA) == 2 * PAGE
    assert os.lseek(fd, 2 * PAGE + 7, os.SEEK_DATA) == 2 * PAGE + 7
    assert os.lseek(fd, 2 * PAGE + 7, os.SEEK_HOLE) == 3 * PAGE
    with fails(errno.ENXIO):
        os.lseek(fd, 3 * PAGE, os.SEEK_DATA)
    with fails(errno.ENXIO):
        os.lseek(fd, 6 * PAGE, os.SEEK_DATA)
    with fails(errno.ENXIO):
        os.lseek(fd, 6 * PAGE, os.SEEK_HOLE)
    os.pwrite(fd, pattern(PAGE), 5 * PAGE)
    assert os.lseek(fd, 5 * PAGE + 1, os.SEEK_HOLE) == 6 * PAGE
    os.close(fd)


def test_seek_sees_a_punched_hole(d):
    put(d / "f", pattern(10 * PAGE))
    fd = os.open(d / "f", os.O_RDWR)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 3 * PAGE, 2 * PAGE)
    os.close(fd)
    assert data_map(d / "f") == [(0, 3 * PAGE), (5 * PAGE, 10 * PAGE)]


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_sync_of_files(d, sync):
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, pattern(3 * PAGE))
    sync(fd)
    os.pwrite(fd, b"more", 10)
    sync(fd)
    os.unlink(d / "f")
    sync(fd)
    assert os.pread(fd, 4, 10) == b"more"
    os.close(fd)


def test_sync_of_directories(d):
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    put(d / "f")
    os.fsync(fd)
    os.rename(d / "f", d / "g")
    os.fdatasync(fd)
    os.close(fd)
    assert os.listdir(d) == ["g"]


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_synchronous_writes(place, d, flag):
    fd = os.open(d / "f", os.O_CREAT | os.O_WRONLY | getattr(os, flag))
    for i in range(5):
        assert os.write(fd, pattern(3000, i)) == 3000
    os.close(fd)
    place.remount()
    assert get(d / "f") == b"".join(pattern(3000, i) for i in range(5))


def test_direct_io(d):
    buf = mmap.mmap(-1, 4 * PAGE)
    buf.write(pattern(4 * PAGE))
    fd = os.open(d / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    assert os.pwritev(fd, [buf], 0) == 4 * PAGE
    back = mmap.mmap(-1, 4 * PAGE)
    assert os.preadv(fd, [back], 0) == 4 * PAGE
    assert back[:] == buf[:]
    os.close(fd)
    assert get(d / "f") == buf[:]


def test_mapped_writes_are_there_after_a_remount(place, d):
    data = bytearray(pattern(5 * PAGE + 77))
    put(d / "f", data)
    fd = os.open(d / "f", os.O_RDWR)
    with mmap.mmap(fd, len(data)) as m:
        assert m[:] == data
        for offset in (0, PAGE - 2, 3 * PAGE + 1, len(data) - 4):
            m[offset:offset + 4] = data[offset:offset + 4] = b"mmap"
        m.flush()
        assert os.pread(fd, 4, PAGE - 2) == b"mmap"
    os.close(fd)
    assert get(d / "f") == data
    place.remount()
    assert get(d / "f") == data


def test_map_and_write_see_each_other(d):
    put(d / "f", bytes(2 * PAGE))
    fd = os.open(d / "f", os.O_RDWR)
    with mmap.mmap(fd, 2 * PAGE) as m:
        os.pwrite(fd, b"by write", PAGE - 4)
        assert m[PAGE - 4:PAGE + 4] == b"by write"
        m[100:106] = b"by map"
        assert os.pread(fd, 6, 100) == b"by map"
    os.close(fd)


def test_private_map_changes_nothing(d):
    put(d / "f", pattern(PAGE))
    fd = os.open(d / "f", os.O_RDONLY)
    with mmap.mmap(fd, PAGE, flags=mmap.MAP_PRIVATE,
                   prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
        m[0:4] = b"mine"
    os.close(fd)
    assert get(d / "f") == pattern(PAGE)


def test_map_of_a_file_that_is_gone(d):
    put(d / "f", pattern(2 * PAGE))
    fd = os.open(d / "f", os.O_RDWR)
    m = mmap.mmap(fd, 2 * PAGE)
    os.close(fd)
    os.unlink(d / "f")
    m[5:9] = b"late"
    m.flush()
    assert m[:] == pattern(2 * PAGE)[:5] + b"late" + pattern(2 * PAGE)[9:]
    m.close()


def test_times_follow_the_content(d):
    put(d / "f", b"x")
    os.utime(d / "f", ns=(10**18, 10**18))
    before = os.stat(d / "f")
    get(d / "f")
    assert os.stat(d / "f").st_mtime_ns == 10**18
    pwrite(d / "f", b"y", 0)
    after = os.stat(d / "f")
    assert after.st_mtime_ns > 10**18
    assert after.st_ctime_ns >= before.st_ctime_ns
    os.utime(d / "f", ns=(10**18, 10**18))
    os.truncate(d / "f", 0)
    assert os.stat(d / "f").st_mtime_ns > 10**18


def test_every_handle_sees_every_write(d):
    a = os.open(d / "f", os.O_CREAT | os.O_RDWR)
    b = os.open(d / "f", os.O_RDWR)
    os.link(d / "f", d / "g")
    c = os.open(d / "g", os.O_RDONLY)
    for i, fd in enumerate((a, b) * 5):
        data = pattern(700, i)
        os.pwrite(fd, data, i * 699)
        assert os.pread(a, 700, i * 699) == os.pread(b, 700, i * 699) == data
        assert os.pread(c, 700, i * 699) == data
        assert os.stat(d / "g").st_size == i * 699 + 700
    for fd in (a, b, c):
        os.close(fd)


def test_sendfile_and_copy_file_range(d):
    data = pattern(9 * PAGE + 10)
    put(d / "src", data)
    src = os.open(d / "src", os.O_RDONLY)
    dst = os.open(d / "dst", os.O_CREAT | os.O_WRONLY)
    assert os.sendfile(dst, src, 0, 5 * PAGE) == 5 * PAGE
    left = len(data) - 5 * PAGE
    while left:
        n = os.copy_file_range(src, dst, left, len(data) - left)
        assert n > 0
        left -= n
    os.close(src)
    os.close(dst)
    assert get(d / "dst") == data
