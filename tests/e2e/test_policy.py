"""The policy of clubkeyd in the real daemon: every condition, reload, rates; and clubctl policy."""
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from clubsite import as_user
from keydproto import Client
from test_keyd import BIN, ID, NOBODY, code, digest, kd, root, wait_for    # noqa: F401  pylint: disable=unused-import

CTL = os.path.join(BIN, "clubctl")
DONE, FAILED, USAGE = 0, 1, 2


class Dir:
    """A policy directory of the daemon @kd."""

    def __init__(self, daemon):
        self.kd, self.path = daemon, daemon.path("policy.d")
        os.mkdir(self.path, 0o755)
        daemon.config(f"policy {self.path}\n")

    def write(self, **files):
        """Replace the files "NAME.policy"; None removes one."""
        for name, text in files.items():
            path = os.path.join(self.path, f"{name}.policy")
            if text is None:
                os.unlink(path)
            else:
                with open(path + ".new", "w", encoding="utf-8") as f:
                    f.write(text)
                os.rename(path + ".new", path)
        return self

    def texts(self):
        found = {}
        for name in os.listdir(self.path):
            if name.endswith(".policy") and not name.startswith("."):
                with open(os.path.join(self.path, name), encoding="utf-8") as f:
                    found[name] = f.read()
        return found


@pytest.fixture
def pol(kd):        # noqa: F811
    return Dir(kd)


def ctl(daemon, *args, json_out=False):
    argv = [CTL, "policy", *args] + (["--json"] if json_out else [])
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, CLUBKEYD_RUN=daemon.run, LC_ALL="C.UTF-8"))
    assert "Sanitizer" not in done.stderr, done.stderr
    return done


def answer(daemon, *args):
    """The JSON answer, which must agree with the exit status."""
    done = ctl(daemon, *args, json_out=True)
    return done.returncode, json.loads(done.stdout)


# ---- the daemon decides

def test_files_are_one_policy_in_the_order_of_their_names(kd, pol):     # noqa: F811
    pol.write(**{"20-rest": "allow rest\n", "10-first": "deny bad\n\tclub Bad*\n"})
    for name in ("30-x.policy~", "README", ".05-hidden.policy"):
        kd.path(f"policy.d/{name}", "nonsense\n", 0o644)
    kd.start()
    kd.add("Bad")
    kd.add("Good")
    with kd.client() as client:
        assert code(client.get("Bad", ID)) == "ACCESS"
        assert code(client.get("Good", ID)) == "KEY"
    load, = kd.audit("policy.load")
    assert load["sha256"] == digest(pol.texts())
    shown = subprocess.run("LC_ALL=C; sha256sum *.policy | sha256sum", shell=True, check=True,
                           cwd=pol.path, capture_output=True, text=True).stdout.split()[0]
    assert load["sha256"] == shown
    assert load["text"] == ("==> 10-first.policy <==\ndeny bad\n\tclub Bad*\n"
                            "==> 20-rest.policy <==\nallow rest\n")
    kept = os.path.join(kd.state, "policy", load["sha256"])
    for name, text in pol.texts().items():
        with open(os.path.join(kept, name), encoding="utf-8") as f:
            assert f.read() == text
    kd.stop()


def test_a_long_policy_is_kept_beside_the_log(kd, pol):     # noqa: F811
    pol.write(long="allow all\n" + "# a comment\n" * 500)
    kd.start()
    kd.stop()
    load, = kd.audit("policy.load")
    assert "text" not in load
    with open(os.path.join(kd.state, "policy", load["sha256"], "long.policy"),
              encoding="utf-8") as f:
        assert f.read() == pol.texts()["long.policy"]


@pytest.mark.parametrize("what, text", [
    ("group", "others can write it"), ("others", "others can write it"),
    ("directory", "others can write it"), ("fifo", "expected a regular file"),
    ("nul", "a NUL byte"), ("name", "control characters"), ("gone", "No such file"),
])
def test_files_that_cannot_be_trusted_are_refused(kd, pol, what, text):     # noqa: F811
    pol.write(a="allow all\n")
    path = os.path.join(pol.path, "a.policy")
    if what == "group":
        os.chmod(path, 0o664)
    elif what == "others":
        os.chmod(path, 0o646)
    elif what == "directory":
        os.chmod(pol.path, 0o777)
    elif what == "fifo":
        os.mkfifo(os.path.join(pol.path, "b.policy"), 0o600)
    elif what == "nul":
        pol.write(b="allow b\0\n")
    elif what == "name":
        pol.write(**{"b\n": "allow b\n"})
    else:
        os.symlink("nowhere", os.path.join(pol.path, "b.policy"))
    assert text in kd.refuses()


