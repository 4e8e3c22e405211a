"""The real clubkeyd, asked by a client of its own (keydproto.py): no filesystem in between."""
import base64
import collections
import contextlib
import errno
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from clubsite import as_user
from keydproto import FIELDS, Client, Closed, encode, header, tlv

BIN = os.environ.get("CLUBFS_BIN") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "build")
KEYD = os.path.join(BIN, "clubkeyd")
ID = bytes(range(16))
OTHER_ID = bytes(range(1, 17))
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users, strace")
NOBODY = 65534


def wait_for(true, what, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Keyd:
    """A state directory, a run directory, and a daemon on them that can be stopped and started."""

    def __init__(self, top):
        self.top, self.state, self.run = top, os.path.join(top, "s"), os.path.join(top, "r")
        self.conf = os.path.join(top, "conf")
        self.messages = os.path.join(top, "messages")
        self.log = os.path.join(self.state, "audit", "000001.jsonl")
        self.proc = None

    def path(self, name, text=None, mode=0o600):
        path = os.path.join(self.top, name)
        if text is not None:
            with open(path, "wb") as f:
                f.write(text.encode() if isinstance(text, str) else text)
            os.chmod(path, mode)
        return path

    def config(self, text):
        self.path("conf", text, 0o644)

    def argv(self):
        conf = ["--config", self.conf] if os.path.exists(self.conf) else []
        return [KEYD, "--state", self.state, "--run", self.run, "-f", *conf]

    def said(self):
        with open(self.messages, encoding="utf-8") as f:
            return f.read()

    def start(self, prefix=(), **kwargs):
        """Start it and wait until it serves."""
        env = dict(os.environ)
        if prefix:      # the leak checker cannot work where somebody else traces
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        with open(self.messages, "wb") as out:
            traced = ["--traced"] if prefix else []
            self.proc = subprocess.Popen([*prefix, *self.argv(), *traced], stdin=subprocess.DEVNULL,
                                         stdout=out, stderr=out, env=env, **kwargs)

        def up():
            assert self.proc.poll() is None, self.said()
            return "ready with" in self.said()
        wait_for(up, "the daemon did not start")
        return self

    def refuses(self, **kwargs):
        """Start it; it must end by itself with status 1.  What it said."""
        done = subprocess.run(self.argv(), check=False, capture_output=True, text=True,
                              stdin=kwargs.pop("stdin", subprocess.DEVNULL), timeout=60, **kwargs)
        assert done.returncode == 1, done
        assert not os.path.exists(os.path.join(self.run, "keyd.sock"))
        return done.stderr

    def pid(self):
        with open(os.path.join(self.state, "lock"), encoding="ascii") as f:
            return int(f.read())

    def kill(self, signo=signal.SIGTERM):
        os.kill(self.pid(), signo)
        status = self.proc.wait(20)
        self.proc = None
        return status

    def stop(self):
        assert self.kill() == 0, self.said()
        assert "ERROR: " not in self.said() and "runtime error" not in self.said()

    def restart(self):
        self.stop()
        return self.start()

    def end(self):
        if self.proc and self.proc.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.pid(), signal.SIGKILL)
            self.proc.kill()
            self.proc.wait()
        shutil.rmtree(self.top)

    def client(self):
        return Client(self.run)

    def admin(self):
        return Client(self.run, "admin.sock")

    def add(self, club="Chor", club_id=ID):
        """A club with an active key; the key."""
        with self.admin() as admin:
            key = admin.add(club, club_id)["key"]
            assert admin.activate(club, club_id)["type"] == "DONE"
        return key

    def segments(self):
        """The paths of the audit log's segments, oldest first."""
        top = os.path.join(self.state, "audit")
        return [os.path.join(top, name) for name in sorted(os.listdir(top))
                if name.endswith(".jsonl")]

    def lines(self):
        found = []
        for path in self.segments():
            with open(path, "rb") as f:
                found += f.read().split(b"\n")[:-1]
        return found

    def audit(self, ev=None):
        records = [json.loads(line) for line in self.lines()]
        return [r for r in records if ev in (None, r["ev"])]


@pytest.fixture
def kd(top):
    """A daemon that is not started yet."""
    path = os.path.join(top, f"k{time.monotonic_ns():x}")
    os.mkdir(path)
    os.chmod(path, 0o755)
    daemon = Keyd(path)
    yield daemon
    daemon.end()


