"""Byte-range locks of processes through a mount: ranges, owners, waiting.

Database programs lock bytes where no file ever gets, so nothing here asks how long the file is.
"""
import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from lockers import (FREE, LAST, OFD_SET, OFD_WAIT, READ, SET, WAIT, WRITE, holder, lock, others,
                     take_signal, try_flock, try_lock)  # noqa: F401
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import fails, get, put

RANGES = [(0, 1), (0, 0), (4095, 2), (0x10000001, 0xFF), (0x6FF800FF, 1), (1 << 32, 1 << 32),
          (1 << 40, 0), (1 << 62, 1 << 62), (LAST - 1, 1), (LAST - 1, 0), (LAST, 1)]


@pytest.fixture
def f(d):
    return put(d / "base.ldb", b"short")


def write_both(fd, other_fd):
    """Lock through one descriptor, then close another one of the same file."""
    lock(fd, WRITE, 10, 10)
    os.close(other_fd)


##### Ranges

@pytest.mark.parametrize("start, length", RANGES)
def test_a_range_anywhere_is_refused_to_others(f, others, start, length):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    last = LAST if length == 0 else start + length - 1
    seen = (WRITE, start, 0 if last == LAST else length, a.pid)
    a.run(lock, fa, WRITE, start, length)
    assert b.run(holder, fb) == seen
    for byte in {start, last, (start + last) // 2}:
        assert not b.run(try_lock, fb, WRITE, byte, 1)
        assert not b.run(try_lock, fb, READ, byte, 1)
        assert b.run(holder, fb, byte, 1, READ) == seen
    for byte in (max(0, start - 1), min(LAST, last + 1), 7):
        if not start <= byte <= last:
            assert b.run(holder, fb, byte, 1) is None
            assert b.run(try_lock, fb, WRITE, byte, 1)
    assert a.run(holder, fa, start, length) is None     # one's own is no obstacle
    assert os.stat(f).st_size == 5
    a.run(lock, fa, FREE, start, length)
    assert b.run(holder, fb) is None
    assert b.run(try_lock, fb, WRITE)
    assert get(f) == b"short"


def test_ranges_that_do_not_exist(f):
    fd = os.open(f, os.O_RDWR)
    with fails(errno.EOVERFLOW, errno.EINVAL):
        lock(fd, WRITE, LAST, 2)
    with fails(errno.EINVAL):
        lock(fd, WRITE, -1, 1)
    with fails(errno.EINVAL):
        lock(fd, WRITE, 5, -6)
    with fails(errno.EINVAL):
        lock(fd, 77, 0, 1)
    os.close(fd)


def test_a_range_that_ends_where_it_is_said_to_begin(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, WRITE, 100, -10)
    assert b.run(holder, fb) == (WRITE, 90, 10, a.pid)


@pytest.mark.parametrize("held, wanted, granted", [
    (READ, READ, True), (READ, WRITE, False), (WRITE, READ, False), (WRITE, WRITE, False)])
def test_shared_and_exclusive(f, others, held, wanted, granted):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, held, 1 << 41, 100)
    assert b.run(try_lock, fb, wanted, (1 << 41) + 99, 1) == granted
    assert b.run(try_lock, fb, wanted, (1 << 41) + 100, 1)


def test_a_lock_needs_a_handle_of_its_kind(f):
    fd = os.open(f, os.O_RDONLY)
    with fails(errno.EBADF):
        lock(fd, WRITE, 0, 1)
    lock(fd, READ, 0, 1)
    os.close(fd)
    fd = os.open(f, os.O_WRONLY)
    with fails(errno.EBADF):
        lock(fd, READ, 0, 1)
    os.close(fd)


