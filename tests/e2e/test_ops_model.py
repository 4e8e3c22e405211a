"""Random operations on one file against a model in memory, in the manner of fsx.

CLUBFS_MODEL_SEED=N repeats a run, CLUBFS_MODEL_OPS=N makes runs longer.
"""
import errno
import mmap
import os
import random
import time

import pytest

from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import KEEP_SIZE, PAGE, PUNCH_HOLE, ZERO_RANGE, data_map, fallocate, get

SEED = int(os.environ.get("CLUBFS_MODEL_SEED", time.time_ns() % 1_000_000))
OPS = int(os.environ.get("CLUBFS_MODEL_OPS", 500))


class Model:
    """The file at @path, and the bytes that it should hold."""

    def __init__(self, place, path, seed, limit):
        self.place, self.path, self.limit = place, path, limit
        self.rnd = random.Random(seed)
        self.data = bytearray()
        self.log = []
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR)

    def offset(self):
        """Anywhere up to the limit; often near the edge of a block or the end of the file."""
        kind = self.rnd.random()
        if kind < 0.3:
            at = self.rnd.randrange(self.limit // PAGE) * PAGE + self.rnd.choice((-1, 0, 1, 17))
        elif kind < 0.5:
            at = len(self.data) + self.rnd.randrange(-2 * PAGE, 2 * PAGE)
        else:
            at = self.rnd.randrange(self.limit)
        return min(max(at, 0), self.limit - 1)

    def length(self, at):
        wanted = self.rnd.choice((1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE,
                                  self.rnd.randrange(1, 5 * PAGE), 130 * PAGE))
        return min(wanted, self.limit - at)

    def grow(self, size):
        self.data.extend(bytes(max(0, size - len(self.data))))

    def put(self, at, new):
        self.grow(at + len(new))
        self.data[at:at + len(new)] = new

    def zero(self, at, end):
        end = min(end, len(self.data))
        if end > at:
            self.data[at:end] = bytes(end - at)

    def note(self, *what):
        self.log.append(what)

    def op_read(self):
        at, n = self.offset(), self.rnd.randrange(1, 10 * PAGE)
        self.note("read", at, n)
        assert os.pread(self.fd, n, at) == self.data[at:at + n]

    def op_write(self):
        at = self.offset()
        new = self.rnd.randbytes(self.length(at))
        self.note("write", at, len(new))
        assert os.pwrite(self.fd, new, at) == len(new)
        self.put(at, new)

    op_write_again = op_write

    def op_append(self):
        new = self.rnd.randbytes(self.rnd.randrange(1, 3000))
        if len(self.data) + len(new) > self.limit:
            return
        self.note("append", len(self.data), len(new))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, new) == len(new)
        os.close(fd)
        self.put(len(self.data), new)

    def op_truncate(self):
        size = self.rnd.choice((0, len(self.data) // 2, self.offset(), self.offset()))
        self.note("truncate", size)
        if self.rnd.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        self.grow(size)
        del self.data[size:]

    def op_punch(self):
        at = self.offset()
        n = self.length(at)
        self.note("punch", at, n)
        fallocate(self.fd, PUNCH_HOLE | KEEP_SIZE, at, n)
        self.zero(at, at + n)

    def op_zero(self):
        at, keep = self.offset(), self.rnd.choice((0, KEEP_SIZE))
        n = self.length(at)
        self.note("zero", at, n, keep)
        fallocate(self.fd, ZERO_RANGE | keep, at, n)
        if not keep:
            self.grow(at + n)
        self.zero(at, at + n)

    def op_allocate(self):
        at, keep = self.offset(), self.rnd.choice((0, KEEP_SIZE))
        n = self.length(at)
        self.note("allocate", at, n, keep)
        fallocate(self.fd, keep, at, n)
        if not keep:
            self.grow(at + n)

    def op_map(self):
        if not self.data:
            return
        at = self.rnd.randrange(len(self.data))
        new = self.rnd.randbytes(min(self.rnd.randrange(1, 2 * PAGE), len(self.data) - at))
        self.note("map", at, len(new))
        with mmap.mmap(self.fd, len(self.data)) as m:
            look = self.rnd.randrange(len(self.data))
            assert m[look:look + PAGE] == self.data[look:look + PAGE]
            m[at:at + len(new)] = new
            if self.rnd.random() < 0.5:
                m.flush()
        self.put(at, new)

    def op_sync(self):
        self.note("sync")
        self.rnd.choice((os.fsync, os.fdatasync))(self.fd)

    def op_reopen(self):
        self.note("reopen")
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def op_seek(self):
        self.note("seek")
        self.check_map()

    def check_map(self):
        """Every byte that is not zero lies in data; the extents are in order and in the file."""
        end = 0
        for start, stop in data_map(self.path) + [(len(self.data), len(self.data))]:
            assert end <= start <= stop <= len(self.data)
            assert not any(self.data[end:start]), f"data in the hole {end}..{start}"
            end = stop

    def check(self):
        st = os.fstat(self.fd)
        assert st.st_size == len(self.data)
        assert get(self.path) == self.data
        self.check_map()

    def remount(self):
        self.note("remount")
        os.close(self.fd)
        self.place.remount()
        self.fd = os.open(self.path, os.O_RDWR)
        self.check()

    def run(self, count):
        ops = [getattr(self, n) for n in sorted(dir(self)) if n.startswith("op_")]
        for i in range(count):
            self.rnd.choice(ops)()
            if i % 100 == 99:
                self.check()
            if i % 250 == 249:
                self.remount()
        self.remount()
        os.close(self.fd)


@pytest.mark.parametrize("limit", [30 * PAGE, 130 * PAGE, 700 * PAGE])
def test_random_operations_match_a_model(place, d, limit):
    seed = f"{SEED}/{limit}"
    print(f"CLUBFS_MODEL_SEED={SEED}")
    model = Model(place, d / "f", seed, limit)
    try:
        model.run(OPS)
    except AssertionError as e:
        last = "\n".join(str(x) for x in model.log[-25:])
        text = str(e)[:2000]
        pytest.fail(f"CLUBFS_MODEL_SEED={SEED} limit {limit}: after {len(model.log)} operations, "
                    f"the last being\n{last}\n{text}")
    except OSError as e:
        pytest.fail(f"CLUBFS_MODEL_SEED={SEED} limit {limit}: {model.log[-1]} gave "
                    f"{errno.errorcode.get(e.errno, e.errno)}\n{place.said()[-2000:]}")