def digest(files):
    """Of a policy, as `sha256sum NAME... | sha256sum` makes it."""
    text = "".join(f"{hashlib.sha256(files[name].encode()).hexdigest()}  {name}\n"
                   for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


def code(answer):
    return answer["code"] if answer["type"] == "DENY" else answer["type"]


# ---- grants and denials

def test_a_key_is_made_activated_and_given_out(kd):
    kd.start()
    with kd.admin() as admin, kd.client() as client:
        made = admin.add("TV Nörd", ID)
        assert (made["type"], made["epoch"], len(made["key"])) == ("KEY", 1, 32)
        assert code(client.get("TV Nörd", ID)) == "ACCESS"      # pre-active
        again = admin.add("TV Nörd", ID)
        assert again["key"] != made["key"]
        assert admin.activate("TV Nörd", ID)["type"] == "DONE"
        assert admin.activate("TV Nörd", ID)["type"] == "DONE"
        got = client.get("TV Nörd", ID)
        assert (got["key"], got["epoch"], got["ttl_s"]) == (again["key"], 1, 900)
        assert code(admin.add("TV Nörd", ID)) == "EXISTS"
        assert code(admin.activate("TV Nörd", OTHER_ID)) == "STALE"
        assert code(admin.activate("nobody", ID)) == "NOENT"
        assert client.get("TV Nörd", ID)["key"] == again["key"]
        status = admin.status()
        assert (status["clubs"], status["pid"]) == (1, kd.pid())
        assert status["seq"] == kd.audit()[-1]["seq"]
    record = kd.audit("key.get")[1]
    assert (record["res"], record["rule"], record["club"], record["epoch"], record["purpose"]) == (
        "allow", "built-in", "TV Nörd", 1, "mount")
    assert record["seq"] == got["seq"]
    assert (record["peer"]["uid"], record["peer"]["pid"]) == (os.geteuid(), os.getpid())
    assert record["acting"] == {**record["acting"], "uid": 1000, "gid": 1000, "pid": 1,
                                "asserted": True}
    kd.stop()


@pytest.mark.parametrize("name", [".x", "a/b", " a", "a\x07", "a\x7f", "b\u0085", b"\xff\xfe"])
def test_a_name_no_club_can_have_is_refused(kd, name):
    kd.start()
    with kd.admin() as admin:
        assert code(admin.add(name, ID)) == "INVALID"
    assert os.listdir(os.path.join(kd.state, "keys")) == []
    kd.stop()


def test_unknown_and_forbidden_get_the_same_answer(kd):
    kd.config("policy " + kd.path("pol", "deny secret\n club Secret\nallow rest\n"))
    kd.start()
    kd.add("Secret")
    kd.add("Open")
    with kd.client() as client:
        answers = []
        for club, club_id in (("Secret", ID), ("Unknown", ID), ("Open", OTHER_ID), ("..", ID)):
            raw = client.get(club, club_id)
            answers.append({k: v for k, v in raw.items() if k not in ("req_id", "seq")})
        assert answers == [{"type": "DENY", "code": "ACCESS"}] * 4
        assert client.get("Open", ID)["type"] == "KEY"
    assert [(r["rule"], r.get("why")) for r in kd.audit("key.get")] == [
        ("secret", "policy"), ("rest", "unknown club"), ("rest", "other club id"),
        ("rest", "unknown club"), ("rest", None)]
    kd.stop()


def test_policy_decides_by_club_acting_user_and_purpose(kd):
    kd.config("policy " + kd.path("pol", f"""
# first match wins
deny guests
	acting-uid 2000-2999, 4000
allow nord
	uid {os.geteuid()}
	club "TV Nord *" Chor?
	op get, verify
allow gids
	gid {os.getegid()}
	acting-gid 77
"""))
    kd.start()
    for club in ("TV Nord 1", "Chor1", "Chor10"):
        kd.add(club)
    with kd.client() as client:
        def ask(club, **kw):
            return code(client.get(club, ID, **kw))
        assert ask("TV Nord 1") == "KEY"
        assert ask("Chor1", purpose="verify") == "KEY"
        assert ask("Chor1", purpose="admin") == "ACCESS"
        assert ask("Chor10") == "ACCESS"
        assert ask("Chor10", gid=77) == "KEY"
        assert ask("Chor1", uid=2000) == ask("Chor1", uid=2999) == ask("Chor1", uid=4000) == "ACCESS"
        assert ask("Chor1", uid=3000) == "KEY"
    assert [r["rule"] for r in kd.audit("key.get")] == [
        "nord", "nord", "default", "default", "gids", "guests", "guests", "guests", "nord"]
    kd.stop()


@root
def test_another_user_is_known_by_the_kernel_and_denied(kd):
    kd.config("socket-mode 0666\nadmin-socket-mode 0666\n")
    kd.start()
    kd.add()

    def ask():
        with kd.client() as client:
            got = code(client.get("Chor", ID, uid=0))
        try:
            kd.admin()
        except Closed as err:
            return got, str(err)
        return got, "let in"
    got, admin = as_user(NOBODY, ask)
    assert got == "ACCESS"
    assert "ACCESS" in admin
    get, = kd.audit("key.get")
    assert (get["peer"]["uid"], get["res"], get["rule"], get["acting"]["uid"]) == (
        NOBODY, "deny", "default", 0)
    deny, = kd.audit("deny")
    assert (deny["rule"], deny["peer"]["uid"]) == ("admin", NOBODY)
    kd.stop()


@root
def test_sockets_are_closed_to_others_by_default(kd):
    kd.start()
    for sock in ("keyd.sock", "admin.sock"):
        with pytest.raises(PermissionError):
            as_user(NOBODY, Client, kd.run, sock)
    kd.stop()


# ---- packets

def good_get():
    return encode("GET", 9, club="Chor", club_id=ID, acting_uid=1, acting_gid=1, acting_pid=1,
                  purpose=1)


def bad_packets():
    get = good_get()
    body = get[16:]
    yield "empty", b""
    yield "one byte", b"K"
    yield "short header", get[:15]
    yield "magic", b"KYD2" + get[4:]
    yield "version", get[:4] + b"\x02" + get[5:]
    yield "unknown type", get[:5] + b"\xc8" + get[6:]
    yield "kept type", header(6, 0)
    yield "flags", get[:6] + b"\0\1" + get[8:]
    yield "length too small", get[:12] + struct.pack(">I", len(body) - 1) + body
    yield "length too big", get[:12] + b"\xff\xff\xff\xff" + body
    yield "byte too many", get + b"\0"
    for cut in (1, 2, 3, 5, 20):
        yield f"cut {cut}", header(3, len(body) - cut) + body[:-cut]
    yield "no body", header(3, 0)
    yield "field twice", header(3, len(body) + 8) + body + tlv(8, b"\0\0\0\1")
    yield "unknown field", header(3, len(body) + 6) + body + tlv(999, b"xx")
    yield "field too many", header(3, len(body) + 8) + body + tlv(11, b"\0\0\0\1")
    yield "nul in name", get.replace(b"Chor", b"Ch\0r")
    yield "long name", encode("GET", club="x" * 201, club_id=ID, acting_uid=1, acting_gid=1,
                              acting_pid=1, purpose=1)
    yield "short id", encode("GET", club="x", club_id=ID[1:], acting_uid=1, acting_gid=1,
                             acting_pid=1, purpose=1)
    yield "empty name", encode("GET", club="", club_id=ID, acting_uid=1, acting_gid=1, acting_pid=1,
                               purpose=1)
    yield "purpose", get[:-1] + b"\x09"
    yield "oversized", header(3, 5000) + bytes(5000)
    yield "answer as request", encode("KEY", key=bytes(32), epoch=1, ttl_s=1, seq=1)
    yield "admin's packet", encode("ADD", club="x", club_id=ID, store_id=ID)
    yield "second hello", encode("HELLO", software="x", features=0)


def test_bad_packets_are_refused_recorded_and_harmless(kd):
    kd.start()
    key = kd.add()
    cases = list(bad_packets())
    with kd.client() as good:
        for name, raw in cases:
            with kd.client() as client:
                assert code(client.raw(raw)) == "PROTO", name
                with pytest.raises(Closed):
                    client.recv()
            assert good.get("Chor", ID)["key"] == key, name
    kd.stop()           # then what was only counted has its record, too
    records = [r for r in kd.audit() if r.get("rule") == "protocol"]
    assert sum(r.get("n", 1) for r in records) == len(cases)
    assert {r["res"] for r in records} == {"deny"}
    whys = collections.Counter()
    for record in records:
        whys[record["why"]] += record.get("n", 1)
    assert whys["oversized packet"] == whys["empty packet"] == 1
    assert whys["another protocol version"] == whys["second HELLO"] == 1
    assert whys["malformed packet"] == len(cases) - 7


def test_nothing_is_answered_before_hello(kd):
    kd.start()
    kd.add()
    with Client(kd.run, hello=False) as client:
        answer = client.raw(good_get())
        assert (code(answer), answer["req_id"]) == ("PROTO", 9)
    with Client(kd.run, hello=False) as client:     # and who says nothing is sent away
        begin = time.monotonic()
        with pytest.raises(Closed):
            client.recv()
        assert 1.5 < time.monotonic() - begin < 5
    kd.stop()


def test_attached_descriptors_are_closed(kd):
    kd.start()

    def open_fds():
        return len(os.listdir(f"/proc/{kd.pid()}/fd"))
    rfd, wfd = os.pipe()
    before = open_fds()
    with Client(kd.run, hello=False) as client:
        hello = client.raw(encode("HELLO", software="x", features=0), [wfd] * 253)
        assert hello["type"] == "HELLO_OK"
        assert open_fds() <= before + 2         # the connection, and the kernel's pidfd
        assert code(client.raw(encode("PING"), [wfd])) == "PROTO"
    os.close(wfd)
    assert os.read(rfd, 1) == b""       # nobody else holds the other end
    os.close(rfd)
    assert kd.audit("deny")[0]["why"] == "descriptors attached"
    kd.stop()


def test_an_inherited_connection_is_of_no_use(kd):
    kd.start()
    kd.add()
    with kd.client() as client:
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                status = 0 if code(client.raw(good_get())) == "PROTO" else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "another process" in kd.audit("deny")[0]["why"]
    kd.stop()


def test_connections_of_one_user_are_limited(kd):
    kd.config("connections-per-user 3\n")
    kd.start()
    clients = [kd.client() for _ in range(3)]
    with Client(kd.run, hello=False) as client:
        answer = client.recv()
        assert (code(answer), answer["retry_s"]) == ("BUSY", 1)
    assert clients[0].ping()["type"] == "PONG"
    for client in clients:
        client.close()
    with kd.client() as client:
        assert client.ping()["type"] == "PONG"
    kd.stop()


def test_a_client_that_does_not_read_hurts_only_itself(kd):
    kd.start()
    key = kd.add()
    with kd.client() as deaf, kd.client() as good:
        deaf.sock.settimeout(60)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100000):
                deaf.sock.send(good_get())
        begin = time.monotonic()
        assert good.get("Chor", ID)["key"] == key
        assert time.monotonic() - begin < 5
    assert len(kd.audit("key.undelivered")) >= 1
    undelivered = kd.audit("key.undelivered")[0]
    assert kd.audit()[undelivered["of"]]["ev"] == "key.get"
    kd.stop()