def test_a_range_is_split_and_merged(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    base = 1 << 33
    a.run(lock, fa, WRITE, base, 100)
    a.run(lock, fa, FREE, base + 40, 20)
    assert b.run(holder, fb) == (WRITE, base, 40, a.pid)
    assert b.run(holder, fb, base + 40) == (WRITE, base + 60, 40, a.pid)
    assert b.run(holder, fb, base + 40, 20) is None
    assert b.run(try_lock, fb, WRITE, base + 40, 20)
    assert not a.run(try_lock, fa, WRITE, base, 100)
    b.run(lock, fb, FREE)
    a.run(lock, fa, WRITE, base + 40, 20)
    assert b.run(holder, fb) == (WRITE, base, 100, a.pid)
    a.run(lock, fa, READ, base + 10, 10)
    assert b.run(holder, fb, base + 10, 10) == (READ, base + 10, 10, a.pid)
    assert b.run(try_lock, fb, READ, base + 10, 10)
    assert b.run(holder, fb, base + 20) == (WRITE, base + 20, 80, a.pid)


def test_random_ranges_match_a_model(f, others):
    """Two owners lock and free at random; what a third one sees is what a table says."""
    width, base = 24, 0x10000001
    a, b, watcher = others(3)
    fds = {a: a.open(f), b: b.open(f)}
    fw = watcher.open(f)
    table = {a: [FREE] * width, b: [FREE] * width}
    rnd = random.Random(1)
    granted = 0
    for turn in range(300):
        me, it = rnd.sample((a, b), 2)
        start, kind = rnd.randrange(width), rnd.choice((READ, WRITE, FREE))
        end = rnd.randrange(start, min(width, start + 8)) + 1
        free = kind == FREE or all(k == FREE or kind == k == READ for k in table[it][start:end])
        assert me.run(try_lock, fds[me], kind, base + start, end - start) == free, turn
        if free:
            table[me][start:end] = [kind] * (end - start)
            granted += kind != FREE
        i = rnd.randrange(width)
        seen = watcher.run(holder, fw, base + i, 1)
        want = {(table[o][i], o.pid) for o in (a, b) if table[o][i] != FREE}
        assert (seen is None and not want) or (seen[0], seen[3]) in want, turn
    assert granted > 50


##### Owners

def test_owners_are_never_merged(f, others):
    """Two processes in ranges that touch: each frees its own only."""
    a, b, watcher = others(3)
    fa, fb, fw = a.open(f), b.open(f), watcher.open(f)
    a.run(lock, fa, WRITE, 0, 50)
    b.run(lock, fb, WRITE, 50, 50)
    assert watcher.run(holder, fw) == (WRITE, 0, 50, a.pid)
    assert watcher.run(holder, fw, 50) == (WRITE, 50, 50, b.pid)
    a.run(lock, fa, FREE)
    assert watcher.run(holder, fw) == (WRITE, 50, 50, b.pid)
    a.run(lock, fa, READ, 0, 50)
    b.run(lock, fb, READ, 0, 50)
    b.run(os.close, fb)
    assert watcher.run(holder, fw) == (READ, 0, 50, a.pid)


def test_closing_any_handle_frees_what_the_process_holds(f, others):
    os.link(f, f.parent / "second name")
    a, b = others(2)
    fb = b.open(f)
    for name in (f, f.parent / "second name"):
        a.run(write_both, a.open(f), a.open(name, os.O_RDONLY))
        assert b.run(holder, fb) is None
    one, other = a.open(f), a.open(put(f.parent / "other"))
    a.run(write_both, one, other)
    assert b.run(holder, fb) == (WRITE, 10, 10, a.pid)


def test_a_killed_holder_leaves_nothing(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    for i in range(100):
        a.run(lock, fa, WRITE, i * 1000, 10)
    a.run(lock, fa, WRITE, 1 << 60)
    a.run(try_flock, fa, fcntl.LOCK_EX)
    a.run(lock, a.open(f), WRITE, 77, 1, OFD_SET)
    assert not b.run(try_flock, fb, fcntl.LOCK_SH)
    a.end(signal.SIGKILL)
    assert b.run(holder, fb) is None
    assert b.run(try_lock, fb, WRITE) and b.run(try_flock, fb, fcntl.LOCK_EX)


def fork_and_try(fd, start):
    """What a child of ours sees and gets, and whether its end takes our lock away."""
    rfd, wfd = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = holder(fd, start, 1)
        got = try_lock(fd, WRITE, start, 1)
        os.close(fd)
        os.write(wfd, repr((seen, got)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    text = os.read(rfd, 1000).decode()
    os.close(rfd)
    os.close(wfd)
    return text


def test_a_child_does_not_inherit_locks(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, WRITE, 1 << 50, 1)
    assert a.run(fork_and_try, fa, 1 << 50) == repr(((WRITE, 1 << 50, 1, a.pid), False))
    assert b.run(holder, fb) == (WRITE, 1 << 50, 1, a.pid)


def test_execve_keeps_locks(f, others):
    code = ("import os, sys; sys.path.insert(0, sys.argv[2]); import lockers\n"
            "fd = os.open(sys.argv[1], os.O_RDWR); os.set_inheritable(fd, True)\n"
            "lockers.lock(fd, lockers.WRITE, 1 << 45, 9)\n"
            "os.execvp('sh', ['sh', '-c', 'echo ready; read line'])\n")
    proc = subprocess.Popen(
        [sys.executable, "-B", "-c", code, f, os.path.dirname(os.path.abspath(__file__))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    b = others()[0]
    fb = b.open(f)
    try:
        assert proc.stdout.readline() == b"ready\n"
        with open(f"/proc/{proc.pid}/comm", encoding="ascii") as comm:
            assert comm.read() == "sh\n"
        assert b.run(holder, fb) == (WRITE, 1 << 45, 9, proc.pid)
        assert not b.run(try_lock, fb, READ, 1 << 45, 1)
    finally:
        proc.communicate(b"\n", timeout=20)
    assert b.run(holder, fb) is None


##### Waiting

def test_who_waits_gets_the_lock_when_it_is_freed(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    a.run(lock, fa, WRITE, 1 << 62, 100)
    b.begin(lock, fb, WRITE, (1 << 62) + 50, 100, WAIT)
    b.wait_blocked()
    a.run(lock, fa, FREE, 1 << 62, 50)
    assert not b.answered(0.05)
    a.run(lock, fa, FREE, (1 << 62) + 50, 50)
    b.result()
    assert a.run(holder, fa) == (WRITE, (1 << 62) + 50, 100, b.pid)


def test_a_signal_ends_the_waiting(f, others):
    a, b = others(2)
    fa, fb = a.open(f), b.open(f)
    b.run(take_signal, signal.SIGUSR1)
    a.run(lock, fa, WRITE, 5, 5)
    for _ in range(2):
        b.begin(lock, fb, WRITE, 0, 10, WAIT)
        b.wait_blocked()
        b.send(signal.SIGUSR1)
        with fails(errno.EINTR):
            b.result()
    a.run(lock, fa, FREE, 5, 5)
    assert a.run(holder, fa) is None, "the interrupted request was granted later"
    b.run(lock, fb, WRITE, 0, 10, WAIT)
    assert a.run(holder, fa) == (WRITE, 0, 10, b.pid)


def test_one_who_is_killed_while_waiting_gets_nothing(f, others):
    a, b, c = others(3)
    fa, fb, fc = a.open(f), b.open(f), c.open(f)
    a.run(lock, fa, WRITE)
    for who, fd in ((b, fb), (c, fc)):
        who.begin(lock, fd, WRITE, 0, 10, WAIT)
        who.wait_blocked()
    b.end(signal.SIGKILL)
    a.run(lock, fa, FREE)
    c.result()
    assert a.run(holder, fa) == (WRITE, 0, 10, c.pid)


@pytest.mark.parametrize("count", [2, 3])
def test_a_deadlock_is_refused(f, others, count):
    """Each holds a byte and waits for its neighbour's; the last one may not."""
    procs = others(count)
    fds = [p.open(f) for p in procs]
    for i, p in enumerate(procs):
        p.run(lock, fds[i], WRITE, 1000 + i, 1)
    for i, p in enumerate(procs[:-1]):
        p.begin(lock, fds[i], WRITE, 1001 + i, 1, WAIT)
        p.wait_blocked()
    with fails(errno.EDEADLK):
        procs[-1].run(lock, fds[-1], WRITE, 1000, 1, WAIT)
    procs[-1].run(lock, fds[-1], FREE)
    procs[-2].result()
    assert procs[-1].run(holder, fds[-1], 1000 + count - 1, 1)[3] == procs[-2].pid


def add_in_turns(path, times, cmd):
    """Count in a file that holds a number, under a lock far beyond it."""
    fd = os.open(path, os.O_RDWR)
    for _ in range(times):
        lock(fd, WRITE, LAST - 5, 2, cmd)
        value = int(os.pread(fd, 20, 0))
        os.pwrite(fd, b"%019d" % (value + 1), 0)
        lock(fd, FREE, LAST - 5, 2, SET if cmd == WAIT else OFD_SET)
    os.close(fd)


def test_processes_that_count_lose_no_step(f, others):
    put(f, b"%019d" % 0)
    procs = others(4)
    for p in procs:
        p.begin(add_in_turns, f, 150, WAIT)
    for p in procs:
        p.result()
    assert int(get(f)) == 600


def test_threads_and_processes_that_count_lose_no_step(f, others):
    """Each thread has an open file description of its own; the kernel knows them apart."""
    put(f, b"%019d" % 0)
    p = others()[0]
    p.begin(add_in_turns, f, 150, WAIT)
    threads = [threading.Thread(target=add_in_turns, args=(f, 100, OFD_WAIT)) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    p.result()
    assert int(get(f)) == 450
