"""A club that stands still while it is copied: clubctl freeze and thaw on a mount in use."""
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

import clubsite
from clubsite import as_user, wait_for
from oslib import PAGE, describe_tree, fails, get, pattern, put, pwrite

WORTHLESS = "worth nothing"


def ctl(mnt, command, *args, club="alpha", **more):
    return mnt.site.ctl(command, mnt.store, club, *args, check=False, **more)


def freeze(mnt, *args, club="alpha"):
    done = ctl(mnt, "freeze", *args, club=club)
    assert done.returncode == 0, done.stderr


def thaw(mnt, club="alpha"):
    done = ctl(mnt, "thaw", club=club)
    assert done.returncode == 0, done.stderr


def state(mnt, club="alpha"):
    """What clubctl status says of an unlocked club; None if it is not unlocked."""
    found = json.loads(mnt.site.ctl("status", mnt.store, "--json").stdout)["store"]["unlocked"]
    return {c["name"]: c for c in found}.get(club)


def fingerprint(top):
    """Everything that a copy could see of the files below @top, as a comparable dictionary."""
    found = {}
    for parent, dirs, files in os.walk(top):
        for name in [".", *dirs, *files]:
            path = os.path.join(parent, name)
            st = os.lstat(path)
            data = None
            if stat.S_ISREG(st.st_mode):
                data = hashlib.sha256(get(path)).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                data = os.readlink(path)
            found[path] = (st.st_ino, st.st_mode, st.st_nlink, st.st_size, st.st_ctime_ns,
                           st.st_mtime_ns, data)
    return found


def view(top):
    """The club as a user sees it, without the inode numbers, which a copy cannot keep."""
    return {k: v[:1] + v[2:] for k, v in describe_tree(top).items()}


def fill(top):
    """Some of everything that a club holds."""
    top = pathlib.Path(top)
    for name, size in (("empty", 0), ("small", 10), ("direct", 100 * PAGE), ("big", 300 * PAGE)):
        put(top / name, pattern(size, name))
    os.makedirs(top / "a" / "b")
    put(top / "a" / "b" / ("ü" * 127), b"long name")
    os.link(top / "small", top / "a" / "hard link")
    os.symlink("../small", top / "a" / "symlink")
    with open(top / "sparse", "wb") as f:
        f.truncate(1000 * PAGE)
        f.seek(500 * PAGE)
        f.write(b"island")
    os.setxattr(top / "big", "user.note", b"n")
    os.chmod(top / "direct", 0o640)


class Writer:
    """Changes contents, and nothing else, until it is told to stop; knows what must be there."""

    def __init__(self, top):
        self.files = {name: bytearray(get(os.path.join(top, name))) for name in ("big", "direct")}
        self.fds = {name: os.open(os.path.join(top, name), os.O_RDWR) for name in self.files}
        self.rounds, self.error, self.stopped = 0, None, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.stopped.is_set():
                for name, fd in self.fds.items():
                    self._round(self.files[name], fd, self.rounds)
                self.rounds += 1
                time.sleep(0.002)       # not so fast that it fills the journal of the freeze
        except BaseException as e:      # pylint: disable=broad-except
            self.error = e

    @staticmethod
    def _round(data, fd, n):
        page = pattern(PAGE, n)
        at = n * 7 % 90 * PAGE + n % 3 * 100
        assert os.pwrite(fd, page, at) == PAGE
        assert os.pread(fd, PAGE, at) == page
        data += bytes(max(0, at + PAGE - len(data)))
        data[at:at + PAGE] = page
        if n % 10 == 1:
            data += b"appended" * 100
            os.pwrite(fd, b"appended" * 100, len(data) - 800)
        if n % 10 == 5:
            del data[-3000:]
            os.ftruncate(fd, len(data))
        if n % 25 == 0:
            os.fsync(fd)

    def __enter__(self):
        self.thread.start()
        wait_for("the writer's first round", lambda: self.rounds or self.error)
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        for fd in self.fds.values():
            os.close(fd)
        if self.error:
            raise self.error

    def check(self, top):
        for name, data in self.files.items():
            assert get(os.path.join(top, name)) == data, name