# ---- the audit log

def leaf(line):
    return base64.b64encode(hashlib.sha256(b"\0" + line).digest()).decode()


def check_chain(kd):
    prev = base64.b64encode(bytes(32)).decode()
    lines = kd.lines()
    for number, line in enumerate(lines):
        record = json.loads(line)
        assert (record["v"], record["seq"], record["prev"]) == (1, number, prev)
        assert len(line) < 4096
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["ts"])
        prev = leaf(line)
    return lines


def test_records_are_chained_over_restarts(kd):
    kd.start()
    kd.add()
    kd.restart()
    with kd.client() as client:
        client.get("Chor", ID)
        client.get("a\"\\\n\x1b[31m\u202e" + "ü" * 50, ID)      # what would drive a terminal
        client.get(b"\xff" * 200, ID)
    kd.stop()
    lines = check_chain(kd)
    events = [r["ev"] for r in kd.audit()]
    assert events.count("daemon.start") == events.count("daemon.stop") == 2
    assert events[:2] == ["segment.open", "daemon.start"] and events[-1] == "daemon.stop"
    assert not any(c < 32 or c == 127 for line in lines for c in line)
    assert "\u202e".encode() not in b"".join(lines)
    odd = kd.audit("key.get")[2]
    assert base64.b64decode(odd["club_b64"]) == b"\xff" * 200


