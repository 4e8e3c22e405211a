"""Leases: granted, renewed, given back, revoked; what the mount does when one ends, and when the
key daemon is gone for a while.  Real daemons, real mounts."""
import errno
import faulthandler
import mmap
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

import clubsite
from oslib import PAGE, get, put

pytestmark = pytest.mark.root
ALICE, BOB = 4001, 4002
SLOWER = 10 if clubsite.SAN else 1


def config(**settings):
    return "".join(f"{k.replace('_', '-')} {v}\n" for k, v in settings.items())


def make(site, *clubs, opts="", ttl=900, names=("alpha", "beta")):
    """A key daemon, and a store with these clubs, mounted for everybody."""
    keyd = site.keyd(config(key_ttl=ttl))
    store = site.store(*(clubs or names))
    mnt = site.mount(store, ",".join(filter(None, ["allow_other", opts])))
    for club in clubs or names:
        os.chmod(mnt.join(club), 0o777)
    return keyd, mnt


def again(site, keyd):
    """Another key daemon in the place of @keyd."""
    return site.add(clubsite.Keyd(site, keyd.state, keyd.run, os.path.join(
        site.top, "state.conf")))


def events(keyd, *kinds, club=None):
    return [r for r in keyd.audit() if r["ev"] in kinds and club in (None, r.get("club"))]


def revoke(site, *args, check=True):
    return site.ctl("revoke", *args, check=check)


def error_of(action, *args):
    """The errno that action() gets, 0 if it succeeds."""
    try:
        action(*args)
    except OSError as e:
        return e.errno
    return 0


class User:
    """A process of another user that does what it is told and keeps its files open."""

    def __init__(self, uid):
        self.uid = uid
        self.ask, ask = os.pipe()
        answer, self.answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask)
            os.umask(0)
            os.close(answer)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            self._serve()
        os.close(self.ask)
        os.close(self.answer)
        self.to, self.back = os.fdopen(ask, "w"), os.fdopen(answer)

    def _serve(self):
        fds, maps = {}, {}
        with os.fdopen(self.ask) as orders:
            for line in orders:
                word, name, *rest = line.rstrip("\n").split("\t")
                try:
                    if word == "open":
                        fds[name] = os.open(rest[0], os.O_RDWR | os.O_CREAT, 0o666)
                        got = ""
                    elif word == "read":
                        got = os.pread(fds[name], 4096, 0).decode()
                    elif word == "write":
                        got = os.pwrite(fds[name], rest[0].encode(), 0)
                    elif word == "sync":
                        got = os.fsync(fds[name])
                    elif word == "list":
                        got = sorted(os.listdir(name))
                    os.write(self.answer, f"0 {got}\n".encode())
                except OSError as e:
                    os.write(self.answer, f"{e.errno}\n".encode())
        os._exit(0)

    def do(self, *words):
        """(errno, answer)"""
        self.to.write("\t".join(words) + "\n")
        self.to.flush()
        err, _, got = self.back.readline().rstrip("\n").partition(" ")
        return int(err), got

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.to.close()
        self.back.close()


@pytest.fixture
def users():
    both = User(ALICE), User(BOB)
    yield both
    for u in both:
        u.close()


def locked(store, club):
    """Is the club locked, as its lock file says?"""
    path = pathlib.Path(store, "clubs", club, "lock")
    with open("/proc/locks", encoding="ascii") as f:
        inodes = {line.split()[5 if "->" not in line else 6].split(":")[2] for line in f}
    return str(path.stat().st_ino) not in inodes