class Waiting:
    """Runs functions, each in a process of its own; tells which have come to an end."""

    def __init__(self, functions):
        self.pids, self.status = {}, {}
        for what, function in functions.items():
            pid = os.fork()
            if pid == 0:
                code = 99
                try:
                    signal.signal(signal.SIGINT, lambda *_: None)
                    function()
                    code = 0
                except OSError as e:
                    code = e.errno
                finally:
                    os._exit(code)
            self.pids[pid] = what

    def poll(self):
        for pid in list(self.pids):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.status[self.pids.pop(pid)] = os.waitstatus_to_exitcode(status)
        return self.status

    def pid(self, what):
        return next(p for p, w in self.pids.items() if w == what)

    def all(self, timeout=15):
        wait_for("processes that wait for the thaw", lambda: self.poll() and not self.pids,
                 timeout)
        return self.status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)


##### What a freeze promises

def test_no_file_changes_while_frozen_and_nothing_written_is_lost(mnt, club):
    fill(club)
    folder = os.path.join(mnt.store, "clubs", "alpha")
    with Writer(club) as writer:
        freeze(mnt)
        before = fingerprint(folder)
        rounds = writer.rounds
        time.sleep(2)
        assert writer.rounds > rounds + 10, "writing did not go on"
        assert fingerprint(folder) == before
        assert state(mnt)["frozen"] and 0 < state(mnt)["thaw_in_s"] <= 600
        thaw(mnt)
        assert not state(mnt)["frozen"]
    writer.check(club)
    assert fingerprint(folder) != before
    mnt.umount()
    writer.check(mnt.site.mount(mnt.store, "allow_other" if os.geteuid() == 0 else "",
                                name="again").join("alpha"))


def copy_rsync(source, target):
    # else it takes times of the same second for the same
    subprocess.run(["rsync", "-aH", "--modify-window=-1", source + "/", target + "/"], check=True)


def copy_tar(source, target):
    os.mkdir(target)
    subprocess.run(f"tar -C '{source}' --format=posix -cf - . | tar -C '{target}' -xpf -",
                   shell=True, check=True)


@pytest.mark.parametrize("copy", [copy_rsync, copy_tar])
def test_a_copy_is_the_club_as_it_was_at_the_freeze(mnt, club, copy):
    site = mnt.site
    fill(club)
    other = site.mkdir("restored")
    os.mkdir(os.path.join(other, "clubs"))
    shutil.copy(os.path.join(mnt.store, "store.conf"), other)
    freeze(mnt)
    before = view(club)
    assert len(before) > 8
    with Writer(club) as writer:
        copy(os.path.join(mnt.store, "clubs", "alpha"), os.path.join(other, "clubs", "alpha"))
        rounds = writer.rounds
        wait_for("rounds after the copy", lambda: writer.rounds > rounds + 5 or writer.error)
    thaw(mnt)
    assert view(club) != before
    again = site.mount(other, "allow_other" if os.geteuid() == 0 else "", name="again")
    assert view(again.join("alpha")) == before


def test_a_thaw_brings_every_kind_of_change_home(mnt, club):
    """More than the ends of blocks: holes, growth far out, a file cut to nothing."""
    names = {n: os.path.join(club, n) for n in ("hole", "far", "cut", "same")}
    for name, path in names.items():
        put(path, pattern(200 * PAGE, name))
    fds = {name: os.open(path, os.O_RDWR) for name, path in names.items()}
    freeze(mnt)
    subprocess.run(["fallocate", "-p", "-o", str(5 * PAGE + 1), "-l", str(90 * PAGE),
                    names["hole"]], check=True)
    os.pwrite(fds["far"], b"far", 5000 * PAGE + 1)
    os.ftruncate(fds["cut"], 0)
    os.pwrite(fds["cut"], b"new", 10)
    expected = {name: get(path) for name, path in names.items()}
    assert expected["cut"] == bytes(10) + b"new" and len(expected["far"]) == 5000 * PAGE + 4
    assert expected["hole"][5 * PAGE + 1:95 * PAGE + 1] == bytes(90 * PAGE)
    thaw(mnt)
    assert {name: get(path) for name, path in names.items()} == expected
    for fd in fds.values():
        os.close(fd)
    mnt.umount()
    again = mnt.site.mount(mnt.store, name="again")
    assert {n: get(again.join("alpha", n)) for n in names} == expected


##### What waits, and what does not