def strace(kd, *rules):
    trace = os.path.join(kd.top, "trace")
    argv = ["strace", "-f", "-s", "64", "-o", trace]
    for rule in rules:
        argv += ["-e", rule]
    return argv, trace


@root
def test_the_record_is_synced_before_the_answer_leaves(kd):
    kd.start()
    kd.add()
    kd.stop()
    argv, trace = strace(kd, "trace=write,fdatasync,sendto,sendmsg")
    kd.start(argv)
    with kd.client() as client:
        assert client.get("Chor", ID)["type"] == "KEY"
        assert code(client.get("Unknown", ID)) == "ACCESS"
        assert code(client.raw(b"xx")) == "PROTO"
    kd.stop()
    with open(trace, encoding="utf-8") as f:
        calls = [line.split(maxsplit=1)[1] for line in f]
    steps = []
    for call in calls:
        for word, kind in (('write(', "write"), ("fdatasync(", "sync"), ("sendto(", "send")):
            if call.startswith(word) and (kind != "write" or "\\\"v\\\"" in call):
                assert "= -1" not in call
                steps.append(kind)
    first = steps.index("send")         # HELLO_OK: no record
    assert steps[first:] == ["send"] + ["write", "sync", "send"] * 3 + ["write", "sync"]


def test_kill_9_loses_no_answered_act(kd):
    kd.start()
    keys = {f"club {n}": kd.add(f"club {n}") for n in range(20)}
    with kd.client() as client:
        seqs = [client.get(club, ID)["seq"] for club in keys]
        kd.kill(signal.SIGKILL)
    kd.start()
    with kd.client() as client:
        assert {club: client.get(club, ID)["key"] for club in keys} == keys
    records = kd.audit()
    assert all(records[seq]["ev"] == "key.get" for seq in seqs)
    kd.stop()
    check_chain(kd)


