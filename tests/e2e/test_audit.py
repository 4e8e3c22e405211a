"""The audit log of the real clubkeyd: faults of the disk, full disks, other people's hands."""
import base64
import collections
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from auditlog import Log
from keydproto import Closed
from test_keyd import ID, Keyd, code, kd, root, wait_for     # pylint: disable=unused-import

SMALL = "audit-segment-kib 4\naudit-checkpoint 3600\n"


def log_of(kd):
    return Log(kd.state)


def traced(kd, *rules):
    """strace that looks at nothing but the files of the log."""
    top = os.path.join(kd.state, "audit")
    names = [".new", "checkpoint", "vkey", "hashes.bin", "000001.jsonl.torn", "audit.jsonl",
             *(f"{n:06d}.jsonl" for n in range(1, 20))]
    argv = ["strace", "-f", "-y", "-o", os.path.join(kd.top, "trace"), "-P", top]
    for name in names:
        argv += ["-P", os.path.join(top, name)]
    for rule in rules:
        argv += ["-e", rule]
    return argv


# ---- what stands in a record

def test_a_record_says_when_who_what_and_under_which_policy(kd):
    kd.start()
    kd.add()
    with kd.client() as client:
        client.get("Chor", ID)
        client.get("Chor", ID)
    load, = kd.audit("policy.load")
    first, second = kd.audit("key.get")
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        boot = f.read().strip()
    for r in (first, second):
        assert r["boot"] == boot
        assert abs(r["mono"] / 1000 - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
        assert r["ntp"] in ("sync", "unsync", "unknown")
        assert r["pol"] == load["sha256"] == load["pol"]
        assert r["ttl"] == 900
        assert len(r["salt"]) == 24
    assert first["salt"] != second["salt"]
    conn, number = first["corr"].split("-")
    assert second["corr"] == f"{conn}-{int(number) + 1}" and len(conn) == 16
    assert list(first) == ["v", "seq", "ts", "mono", "boot", "ntp", "ev", "res", "rule", "club",
                           "epoch", "lease", "ttl", "purpose", "peer", "acting", "corr", "pol", "salt",
                           "prev"]
    kd.stop()
    log_of(kd).check()


def test_an_idle_daemon_ticks(kd):
    kd.config("audit-tick 1\naudit-checkpoint 1\n")
    kd.start()
    time.sleep(3.5)
    ticks = kd.audit("tick")
    assert 2 <= len(ticks) <= 4
    log = log_of(kd)
    assert log.checkpoint()[1] >= ticks[1]["seq"]
    kd.stop()
    log.check()


def faketime(kd):
    """Environment in which a file, where the daemon may read, says how far the clock is off."""
    os.makedirs(kd.state, 0o700)
    found = [path for path in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                               *(os.path.join(d, "libfaketime.so.1")
                                 for d, _, names in os.walk("/usr/lib")
                                 if "libfaketime.so.1" in names)) if os.path.exists(path)]
    if not found:
        pytest.skip("libfaketime is missing")
    return {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": kd.path("s/clock", "+0"),
            "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.skipif(bool(os.environ.get("CLUBFS_SAN")), reason="a sanitizer wants to come first")
@pytest.mark.parametrize("step", [86400, -86400, 3])
def test_a_step_of_the_wall_clock_is_recorded_once(kd, step):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in faketime(kd).items():
            patch.setenv(name, value)
        kd.start()
    kd.add()
    with kd.client() as client:
        client.get("Chor", ID)
        kd.path("s/clock", f"{step:+d}")
        client.get("Chor", ID)
        client.get("Chor", ID)
    kd.stop()
    records = log_of(kd).check()
    at, = [n for n, r in enumerate(records) if r["ev"] == "clock.step"]
    assert abs(int(records[at]["by_ms"]) - step * 1000) < 500
    assert records[at - 1]["ev"] == "key.get"
    assert [r["ev"] for r in records[at:]].count("key.get") == 2
    assert records[at]["was"][:16] == records[at - 1]["ts"][:16]
    assert records[at + 1]["mono"] - records[at - 1]["mono"] < 60000


# ---- segments

def test_segments_follow_one_another(kd):
    kd.config(SMALL)
    kd.start()
    kd.add()
    with kd.client() as client:
        for _ in range(40):
            assert client.get("Chor", ID)["type"] == "KEY"
    log = log_of(kd)
    assert len(log.segments()) > 5
    opened = kd.audit("segment.open")[-1]["seq"]        # signed at each, behind the last answer
    wait_for(lambda: log.checkpoint()[1] >= opened, "not signed", 5)
    kd.restart()
    with kd.client() as client:
        seq = client.get("Chor", ID)["seq"]
    kd.stop()
    records = log.check()
    assert log.checkpoint()[1] == len(records)                              # and at the stop
    assert (records[seq]["ev"], records[seq]["res"]) == ("key.get", "allow")
    closed = [r["seq"] for r in records if r["ev"] == "segment.close"]
    opened = [r["seq"] for r in records if r["ev"] == "segment.open"]
    assert [n + 1 for n in closed] == opened[1:]
    for name in log.segments()[:-1]:
        st = os.stat(log.path(name))
        assert st.st_mode & 0o777 == 0o440
        assert st.st_blocks * 512 < 16384           # what was reserved was given back


def test_a_segment_ends_with_its_time(kd):
    kd.config("audit-segment-age 2\naudit-tick 1\n")
    kd.start()
    log = log_of(kd)
    wait_for(lambda: len(log.segments()) >= 3, "no rotation")
    kd.stop()
    log.check()


def test_an_old_log_becomes_the_first_segment(kd):
    kd.start()
    kd.add()
    kd.stop()
    log = log_of(kd)
    before = log.lines()
    for name in ("checkpoint", "vkey", "hashes.bin"):
        os.unlink(log.path(name))
    os.unlink(os.path.join(kd.state, "audit.key"))
    os.rename(log.path("000001.jsonl"), log.path("audit.jsonl"))
    with open(log.path("audit.jsonl"), "ab") as f:
        f.write(b'{"v":1,')       # as a crash may leave it
    kd.start()
    kd.stop()
    assert log.segments() == ["000001.jsonl"]
    assert log.lines()[:len(before)] == before
    log.check()


@root
def test_a_segment_that_cannot_be_opened_keeps_the_old_one(kd):
    kd.config(SMALL)
    kd.start()
    os.mkdir(log_of(kd).path("000002.jsonl"))
    kd.add()
    with kd.client() as client:
        for _ in range(30):
            assert client.get("Chor", ID)["type"] == "KEY"
    assert kd.said().count("the old one stays in use") == 1
    os.rmdir(log_of(kd).path("000002.jsonl"))
    kd.stop()
    log_of(kd).check()


# ---- checkpoints

def test_a_checkpoint_follows_what_was_written(kd):
    kd.config("audit-checkpoint 1\n")
    kd.start()
    kd.add()
    log = log_of(kd)
    wait_for(lambda: log.checkpoint()[1] == len(log.lines()), "no checkpoint", 20)
    origin, _ = log.checkpoint()
    assert re.fullmatch(r"clubkeyd\.[A-Za-z0-9.-]+/audit", origin)
    with open(log.path("hashes.bin"), "rb") as f:
        hashes = f.read()
    assert hashes == b"".join(hashlib.sha256(b"\0" + line).digest() for line in log.lines())
    kd.stop()


def test_the_signing_key_is_in_no_file(kd):
    """Only under the master key: nothing that a reader of the directory finds signs."""
    kd.start()
    kd.stop()
    log = log_of(kd)
    with open(os.path.join(kd.state, "audit.key"), "rb") as f:
        raw = f.read()
    assert len(raw) == 272 and os.stat(os.path.join(kd.state, "audit.key")).st_mode & 0o77 == 0
    vkey = log.read("vkey").decode()
    log.check()
    flipped = bytearray(raw)
    flipped[230] ^= 1
    kd.path("s/audit.key", bytes(flipped))
    assert "not of this master key" in kd.refuses()
    kd.path("s/audit.key", raw)
    kd.start().stop()
    assert log.read("vkey").decode() == vkey


def test_openssl_alone_verifies_the_signature(kd):
    kd.start()
    kd.add()
    kd.stop()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../keyd/AUDIT.md")
    with open(path, encoding="utf-8") as f:     # as the document says
        blocks = re.findall(r"^```\n(.*?)^```", f.read(), re.S | re.M)
    script, = ["set -e\n" + block for block in blocks if "pkeyutl" in block]
    top = kd.path("review")
    shutil.copytree(log_of(kd).top, top)
    done = subprocess.run(["sh", "-c", script], cwd=top, check=False, capture_output=True,
                          text=True)
    assert "Signature Verified Successfully" in done.stdout, done
    with open(os.path.join(top, "checkpoint"), "r+b") as f:
        text = f.read().replace(b"audit\n", b"audif\n")
        f.seek(0)
        f.write(text)
    done = subprocess.run(["sh", "-c", script], cwd=top, check=False, capture_output=True,
                          text=True)
    assert done.returncode != 0


def test_go_verifies_a_thousand_records(kd):
    """With the packages that Go's own checksum database is verified with."""
    source = "/usr/share/gocode/src/golang.org/x/mod/sumdb/note"
    if not shutil.which("go") or not os.path.isdir(source):
        pytest.skip("golang-go or golang-golang-x-mod-dev is missing")
    kd.config("audit-segment-kib 256\n")
    kd.start()
    kd.add()
    ask_all(kd, 8, 125)
    kd.stop()
    log = log_of(kd)
    size = len(log.lines())
    assert size > 1000 and len(log.segments()) > 1
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../goverify/verify.go")
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
           "GOCACHE": kd.path("gocache"), "GOTOOLCHAIN": "local"}
    subprocess.run(["go", "build", "-o", kd.path("verify"), program], check=True, env=env)

    def verify():
        return subprocess.run([kd.path("verify"), log.top], check=False, capture_output=True,
                              text=True)
    done = verify()
    assert done.returncode == 0 and f"{size} records verified" in done.stdout, done
    path = log.path(log.segments()[-1])
    rewrite(path, lambda raw: raw.replace(b"allow", b"aIlow", 1))
    assert "the head" in verify().stderr
    rewrite(path, cut_lines(1))
    assert "but there are" in verify().stderr