def waiting_calls(club):
    """Everything that makes, moves or removes names or changes attributes."""
    p = lambda name: os.path.join(club, name)       # noqa: E731
    for name in ("unlinked", "renamed", "linked", "moded", "timed", "noted", "denoted", "cut"):
        put(p(name), b"x" * 100)
    os.setxattr(p("denoted"), "user.note", b"n")
    os.mkdir(p("removed"))
    calls = {
        "create": lambda d: os.close(os.open(d + "/new", os.O_CREAT | os.O_WRONLY)),
        "mkdir": lambda d: os.mkdir(d + "/new"),
        "mkfifo": lambda d: os.mkfifo(d + "/new"),
        "symlink": lambda d: os.symlink("x", d + "/new"),
        "link": lambda d: os.link(p("linked"), d + "/new"),
        "rename": lambda d: os.rename(p("renamed"), d + "/new"),
    }
    for what in calls:      # directories of their own: the kernel lets in one at a time
        os.mkdir(p("for " + what))
    made = {what: lambda f=f, what=what: f(p("for " + what)) for what, f in calls.items()}
    return {**made,
            "chmod": lambda: os.chmod(p("moded"), 0o600),
            "utime": lambda: os.utime(p("timed"), (1, 2)),
            "setxattr": lambda: os.setxattr(p("noted"), "user.note", b"n"),
            "removexattr": lambda: os.removexattr(p("denoted"), "user.note")}


def test_what_changes_names_waits_and_is_done_after_the_thaw(mnt, club):
    calls = waiting_calls(club)
    freeze(mnt)
    with Waiting(calls) as waiting:
        time.sleep(1)
        assert waiting.poll() == {}
        # and all of them together keep nobody from reading and writing
        assert get(os.path.join(club, "linked")) == b"x" * 100
        fd = os.open(os.path.join(club, "cut"), os.O_RDWR)
        os.pwrite(fd, b"y" * 200, 0)
        os.ftruncate(fd, 150)
        os.fsync(fd)
        os.close(fd)
        assert get(os.path.join(club, "cut")) == b"y" * 150
        thaw(mnt)
        assert waiting.all() == dict.fromkeys(calls, 0)
    for what in ("create", "mkdir", "mkfifo", "symlink", "link", "rename"):
        assert os.listdir(os.path.join(club, "for " + what)) == ["new"], what
    assert stat.S_IMODE(os.stat(os.path.join(club, "moded")).st_mode) == 0o600
    assert os.stat(os.path.join(club, "timed")).st_mtime == 2
    assert os.getxattr(os.path.join(club, "noted"), "user.note") == b"n"
    assert os.listxattr(os.path.join(club, "denoted")) == []


def test_removing_waits_too(mnt, club):
    put(os.path.join(club, "f"))
    os.mkdir(os.path.join(club, "d"))
    os.mkdir(os.path.join(club, "d", "e"))
    freeze(mnt)
    with Waiting({"unlink": lambda: os.unlink(os.path.join(club, "f")),
                  "rmdir": lambda: os.rmdir(os.path.join(club, "d", "e"))}) as waiting:
        time.sleep(0.5)
        assert waiting.poll() == {}
        thaw(mnt)
        assert waiting.all() == {"unlink": 0, "rmdir": 0}
    assert os.listdir(club) == ["d"] and os.listdir(os.path.join(club, "d")) == []


def work_in(top, rounds=30):
    """A bit of everything, in another club."""
    for i in range(rounds):
        name = os.path.join(top, f"f{i}")
        put(name, pattern(3 * PAGE, i))
        os.mkdir(name + ".d")
        os.rename(name, name + ".d/f")
        assert get(name + ".d/f") == pattern(3 * PAGE, i)
        os.unlink(name + ".d/f")
        os.rmdir(name + ".d")


def test_other_clubs_go_on_while_many_wait(mnt, club):
    dirs = [os.path.join(club, f"d{i}") for i in range(40)]
    for path in dirs:
        os.mkdir(path)
    put(os.path.join(club, "f"), b"readable")
    freeze(mnt)
    with Waiting({p: lambda p=p: put(p + "/new", b"x") for p in dirs}) as waiting:
        time.sleep(0.5)
        began = time.monotonic()
        work_in(mnt.join("beta"))
        assert get(os.path.join(club, "f")) == b"readable"
        assert time.monotonic() - began < 10
        assert waiting.poll() == {}
        thaw(mnt)
        assert waiting.all() == dict.fromkeys(dirs, 0)
    assert all(get(p + "/new") == b"x" for p in dirs)