def test_requests_that_come_together_share_a_sync(kd):
    if os.geteuid() != 0:
        pytest.skip("needs root: strace")
    kd.start()
    kd.add()
    kd.stop()
    argv, trace = strace(kd, "trace=fdatasync", "inject=fdatasync:delay_exit=100000")
    kd.start(argv)
    clients = [kd.client() for _ in range(8)]
    for _ in range(3):
        for client in clients:
            client.raw(good_get(), answer=False)
        for client in clients:
            assert client.recv()["type"] == "KEY"
    for client in clients:
        client.close()
    kd.stop()
    with open(trace, encoding="utf-8") as f:
        syncs = sum("fdatasync(" in line for line in f)
    assert syncs <= 3 + 6 + 3       # 24 records in two rounds each at most, and start and stop
    check_chain(kd)


# ---- keys and the master key

def test_names_of_every_kind_have_a_file_of_their_own(kd):
    kd.start()
    names = ["a", "A", "%41", "~x", "TV Nörd", "x" * 200, "x" * 199, "ü" * 100, "ü" * 99,
             "club.key", "new", "日本" * 30, "a b", "a,b", "-f"]
    keys = {name: kd.add(name) for name in names}
    assert len(set(keys.values())) == len(names)
    kd.restart()
    with kd.client() as client:
        for name, key in keys.items():
            assert client.get(name, ID)["key"] == key
    kd.stop()
    files = os.listdir(os.path.join(kd.state, "keys"))
    assert len(files) == len(names)
    for file in files:
        path = os.path.join(kd.state, "keys", file)
        assert os.stat(path).st_mode & 0o777 == 0o600
        with open(path, "rb") as f:
            raw = f.read()
        assert not any(key in raw for key in keys.values())
    every = b"".join(kd.lines()) + kd.said().encode()
    for key in keys.values():
        assert key not in every and key.hex().encode() not in every
        assert base64.b64encode(key) not in every