@root
def test_files_of_others_are_refused(kd, pol):      # noqa: F811
    pol.write(a="allow all\n")
    os.chown(os.path.join(pol.path, "a.policy"), NOBODY, NOBODY)
    assert "belongs to neither root nor" in kd.refuses()


def test_time_of_day_decides(kd, pol):      # noqa: F811
    now = time.localtime()
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][now.tm_wday]
    minute = now.tm_hour * 60 + now.tm_min
    spans = {"now": (minute - 30, minute + 30), "later": (minute + 60, minute + 120)}
    clock = {k: "-".join(f"{m // 60 % 24:02}:{m % 60:02}" for m in (v[0] % 1440, v[1] % 1440))
             for k, v in spans.items()}
    other = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(now.tm_wday + 3) % 7]
    pol.write(a=f"allow later\n club A\n time {clock['later']}\n"
                f"allow now\n club B\n time {clock['now']}\n"
                f"allow today\n club C\n time {day}\n"
                f"allow other\n club D\n time {other}\n")
    kd.start()
    with kd.client() as client:
        got = {}
        for club in "ABCD":
            kd.add(club)
            got[club] = code(client.get(club, ID))
    assert got == {"A": "ACCESS", "B": "KEY", "C": "KEY", "D": "ACCESS"}
    kd.stop()


@root
def test_uid_gid_and_supplementary_groups_decide(kd, pol):      # noqa: F811
    pol.write(a=f"deny g\n gid 4711\nallow u\n uid {NOBODY}\nallow s\n gid 4712\n")
    kd.path("conf", f"policy {pol.path}\nsocket-mode 0666\n", 0o644)
    kd.start()
    kd.add()

    def ask():
        with kd.client() as client:
            return code(client.get("Chor", ID))
    assert ask() == "ACCESS"
    assert as_user(NOBODY, ask) == "KEY"
    assert as_user(1234, ask, groups=(4712, 5)) == "KEY"
    assert as_user(NOBODY, ask, groups=(4711,)) == "ACCESS"
    assert as_user(NOBODY, ask, gid=4711) == "ACCESS"
    assert [r["rule"] for r in kd.audit("key.get")] == ["default", "u", "s", "g", "g"]
    kd.stop()


def test_an_exe_nobody_tells_never_matches(kd, pol):        # noqa: F811
    exe = os.path.realpath("/proc/self/exe")
    pol.write(a=f"allow mine\n exe {exe}\n club Chor\nallow other\n club Other\n")
    kd.start()
    kd.add()
    kd.add("Other")
    with kd.client() as client:
        assert code(client.get("Chor", ID)) == "ACCESS"
        assert code(client.get("Other", ID)) == "KEY"
    assert "rule 'mine' never matches" in kd.said()
    kd.stop()


def test_an_alarm_stands_in_the_record(kd, pol):        # noqa: F811
    pol.write(a="deny loud\n club Loud\n alarm yes\nallow rest\n")
    kd.start()
    kd.add()
    with kd.client() as client:
        client.get("Loud", ID)
        client.get("Chor", ID)
    loud, rest = kd.audit("key.get")
    assert (loud["alarm"], loud["rule"]) == ("yes", "loud")
    assert "alarm" not in rest
    kd.stop()


def test_a_rate_holds_per_acting_user_and_refills(kd, pol):     # noqa: F811
    pol.write(a="allow all\n rate 5/s burst 8\n")
    kd.start()
    kd.add()
    with kd.client() as client:
        begin = time.monotonic()
        got = [client.get("Chor", ID, uid=1) for _ in range(40)]
        spent = time.monotonic() - begin
        keys = sum(a["type"] == "KEY" for a in got)
        assert 8 <= keys <= 8 + 5 * spent + 1
        over = [a for a in got if a["type"] == "DENY"]
        assert {(a["code"], a["retry_s"]) for a in over} == {("RATE", 1)}
        assert code(client.get("Chor", ID, uid=2)) == "KEY"
        time.sleep(1.1)
        assert [code(client.get("Chor", ID, uid=1)) for _ in range(5)] == ["KEY"] * 5
        # What is over the rate is not told whether there is such a club.
        for _ in range(20):
            last = client.get("Nobody", ID, uid=3)
        assert code(last) == "RATE"
    kd.stop()
    grants = [r for r in kd.audit("key.get") if r["res"] == "allow"]
    assert len(grants) == keys + 6
    why = "more requests than the rule allows"
    denied = [r for r in kd.audit() if r.get("why") == why]
    assert sum(r.get("n", 1) for r in denied if r["acting"]["uid"] == 1) == len(over)
    assert {r["rule"] for r in denied} == {"all"}