# ---- other people's hands

def busy_log(kd, conf=SMALL):
    """A stopped daemon whose log has several segments."""
    kd.config(conf)
    kd.start()
    kd.add()
    with kd.client() as client:
        for _ in range(20):
            client.get("Chor", ID)
    kd.stop()
    return log_of(kd)


def rewrite(path, change):
    with open(path, "rb") as f:
        before = f.read()
    after = change(before)
    assert after != before
    with open(path, "wb") as f:
        f.write(after)


def cut_lines(n):
    return lambda raw: b"".join(line + b"\n" for line in raw.split(b"\n")[:-1 - n])


def chmod_all(log):
    for name in log.segments():
        os.chmod(log.path(name), 0o600)


HARMS = {
    "cut the tail": lambda log: rewrite(log.path(log.segments()[-1]), cut_lines(1)),
    "remove the last segment": lambda log: os.unlink(log.path(log.segments()[-1])),
    "remove the first segment": lambda log: os.unlink(log.path("000001.jsonl")),
    "remove one in between": lambda log: os.unlink(log.path("000002.jsonl")),
    "swap two": lambda log: (os.rename(log.path("000002.jsonl"), log.path("x")),
                             os.rename(log.path("000003.jsonl"), log.path("000002.jsonl")),
                             os.rename(log.path("x"), log.path("000003.jsonl"))),
    "edit an old line": lambda log: rewrite(log.path("000002.jsonl"),
                                            lambda raw: raw.replace(b"allow", b"aIlow", 1)),
    "cut an old segment": lambda log: rewrite(log.path("000002.jsonl"), cut_lines(2)),
    "remove all segments": lambda log: [os.unlink(log.path(n)) for n in log.segments()],
    "remove the directory": lambda log: shutil.rmtree(log.top),
    "remove the checkpoint": lambda log: os.unlink(log.path("checkpoint")),
    "remove the key": lambda log: os.unlink(os.path.join(log.top, "..", "audit.key")),
    "damage the checkpoint": lambda log: rewrite(log.path("checkpoint"), lambda raw: raw[:-3]),
    "lower its size": lambda log: rewrite(
        log.path("checkpoint"), lambda raw: re.sub(rb"\n(\d+)\n", b"\n5\n", raw, count=1)),
    "sign it with another key": lambda log: rewrite(
        log.path("checkpoint"), lambda raw: raw[:-20] + b"AAAA" + raw[-16:]),
}