@pytest.mark.parametrize("harm", ["rename", "name", "state", "id", "flip", "cut", "empty"])
def test_a_changed_key_file_locks_its_club_only(kd, harm):
    kd.start()
    kd.add("aaaa")
    good = kd.add("bbbb")
    kd.stop()
    keys = os.path.join(kd.state, "keys")
    path = os.path.join(keys, "aaaa.key")
    with open(path, "rb") as f:
        raw = bytearray(f.read())
    before = bytes(raw)
    if harm == "rename":
        os.rename(path, os.path.join(keys, "cccc.key"))
    elif harm == "name":
        raw[52:56] = b"cccc"
        os.rename(path, os.path.join(keys, "cccc.key"))
        path = os.path.join(keys, "cccc.key")
    elif harm == "state":
        raw[260] ^= 3
    elif harm == "id":
        raw[32:48] = OTHER_ID
    elif harm == "flip":
        raw[340] ^= 1
    elif harm == "cut":
        del raw[-1:]
    else:
        raw.clear()
    if harm != "rename":
        assert bytes(raw) != before
        with open(path, "wb") as f:
            f.write(raw)
    kd.start()
    assert "is unusable" in kd.said()
    with kd.client() as client, kd.admin() as admin:
        for club, club_id in (("aaaa", ID), ("aaaa", OTHER_ID), ("cccc", ID)):
            assert code(client.get(club, club_id)) == "ACCESS"
        assert client.get("bbbb", ID)["key"] == good
        if harm not in ("rename", "name"):      # it may be the last copy of somebody's key
            assert code(admin.add("aaaa", ID)) == "EXISTS"
            with open(path, "rb") as f:
                assert f.read() == bytes(raw)
    kd.stop()


def test_a_wrong_or_missing_master_key_is_refused(kd):
    kd.start()
    kd.add()
    kd.stop()
    path = os.path.join(kd.state, "master.key")
    params = os.path.join(kd.state, "master.params")
    with open(path, "rb") as f:
        right = f.read()
    kd.path("s/master.key", bytes(32))
    assert "wrong master key" in kd.refuses()
    kd.path("s/master.key", right[:31])
    assert "expected 32 bytes" in kd.refuses()
    kd.path("s/master.key", right, 0o644)
    assert "mode 0644" in kd.refuses()
    os.unlink(path)
    assert "restore it" in kd.refuses()
    assert not os.path.exists(path)
    kd.path("s/master.key", right)
    os.rename(params, params + ".away")
    assert "master.params" in kd.refuses()
    os.rename(params + ".away", params)
    kd.start().stop()


def test_a_passphrase_opens_the_keys_and_a_wrong_one_is_refused(kd):
    kd.path("pass", "correct horse\n")
    kd.config(f"passphrase-file {kd.top}/pass\n")
    kd.start()
    key = kd.add()
    kd.stop()
    assert not os.path.exists(os.path.join(kd.state, "master.key"))
    kd.path("pass", "wrong horse\n")
    assert "wrong passphrase" in kd.refuses()
    kd.path("pass", "\n")
    assert "expected 1 to" in kd.refuses()
    kd.config("passphrase-file -\n")
    with subprocess.Popen(["echo", "wrong"], stdout=subprocess.PIPE) as echo:
        assert "wrong passphrase" in kd.refuses(stdin=echo.stdout)
    kd.config("")
    assert "under a passphrase" in kd.refuses()
    kd.path("pass", "correct horse")        # the line's end is not part of it
    kd.config(f"passphrase-file {kd.top}/pass\n")
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["key"] == key
    kd.stop()


def test_a_master_key_file_elsewhere_is_used_but_never_made(kd):
    kd.config(f"master-key-file {kd.top}/mk\n")
    assert "cannot open" in kd.refuses()
    assert not os.path.exists(kd.path("mk"))
    kd.path("mk", os.urandom(32), 0o400)
    kd.start().stop()
    kd.path("mk2", os.urandom(32), 0o400)
    kd.config(f"master-key-file {kd.top}/mk2\n")
    assert "wrong master key" in kd.refuses()


# ---- starting, ending, configuration

def test_one_daemon_per_state_directory_and_per_socket(kd):
    kd.start()
    said = subprocess.run([KEYD, "--state", kd.state, "--run", kd.path("r2"), "-f"], check=False,
                          capture_output=True, text=True, timeout=20)
    assert said.returncode == 1
    assert f"pid {kd.pid()}," in said.stderr
    said = subprocess.run([KEYD, "--state", kd.path("s2"), "--run", kd.run, "-f"], check=False,
                          capture_output=True, text=True, timeout=20)
    assert said.returncode == 1 and "another daemon" in said.stderr
    with kd.client() as client:
        assert client.ping()["type"] == "PONG"
    kd.stop()
    assert os.listdir(kd.run) == []