def test_a_freeze_in_the_middle_of_many_creates_leaves_threads_for_others(mnt, club):
    """Who is on the way into the club when it freezes must not stay in there."""
    stop = os.path.join(mnt.site.top, "stop")
    dirs = [os.path.join(club, f"d{i}") for i in range(16)]
    for path in dirs:
        os.mkdir(path)

    def churn(path):
        n = 0
        while not os.path.exists(stop):
            put(f"{path}/{n % 50}", b"x")
            os.unlink(f"{path}/{n % 50}")
            n += 1

    with Waiting({p: lambda p=p: churn(p) for p in dirs}) as waiting:
        for _ in range(8):
            time.sleep(0.1)
            freeze(mnt)
            began = time.monotonic()
            work_in(mnt.join("beta"), 3)
            assert time.monotonic() - began < 5
            thaw(mnt)
        put(stop)
        assert waiting.all(60) == dict.fromkeys(dirs, 0)


def test_a_signal_ends_the_wait(mnt, club):
    os.mkdir(os.path.join(club, "d"))
    freeze(mnt)
    with Waiting({"killed": lambda: os.mkdir(os.path.join(club, "new")),
                  "asked": lambda: os.mkdir(os.path.join(club, "d", "new"))}) as waiting:
        time.sleep(0.3)
        assert waiting.poll() == {}
        os.kill(waiting.pid("killed"), signal.SIGKILL)
        os.kill(waiting.pid("asked"), signal.SIGINT)
        # Python calls again after EINTR, so only a second signal shows; the first must not hurt
        time.sleep(0.3)
        assert waiting.poll().get("killed") == -signal.SIGKILL
        thaw(mnt)
        waiting.all()
    assert "new" not in os.listdir(club)
    os.mkdir(os.path.join(club, "new"))


@pytest.mark.root
def test_set_id_bits_go_also_when_the_write_had_to_wait(mnt, club):
    path = put(os.path.join(club, "f"), b"program", 0o777)
    os.chmod(path, 0o6777)
    os.chmod(club, 0o777)
    os.stat(path)
    freeze(mnt)
    with Waiting({"write": lambda: as_user(1234, pwrite, path, b"changed", 0)}) as waiting:
        time.sleep(0.3)
        assert waiting.poll() == {}
        work_in(mnt.join("beta"), 1)
        thaw(mnt)
        assert waiting.all() == {"write": 0}
    assert get(path) == b"changed"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777


##### How a freeze ends

def test_a_freeze_ends_by_itself(mnt, club):
    put(os.path.join(club, "f"), b"x")
    freeze(mnt, "--limit", "1")
    began = time.monotonic()
    os.mkdir(os.path.join(club, "new"))
    assert 0.5 < time.monotonic() - began < 5
    done = ctl(mnt, "thaw")
    assert done.returncode == 1 and WORTHLESS in done.stderr and "by itself" in done.stderr
    freeze(mnt)         # and the next one is as good as any
    thaw(mnt)