SAYS = {
    "cut the tail": "fewer records than were signed",
    "remove the last segment": "fewer records than were signed",
    "remove one in between": "segment 2 is missing",
    "swap two": "chain is broken at record",
    "edit an old line": "chain is broken at record",
    "remove the checkpoint": "checkpoint is missing",
    "remove the key": "the key that signed it is missing",
    "damage the checkpoint": "checkpoint is damaged",
    "lower its size": "not signed with its key",
    "sign it with another key": "not signed with its key",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_log_that_is_not_what_was_signed_is_refused_until_accepted(kd, harm):
    log = busy_log(kd)
    chmod_all(log)
    HARMS[harm](log)
    said = kd.refuses()
    assert "keep a copy" in said and "--accept-log" in said
    assert SAYS.get(harm, "audit log: ") in said
    assert kd.refuses().count("keep a copy") >= 1       # and again
    argv = kd.argv()
    kd.argv = lambda: [*argv, "--accept-log", "disk restored, ticket 7"]
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["type"] == "KEY"
    kd.stop()
    assert "nothing to accept" in kd.refuses()
    kd.argv = lambda: argv
    kd.start().stop()
    records = log.check()
    accept = records[1]
    assert (accept["ev"], accept["reason"]) == ("log.accept", "disk restored, ticket 7")
    assert accept["kept"] == "audit.1" and os.path.isdir(os.path.join(kd.state, "audit.1"))
    assert log.checkpoint()[0].endswith("/audit/2")


def test_what_was_not_signed_yet_can_be_cut_unnoticed(kd):
    """After a crash, and for the seconds between two checkpoints: the documents say so."""
    kd.config("audit-checkpoint 3600\n")
    kd.start()
    kd.add()
    kd.kill(signal.SIGKILL)
    log = log_of(kd)
    signed = log.checkpoint()[1]
    rewrite(log.path("000001.jsonl"), cut_lines(1))
    assert len(log.lines()) >= signed
    kd.start().stop()
    log.check()


LIVE = {
    "rm": lambda path: os.unlink(path),
    "mv": lambda path: os.rename(path, path + ".away"),
    "truncate": lambda path: os.truncate(path, os.path.getsize(path) - 10),
    "truncate to 0": lambda path: os.truncate(path, 0),
    "sed -i": lambda path: subprocess.run(["sed", "-i", "s/allow/deny/", path], check=True),
    "edit in place": lambda path: edit_in_place(path),
    "append": lambda path: subprocess.run(["bash", "-c", f"echo '{{}}' >>{path}"], check=True),
}


def edit_in_place(path):
    """One byte, no change in size."""
    with open(path, "r+b") as f:
        at = f.read().index(b"allow")
        f.seek(at)
        f.write(b"A")


@pytest.mark.parametrize("harm", LIVE)
def test_a_change_of_the_live_log_is_noticed_at_the_next_commit(kd, harm):
    kd.start()
    kd.add()
    with kd.client() as client:
        assert client.get("Chor", ID)["type"] == "KEY"
        time.sleep(0.02)        # older kernels' file times have steps of 4 ms
        LIVE[harm](kd.log)
        assert code(client.get("Chor", ID)) == "AUDIT"
        if harm != "append":        # that heals: what was appended is moved away
            time.sleep(0.5)
            assert code(client.get("Chor", ID)) == "AUDIT"
            assert code(client.get("Unknown", ID)) == "AUDIT"
    assert "so no key leaves" in kd.said()
    assert kd.kill() == 0


@pytest.mark.parametrize("harm", ["mv", "append", "edit in place"])
def test_service_goes_on_when_the_log_is_as_it_was(kd, harm):
    kd.start()
    key = kd.add()
    with open(kd.log, "rb") as f:
        before = f.read()
    time.sleep(0.02)
    LIVE[harm](kd.log)
    with kd.client() as client:
        assert code(client.get("Chor", ID)) == "AUDIT"
        if harm == "mv":
            os.rename(kd.log + ".away", kd.log)
        elif harm == "edit in place":
            with open(kd.log, "r+b") as f:
                f.write(before)
        wait_for(lambda: code(client.get("Chor", ID)) == "KEY", "no way back", 20)
        assert client.get("Chor", ID)["key"] == key
    kd.stop()
    ended, = [r for r in log_of(kd).check() if r["ev"] == "audit.fault"]
    assert ended["res"] == "ended" and ended["lost"] >= 1 and "since" in ended
    if harm == "append":
        moved, = kd.audit("audit.recovered")
        assert (moved["bytes"], moved["sha256"]) == (3, hashlib.sha256(b"{}\n").hexdigest())


@pytest.mark.parametrize("harm", ["rm", "truncate", "edit in place", "append"])
def test_a_change_of_a_closed_segment_is_noticed_by_the_next_checkpoint(kd, harm):
    kd.config("audit-segment-kib 4\naudit-checkpoint 1\n")
    kd.start()
    kd.add()
    log = log_of(kd)
    with kd.client() as client:
        while len(log.segments()) < 4:
            assert client.get("Chor", ID)["type"] == "KEY"
        path = log.path("000002.jsonl")
        os.chmod(path, 0o600)
        assert client.get("Chor", ID)["type"] == "KEY"
        wait_for(lambda: log.checkpoint()[1] == len(log.lines()), "a chmod is no harm", 20)
        assert client.get("Chor", ID)["type"] == "KEY"
        copy = shutil.copy(path, kd.path("copy"))
        LIVE[harm](path)
        wait_for(lambda: code(client.get("Chor", ID)) == "AUDIT", "not noticed", 20)
        if harm != "append":
            shutil.copy(copy, path)     # from a backup: the lines count, not the file
            wait_for(lambda: code(client.get("Chor", ID)) == "KEY", "no way back", 20)
    if harm == "append":
        assert kd.kill() == 0
    else:
        kd.stop()
        log.check()


def test_touching_the_log_is_no_harm(kd):
    kd.start()
    kd.add()
    with kd.client() as client:
        for _ in range(3):
            os.utime(kd.log)
            os.chmod(kd.log, 0o640)
            assert client.get("Chor", ID)["type"] == "KEY"
    kd.stop()
    log_of(kd).check()


def test_a_torn_record_is_moved_and_reported(kd):
    kd.start()
    kd.add()
    kd.kill(signal.SIGKILL)
    torn = b'{"v":1,"seq":99,"ts":"2026'
    with open(kd.log, "ab") as f:
        f.write(torn)
    kd.start()
    record, = kd.audit("audit.recovered")
    assert (record["bytes"], record["sha256"]) == (len(torn), hashlib.sha256(torn).hexdigest())
    with open(kd.log + ".torn", "rb") as f:
        assert f.read() == torn
    kd.stop()
    log_of(kd).check()


@pytest.mark.parametrize("harm", ["flip", "remove", "swap"])
def test_a_broken_chain_stops_the_start_and_names_the_record(kd, harm):
    kd.start()
    for n in range(3):
        kd.add(f"c{n}")
    kd.stop()
    lines = kd.lines()
    if harm == "flip":
        assert b'"allow"' in lines[4]
        lines[4] = lines[4].replace(b'"allow"', b'"aIlow"')
    elif harm == "remove":
        del lines[5]
    else:
        lines[5], lines[6] = lines[6], lines[5]
    with open(kd.log, "wb") as f:
        f.write(b"".join(line + b"\n" for line in lines))
    assert "chain is broken at record 5" in kd.refuses()


# ---- disks that fail

@root
@pytest.mark.parametrize("rule", ["fdatasync:error=EIO", "write:error=EIO", "write:error=ENOSPC",
                                  "write:retval=7", "fallocate:error=EIO"])
def test_without_a_durable_record_no_key_leaves(kd, rule):
    """The fault begins with the first record behind the start and stays."""
    kd.start()
    kd.add()
    kd.stop()
    call = rule.partition(":")[0]
    nth = calls_of_a_start(kd, call) + 1
    lines = len(kd.lines())
    if call == "fallocate":
        kd.config("audit-segment-kib 4\n")      # so that there is a second one
    kd.start(traced(kd, f"trace={call}", f"inject={rule}:when={nth}+"))
    with kd.client() as client:
        answers = []
        try:
            for n in range(20):
                answers.append(code(client.get("Chor" if n % 2 else "Unknown", ID)))
        except Closed:
            answers.append("closed")
    if rule.endswith("EIO") and call != "fallocate":
        assert answers == ["closed"]
        assert kd.proc.wait(20) == 74
        assert "the keys are wiped" in kd.said()
        assert not os.path.exists(os.path.join(kd.run, "keyd.sock"))
        assert len(kd.lines()) >= lines
    elif call == "fallocate":   # the old segment stays in use
        assert kd.kill() == 0
        assert set(answers) <= {"KEY", "ACCESS", "AUDIT"}
    else:
        assert set(answers) == {"AUDIT"}
        assert kd.kill() == 0
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["type"] == "KEY"
    kd.stop()
    log_of(kd).check()


def calls_of_a_start(kd, call):
    """How often a start calls it on the log."""
    kd.start(traced(kd, f"trace={call}"))
    kd.stop()
    with open(kd.path("trace"), encoding="utf-8") as f:
        count = sum(f" {call}(" in line for line in f)
    # The last ones were those of daemon.stop and, with write, of the checkpoint.
    return count - (2 if call == "write" else 1)


@root
def test_lines_left_in_a_segment_that_failed_are_no_broken_chain(kd):
    """They could not be cut off, and stand in the next segment again, with other numbers."""
    kd.start()
    kd.add()
    kd.stop()
    nth = calls_of_a_start(kd, "fdatasync") + 1
    kd.start(traced(kd, "trace=fdatasync,ftruncate", f"inject=fdatasync:error=EIO:when={nth}",
                    "inject=ftruncate:error=EIO"))
    with kd.client() as client:
        got = client.get("Chor", ID)
        assert got["type"] == "KEY"
    assert "cannot cut the segment" in kd.said()
    left = kd.lines()
    kd.kill(signal.SIGKILL)
    kd.start()
    kd.stop()
    log = log_of(kd)
    records = log.check()
    assert len(left) > len({json.loads(line)["seq"] for line in left})
    assert (records[got["seq"]]["ev"], records[got["seq"]]["club"]) == ("key.get", "Chor")
    moved, = [r for r in records if r["ev"] == "audit.recovered"]
    assert moved["file"] == "000001.jsonl.torn" and moved["bytes"] > 300


@root
@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_after_a_disk_error_the_same_records_go_into_another_segment(kd, call):
    kd.start()
    kd.add()
    kd.stop()
    nth = calls_of_a_start(kd, call) + 1
    kd.start(traced(kd, f"trace={call}", f"inject={call}:error=EIO:when={nth}"))
    with kd.client() as client:
        denied = client.get("Unknown", ID)
        got = client.get("Chor", ID)
        assert (code(denied), got["type"]) == ("ACCESS", "KEY")
    log = log_of(kd)
    assert len(log.segments()) == 2
    kd.kill(signal.SIGKILL)
    kd.start()
    kd.stop()
    records = log.check()
    assert records[denied["seq"]]["club"] == "Unknown"
    assert records[got["seq"]]["club"] == "Chor" and records[got["seq"]]["res"] == "allow"
    moved, = [r for r in records if r["ev"] == "audit.fault"]
    assert (moved["res"], moved["why"], moved["from"], moved["records"]) == (
        "moved", os.strerror(errno.EIO), "000001.jsonl", 1)


CALLS = ["openat", "write", "pwrite64", "fdatasync", "fsync", "renameat", "fallocate",
         "ftruncate", "unlinkat", "fchmod"]
FAULTS = ["error=EIO", "error=ENOSPC", "signal=SIGKILL"]


def scenario(kd, prefix):
    """Start, ask, stop.  What was answered, as (seq, what) and the daemon's end."""
    answers = []
    kd.config(SMALL)
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    with open(kd.messages, "wb") as out:
        kd.proc = subprocess.Popen([*prefix, *kd.argv(), "--traced"], stdout=out,
                                   stdin=subprocess.DEVNULL, stderr=out, env=env)
    wait_for(lambda: kd.proc.poll() is not None or "ready with" in kd.said(), "neither up nor down")
    try:
        with kd.client() as client:
            for n in range(12):
                answer = client.get(f"c{n % 3}", ID)
                answers.append((answer.get("seq"), f"c{n % 3}", code(answer)))
    except (Closed, OSError):
        pass
    if kd.proc.poll() is None:
        with contextlib.suppress(ProcessLookupError):       # it may be ending just now
            os.kill(kd.pid(), signal.SIGTERM)
    return answers, kd.proc.wait(30)


def check_answers(kd, answers, what):
    """Without the fault it goes on by itself, and has the record of each of @answers."""
    kd.start()
    kd.stop()
    records = log_of(kd).check()
    for seq, club, answer in answers:
        if answer == "AUDIT" and seq is None:
            continue
        record = records[seq]
        assert (record["ev"], record["club"]) == ("key.get", club), (what, seq)
        assert record["res"] == ("allow" if answer == "KEY" else "deny"), (what, seq)


def two_clubs(kd):
    """A state directory for scenario(), and a copy to start from again and again."""
    kd.config(SMALL)
    kd.start()
    for n in range(2):
        kd.add(f"c{n}")
    kd.stop()
    shutil.copytree(kd.state, kd.path("before"))


def again(kd):
    shutil.rmtree(kd.state)
    shutil.copytree(kd.path("before"), kd.state)


@root
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_fault_at_any_call_leaves_no_key_without_a_record(kd, call, fault):
    """The same run again and again, with the n-th call of its kind on the log failing."""
    two_clubs(kd)
    _, status = scenario(kd, traced(kd, f"trace={call}"))
    assert status == 0
    with open(kd.path("trace"), encoding="utf-8") as f:
        count = sum(f" {call}(" in line for line in f)
    assert count > 0
    ends = collections.Counter()
    for nth in range(1, count + 1):
        again(kd)
        argv = traced(kd, f"trace={call}", f"inject={call}:{fault}:when={nth}")
        answers, status = scenario(kd, argv)
        assert status in (0, 1, 74, 137, -signal.SIGKILL), (nth, status, kd.said())
        assert "ERROR: " not in kd.said() and "runtime error" not in kd.said()
        ends[status] += 1
        check_answers(kd, answers, nth)
    print(call, fault, count, dict(ends))
    if fault == "signal=SIGKILL":
        assert set(ends) <= {137, -signal.SIGKILL}


@root
@pytest.mark.parametrize("size", [0, 1, 7, 300])
def test_a_short_write_at_any_place_is_cut_off(kd, size):
    two_clubs(kd)
    for nth in (3, 4, 9):
        again(kd)
        answers, status = scenario(
            kd, traced(kd, "trace=write", f"inject=write:retval={size}:when={nth}"))
        assert status in (0, 1, 74)
        check_answers(kd, answers, nth)


@root
@pytest.mark.parametrize("call", ["openat", "write", "fsync", "ftruncate"])
def test_a_kill_while_it_changes_to_another_segment_loses_nothing(kd, call):
    """At each call of the kind behind a disk error, which comes with the n-th sync."""
    two_clubs(kd)
    kills = 0
    for nth in (1, 3, 4, 8):
        error = f"inject=fdatasync:error=EIO:when={nth}"
        again(kd)
        scenario(kd, traced(kd, f"trace=fdatasync,{call}", error))
        with open(kd.path("trace"), encoding="utf-8") as f:
            before, _, after = f.read().partition("(INJECTED)")
        before, after = before.count(f" {call}("), after.count(f" {call}(")
        for kill in range(1, min(after, 6) + 1):
            again(kd)
            answers, status = scenario(kd, traced(
                kd, f"trace=fdatasync,{call}", error,
                f"inject={call}:signal=SIGKILL:when={before + kill}"))
            kills += status in (137, -signal.SIGKILL)
            check_answers(kd, answers, (nth, kill))
    assert kills >= 4


# ---- full disks

class Loop:
    """A file system of its own in a file."""

    def __init__(self, top, kib):
        self.path = os.path.join(top, "mnt")
        image = os.path.join(top, "image")
        os.mkdir(self.path)
        with open(image, "wb") as f:
            f.truncate(kib * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
        done = subprocess.run(["mount", "-o", "loop", image, self.path], check=False,
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip("no loop device: " + done.stderr.strip())

    def fill(self):
        """To the last byte."""
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as f:
            for size in (4096, 1):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError as err:
                    assert err.errno == errno.ENOSPC

    def umount(self):
        subprocess.run(["umount", self.path], check=True)


@root
def test_a_full_disk_gives_out_no_key_but_still_records_who_asked(kd):
    disk = Loop(kd.top, 1024)
    try:
        kd.state = os.path.join(disk.path, "s")
        kd.log = os.path.join(kd.state, "audit", "000001.jsonl")
        kd.config("audit-segment-kib 256\naudit-reserve-kib 128\naudit-checkpoint 1\n")
        kd.start()
        key = kd.add()
        with kd.client() as client:
            assert client.get("Chor", ID)["key"] == key
            disk.fill()
            answers = []        # what was reserved for grants may be used up first
            while not answers or (answers[-1]["type"] == "KEY" and len(answers) < 1000):
                answers.append(client.get("Chor", ID))
            assert code(answers[-1]) == "AUDIT"
            denied = [client.get("Unknown" if n % 2 else "Chor", ID, uid=n // 10)
                      for n in range(90)]
            assert {code(a) for a in denied} == {"AUDIT"}
            assert all("seq" in a for a in denied), "recorded in the reserve"
            assert "there is no room" in kd.said()
            os.unlink(os.path.join(disk.path, "filler"))
            wait_for(lambda: code(client.get("Chor", ID)) == "KEY", "no way back", 20)
        kd.stop()
        log = log_of(kd)
        records = log.check()
        for answer in answers + denied:
            if "seq" in answer:
                record = records[answer["seq"]]
                assert record["res"] == ("allow" if answer["type"] == "KEY" else "deny")
        fault = [(r["res"], r["why"]) for r in records if r["ev"] == "audit.fault"]
        assert fault == [("begun", "there is no room"), ("ended", "there is no room")]
        levels = [r["level"] for r in records if r["ev"] == "audit.room"]
        assert "critical" in levels and levels[-1] == "ok"
    finally:
        if kd.proc and kd.proc.poll() is None:
            kd.kill(signal.SIGKILL)
        disk.umount()


@root
def test_a_disk_that_is_full_to_the_last_byte_loses_no_answered_record(kd):
    """Until the reserve is used up as well: then nothing is recorded, and nothing is given out."""
    disk = Loop(kd.top, 1024)
    try:
        kd.state = os.path.join(disk.path, "s")
        kd.config("audit-segment-kib 64\naudit-reserve-kib 16\n")
        kd.start()
        kd.add()
        disk.fill()
        with kd.client() as client:
            answers = [client.get("Chor" if n % 2 else "x", ID) for n in range(600)]
        assert code(answers[-1]) == "AUDIT" and "seq" not in answers[-1]
        assert "there is no room" in kd.said()
        kd.kill(signal.SIGKILL)
        os.unlink(os.path.join(disk.path, "filler"))
        kd.start()
        kd.stop()
        assert not kd.audit("audit.recovered"), "a part of a line was left behind"
        records = log_of(kd).check()
        for n, answer in enumerate(answers):
            if "seq" in answer:
                assert records[answer["seq"]]["club"] == ("Chor" if n % 2 else "x")
    finally:
        if kd.proc and kd.proc.poll() is None:
            kd.kill(signal.SIGKILL)
        disk.umount()


# ---- how fast

def test_a_long_log_is_read_fast(kd):
    """A hundred thousand lines; with leaf hashes, and when those are lost."""
    kd.config("audit-segment-kib 16384\n")
    kd.start()
    kd.add()
    with kd.client() as client:
        client.get("Chor", ID)
    kd.stop()
    log = log_of(kd)
    line, = [x for x in log.lines() if b'"key.get"' in x]
    body = line.split(b",", 2)[2].rpartition(b',"prev"')[0]
    prev = log.lines()[-1]
    with open(kd.log, "ab") as f:
        for seq in range(len(log.lines()), 100000):
            prev = b'{"v":1,"seq":%d,%s,"prev":"%s"}' % (
                seq, body, base64.b64encode(hashlib.sha256(b"\0" + prev).digest()))
            f.write(prev + b"\n")
    for lost in (False, True):
        if lost:
            os.truncate(log.path("hashes.bin"), 3200)
        begin = time.monotonic()
        kd.start()
        assert time.monotonic() - begin < (60 if os.environ.get("CLUBFS_SAN") else 6)
        kd.stop()
    assert os.path.getsize(log.path("hashes.bin")) == 32 * len(log.check())


def ask_all(kd, clients, each):
    """@clients connections at once, each asking @each times; seconds."""
    failed = []

    def work():
        with kd.client() as client:
            for _ in range(each):
                if client.get("Chor", ID)["type"] != "KEY":
                    failed.append(1)
    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    return time.monotonic() - begin


@root
def test_sixteen_clients_share_syncs(kd):
    kd.start()
    kd.add()
    kd.stop()
    before = len(kd.lines())
    kd.start(traced(kd, "trace=fdatasync"))
    ask_all(kd, 16, 60)
    kd.stop()
    with open(kd.path("trace"), encoding="utf-8") as f:
        syncs = sum("fdatasync(" in line for line in f)
    ratio = (len(kd.lines()) - before) / syncs
    print(f"{ratio:.1f} records per fdatasync")
    assert ratio >= 4


def test_five_thousand_keys_in_a_burst(kd):
    kd.start()
    kd.add()
    limit = 60 if os.environ.get("CLUBFS_SAN") else 15     # 5 on a machine of its own
    assert ask_all(kd, 4, 1250) < limit
    kd.stop()
    assert len(kd.audit("key.get")) == 5000
    log_of(kd).check()