# ---- reload

def reload_by_signal(daemon, said):
    before = daemon.said().count(said)
    os.kill(daemon.pid(), signal.SIGHUP)
    wait_for(lambda: daemon.said().count(said) > before, said)


def test_reload_by_the_tool_and_by_signal(kd, pol):     # noqa: F811
    pol.write(a="allow all\n")
    kd.start()
    kd.add()
    with kd.client() as client:
        pol.write(b="deny more\n\tclub\n")
        done = ctl(kd, "reload")
        assert done.returncode == FAILED and not done.stdout
        where = os.path.join(pol.path, "b.policy") + ":2:2: club: expected at least one value"
        assert where in done.stderr
        status, said = answer(kd, "reload")
        assert (status, said["ok"]) == (FAILED, False) and where in said["error"]
        assert code(client.get("Chor", ID)) == "KEY"
        pol.write(b=None, a="deny all\n")
        status, said = answer(kd, "reload")
        assert (status, said["ok"], said["sha256"]) == (DONE, True, digest(pol.texts()))
        assert code(client.get("Chor", ID)) == "ACCESS"
        pol.write(a="allow again\n")
        reload_by_signal(kd, "is in force")
        assert code(client.get("Chor", ID)) == "KEY"
    loads = kd.audit("policy.load")
    assert [r["res"] for r in loads] == ["allow", "error", "error", "allow", "allow"]
    assert loads[3]["seq"] == said["seq"]
    assert loads[3]["peer"]["uid"] == os.geteuid() and "peer" not in loads[4]
    assert loads[1]["file"].endswith("b.policy:2:2")
    kd.stop()


@root
def test_reload_needs_an_administrator(kd, pol):        # noqa: F811
    pol.write(a="allow all\n")
    kd.path("conf", f"policy {pol.path}\nadmin-socket-mode 0666\nsocket-mode 0666\n", 0o644)
    kd.start()

    def ask():
        return ctl(kd, "reload").returncode
    assert as_user(NOBODY, ask) == FAILED
    with kd.client() as client:
        assert code(client.call("POLICY_RELOAD")) == "PROTO"    # not on keyd.sock
    assert len(kd.audit("policy.load")) == 1
    kd.stop()


def test_reload_is_atomic_under_load(kd, pol):      # noqa: F811
    """Clients see one policy or the other, never a part: of both clubs always the same answer."""
    both = "{0} a\n club A\n{0} b\n club B\n"
    pol.write(a=both.format("allow"))
    kd.start()
    kd.add("A")
    kd.add("B")
    stop, mixed, asked = threading.Event(), [], [0]

    def load():
        with Client(kd.run) as client:
            while not stop.is_set():
                # one packet behind the other: nothing comes in between but a reload
                first, second = code(client.get("A", ID)), code(client.get("B", ID))
                again = code(client.get("A", ID))
                if first == again != second:
                    mixed.append((first, second))
                asked[0] += 3
    threads = [threading.Thread(target=load) for _ in range(4)]
    for t in threads:
        t.start()
    for turn in range(60):
        bad = turn % 3 == 2
        pol.write(a="nonsense\n" if bad else both.format("deny" if turn % 2 else "allow"))
        assert ctl(kd, "reload").returncode == (FAILED if bad else DONE)
    stop.set()
    for t in threads:
        t.join()
    assert mixed == [] and asked[0] > 100
    kd.stop()
    # Every record was made by a rule of the policy that was in force at it.
    allow = None
    for record in kd.audit():
        if record["ev"] == "policy.load" and record["res"] == "allow":
            allow = "allow a" in record["text"]
        elif record["ev"] == "key.get":
            assert record["res"] == ("allow" if allow else "deny"), record