def test_it_goes_to_the_background_when_the_sockets_listen(kd):
    argv = [arg for arg in kd.argv() if arg != "-f"]
    subprocess.run(argv, check=True, timeout=20, stdout=subprocess.DEVNULL)
    pid = kd.pid()
    try:
        with kd.client() as client:
            assert client.ping()["type"] == "PONG"
        assert subprocess.run(argv, check=False, timeout=20, capture_output=True).returncode == 1
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}/fd") or
                 open(f"/proc/{pid}/stat", encoding="ascii").read().split()[2] == "Z", "no end")
    assert kd.audit()[-1]["ev"] == "daemon.stop"


@contextlib.contextmanager
def started_by_systemd(kd, **environment):
    """Start the daemon as a service manager does; the socket on which it says how it is."""
    path = kd.path("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(20)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("WATCHDOG_PID", raising=False)
            for name, value in {"NOTIFY_SOCKET": path, **environment}.items():
                patch.setenv(name, value)
            kd.start()
        yield sock


def test_it_tells_systemd_that_it_is_ready(kd):
    with started_by_systemd(kd) as sock:
        assert sock.recv(4096) == b"READY=1"
        kd.stop()
        assert sock.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("text, said", [
    ("colour red\n", ":1: unknown setting 'colour'"),
    ("\n# x\nsocket-mode rw\n", ":3:1: socket-mode: expected an octal mode"),
    ("key-ttl 0\n", ":1: key-ttl: expected a number from 1 to 86400"),
    ("policy pol\n", ":1: policy: expected an absolute path"),
    ("policy\n", ":1:1: expected 'policy VALUE'"),
    ("socket-group no-such-group\n", ":1: socket-group: expected the name of a group"),
    ("master-key-file /a\npassphrase-file /b\n", "from one only"),
    ('policy "/x\n', ":1:8: a quote is not closed"),
])
def test_a_wrong_configuration_is_refused_with_its_line(kd, text, said):
    kd.config(text)
    assert said in kd.refuses()


@pytest.mark.parametrize("text, said", [
    ("permit all\n", ":1:1: expected 'allow NAME' or 'deny NAME'"),
    (" uid 0\n", ":1:2: a condition before the first"),
    ("allow a\n uid 5-3\n", ":2:6: uid: the range '5-3' is empty"),
    ("allow a\n uid no-such-user\n", ":2:6: uid: expected a number"),
    ("allow a\n uid\n", ":2:2: uid: expected at least one value"),
    ("allow a\n uid ,\n", ":2:2: uid: expected at least one value"),
    ("allow a\n uid 4294967295\n", ":2:6: uid: expected a number"),
    ("allow a\n colour red\n", ":2:2: unknown condition 'colour'"),
    ("allow a\n op fly\n", ":2:5: op: expected get, verify or admin"),
    ("allow a\ndeny a\n", ":2:6: a second rule 'a'"),
    ("allow default\n", ":1:7: 'default' is the name"),
    ("allow\n", ":1:1: expected one name"),
])
def test_a_wrong_policy_is_refused_with_its_line(kd, text, said):
    kd.config("policy " + kd.path("pol", text))
    assert said in kd.refuses()


def test_a_reload_takes_a_good_policy_and_keeps_the_old_one_for_a_bad_file(kd):
    def reload(text, said):
        before = kd.said().count(said)
        kd.path("pol", text)
        os.kill(kd.pid(), signal.SIGHUP)
        wait_for(lambda: kd.said().count(said) > before, said)
    kd.config("policy " + kd.path("pol", "allow all\n"))
    kd.start()
    key = kd.add()
    with kd.client() as client:
        assert client.get("Chor", ID)["key"] == key
        reload("deny all\nnonsense\n", "stays as it was")
        assert f"{kd.path('pol')}:2:1: expected" in kd.said()
        assert client.get("Chor", ID)["key"] == key
        reload("deny none\n", "is in force")
        assert code(client.get("Chor", ID)) == "ACCESS"
    loads = [r for r in kd.audit("policy.load") if r["res"] == "allow"]
    assert [r["sha256"] for r in loads] == [
        digest({"pol": text}) for text in ("allow all\n", "deny none\n")]
    kd.stop()


def test_open_directories_are_refused(kd):
    os.mkdir(kd.state, 0o755)
    os.chmod(kd.state, 0o755)
    assert "chmod 0700" in kd.refuses()
    os.chmod(kd.state, 0o700)
    os.mkdir(kd.run)
    os.chmod(kd.run, 0o777)
    assert "chmod 0755" in kd.refuses()
    os.chmod(kd.run, 0o755)
    if os.geteuid() == 0:
        os.chown(kd.state, NOBODY, NOBODY)
        assert f"belongs to uid {NOBODY}" in kd.refuses()
        os.chown(kd.state, 0, 0)
    kd.start().stop()


def test_command_line(kd):
    def run(*args):
        return subprocess.run([KEYD, *args], check=False, capture_output=True, text=True)
    assert run("--help").returncode == 0 and "usage: clubkeyd" in run("--help").stdout
    assert re.fullmatch(r"clubkeyd \d+\.\d+\n", run("--version").stdout)
    for args in ((), ("--state", kd.state), ("--bogus",), (*kd.argv()[1:], "more")):
        done = run(*args)
        assert done.returncode == 2 and done.stdout == "" and "usage: clubkeyd" in done.stderr


# ---- nothing to steal

def no_locking():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


@pytest.mark.skipif(bool(os.environ.get("CLUBFS_SAN")), reason="a sanitizer makes mlock() a no-op")
def test_without_locked_memory_it_does_not_start(kd):
    os.chmod(kd.top, 0o777)
    said = kd.refuses(preexec_fn=no_locking)
    assert "cannot lock memory" in said
    assert not os.path.exists(kd.state)


@root
def test_it_serves_as_an_ordinary_user(kd):
    os.chmod(kd.top, 0o777)
    kd.start(preexec_fn=lambda: (os.setgroups([]), os.setresgid(NOBODY, NOBODY, NOBODY),
                                 os.setresuid(NOBODY, NOBODY, NOBODY)))
    key = as_user(NOBODY, kd.add)

    def get():
        with kd.client() as client:
            return client.get("Chor", ID)["key"]
    assert as_user(NOBODY, get) == key
    assert get() == key
    os.kill(kd.pid(), signal.SIGTERM)
    assert kd.proc.wait(20) == 0


def test_no_core_no_tracer_no_new_rights(kd):
    kd.start()
    pid = kd.pid()
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        assert re.search(r"Max core file size +0 +0 ", f.read())
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        assert "NoNewPrivs:\t1" in f.read()
    if os.geteuid() == 0:       # what is not dumpable belongs to root, whoever runs it
        kd.stop()
        shutil.rmtree(kd.state)
        shutil.rmtree(kd.run)
        os.chmod(kd.top, 0o777)
        kd.start(preexec_fn=lambda: (os.setresgid(NOBODY, NOBODY, NOBODY),
                                     os.setresuid(NOBODY, NOBODY, NOBODY)))
        pid = kd.pid()

        def look():
            with open(f"/proc/{pid}/mem", "rb"):
                pass
        with pytest.raises(PermissionError):
            as_user(NOBODY, look)
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0
    kd.kill()


@root
def test_keys_are_not_in_memory_after_they_were_given_out(kd):
    """Only the master key stays, in locked memory; what was sent is wiped."""
    if os.environ.get("CLUBFS_SAN"):
        pytest.skip("a sanitizer keeps freed memory")
    kd.start()
    keys = [kd.add(f"c{n}") for n in range(5)]
    with kd.client() as client:
        for n in range(5):
            assert client.get(f"c{n}", ID)["key"] == keys[n]
        client.ping()
        found, looked = 0, 0
        pid = kd.pid()
        with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
                open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for line in maps:
                span, perms = line.split()[:2]
                if not perms.startswith("rw"):
                    continue
                begin, end = (int(x, 16) for x in span.split("-"))
                with contextlib.suppress(OSError):
                    mem.seek(begin)
                    data = mem.read(end - begin)
                    looked += len(data)
                    found += sum(data.count(key) for key in keys)
    assert looked > 100000
    assert found == 0
    kd.stop()


def test_the_protocol_document_shows_the_bytes():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../keyd/PROTOCOL.md")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    block = text.split("### Worked example")[1].split("```")[1]
    wanted = encode("GET", 7, club="Chor", club_id=b"A" * 16, acting_uid=1000, acting_gid=1000,
                    acting_pid=42, purpose=1)
    assert bytes.fromhex("".join(block.split())) == wanted
    assert len(FIELDS) == 29