def test_a_lease_is_granted_renewed_in_the_background_and_released_when_idle(site):
    keyd, mnt = make(site, "alpha", ttl=4, opts="idle=3")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"x" * 10000)
    with open(mnt.join("alpha", "f"), "rb", buffering=0) as f:
        granted = events(keyd, "key.get", club="alpha")
        assert len(granted) == 1 and granted[0]["ttl"] == 4 and len(granted[0]["lease"]) == 32
        end = time.monotonic() + 10
        while time.monotonic() < end:       # longer than two leases
            assert len(os.pread(f.fileno(), 10000, 0)) == 10000
            time.sleep(0.05)
        renewed = events(keyd, "key.renew", club="alpha")
        assert 2 <= len(renewed) <= 8
        assert {r["lease"] for r in renewed} == {granted[0]["lease"]}
        assert all(r["res"] == "allow" and r["acting"]["uid"] == 0 for r in renewed)
    clubsite.wait_for("the idle lease was given back",
                      lambda: events(keyd, "key.release", club="alpha"), timeout=20)
    released = events(keyd, "key.release", club="alpha")[0]
    assert released["lease"] == granted[0]["lease"]
    clubsite.wait_for("the club was locked", lambda: locked(mnt.store, "alpha"))
    assert not events(keyd, "key.expire")
    assert get(pathlib.Path(mnt.join("alpha"), "f")) == b"x" * 10000
    assert len(events(keyd, "key.get", club="alpha")) == 2


def test_a_clients_leases_end_with_it(site):
    keyd, mnt = make(site, "alpha")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"x")
    lease = events(keyd, "key.get")[0]["lease"]
    mnt.kill()
    clubsite.wait_for("the record", lambda: events(keyd, "key.release"), timeout=10)
    ended = events(keyd, "key.release")
    assert [(r["lease"], r["why"]) for r in ended] == [(lease, "the holder has exited")]


def test_a_hundred_open_files_are_revoked_under_load_within_a_second(site):
    keyd, mnt = make(site, "alpha", "beta")
    other = pathlib.Path(mnt.join("beta"), "f")
    put(other, b"other" * 1000)
    files = []
    for i in range(100):
        path = pathlib.Path(mnt.join("alpha"), f"f{i}")
        put(path, bytes([i]) * 20000)
        files.append(os.open(path, os.O_RDWR))
    mapped = mmap.mmap(files[0], 20000)
    mapped[5:10] = b"DIRTY"
    stop, last, wrong, beta = threading.Event(), [0.0], [], []

    def load(part):
        rng = random.Random(part)
        while not stop.is_set():
            i = rng.randrange(100)
            try:
                if rng.random() < 0.2:
                    os.pwrite(files[i], bytes([i]) * 100, 15000)
                if os.pread(files[i], 4096, 8192) != bytes([i]) * 4096:
                    wrong.append(i)
                last[0] = time.monotonic()
            except OSError as e:
                if e.errno != errno.EKEYREVOKED:
                    wrong.append(e)

    def elsewhere():
        while not stop.is_set():
            if get(other) != b"other" * 1000:
                wrong.append("beta")
            beta.append(time.monotonic())

    crowd = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    crowd.append(threading.Thread(target=elsewhere))
    for t in crowd:
        t.start()
    time.sleep(1)
    began = time.monotonic()
    done = revoke(site, "alpha", "--reason", "left the club")
    took = time.monotonic() - began
    time.sleep(1)
    stop.set()
    for t in crowd:
        t.join()
    assert "revoked: 1 leases" in done.stdout
    assert not wrong
    print(f"clubctl revoke: {took:.3f} s; last readable byte: {last[0] - began:.3f} s")
    assert last[0] - began < 1 * SLOWER and took < 3 * SLOWER
    assert beta[-1] > began + 1, "other clubs go on"
    for fd in files:
        assert error_of(os.pread, fd, 10, 0) == errno.EKEYREVOKED
        assert error_of(os.pwrite, fd, b"x", 0) == errno.EKEYREVOKED
        assert error_of(os.fsync, fd) == errno.EKEYREVOKED
        assert error_of(os.ftruncate, fd, 1) == errno.EKEYREVOKED
    sent, = events(keyd, "revoke.sent")
    assert (sent["club"], sent["leases"], sent["holders"], sent["reason"]) == (
        "alpha", 1, 1, "left the club")
    ack, = events(keyd, "revoke.ack")
    assert ack["of"] == sent["seq"] and ack["leases"] == 1 and ack["seq"] > sent["seq"]
    # whoever comes now is asked for anew, and what was acknowledged is there
    assert get(pathlib.Path(mnt.join("alpha"), "f0"))[5:10] == b"DIRTY"
    assert get(pathlib.Path(mnt.join("alpha"), "f1"))[:10] == b"\1" * 10
    gets = events(keyd, "key.get", club="alpha")
    assert len(gets) == 2 and gets[1]["seq"] > ack["seq"]
    assert error_of(os.pread, files[1], 10, 0) == errno.EKEYREVOKED, "old ones stay dead"
    mapped.close()
    for fd in files:
        os.close(fd)