def test_a_reload_that_cannot_be_recorded_changes_nothing(kd, pol):     # noqa: F811
    pol.write(a="allow all\n")
    kd.start()
    kd.add()
    os.rename(os.path.join(kd.state, "policy"), os.path.join(kd.state, "away"))
    kd.path("s/policy", "in the way")
    pol.write(a="deny all\n")
    done = ctl(kd, "reload")
    assert done.returncode == FAILED
    with kd.client() as client:
        assert code(client.get("Chor", ID)) == "KEY"
    assert len(kd.audit("policy.load")) == 1
    kd.stop()


# ---- clubctl policy

def test_check_says_what_is_wrong_and_where(kd, pol):       # noqa: F811
    pol.write(a="allow one\n uid 0-99\n", b="deny two\n uid 100\n")
    done = ctl(kd, "check", pol.path)
    assert done.returncode == DONE, done
    assert f"2 rules, sha256 {digest(pol.texts())}" in done.stdout
    pol.write(c="allow three\n uid 50\n", d="allow four\n exe /bin/x\n")
    done = ctl(kd, "check", pol.path)
    assert done.returncode == FAILED
    assert f"{pol.path}/c.policy:1: rule 'three' is never reached: rule 'one'" in done.stdout
    assert f"{pol.path}/d.policy:1: rule 'four' never matches: nobody tells" in done.stdout
    status, said = answer(kd, "check", pol.path)
    assert (status, said["ok"], said["rules"], len(said["problems"])) == (FAILED, False, 4, 2)
    pol.write(e="allow five\n uid 5\n op fly\n")
    done = ctl(kd, "check", pol.path)
    assert done.returncode == FAILED
    assert f"{pol.path}/e.policy:3:5: op: expected get, verify or admin" in done.stderr
    status, said = answer(kd, "check", pol.path)
    assert status == FAILED
    assert said["problems"] == [{"where": f"{pol.path}/e.policy:3:5",
                                 "text": "op: expected get, verify or admin, found 'fly'"}]
    assert ctl(kd, "check", kd.path("nowhere")).returncode == FAILED


def test_test_answers_as_the_daemon_does(kd, pol):      # noqa: F811
    pol.write(a="deny night\n time 22:00-06:00\n acting-uid 1000-1999\n"
                "allow fs\n unit clubfs@*.service\n lease 10m idle 2m max 4h\n rate 3/m burst 9\n"
                'allow some\n uid 5 7\n gid 20\n club "TV *" Chor\n op verify\n alarm yes\n')
    kd.start()
    for where in ((), ("--file", pol.path)):
        def ask(*args):
            return answer(kd, "test", *args, *where)    # pylint: disable=cell-var-from-loop
        base = ("--uid", "5", "--club", "TV Nord", "--at", "12:00")
        status, said = ask(*base)
        assert (status, said["allowed"], said["rule"], said["where"]) == (
            FAILED, False, "default", "")
        status, said = ask(*base, "--gid", "20", "--op", "verify")
        assert (status, said["rule"], said["alarm"], said["lease_s"], said["max_s"]) == (
            DONE, "some", True, 900, 28800)
        assert said["where"] == f"{pol.path}/a.policy:8"
        status, said = ask(*base, "--unit", "clubfs@x.service")
        assert (status, said["lease_s"], said["idle_s"], said["max_s"], said["rate"],
                said["rate_per_s"], said["rate_burst"]) == (DONE, 600, 120, 14400, 3, 60, 9)
        assert ask(*base, "--unit", "clubfs.service")[0] == FAILED
        night = ("--uid", "5", "--club", "Chor", "--acting-uid", "1000", "--unit", "clubfs@.service")
        assert ask(*night, "--at", "2026-11-26T22:00")[1]["rule"] == "night"
        assert ask(*night, "--at", "2026-11-26T05:59")[1]["rule"] == "night"
        assert ask(*night, "--at", "2026-11-26T06:00")[1]["rule"] == "fs"
    done = ctl(kd, "test", "--uid", "5", "--club", 'a"b\\c')
    assert done.returncode == FAILED and "denied by rule 'default'" in done.stdout
    kd.stop()
    done = ctl(kd, "test", "--uid", "5", "--club", "Chor")
    assert done.returncode == FAILED and done.stdout == "" and "cannot be asked" in done.stderr