@pytest.mark.skipif(clubsite.SAN, reason="writes a gigabyte")
def test_a_freeze_ends_when_too_much_is_written(mnt, club):
    """The same few megabytes again and again: the journal of a freeze keeps every write."""
    blocks = [pattern(1 << 20, i) for i in range(8)]
    with open(os.path.join(club, "f"), "wb+", buffering=0) as f:
        freeze(mnt)
        room = state(mnt)["journal_max"]
        assert room >= 64 << 20
        for i in range(2 * (room >> 20)):
            os.pwrite(f.fileno(), blocks[(i + i // 8) % 8], i % 8 << 20)
            if i % 32 == 31 and not state(mnt)["frozen"]:
                break
        done = ctl(mnt, "thaw")
        assert done.returncode == 1 and WORTHLESS in done.stderr
        assert "journal is full" in mnt.stderr()
        for j in range(i - 7, i + 1):
            assert os.pread(f.fileno(), 1 << 20, j % 8 << 20) == blocks[(j + j // 8) % 8]


def test_freeze_twice_and_thaw_twice(mnt, club):
    put(os.path.join(club, "f"), b"x")
    freeze(mnt)
    done = ctl(mnt, "freeze")
    assert done.returncode == 1 and "frozen already" in done.stderr
    thaw(mnt)
    done = ctl(mnt, "thaw")
    assert done.returncode == 1 and "not frozen" in done.stderr and WORTHLESS in done.stderr
    for _ in range(3):
        freeze(mnt)
        pwrite(os.path.join(club, "f"), b"y", 0)
        thaw(mnt)
    assert get(os.path.join(club, "f")) == b"y"


def test_freezes_of_two_clubs_do_not_meet(mnt, club):
    put(os.path.join(club, "f"), b"x")
    put(mnt.join("beta", "f"), b"x")
    freeze(mnt)
    freeze(mnt, club="beta")
    pwrite(os.path.join(club, "f"), b"a", 0)
    pwrite(mnt.join("beta", "f"), b"b", 0)
    thaw(mnt)
    put(os.path.join(club, "g"))
    assert state(mnt, "beta")["frozen"] and not state(mnt)["frozen"]
    thaw(mnt, club="beta")
    assert get(os.path.join(club, "f")) == b"a" and get(mnt.join("beta", "f")) == b"b"


def test_a_daemon_killed_while_frozen_has_lost_nothing(mnt, club):
    fill(club)
    with Writer(club) as writer:
        freeze(mnt)
        time.sleep(1)
    mnt.kill()
    mnt.umount()
    again = mnt.site.mount(mnt.store, name="again")
    writer.check(again.join("alpha"))
    done = mnt.site.ctl("thaw", mnt.store, "alpha", check=False)
    assert done.returncode == 1 and WORTHLESS in done.stderr
    put(again.join("alpha", "new"), b"x")
    again.umount()
    left = os.path.join(mnt.store, "frozen")
    assert not os.path.exists(left) or os.listdir(left) == []


def test_unmounting_thaws(mnt, club):
    fill(club)
    freeze(mnt)
    with Writer(club) as writer:
        time.sleep(0.3)
    mnt.umount()
    assert WORTHLESS in mnt.stderr()
    done = ctl(mnt, "thaw")
    assert done.returncode == 1 and WORTHLESS in done.stderr
    again = mnt.site.mount(mnt.store, name="again")
    writer.check(again.join("alpha"))


def test_sigterm_lets_those_who_wait_finish(mnt, club):
    os.mkdir(os.path.join(club, "d"))
    freeze(mnt)
    with Waiting({"a": lambda: put(os.path.join(club, "new"), b"x"),
                  "b": lambda: os.mkdir(os.path.join(club, "d", "new"))}) as waiting:
        time.sleep(0.3)
        mnt.proc.terminate()
        # made, or told that the mount has gone: not left in the dark
        gone = (0, errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
        assert all(status in gone for status in waiting.all().values())
    mnt.umount()


@contextlib.contextmanager
def fusectl(site):
    """The kernel's list of FUSE connections, mounted for the test alone."""
    where = site.mkdir("fusectl")
    done = subprocess.run(["mount", "-t", "fusectl", "none", where], check=False,
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip("no fusectl")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.root
def test_a_cut_connection_does_not_hang_the_daemon(mnt, club):
    dirs = [os.path.join(club, f"d{i}") for i in range(20)]
    for path in dirs:
        os.mkdir(path)
    dev = os.stat(mnt.path).st_dev
    freeze(mnt)
    with fusectl(mnt.site) as connections, \
            Waiting({p: lambda p=p: os.mkdir(p + "/new") for p in dirs}) as waiting:
        time.sleep(0.3)
        put(os.path.join(connections, str(os.minor(dev)), "abort"), b"1")
        assert set(waiting.all().values()) == {errno.ECONNABORTED}
    mnt.umount()
    again = mnt.site.mount(mnt.store, name="again")
    assert sorted(os.listdir(again.join("alpha"))) == sorted(os.path.basename(p) for p in dirs)


def test_a_frozen_club_stays_open_without_users(mnt, club):
    """Its keys must not go, and the freeze with them, while nobody looks in."""
    put(os.path.join(club, "f"), b"x")
    freeze(mnt)
    if os.geteuid() == 0:
        put("/proc/sys/vm/drop_caches", b"2")
    time.sleep(7)
    assert state(mnt)["frozen"]
    thaw(mnt)


##### Who may ask, and how

def test_a_locked_club_cannot_be_frozen(mnt):
    for command, word in (("freeze", "locked"), ("thaw", "locked")):
        done = ctl(mnt, command)
        assert done.returncode == 1 and word in done.stderr
    done = ctl(mnt, "freeze", club="no such club")
    assert done.returncode == 1 and "no club" in done.stderr


def test_a_store_that_is_not_mounted(site, keyd):       # pylint: disable=unused-argument
    store = site.store("alpha")
    done = site.ctl("freeze", store, "alpha", check=False)
    assert done.returncode == 1 and "mounted" in done.stderr
    done = site.ctl("thaw", store, "alpha", check=False)
    assert done.returncode == 1 and WORTHLESS in done.stderr


@pytest.mark.parametrize("args", [("--limit", "0"), ("--limit", "x"), ("--limit",),
                                  ("--limit", "86401"), ("--limt", "1")])
def test_wrong_limits(mnt, args):
    assert ctl(mnt, "freeze", *args).returncode == 2


def test_json(mnt, club):
    put(os.path.join(club, "f"), b"x")
    done = ctl(mnt, "freeze", "--json", "--limit=77")
    assert json.loads(done.stdout) == {"club": "alpha", "frozen": True, "limit_s": 77}
    shown = mnt.site.ctl("status", mnt.store).stdout
    assert "club alpha: unlocked, frozen" in shown and "journal: " in shown
    assert json.loads(ctl(mnt, "thaw", "--json").stdout) == {"club": "alpha", "frozen": False}
    found = state(mnt)
    assert found["readonly"] is False and found["journal_max"] > 0
    assert state(mnt, "beta") is None


def test_the_socket_comes_and_goes_with_the_mount(mnt, club):
    name = os.path.join(mnt.store, "control")
    st = os.stat(name)
    assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600
    put(os.path.join(club, "f"))
    mnt.kill()
    mnt.umount()
    assert os.path.exists(name)         # what a kill leaves behind
    done = ctl(mnt, "freeze")
    assert done.returncode == 1 and "nobody" in done.stderr
    again = mnt.site.mount(mnt.store, name="again")
    put(again.join("alpha", "f"))
    freeze(again)
    thaw(again)
    again.umount()
    assert not os.path.exists(name)


def test_mounts_of_single_clubs_have_sockets_of_their_own(site, keyd):
    # pylint: disable=unused-argument
    long = "ä" * 100
    deep = "/".join(["a long name of a directory"] * 6)
    site.mkdir(os.path.dirname(deep))
    store = site.store("alpha", long, name=deep)
    mounts = [site.mount(store, f"club={c}", name=f"m{i}") for i, c in enumerate(("alpha", long))]
    for mount, name in zip(mounts, ("alpha", long)):
        assert os.path.exists(os.path.join(store, "control." + name))
        put(mount.join(name, "f"), b"x")
        freeze(mount, club=name)
        thaw(mount, club=name)
    found = json.loads(site.ctl("status", store, "--json").stdout)["store"]["unlocked"]
    assert sorted(c["name"] for c in found) == sorted(["alpha", long])
    for mount in mounts:
        mount.umount()
    assert not [n for n in os.listdir(store) if n.startswith("control")]


def talk(path, *packets):
    """Send packets over the control socket; what came back."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(10)
    s.connect(path)
    answers = []
    for p in packets:
        s.send(p)
        answers.append(s.recv(4096))
    s.close()
    return answers


def test_junk_on_the_socket_does_no_harm(mnt, club):
    put(os.path.join(club, "f"))
    name = os.path.join(mnt.store, "control")
    for junk in (b"x", b"CTL1" + bytes(12), b"CTL1" + b"\xff" * 4000, bytes(100_000)):
        assert b"not a request" in talk(name, junk)[0]
    held = []
    for _ in range(40):         # more than it keeps: those beyond are sent away
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(name)
        held.append(s)
    for s in held:
        s.close()
    freeze(mnt)
    thaw(mnt)


def ask_as_stranger(name):
    try:
        return talk(name, b"x")[0]
    except OSError as e:
        return e.errno


@pytest.mark.root
def test_strangers_get_no_answer(mnt):
    name = os.path.join(mnt.store, "control")
    assert as_user(1234, ask_as_stranger, name) == errno.EACCES
    os.chmod(mnt.store, 0o755)
    os.chmod(name, 0o666)
    answer = as_user(1234, ask_as_stranger, name)
    assert answer in (errno.EPIPE, errno.ECONNRESET) or b"only root" in answer


def test_commit_option(site, keyd):     # pylint: disable=unused-argument
    store = site.store("alpha")
    for bad in ("0", "301", "x", "-1"):
        done = site.run("clubfs", store, site.mkdir("m"), "-o", f"commit={bad}", check=False)
        assert done.returncode == 2 and "1 to 300" in done.stderr
    mnt = site.mount(store, "commit=300")
    put(mnt.join("alpha", "f"), b"x")
    with fails(errno.ENOENT):
        os.stat(mnt.join("alpha", "g"))
    assert clubsite.mounted(mnt.path)