def child_reads(path, then):
    """Map the file, wait for @then(), touch it again: the signal that ended the child, or 0."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        fd = os.open(path, os.O_RDONLY)
        area = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        area[0]                                 # pylint: disable=pointless-statement
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        area[0]                                 # pylint: disable=pointless-statement
        os._exit(0)
    os.read(ready[0], 1)
    then()
    os.write(go[1], b"x")
    status = os.waitpid(pid, 0)[1]
    for fd in ready + go:
        os.close(fd)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def test_a_mapping_of_a_revoked_club_gives_sigbus(site):
    _, mnt = make(site, "alpha")
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"secret" * 1000)
    assert child_reads(path, lambda: None) == 0
    assert child_reads(path, lambda: revoke(site, "alpha")) == signal.SIGBUS


def test_names_and_pages_are_gone_from_the_kernel_and_the_lock_from_the_store(site):
    _, mnt = make(site, "alpha")
    top = pathlib.Path(mnt.join("alpha"))
    (top / "deep").mkdir()
    put(top / "deep/f", b"plain" * 10000)
    put(top / "closed", b"plain" * 10000)
    get(top / "closed")
    fd = os.open(top / "deep/f", os.O_RDONLY)
    folder = os.open(top / "deep", os.O_RDONLY)
    os.pread(fd, 50000, 0)
    assert os.listdir(folder) == ["f"]
    assert not locked(mnt.store, "alpha")
    revoke(site, "alpha")
    assert locked(mnt.store, "alpha")
    assert error_of(os.listdir, folder) == errno.EKEYREVOKED
    resident = subprocess.run(["fincore", "-b", "-n", "-o", "RES", f"/proc/self/fd/{fd}"],
                              pass_fds=[fd], capture_output=True, text=True, check=True)
    assert int(resident.stdout) == 0
    os.close(fd)
    os.close(folder)


def test_one_of_two_users_of_a_club_is_revoked(site, users):
    keyd, mnt = make(site, "alpha")
    alice, bob = users
    shared, own = mnt.join("alpha", "shared"), mnt.join("alpha", "alices")
    for who in users:
        assert who.do("open", "s", shared) == (0, "")
    assert alice.do("write", "s", "hello") == (0, "5")
    assert bob.do("read", "s") == (0, "hello")
    assert alice.do("open", "own", own)[0] == 0 and alice.do("write", "own", "mine")[0] == 0
    assert alice.do("read", "own") == (0, "mine")
    assert "revoked: 1 leases" in revoke(site, "--user", str(ALICE)).stdout
    assert not locked(mnt.store, "alpha")
    assert alice.do("read", "own") == (errno.EKEYREVOKED, ""), "her pages are dropped"
    assert alice.do("read", "s") == (errno.EKEYREVOKED, "")
    assert alice.do("write", "s", "x") == (errno.EKEYREVOKED, "")
    assert alice.do("sync", "s") == (errno.EKEYREVOKED, "")
    assert bob.do("read", "s") == (0, "hello") and bob.do("write", "s", "HELLO") == (0, "5")
    # decided anew, as a new lease; her old descriptors stay dead
    assert alice.do("open", "new", own)[0] == 0 and alice.do("read", "new") == (0, "mine")
    assert alice.do("write", "s", "x") == (errno.EKEYREVOKED, "")
    sent, = events(keyd, "revoke.sent")
    assert sent["of_uid"] == ALICE and "club" not in sent
    assert [r["acting"]["uid"] for r in events(keyd, "key.get")] == [0, ALICE, BOB, ALICE]


def test_a_revoked_user_whom_the_policy_refuses_stays_out(site, users):
    policy = site.write("policy", "allow all\n")
    keyd = site.keyd(f"policy {policy}\n")
    mnt = site.mount(site.store("alpha"), "allow_other")
    os.chmod(mnt.join("alpha"), 0o777)
    alice, bob = users
    put(pathlib.Path(mnt.join("alpha"), "f"), b"plain")
    os.chmod(mnt.join("alpha", "f"), 0o666)
    for who in users:
        assert who.do("open", "f", mnt.join("alpha", "f"))[0] == 0
    assert alice.do("read", "f") == (0, "plain")
    site.write("policy", f"deny alice\n\tacting-uid {ALICE}\nallow all\n")
    keyd.proc.send_signal(signal.SIGHUP)
    clubsite.wait_for("the policy", lambda: len(events(keyd, "policy.load")) == 2)
    revoke(site, "--user", str(ALICE))
    assert alice.do("read", "f") == (errno.EKEYREVOKED, "")
    assert alice.do("open", "g", mnt.join("alpha", "f")) == (errno.EACCES, "")
    assert bob.do("open", "g", mnt.join("alpha", "f"))[0] == 0


def test_a_suspended_club_is_locked_until_it_is_resumed(site):
    keyd, mnt = make(site)
    path, other = mnt.join("alpha", "f"), mnt.join("beta", "f")
    put(path, b"x" * PAGE)
    put(other, b"y" * PAGE)
    with open(path, "rb", buffering=0) as f, open(other, "rb", buffering=0) as g:
        site.ctl("suspend", "alpha", "--reason", "the board decided")
        clubsite.wait_for("the lease was taken back", lambda: events(keyd, "revoke.ack"))
        assert error_of(os.pread, f.fileno(), PAGE, 0) == errno.EKEYREVOKED
        assert os.pread(g.fileno(), PAGE, 0) == b"y" * PAGE
    assert error_of(get, path) == errno.EACCES
    site.ctl("resume", "alpha")
    clubsite.wait_for("the club can be opened again", lambda: error_of(get, path) == 0)
    assert get(path) == b"x" * PAGE


def test_all_are_revoked(site):
    keyd, mnt = make(site, "alpha", "beta", "gamma")
    fds = []
    for club in ("alpha", "beta"):
        put(pathlib.Path(mnt.join(club), "f"), b"x")
        fds.append(os.open(mnt.join(club, "f"), os.O_RDONLY))
    assert "revoked: 3 leases" in revoke(site, "--all").stdout
    assert all(error_of(os.pread, fd, 1, 0) == errno.EKEYREVOKED for fd in fds)
    assert all(locked(mnt.store, c) for c in ("alpha", "beta", "gamma"))
    assert len(events(keyd, "revoke.ack")) == 1
    assert "revoked: 0 leases" in revoke(site, "--all").stdout
    for fd in fds:
        os.close(fd)


def test_revoke_says_which_lease_stays_when_the_holder_is_silent(site):
    keyd, mnt = make(site, "alpha")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"x")
    lease = events(keyd, "key.get")[0]["lease"]
    mnt.proc.send_signal(signal.SIGSTOP)
    try:
        done = revoke(site, "alpha", "--wait", "1", check=False)
    finally:
        mnt.proc.send_signal(signal.SIGCONT)
    assert done.returncode == 1 and "revoked:" not in done.stdout
    assert lease in done.stderr and "has not answered" in done.stderr
    assert str(mnt.pid) in done.stderr
    late, = events(keyd, "revoke.timeout")
    assert late["of"] == events(keyd, "revoke.sent")[0]["seq"] and late["leases"] == 1
    # it hears of it when it comes to itself
    clubsite.wait_for("the late answer", lambda: events(keyd, "revoke.ack"), timeout=20)
    assert locked(mnt.store, "alpha")
    assert "revoked: 0 leases" in revoke(site, "alpha").stdout


@pytest.mark.parametrize("args", [[], ["alpha", "--all"], ["alpha", "beta"], ["--user"],
                                  ["--user", "no such user"], ["--wait", "x", "alpha"],
                                  ["a/b"], ["--frob", "x"]])
def test_revoke_wants_to_be_told_what(site, args):
    assert site.ctl("revoke", *args, check=False).returncode == 2


def test_revoke_without_a_daemon_fails(site):
    assert site.ctl("revoke", "--all", check=False).returncode == 1


class Load:
    """Reads and writes in two clubs, all the time; what went wrong is in .wrong."""

    def __init__(self, mnt, clubs=("alpha", "beta")):
        self.stop, self.wrong, self.rounds = threading.Event(), [], 0
        self.threads = [threading.Thread(target=self._run, args=(mnt.join(c, f"load{i}"), i))
                        for i, c in enumerate(clubs)]
        for t in self.threads:
            t.start()

    def _run(self, path, i):
        rng = random.Random(i)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            pages = {}
            while not self.stop.is_set():
                page = rng.randrange(64)
                pages[page] = bytes([rng.randrange(256)]) * PAGE
                os.pwrite(fd, pages[page], page * PAGE)
                page = rng.choice(sorted(pages))
                if os.pread(fd, PAGE, page * PAGE) != pages[page]:
                    self.wrong.append(f"{path}: page {page}")
                if rng.random() < 0.1:
                    os.fsync(fd)
                if rng.random() < 0.1:
                    put(pathlib.Path(path + ".new"), pages[page])
                    os.rename(path + ".new", path + ".old")
                self.rounds += 1
            os.close(fd)
        except Exception as e:          # pylint: disable=broad-except
            self.wrong.append(f"{path}: {e}")

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()
        assert not self.wrong, self.wrong
        assert self.rounds > 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_key_daemon_loses_no_lease_and_interrupts_nothing(site, how):
    keyd, mnt = make(site, "alpha", "beta")     # too long for a renewal by time
    load = Load(mnt)
    time.sleep(1)
    held = {r["lease"] for r in events(keyd, "key.get")}
    for _ in range(3):
        keyd.kill(how)
        time.sleep(0.5)
        keyd = again(site, keyd)
        clubsite.wait_for("both leases were taken over", lambda: held <= {
            r["lease"] for r in events(keyd, "key.renew")
            if r["seq"] > events(keyd, "daemon.start")[-1]["seq"]})
        time.sleep(1)
    load.end()
    assert {r["lease"] for r in events(keyd, "key.get")} == held, "nobody had to ask anew"
    taken = [r for r in events(keyd, "key.renew") if r.get("taken_over")]
    assert len(taken) >= 2 * 3
    assert "revoked: 2 leases" in revoke(site, "--all").stdout, "the new one knows them"


def test_renewal_under_load(site):
    keyd, mnt = make(site, "alpha", "beta", ttl=2)
    load = Load(mnt)
    time.sleep(10)
    load.end()
    assert len(events(keyd, "key.get")) == 2 and not events(keyd, "key.expire")
    assert len(events(keyd, "key.renew")) >= 10


def test_leases_last_to_their_end_without_a_daemon_and_then_the_clubs_are_locked(site):
    keyd, mnt = make(site, "alpha", "beta", ttl=5)
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"x" * 9000)
    fd = os.open(path, os.O_RDWR)
    area = mmap.mmap(fd, 9000)
    keyd.kill()
    began = time.monotonic()
    area[0:5] = b"dirty"
    while error_of(os.pread, fd, 9000, 0) == 0 and error_of(os.pwrite, fd, b"y", 8999) == 0:
        assert time.monotonic() - began < 8
        time.sleep(0.02)
    took = time.monotonic() - began
    assert 1 < took < 7
    assert error_of(os.pread, fd, 10, 0) == errno.ENOKEY
    assert error_of(os.pwrite, fd, b"x", 0) == errno.ENOKEY
    clubsite.wait_for("the club was locked", lambda: locked(mnt.store, "alpha"))
    keyd = again(site, keyd)
    data = get(path)
    assert data[:5] == b"dirty" and data[8999:] == b"y", "nothing was lost"
    assert error_of(os.pread, fd, 10, 0) != 0
    area.close()
    os.close(fd)


def test_keyd_lost_lock_drops_the_keys_at_once(site):
    keyd, mnt = make(site, "alpha", opts="keyd-lost=lock,keyd-wait=0")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"x")
    fd = os.open(mnt.join("alpha", "f"), os.O_RDONLY)
    keyd.kill()
    clubsite.wait_for("the club was locked", lambda: locked(mnt.store, "alpha"), timeout=5)
    assert error_of(os.pread, fd, 1, 0) == errno.ENOKEY
    again(site, keyd)
    assert get(pathlib.Path(mnt.join("alpha"), "f")) == b"x"
    assert error_of(os.pread, fd, 1, 0) == errno.ENOKEY
    os.close(fd)


def test_a_first_access_waits_for_the_daemon_and_others_are_served_meanwhile(site):
    keyd, mnt = make(site, "alpha", "beta", "gamma")
    mnt.umount()
    mnt = site.mount(mnt.store, "allow_other,keyd-wait=20,threads=2")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"x" * PAGE)
    fd = os.open(mnt.join("alpha", "f"), os.O_RDWR)
    keyd.kill()
    got = []
    crowd = [threading.Thread(target=lambda c=c: got.append(os.listdir(mnt.join(c))))
             for c in ("beta", "gamma") * 4]
    for t in crowd:
        t.start()
    for _ in range(50):
        os.pwrite(fd, b"y" * PAGE, 0)
        os.fsync(fd)
        assert os.listdir(mnt.join("alpha")) == ["f"]
    assert not got
    again(site, keyd)
    for t in crowd:
        t.join(15)
    assert got == [[]] * 8
    os.close(fd)


def test_a_first_access_gives_up_after_the_limit_with_one_line_in_the_log(site):
    keyd, mnt = make(site, "alpha", "beta", opts="keyd-wait=2")
    mnt.umount()
    mnt = site.mount(mnt.store, "allow_other,keyd-wait=2")
    keyd.kill()
    began = time.monotonic()
    assert error_of(os.listdir, mnt.join("beta")) == errno.ENOKEY
    assert 1.9 < time.monotonic() - began < 4
    lines = [l for l in mnt.stderr().splitlines() if "'beta'" in l]
    assert len(lines) == 1 and "cannot be reached" in lines[0]


def test_a_first_access_that_waits_can_be_interrupted(site):
    keyd, mnt = make(site, "alpha")
    mnt.umount()
    mnt = site.mount(mnt.store, "allow_other,keyd-wait=60")
    keyd.kill()
    with subprocess.Popen(["ls", mnt.join("alpha")], stderr=subprocess.DEVNULL) as ls:
        # before its exec the signal would be Python's
        comm = pathlib.Path(f"/proc/{ls.pid}/comm")
        clubsite.wait_for("ls runs", lambda: comm.read_text(encoding="ascii") == "ls\n")
        time.sleep(1)
        assert ls.poll() is None
        ls.send_signal(signal.SIGINT)
        assert ls.wait(5) == -signal.SIGINT


def test_a_database_is_whole_after_a_revocation_in_mid_write(site):
    _, mnt = make(site, "alpha")
    path = mnt.join("alpha", "db")
    with sqlite3.connect(path) as db:
        db.execute("create table t (n integer primary key, data blob)")
    db.close()
    rng, done = random.Random(1), 0
    for _ in range(3):
        stop, committed = threading.Event(), []

        def write(base=done, note=committed, ends=stop):
            db = sqlite3.connect(path, timeout=30)
            db.execute("pragma synchronous=full")
            n = base
            try:
                while not ends.is_set():
                    with db:
                        for _ in range(5):
                            n += 1
                            db.execute("insert into t values (?, ?)", (n, rng.randbytes(3000)))
                    note.append(n)
            except sqlite3.Error:
                pass
            try:
                db.close()
            except sqlite3.Error:
                pass

        t = threading.Thread(target=write)
        t.start()
        time.sleep(0.7)
        revoke(site, "alpha")
        t.join(20)
        stop.set()
        assert not t.is_alive()
        db = sqlite3.connect(path)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        done = db.execute("select max(n) from t").fetchone()[0] or 0
        assert db.execute("select count(*) from t").fetchone()[0] == done
        assert committed and done >= committed[-1], "what was committed is there"
        db.close()


def test_a_frozen_club_that_is_revoked_thaws_and_says_so(site):
    _, mnt = make(site, "alpha")
    put(pathlib.Path(mnt.join("alpha"), "f"), b"before")
    site.ctl("freeze", mnt.store, "alpha")
    with open(mnt.join("alpha", "f"), "r+b", buffering=0) as f:
        f.write(b"during")
        revoke(site, "alpha")
    assert get(pathlib.Path(mnt.join("alpha"), "f")) == b"during"
    thaw = site.ctl("thaw", mnt.store, "alpha", check=False)
    assert thaw.returncode == 1


def test_a_file_without_a_name_and_a_working_directory_survive_as_such(site):
    _, mnt = make(site, "alpha")
    top = pathlib.Path(mnt.join("alpha"))
    (top / "dir").mkdir()
    put(top / "gone", b"x" * 5000)
    fd = os.open(top / "gone", os.O_RDWR)
    os.unlink(top / "gone")
    os.pwrite(fd, b"y" * 5000, 5000)
    home = os.open(top / "dir", os.O_PATH | os.O_DIRECTORY)
    revoke(site, "alpha")
    assert locked(mnt.store, "alpha")
    assert error_of(os.pread, fd, 1, 0) == errno.EKEYREVOKED
    os.close(fd)
    put(pathlib.Path(f"/proc/self/fd/{home}/new"), b"new")      # by a new lease
    os.close(home)
    assert get(top / "dir/new") == b"new"


def test_unlock_and_revoke_again_and_again(site):
    keyd, mnt = make(site, "alpha", "beta")
    stop, wrong = threading.Event(), []
    fine = (0, errno.EKEYREVOKED, errno.EKEYEXPIRED, errno.ENOKEY)

    def work(i):
        path = pathlib.Path(mnt.join("alpha"), f"w{i}")
        n = 0
        while not stop.is_set():
            n += 1
            err = error_of(put, path, b"%08d" % n * 512)
            if err not in fine:
                wrong.append(err)

    crowd = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in crowd:
        t.start()
    for _ in range(10 if clubsite.SAN else 25):
        revoke(site, "alpha")
        time.sleep(0.05)
    stop.set()
    for t in crowd:
        t.join()
    assert not wrong
    for i in range(4):
        data = get(pathlib.Path(mnt.join("alpha"), f"w{i}"))
        assert len(data) in (0, 4096) and data == data[:8] * (len(data) // 8)
    assert len(events(keyd, "revoke.ack")) == len(events(keyd, "revoke.sent"))


def test_thousands_of_clubs_are_unlocked_in_a_burst_after_a_restart(site):
    """And all their leases survive the next one, and end by one order."""
    count = 500 if clubsite.SAN else 5000
    names = [f"club{i:04}" for i in range(count)]
    keyd = site.keyd()
    store = site.store()
    for i in range(0, count, 500):
        site.ctl("add", store, *names[i:i + 500], timeout=600)
    mnt = site.mount(store)
    keyd.stop()
    keyd = site.add(clubsite.Keyd(site, keyd.state, keyd.run))
    todo, wrong = list(names), []

    def enter():
        while todo:
            try:
                err = error_of(os.stat, mnt.join(todo.pop(), "none"))
            except IndexError:
                break
            if err != errno.ENOENT:
                wrong.append(err)

    crowd = [threading.Thread(target=enter) for _ in range(16)]
    began = time.monotonic()
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    took = time.monotonic() - began
    got = events(keyd, "key.get")
    print(f"{count} clubs in {took:.2f} s")
    assert not wrong
    assert sorted(r["club"] for r in got) == names
    assert took < 5 * SLOWER
    keyd.kill()
    keyd = site.add(clubsite.Keyd(site, keyd.state, keyd.run))
    began = time.monotonic()
    clubsite.wait_for("all leases were taken over",
                      lambda: len(events(keyd, "key.renew")) >= count, timeout=30 * SLOWER)
    print(f"all presented again in {time.monotonic() - began:.2f} s")
    assert {r["lease"] for r in events(keyd, "key.renew")} == {r["lease"] for r in got}
    began = time.monotonic()
    assert f"revoked: {count} leases" in revoke(site, "--all", "--wait", "120").stdout
    print(f"all revoked in {time.monotonic() - began:.2f} s")
    assert all(locked(store, c) for c in (names[0], names[-1]))


def test_what_the_kernel_collected_is_written_before_the_key_goes(site):
    _, mnt = make(site, "alpha", opts="writeback")
    path = pathlib.Path(mnt.join("alpha"), "f")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    data = os.urandom(3 << 20)
    os.write(fd, data)
    revoke(site, "alpha")
    assert get(path) == data
    assert error_of(os.pread, fd, 10, 0) == errno.EKEYREVOKED
    os.close(fd)


def test_a_daemon_that_hangs_holds_up_only_those_without_a_lease(site):
    keyd, mnt = make(site, "alpha", "beta", opts="threads=2")
    mnt.umount()
    mnt = site.mount(mnt.store, "allow_other,threads=2")
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"x")
    keyd.proc.send_signal(signal.SIGSTOP)
    got = []
    crowd = [threading.Thread(target=lambda: got.append(os.listdir(mnt.join("beta"))))
             for _ in range(12)]
    try:
        for t in crowd:
            t.start()
        began = time.monotonic()
        for i in range(100):
            put(path, b"%d" % i)
            assert get(path) == b"%d" % i
        assert time.monotonic() - began < 3 * SLOWER and not got
    finally:
        keyd.proc.send_signal(signal.SIGCONT)
    for t in crowd:
        t.join(20)
    assert got == [[]] * 12


def test_an_order_ends_no_lease_that_is_granted_after_it(site):
    keyd, mnt = make(site, "alpha")
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"x")
    old = os.open(path, os.O_RDONLY)
    for _ in range(3):
        revoke(site, "alpha")
        assert error_of(os.pread, old, 1, 0) == errno.EKEYREVOKED
        new = os.open(path, os.O_RDONLY)
        assert os.pread(new, 1, 0) == b"x"
        time.sleep(0.3)
        assert os.pread(new, 1, 0) == b"x", "one order ends no later lease"
        os.close(old)
        old = new
    os.close(old)
    assert len(events(keyd, "key.get")) == 4
