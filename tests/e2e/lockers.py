"""Locks on byte ranges, and other processes that hold them.

Other is a process that carries out calls one by one, so that a test can say who does what and
when.  Python's fcntl repeats a call that a signal ended and hides who holds what, so the struct
flock is ours.
"""
import contextlib
import ctypes
import errno
import fcntl
import multiprocessing
import os
import signal

import pytest

from clubsite import PR_SET_PDEATHSIG, wait_for

READ, WRITE, FREE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
GET, SET, WAIT = fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW
# Of an open file description instead of a process.
OFD_GET, OFD_SET, OFD_WAIT = fcntl.F_OFD_GETLK, fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW
LAST = (1 << 63) - 1        # the last byte that can be locked
ANSWER_S = 60

_libc = ctypes.CDLL(None, use_errno=True)


class Flock(ctypes.Structure):
    _fields_ = [("type", ctypes.c_short), ("whence", ctypes.c_short), ("start", ctypes.c_int64),
                ("len", ctypes.c_int64), ("pid", ctypes.c_int32)]


def _fcntl(fd, cmd, kind, start, length):
    range_ = Flock(kind, os.SEEK_SET, start, length, 0)
    if _libc.fcntl(fd, cmd, ctypes.byref(range_)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return range_


def lock(fd, kind, start=0, length=0, cmd=SET):
    """Lock or free @length bytes from @start; 0 bytes are all up to LAST."""
    _fcntl(fd, cmd, kind, start, length)


def try_lock(fd, kind, start=0, length=0, cmd=SET):
    """True if it was granted, False if another owner holds something there."""
    try:
        _fcntl(fd, cmd, kind, start, length)
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def holder(fd, start=0, length=0, kind=WRITE, cmd=GET):
    """Who would refuse such a lock: (kind, start, length, pid), or None."""
    got = _fcntl(fd, cmd, kind, start, length)
    return None if got.type == FREE else (got.type, got.start, got.len, got.pid)


def try_flock(fd, how):
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def kernel_locks():
    """[(waits, pid, inode)] of all locks of the machine."""
    found = []
    with open("/proc/locks", encoding="ascii") as f:
        for line in f:
            words = line.split()[1:]
            waits = words[0] == "->"
            pid, where = words[waits + 3:waits + 5]
            found.append((waits, int(pid), int(where.split(":")[2])))
    return found


def kill(pid, signo=signal.SIGKILL):
    """Signal one process.  The owner that a lock names may be -1, and to kill(2) that is all."""
    if pid <= 1:
        raise ValueError(f"{pid} is not a process of ours")
    os.kill(pid, signo)


def take_signal(signo):
    """Let a signal end a waiting call and nothing else."""
    signal.signal(signo, lambda *_: None)


class Other:
    """A process that does what it is told, with none of our descriptors.

    What it is told must be a function of a module, not one made inside a test."""

    def __init__(self):
        self.pipe, inner = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                top = os.sysconf("SC_OPEN_MAX")
                os.closerange(3, inner.fileno())
                os.closerange(inner.fileno() + 1, min(top, 65536))
                self._serve(inner)
            finally:
                os._exit(0)
        inner.close()

    @staticmethod
    def _serve(pipe):
        while True:
            try:
                function, args = pipe.recv()
            except (EOFError, OSError):
                return
            try:
                answer = (True, function(*args))
            except BaseException as e:      # pylint: disable=broad-except
                answer = (False, e)
            pipe.send(answer)

    def begin(self, function, *args):
        """Start it, and do not wait: it may block."""
        self.pipe.send((function, args))

    def answered(self, seconds=0):
        return self.pipe.poll(seconds)

    def result(self):
        if not self.pipe.poll(ANSWER_S):
            raise TimeoutError(f"process {self.pid} did not answer")
        good, value = self.pipe.recv()
        if good:
            return value
        raise value

    def run(self, function, *args):
        self.begin(function, *args)
        return self.result()

    def open(self, path, flags=os.O_RDWR | os.O_CREAT):
        return self.run(os.open, path, flags, 0o666)

    def wait_blocked(self):
        """Until the kernel lists it among those who wait for a lock."""
        def blocked():
            assert not self.answered(), "it did not wait"
            return any(waits and pid == self.pid for waits, pid, _ in kernel_locks())
        wait_for(f"process {self.pid} waits for a lock", blocked, 20)

    def send(self, signo):
        kill(self.pid, signo)

    def end(self, signo=signal.SIGKILL):
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signo)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.pipe.close()


@pytest.fixture
def others():
    """others(n) is a list of n new processes; all are ended after the test."""
    made = []

    def make(count=1):
        new = [Other() for _ in range(count)]
        made.extend(new)
        return new

    yield make
    for other in made:
        other.end()