@pytest.mark.parametrize("args", [
    (), ("fly",), ("test",), ("test", "--uid", "5"), ("test", "--club", "x"),
    ("test", "--uid", "no-such-user", "--club", "x"), ("test", "--uid", "5", "--club", "x", "y"),
    ("test", "--uid", "5", "--club", "x", "--at", "25:00"),
    ("test", "--uid", "5", "--club", "x", "--op", "fly"), ("test", "--uid"),
    ("explain",), ("explain", "x"), ("explain", "1", "2"), ("explain", "-1"), ("check", "a", "b"),
    ("check", "--bogus"), ("reload", "x")])
def test_wrong_usage(kd, args):     # noqa: F811
    done = ctl(kd, *args)
    assert done.returncode == USAGE and done.stdout == "", done
    assert "usage: clubctl policy" in done.stderr


def test_explain_shows_the_rule_that_decided_then(kd, pol):     # noqa: F811
    pol.write(a="deny guests\n\tacting-uid 2000-2999\n", b='allow nord\n\tclub "TV *"\n')
    kd.start()
    kd.add("TV Nord")
    with kd.client() as client:
        seqs = [client.get(club, ID, uid=uid)["seq"]
                for club, uid in (("TV Nord", 1000), ("TV Nord", 2000), ("Chor", 1000),
                                  ("TV Ost", 1000))]
        old = digest(pol.texts())
        pol.write(a="allow all\n", b=None)
        assert ctl(kd, "reload").returncode == DONE
        last = client.get("TV Nord", ID, uid=2000)["seq"]

    def explain(seq):
        return answer(kd, "explain", str(seq), "--state", kd.state)
    status, said = explain(seqs[0])
    assert (status, said["rule"], said["policy"]) == (DONE, "nord", old)
    assert said["where"].endswith("/b.policy:1") and said["text"] == 'allow nord\n\tclub "TV *"\n'
    assert [(b["rule"], b["condition"]) for b in said["before"]] == [("guests", "acting-uid")]
    assert said["record"]["seq"] == seqs[0]
    assert explain(seqs[1])[1]["rule"] == "guests"
    said = explain(seqs[2])[1]
    assert (said["rule"], said["text"], said["where"]) == ("default", "", "")
    assert [(b["rule"], b["condition"]) for b in said["before"]] == [
        ("guests", "acting-uid"), ("nord", "club")]
    assert explain(last)[1]["rule"] == "all" and explain(last)[1]["policy"] != old
    done = ctl(kd, "explain", str(seqs[1]), "--state", kd.state)
    assert done.returncode == DONE
    for words in ("key.get of club 'TV Nord'", "deny guests\n\tacting-uid 2000-2999", old,
                  "the policy does not allow it", "for uid 2000"):
        assert words in done.stdout
    done = ctl(kd, "explain", str(seqs[3]), "--state", kd.state)
    assert "why: unknown club" in done.stdout
    made = kd.audit("key.create")[0]["seq"]
    assert "asked by uid" in ctl(kd, "explain", str(made), "--state", kd.state).stdout
    done = ctl(kd, "explain", "999999", "--state", kd.state)
    assert done.returncode == FAILED and "there is no record 999999" in done.stderr
    assert ctl(kd, "explain", "1", "--state", kd.path("nowhere")).returncode == FAILED
    kept = os.path.join(kd.state, "policy", old, "b.policy")
    with open(kept, "a", encoding="utf-8") as f:
        f.write("# innocent\n")
    done = ctl(kd, "explain", str(seqs[0]), "--state", kd.state)
    assert done.returncode == FAILED and "it was changed" in done.stderr and not done.stdout
    kd.stop()


def test_explain_of_what_the_policy_did_not_decide(kd):     # noqa: F811
    kd.start()
    key = kd.add()
    with kd.client() as client:
        assert client.get("Chor", ID)["key"] == key
        assert code(client.raw(b"xx")) == "PROTO"
    records = {(r["ev"], r.get("rule")): r["seq"] for r in kd.audit()}
    for what, words in ((("key.get", "built-in"), "no policy file"),
                        (("key.create", "admin"), "admin socket"),
                        (("deny", "protocol"), "no packet"),
                        (("daemon.start", None), "names no rule")):
        done = ctl(kd, "explain", str(records[what]), "--state", kd.state)
        assert done.returncode == DONE and words in done.stdout, done
        assert answer(kd, "explain", str(records[what]), "--state", kd.state)[1]["note"]
    kd.stop()
