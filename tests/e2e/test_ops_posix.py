"""Contents in the corners of POSIX and Linux: mappings, direct I/O, copies inside the kernel."""
import errno
import mmap
import os
import resource
import signal
import subprocess

import pytest

from lockers import others      # noqa: F401  pylint: disable=unused-import
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import (KEEP_SIZE, PAGE, ZERO_RANGE, data_map, fails, fallocate, get, opened, pattern,
                   put, pwrite)


def ends_by(action):
    """The signal that ends a child which runs action(), 0 if it comes back."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for signo in (signal.SIGBUS, signal.SIGXFSZ):
            signal.signal(signo, signal.SIG_DFL)
        try:
            action()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


##### Mappings

def test_truncation_under_a_mapping(d):
    """Beyond the new end: zeros up to the end of its page, and SIGBUS behind that."""
    put(d / "f", b"x" * (3 * PAGE))
    with opened(d / "f") as f, mmap.mmap(f.fileno(), 3 * PAGE) as m:
        assert m[:] == b"x" * (3 * PAGE)
        os.truncate(d / "f", PAGE + 100)
        assert m[PAGE:2 * PAGE] == b"x" * 100 + bytes(PAGE - 100)
        assert ends_by(lambda: m[2 * PAGE]) == signal.SIGBUS
        assert ends_by(lambda: m[2 * PAGE - 1]) == 0
        os.truncate(d / "f", 3 * PAGE)
        assert m[:] == b"x" * (PAGE + 100) + bytes(2 * PAGE - 100)
        m[2 * PAGE:2 * PAGE + 4] = b"back"
        assert os.pread(f.fileno(), 8, 2 * PAGE - 2) == b"\0\0back\0\0"
        os.truncate(d / "f", 0)
        assert ends_by(lambda: m[0]) == signal.SIGBUS


def test_what_a_mapping_writes_beyond_the_end_stays_out(place, d):
    put(d / "f", b"x" * PAGE)
    with opened(d / "f") as f, mmap.mmap(f.fileno(), PAGE) as m:
        os.truncate(d / "f", 100)
        m[50:54] = b"kept"
        m[200:204] = b"lost"
        m.flush()
        assert get(d / "f") == b"x" * 50 + b"kept" + b"x" * 46
    place.remount()
    os.truncate(d / "f", PAGE)
    assert get(d / "f") == b"x" * 50 + b"kept" + b"x" * 46 + bytes(PAGE - 100)


def test_msync_brings_it_where_direct_reads_find_it(d):
    put(d / "f", bytes(8 * PAGE))
    with opened(d / "f") as f, mmap.mmap(f.fileno(), 8 * PAGE) as m, \
            opened(d / "f", os.O_RDONLY | os.O_DIRECT) as raw, mmap.mmap(-1, PAGE) as buf:
        m[5 * PAGE + 7:5 * PAGE + 12] = b"first"
        m.flush(5 * PAGE, PAGE)
        assert os.preadv(raw.fileno(), [buf], 5 * PAGE) == PAGE
        assert buf[:20] == bytes(7) + b"first" + bytes(8)
        m[5 * PAGE + 7:5 * PAGE + 12] = b"again"
        assert os.preadv(raw.fileno(), [buf], 5 * PAGE) == PAGE
        assert buf[7:12] == b"again", "a direct read writes out what was mapped"
        os.ftruncate(f.fileno(), 2 * PAGE)
        m.flush(0, 8 * PAGE)


def test_a_private_mapping_keeps_the_pages_it_changed(d):
    put(d / "f", b"o" * (2 * PAGE))
    with opened(d / "f") as f, mmap.mmap(f.fileno(), 2 * PAGE, flags=mmap.MAP_PRIVATE) as m:
        m[10] = ord("m")
        pwrite(d / "f", b"new", 9)
        os.fsync(f.fileno())
        assert m[8:13] == b"oomoo"
        assert get(d / "f")[8:13] == b"onewo"
        os.truncate(d / "f", PAGE)
        assert m[10] == ord("m")
        assert ends_by(lambda: m[PAGE]) == signal.SIGBUS


def test_two_mappings_of_two_names(d):
    put(d / "f", bytes(2 * PAGE))
    os.link(d / "f", d / "g")
    with opened(d / "f") as f, opened(d / "g") as g, mmap.mmap(f.fileno(), 2 * PAGE) as one, \
            mmap.mmap(g.fileno(), 2 * PAGE) as two:
        one[PAGE - 2:PAGE + 2] = b"both"
        assert two[PAGE - 2:PAGE + 2] == b"both"
        two[0:3] = b"two"
        assert one[0:3] == b"two"


##### Direct and synchronous I/O

@pytest.mark.parametrize("unit", [512, 4096])
def test_direct_io_in_units(d, unit):
    model = bytearray(pattern(16 * unit))
    put(d / "f", model)
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as f, mmap.mmap(-1, 4 * PAGE) as buf:
        for n, first in ((1, 0), (2, 3), (1, 15), (3, 20)):     # the last one beyond the end
            data = pattern(n * unit, first)
            buf[:len(data)] = data
            view = memoryview(buf)[:len(data)]
            assert os.pwritev(f.fileno(), [view], first * unit) == len(data)
            model.extend(bytes(max(0, first * unit + len(data) - len(model))))
            model[first * unit:first * unit + len(data)] = data
            assert os.preadv(f.fileno(), [view], first * unit) == len(data)
            assert view == data
            view.release()
        whole = memoryview(buf)[:unit]
        assert os.preadv(f.fileno(), [whole], len(model)) == 0
        assert os.preadv(f.fileno(), [whole], len(model) - unit) == unit
        whole.release()
    assert get(d / "f") == model


@pytest.mark.parametrize("offset, length, memory", [
    (1, 512, 0), (0, 100, 0), (511, 513, 0), (4095, 4097, 0), (0, PAGE, 1), (512, 1024, 7)])
def test_direct_io_at_odd_places_is_right_or_refused(d, offset, length, memory):
    model = bytearray(pattern(3 * PAGE))
    put(d / "f", model)
    with opened(d / "f", os.O_RDWR | os.O_DIRECT) as f, mmap.mmap(-1, 3 * PAGE) as buf:
        buf[memory:memory + length] = data = pattern(length, 1)
        view = memoryview(buf)[memory:memory + length]
        try:
            assert os.pwritev(f.fileno(), [view], offset) == length
            model[offset:offset + length] = data
            buf[:] = bytes(len(buf))
            assert os.preadv(f.fileno(), [view], offset) == length
            assert view == data
            assert not any(buf[:memory]) and not any(buf[memory + length:])
        except OSError as e:
            assert e.errno == errno.EINVAL
        view.release()
    assert get(d / "f") == model


def test_direct_and_cached_io_see_each_other(d):
    put(d / "f", bytes(4 * PAGE))
    with opened(d / "f") as f, opened(d / "f", os.O_RDWR | os.O_DIRECT) as raw, \
            mmap.mmap(-1, PAGE) as buf, mmap.mmap(f.fileno(), 4 * PAGE) as m:
        for turn in range(4):
            assert os.pread(f.fileno(), 4 * PAGE, 0) == m[:]
            buf[:] = data = pattern(PAGE, turn)
            assert os.pwritev(raw.fileno(), [buf], turn * PAGE) == PAGE
            assert os.pread(f.fileno(), PAGE, turn * PAGE) == data
            assert m[turn * PAGE:(turn + 1) * PAGE] == data
            os.pwrite(f.fileno(), b"cached", turn * PAGE + 7)
            assert os.preadv(raw.fileno(), [buf], turn * PAGE) == PAGE
            assert buf[:] == data[:7] + b"cached" + data[13:]


def test_direct_appends_go_to_the_end(d):
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DIRECT
    want = b""
    with opened(d / "f", flags) as a, opened(d / "f", flags) as b, mmap.mmap(-1, PAGE) as buf:
        for turn in range(6):
            buf[:] = pattern(PAGE, turn)
            os.lseek(a.fileno(), 0, os.SEEK_SET)
            assert os.writev((a, b)[turn % 2].fileno(), [buf]) == PAGE
            want += buf[:]
    assert get(d / "f") == want


def test_flags_of_a_single_write(place, d):
    put(d / "f", b"0123456789")
    with opened(d / "f") as f:
        assert os.pwritev(f.fileno(), [b"ab", b"cd"], 2, os.RWF_DSYNC) == 4
        assert os.pwritev(f.fileno(), [b"end"], 0, os.RWF_APPEND) == 3
        assert os.pwritev(f.fileno(), [b"X"], 0, os.RWF_SYNC) == 1
    place.remount()
    assert get(d / "f") == b"X1abcd6789end"


def test_a_limit_of_the_process_counts(d):
    put(d / "f", b"x" * 1000)

    def grow(how):
        def action():
            resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, PAGE))
            how()
        return action
    for how in (lambda: pwrite(d / "f", b"y", PAGE), lambda: os.truncate(d / "f", PAGE + 1)):
        assert ends_by(grow(how)) == signal.SIGXFSZ
        assert os.stat(d / "f").st_size == 1000
    assert ends_by(grow(lambda: os.pwrite(os.open(d / "f", os.O_WRONLY), b"z" * 10, PAGE - 5))) == 0
    assert os.stat(d / "f").st_size == PAGE


##### Copies inside the kernel

def copy_range(src, dst, length, at, to):
    """Copy all of it, in as many steps as it takes; the number of bytes copied."""
    done = 0
    while done < length:
        n = os.copy_file_range(src, dst, length - done, at + done, to + done)
        if n == 0:
            break
        done += n
    return done


@pytest.mark.parametrize("length, at, to", [
    (5 * PAGE, 0, 0), (3 * PAGE, PAGE, 2 * PAGE), (1000, 5, 4090), (2 * PAGE + 9, 77, 10 * PAGE),
    (300 * PAGE, 0, 3)])
def test_copy_file_range(d, length, at, to):
    data, old = pattern(300 * PAGE), pattern(4 * PAGE, "old")
    put(d / "src", data)
    put(d / "dst", old)
    with opened(d / "src", os.O_RDONLY) as src, opened(d / "dst") as dst:
        assert copy_range(src.fileno(), dst.fileno(), length, at, to) == length
        model = bytearray(old.ljust(to + length, b"\0"))
        model[to:to + length] = data[at:at + length]
        assert os.pread(dst.fileno(), len(model) + 10, 0) == model
    assert get(d / "dst") == model
    assert get(d / "src") == data


def test_copy_file_range_in_one_file_and_beyond_its_end(d):
    data = pattern(6 * PAGE)
    put(d / "f", data)
    with opened(d / "f") as f:
        fd = f.fileno()
        with fails(errno.EINVAL):
            os.copy_file_range(fd, fd, 2 * PAGE, 0, PAGE)
        assert get(d / "f") == data
        assert copy_range(fd, fd, PAGE + 5, 10, 4 * PAGE) == PAGE + 5
        want = data[:4 * PAGE] + data[10:PAGE + 15] + data[5 * PAGE + 5:]
        assert get(d / "f") == want
        put(d / "dst")
        with opened(d / "dst") as dst:
            assert os.copy_file_range(fd, dst.fileno(), 100, 6 * PAGE, 0) == 0
            assert os.copy_file_range(fd, dst.fileno(), 100, 1 << 40, 0) == 0
            assert copy_range(fd, dst.fileno(), PAGE, 6 * PAGE - 50, 5) == 50
        assert get(d / "dst") == bytes(5) + want[-50:]
        with opened(d / "dst", os.O_RDONLY) as dst, fails(errno.EBADF):
            os.copy_file_range(fd, dst.fileno(), 10, 0, 0)
        with opened(d / "dst", os.O_WRONLY | os.O_APPEND) as dst, fails(errno.EBADF):
            os.copy_file_range(fd, dst.fileno(), 10, 0, 0)


def test_copy_file_range_between_clubs(place, d):
    data = pattern(20 * PAGE + 5)
    put(d / "src", data)
    target = place.club("beta") / "copied into"
    with opened(d / "src", os.O_RDONLY) as src, \
            opened(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as dst:
        try:
            assert copy_range(src.fileno(), dst.fileno(), len(data), 0, 7) == len(data)
        except OSError as e:
            assert e.errno in (errno.EXDEV, errno.EOPNOTSUPP)
            os.pwrite(dst.fileno(), data, 7)
    place.remount()
    assert get(target) == bytes(7) + data
    assert get(d / "src") == data


def test_zero_range_beyond_the_end(d):
    put(d / "f", b"x" * PAGE)
    with opened(d / "f") as f:
        fallocate(f.fileno(), ZERO_RANGE | KEEP_SIZE, PAGE - 100, 9 * PAGE)
        assert os.fstat(f.fileno()).st_size == PAGE
        os.ftruncate(f.fileno(), 3 * PAGE)
        assert get(d / "f") == b"x" * (PAGE - 100) + bytes(2 * PAGE + 100)
        fallocate(f.fileno(), ZERO_RANGE, 2 * PAGE, 5 * PAGE)
        assert os.fstat(f.fileno()).st_size == 7 * PAGE
    assert get(d / "f") == b"x" * (PAGE - 100) + bytes(6 * PAGE + 100)
    assert data_map(d / "f")[0][0] == 0


##### Holes, as those see them who copy by holes

def write_and_keep_open(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 10 * PAGE)
    assert os.pwrite(fd, b"island", 5 * PAGE + 7) == 6


def cp_is_right(path, work):
    """Does cp(1) find what another process has just written and not closed?"""
    work.begin(write_and_keep_open, path)
    work.result()
    subprocess.run(["cp", "--sparse=auto", path, f"{path}.copy"], check=True, timeout=20)
    want = bytes(5 * PAGE + 7) + b"island"
    return get(f"{path}.copy") == want.ljust(10 * PAGE, b"\0") == get(path)


def test_what_another_process_has_open_is_no_hole(d, others):
    assert cp_is_right(d / "f", others()[0])


def test_writeback_hides_no_data_from_who_looks_for_holes(site, keyd, others):
    mnt = site.mount(site.store("alpha"), "writeback")
    work = others()[0]
    right = cp_is_right(mnt.join("alpha", "f"), work)
    work.end()
    assert right
