"""Keys through their life: states, rotation, suspension, the index, backup and restore, unlocking.

The daemon is the real one; what it wrote is read by keyfiles.py, an implementation of its own."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

import clubsite
import keyfiles
from test_keyd import ID, Keyd, code, kd, root, wait_for    # noqa: F401 (a fixture)

DONE, FAILED, USAGE = 0, 1, 2


def master(kd):
    with open(os.path.join(kd.state, "master.key"), "rb") as f:
        return f.read()


def key_path(kd, club):
    return os.path.join(kd.state, "keys", f"{club}.key")


def ctl(kd, *args, stdin=None, run=None):
    env = dict(os.environ, CLUBKEYD_RUN=run or kd.run, LC_ALL="C.UTF-8")
    return subprocess.run([os.path.join(clubsite.BIN, "clubctl"), *args], env=env, check=False,
                          capture_output=True, text=True, input=stdin, timeout=120)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, raw):
    with open(path, "wb") as f:
        f.write(raw)


# ---- states

def test_every_transition_and_its_record(kd):
    kd.start()
    first = kd.add("Chor")
    with kd.admin() as admin, kd.client() as client:
        assert [k[:3] for k in admin.keys()] == [("Chor", 1, "active")]
        assert admin.rotate("Chor", 1)["type"] == "DONE"
        second = client.get("Chor", ID)
        assert second["epoch"] == 2 and second["key"] != first
        assert client.get("Chor", ID, epoch=1)["key"] == first      # what it protects is readable
        assert client.get("Chor", ID, epoch=2)["key"] == second["key"]
        assert code(client.get("Chor", ID, epoch=3)) == "ACCESS"
        assert [k[:3] for k in admin.keys()] == [("Chor", 1, "deactivated"), ("Chor", 2, "active")]

        assert admin.suspend("Chor", "the board decided")["type"] == "DONE"
        for epoch in (None, 1, 2):
            assert code(client.get("Chor", ID, epoch=epoch)) == "ACCESS"
        assert code(client.get("Unknown", ID)) == "ACCESS"          # the same answer
        assert [k[2] for k in admin.keys()] == ["deactivated", "suspended"]
        assert code(admin.rotate("Chor", 2)) == "INVALID"
        assert admin.suspend("Chor")["type"] == "DONE"              # once more does no harm
        assert admin.resume("Chor")["type"] == "DONE"
        assert client.get("Chor", ID)["key"] == second["key"]

        assert admin.rotate("Chor", 2, "compromised")["type"] == "DONE"
        third = client.get("Chor", ID)["key"]
        assert client.get("Chor", ID, epoch=2)["key"] == second["key"]
        listed = admin.keys()
    kd.stop()
    assert len({first, second["key"], third}) == 3
    kept = keyfiles.load(key_path(kd, "Chor"))
    assert [e["state"] for e in kept.entries] == ["deactivated", "compromised", "active"]
    assert kept.keys(master(kd)) == {1: first, 2: second["key"], 3: third}
    assert [(k[1], k[2]) for k in listed] == [(e["epoch"], e["state"]) for e in kept.entries]
    assert [(k[3]["created_s"], k[3]["changed_s"]) for k in listed] == [
        (e["created"], e["changed"]) for e in kept.entries]
    assert {k[3]["club_id"] for k in listed} == {ID}

    acts = [(r["ev"], r["res"], r.get("epoch"), r.get("becomes"), r.get("reason"))
            for r in kd.audit() if r["ev"].startswith("key.") and "res" in r
            and r["ev"] != "key.get"]
    assert acts == [
        ("key.create", "allow", 1, None, None), ("key.activate", "allow", None, None, None),
        ("key.rotate", "allow", 1, "deactivated", None),
        ("key.suspend", "allow", None, None, "the board decided"),
        ("key.rotate", "deny", 2, "deactivated", None),
        ("key.suspend", "allow", None, None, "a reason"), ("key.resume", "allow", None, None, None),
        ("key.rotate", "allow", 2, "compromised", None)]
    gets = [(r["res"], r.get("epoch"), r.get("state"), r.get("why")) for r in kd.audit("key.get")]
    assert ("allow", 1, "deactivated", None) in gets and ("allow", 2, "compromised", None) in gets
    assert ("deny", 1, None, "suspended") in gets and ("deny", 3, None, "no active key") in gets


def test_changes_that_the_state_does_not_allow_are_refused(kd):
    kd.start()
    with kd.admin() as admin, kd.client() as client:
        assert admin.add("New", ID)["type"] == "KEY"
        assert code(admin.rotate("New", 1)) == "INVALID"        # still pre-active
        assert code(admin.suspend("New")) == "INVALID"
        assert code(admin.resume("New")) == "INVALID"
        for act in (lambda c: admin.rotate(c, 1), admin.suspend, admin.resume):
            assert code(act("nobody")) == "NOENT"
        kd.add("Old")
        before = read(key_path(kd, "Old"))
        for epoch, old in ((0, 4), (2, 4), (1, 1), (1, 2), (1, 3), (1, 6), (1, 7), (1, 0)):
            assert code(admin.rotate("Old", epoch, old)) == "INVALID", (epoch, old)
        assert read(key_path(kd, "Old")) == before
        assert code(admin.add("Old", ID)) == "EXISTS"
        admin.suspend("Old")
        assert code(admin.add("Old", ID)) == "EXISTS"
        assert code(admin.activate("Old", ID)) == "INVALID"     # that would be a back door
        assert code(client.get("Old", ID)) == "ACCESS"
    for act in ("rotate", "suspend", "resume", "keys"):
        with kd.client() as client:                             # not on keyd.sock
            packet = {"rotate": lambda c: c.rotate("Old", 1), "suspend": lambda c: c.suspend("Old"),
                      "resume": lambda c: c.resume("Old"), "keys": lambda c: c.call("LIST")}[act]
            assert code(packet(client)) == "PROTO"
    kd.stop()


def test_a_key_can_be_rotated_until_the_file_is_full(kd):
    kd.start()
    kd.add("Chor")
    with kd.admin() as admin, kd.client() as client:
        for epoch in range(1, 256):
            assert admin.rotate("Chor", epoch)["type"] == "DONE"
        assert code(admin.rotate("Chor", 256)) == "INVALID"
        assert len({k[1] for k in admin.keys()}) == 256
        assert client.get("Chor", ID, epoch=128)["epoch"] == 128
    kd.stop()
    assert len(keyfiles.load(key_path(kd, "Chor")).keys(master(kd))) == 256


def test_kill_9_during_changes_leaves_a_whole_key_store(kd):
    """Killed at any moment, a rotation was done or not, and nothing looks put back."""
    kd.start()
    kd.add("Chor")
    for round_ in range(12):
        def rotate():
            try:
                with kd.admin() as admin:
                    for epoch in range(len(admin.keys()), 200):
                        admin.rotate("Chor", epoch)
            except (OSError, Exception):    # pylint: disable=broad-except
                pass
        worker = threading.Thread(target=rotate)
        worker.start()
        time.sleep(0.003 + 0.004 * round_)
        kd.kill(signal.SIGKILL)
        worker.join()
        kd.start()
        assert "unusable" not in kd.said() and "put back" not in kd.said()
        with kd.client() as client:
            assert client.get("Chor", ID)["type"] == "KEY"
    kd.stop()
    assert len(keyfiles.load(key_path(kd, "Chor")).entries) > 1


# ---- files that somebody exchanged

def two_generations(kd):
    """A club with an old and a new key file; the bytes of both."""
    kd.start()
    kd.add("Chor")
    other = kd.add("Other")
    kd.stop()
    old = read(key_path(kd, "Chor"))
    kd.start()
    with kd.admin() as admin:
        admin.rotate("Chor", 1)
        admin.suspend("Chor")
    kd.stop()
    return old, read(key_path(kd, "Chor")), other


def assert_locked(kd, other):
    kd.start()
    assert "is unusable" in kd.said()
    with kd.client() as client, kd.admin() as admin:
        for epoch in (None, 1, 2):
            assert code(client.get("Chor", ID, epoch=epoch)) == "ACCESS"
        assert client.get("Other", ID)["key"] == other
        assert [k[0] for k in admin.keys()] == ["Other"]
        assert code(admin.add("Chor", ID)) == "EXISTS"
    kd.stop()


def test_an_older_file_of_the_club_is_noticed_and_can_be_accepted(kd):
    """It would undo the suspension."""
    old, new, other = two_generations(kd)
    write(key_path(kd, "Chor"), old)
    assert_locked(kd, other)
    assert "was put back" in kd.said()
    write(key_path(kd, "Chor"), new)
    kd.start().stop()
    write(key_path(kd, "Chor"), old)
    normal = kd.argv
    kd.argv = lambda: [*normal(), "--accept-keys"]
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["epoch"] == 1
    kd.stop()
    assert kd.audit("key.accept")[-1]["clubs"] == 2
    kd.argv = normal
    kd.start().stop()
    write(key_path(kd, "Chor"), new)        # what was accepted counts from then on
    assert_locked(kd, other)


@pytest.mark.parametrize("harm", ["epoch left out", "old entry", "states swapped", "epochs swapped",
                                  "entry of another club", "time", "generation"])
def test_entries_cannot_be_exchanged_within_or_between_files(kd, harm):
    old, new, other = two_generations(kd)
    raw = bytearray(new)
    if harm == "epoch left out":
        raw = raw[:-128]
        raw[12] = 1
    elif harm == "old entry":       # epoch 1 as it was when active
        raw[256:384] = old[256:384]
    elif harm == "states swapped":
        raw[260], raw[388] = raw[388], raw[260]
    elif harm == "epochs swapped":  # the wrapped keys change places
        raw[288:384], raw[416:512] = raw[416:512], raw[288:384]
    elif harm == "entry of another club":
        raw[256:384] = read(key_path(kd, "Other"))[256:384]
    elif harm == "time":
        raw[264] ^= 1
    else:
        raw[252] += 1
    assert bytes(raw) != new
    write(key_path(kd, "Chor"), raw)
    assert_locked(kd, other)


@pytest.mark.parametrize("harm", ["missing", "flip", "cut", "other", "older"])
def test_the_index_is_needed_and_cannot_be_edited(kd, harm):
    kd.start()
    kd.add("Chor")
    kd.stop()
    path = os.path.join(kd.state, "keys.index")
    before = read(path)
    assert keyfiles.name_hash("Chor") in before
    kd.start()
    with kd.admin() as admin:
        for epoch in (1, 2):
            admin.rotate("Chor", epoch)
    kd.stop()
    good = read(path)
    assert good != before
    if harm == "missing":
        os.unlink(path)
    else:
        raw = {"flip": good[:96] + bytes([good[96] ^ 1]) + good[97:], "cut": good[:-1],
               "other": good[:32] + os.urandom(len(good) - 32), "older": before}[harm]
        write(path, raw)
    if harm in ("missing", "older"):
        kd.start()
        assert "was put back or is missing" in kd.said()
        with kd.client() as client:
            assert code(client.get("Chor", ID)) == "ACCESS"
        kd.stop()
    else:
        assert "keys.index is damaged" in kd.refuses()
    write(path, good)
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["epoch"] == 3
    kd.stop()


def test_a_missing_key_file_is_reported(kd):
    kd.start()
    kd.add("Chor")
    kd.stop()
    os.unlink(key_path(kd, "Chor"))
    kd.start()
    assert "1 clubs had keys that are missing" in kd.said()
    kd.stop()


def test_files_of_version_1_are_read_and_become_version_2(kd):
    kd.start().stop()
    key = os.urandom(32)
    write(key_path(kd, "Chor"), keyfiles.make(master(kd), "Chor", ID, key))
    os.unlink(os.path.join(kd.state, "keys.index"))     # it is newer than they are
    kd.start()
    with kd.client() as client, kd.admin() as admin:
        assert client.get("Chor", ID)["key"] == key
        admin.rotate("Chor", 1)
        assert client.get("Chor", ID, epoch=1)["key"] == key
    kd.stop()
    kept = keyfiles.load(key_path(kd, "Chor"))
    assert (kept.version, kept.generation) == (2, 1)
    write(key_path(kd, "Chor"), keyfiles.make(master(kd), "Chor", ID, key))
    kd.start()
    assert "was put back" in kd.said()
    kd.stop()


# ---- clubctl and the filesystem

def test_clubctl_shows_and_changes_states(site, keyd):      # pylint: disable=unused-argument
    store = site.store("alpha", "TV Nörd")
    assert site.ctl("list").stdout.count("\tactive\t") == 2
    done = site.ctl("rotate", "TV Nörd", "--json")
    assert json.loads(done.stdout)["epoch"] == 2
    assert "under the key it has" in done.stderr
    site.ctl("rotate", "alpha", "--old", "compromised")
    listed = json.loads(site.ctl("list", "--json").stdout)["keys"]
    assert [(k["club"], k["epoch"], k["state"]) for k in listed] == [
        ("TV Nörd", 1, "deactivated"), ("TV Nörd", 2, "active"),
        ("alpha", 1, "compromised"), ("alpha", 2, "active")]
    assert "suspended" in site.ctl("suspend", "alpha", "--reason", "lost laptop").stdout
    assert "\tactive\t" in site.ctl("resume", "alpha").stdout
    assert site.ctl("suspend", "alpha", check=False).returncode == USAGE
    assert site.ctl("rotate", "alpha", "--old", "lost", check=False).returncode == USAGE
    assert site.ctl("suspend", "alpha", "--reason", "x" * 201, check=False).returncode == USAGE
    for args in (("rotate", "nobody"), ("suspend", "nobody", "--reason", "x"), ("resume", "no")):
        done = site.ctl(*args, check=False)
        assert done.returncode == FAILED and "no key for this club" in done.stderr, done
    assert site.ctl("list", store).stdout.split("\n")[0]


def test_the_filesystem_opens_what_it_wrote_before_a_rotation(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    with open(mnt.join("alpha", "f"), "w", encoding="ascii") as f:
        f.write("before")
    mnt.umount()
    site.ctl("rotate", "alpha")
    site.ctl("rotate", "alpha", "--old", "compromised")
    mnt = site.mount(store)
    with open(mnt.join("alpha", "f"), encoding="ascii") as f:
        assert f.read() == "before"
    with open(mnt.join("alpha", "g"), "w", encoding="ascii") as f:
        f.write("after")
    mnt.umount()
    site.ctl("suspend", "alpha", "--reason", "test")
    mnt = site.mount(store)
    with pytest.raises(OSError):
        os.listdir(mnt.join("alpha"))
    site.ctl("resume", "alpha")
    wait_for(lambda: subprocess.run(["ls", mnt.join("alpha")], capture_output=True,
                                    check=False).returncode == 0, "still locked", 10)
    assert sorted(os.listdir(mnt.join("alpha"))) == ["f", "g"]
    mnt.umount()
    given = [r for r in keyd.audit() if r["ev"] == "key.get" and r["res"] == "allow"]
    assert {r["epoch"] for r in given} == {1} and given[-1]["state"] == "deactivated"


# ---- backup and restore

def passphrase(kd, text="correct horse battery staple"):
    return kd.path("backup-pass", text + "\n")


def backup(kd, *more, stdin=None):
    return ctl(kd, "backup", kd.path("bak"), kd.state, "--passphrase-file",
               "-" if stdin else passphrase(kd), *more, stdin=stdin)


def test_backup_and_restore_with_a_store(site, keyd):
    """The whole way: data, backup, the state directory is lost, restore, the club opens again."""
    store = site.store("alpha", "beta")
    mnt = site.mount(store)
    with open(mnt.join("beta", "f"), "w", encoding="ascii") as f:
        f.write("kept")
    mnt.umount()
    site.ctl("rotate", "beta")
    site.write("pass", "a passphrase")
    os.chmod(site.path("pass"), 0o600)
    done = json.loads(site.ctl("backup", site.path("bak"), keyd.state, "--passphrase-file",
                               site.path("pass"), "--json").stdout)
    assert (done["clubs"], done["master_key"]) == (2, True)
    record = [r for r in keyd.audit() if r["ev"] == "key.backup"][-1]
    keyd.stop()
    before = site.ctl("list", check=False)
    assert before.returncode == FAILED      # nobody there
    shutil.rmtree(keyd.state)
    site.ctl("restore", site.path("bak"), keyd.state, "--passphrase-file", site.path("pass"))
    again = site.keyd()
    mnt = site.mount(store)
    with open(mnt.join("beta", "f"), encoding="ascii") as f:
        assert f.read() == "kept"
    mnt.umount()
    told = [r for r in again.audit() if r["ev"] == "key.restore"]
    assert [r["log_seq"] for r in told] == [record["seq"]]
    assert not os.path.exists(os.path.join(again.state, "audit.head"))


def test_a_backup_is_sealed_whole_and_closed_to_others(kd):
    kd.start()
    keys = [kd.add(f"Club {n}") for n in range(3)]
    done = backup(kd)
    assert done.returncode == DONE, done
    raw = read(kd.path("bak"))
    assert os.stat(kd.path("bak")).st_mode & 0o777 == 0o600
    assert not any(secret in raw for secret in [*keys, master(kd), b"Club", b"CLUBKEY"])
    assert backup(kd, stdin="from a pipe\n").returncode == DONE     # replaces it
    assert read(kd.path("bak"))[:16] == raw[:16] and read(kd.path("bak")) != raw
    assert [n for n in os.listdir(kd.top) if n.startswith("bak")] == ["bak"]
    kd.stop()
    done = backup(kd)
    assert done.returncode == FAILED and "recorded by the key daemon" in done.stderr


@pytest.mark.parametrize("harm", ["passphrase", "flip", "cut", "cost", "not", "newer"])
def test_a_backup_that_is_not_right_restores_nothing(kd, harm):
    kd.start()
    kd.add()
    assert backup(kd).returncode == DONE
    kd.stop()
    raw = bytearray(read(kd.path("bak")))
    if harm == "passphrase":
        passphrase(kd, "wrong horse")
    elif harm == "flip":
        raw[200] ^= 1
    elif harm == "cut":
        del raw[-1:]
    elif harm == "cost":
        raw[40:48] = b"\xff" * 8        # Argon2id with all the memory there is
    elif harm == "newer":
        raw[8] = 2
    else:
        raw = bytearray(b"something else")
    write(kd.path("bak"), raw)
    pass_file = kd.path("backup-pass")
    done = ctl(kd, "restore", kd.path("bak"), kd.path("s2"), "--passphrase-file", pass_file)
    assert done.returncode == FAILED and "nothing was restored" in done.stderr
    assert not os.path.exists(kd.path("s2")) and not os.path.exists(kd.path("s2.restore"))


def test_restore_goes_only_into_an_empty_directory(kd):
    kd.start()
    kd.add()
    assert backup(kd).returncode == DONE

    def restore(path):
        return ctl(kd, "restore", kd.path("bak"), path, "--passphrase-file", passphrase(kd))
    done = restore(kd.state)
    assert done.returncode == FAILED and "not empty" in done.stderr
    kd.stop()
    os.mkdir(kd.path("s2"), 0o700)
    if os.geteuid() == 0:
        os.chown(kd.path("s2"), clubsite.NOBODY, clubsite.NOBODY)
    owner = os.stat(kd.path("s2")).st_uid
    assert restore(kd.path("s2")).returncode == DONE
    for path in ("s2", "s2/keys", "s2/master.key", "s2/keys/Chor.key"):
        st = os.stat(kd.path(path))
        assert (st.st_uid, st.st_mode & 0o077) == (owner, 0), path
    assert restore(kd.path("s2")).returncode == FAILED


def test_backup_of_keys_that_change_all_the_time(kd):
    kd.start()
    for n in range(20):
        kd.add(f"c{n}")
    stop = threading.Event()

    def change():
        with kd.admin() as admin:
            while not stop.is_set():
                for n in range(20):
                    admin.suspend(f"c{n}")
                    admin.resume(f"c{n}")
                    time.sleep(0.02)
    worker = threading.Thread(target=change)
    worker.start()
    try:
        done = backup(kd)
    finally:
        stop.set()
        worker.join()
    assert done.returncode == DONE, done
    kd.stop()
    again = Keyd.__new__(Keyd)
    again.__dict__.update(kd.__dict__)
    again.state = kd.path("s2")
    assert ctl(kd, "restore", kd.path("bak"), again.state, "--passphrase-file",
               passphrase(kd)).returncode == DONE
    again.start()
    assert "unusable" not in again.said() and "ready with 20 clubs" in again.said()
    again.stop()


@root
def test_a_backup_is_of_one_moment(kd):
    """A key changes between the reading of the index and that of its file: it is read again."""
    kd.start()
    kd.add("Chor")
    keys = os.path.join(kd.state, "keys")
    argv = ["strace", "-f", "-o", kd.path("trace"), "-P", keys, "-e", "trace=openat",
            "-e", "inject=openat:delay_enter=1500000:when=2"]
    env = dict(os.environ, CLUBKEYD_RUN=kd.run, ASAN_OPTIONS="detect_leaks=0")
    with subprocess.Popen([*argv, os.path.join(clubsite.BIN, "clubctl"), "backup", kd.path("bak"),
                           kd.state, "--passphrase-file", passphrase(kd)], env=env,
                          stdout=subprocess.DEVNULL) as proc, kd.admin() as admin:
        wait_for(lambda: kd.audit("key.backup"), "no backup")
        time.sleep(0.5)
        for epoch in (1, 2, 3):
            admin.rotate("Chor", epoch)
        assert proc.wait(60) == DONE
    with open(kd.path("trace"), encoding="utf-8") as f:
        assert f.read().count("Chor.key") >= 2
    kd.stop()
    shutil.rmtree(kd.state)
    assert ctl(kd, "restore", kd.path("bak"), kd.state, "--passphrase-file",
               passphrase(kd)).returncode == DONE
    kd.start()
    assert "unusable" not in kd.said()
    with kd.client() as client:
        assert client.get("Chor", ID)["epoch"] == 4
    kd.stop()


def test_a_backup_without_the_master_key_says_so(kd):
    kd.path("mk", os.urandom(32))
    kd.config(f"master-key-file {kd.top}/mk\n")
    kd.start()
    kd.add()
    done = backup(kd)
    assert done.returncode == DONE and "without the master key" in done.stdout
    assert "opens nothing" in done.stderr
    kd.stop()


def test_backup_wants_the_daemon_of_that_directory(kd):
    kd.start()
    os.mkdir(kd.path("s2"), 0o700)
    done = ctl(kd, "backup", kd.path("bak"), kd.path("s2"), "--passphrase-file", passphrase(kd))
    assert done.returncode == FAILED and "does not run on" in done.stderr
    assert kd.audit("key.backup") == []
    kd.stop()


# ---- unlocking

def credential(kd, name, raw, mode=0o400):
    os.makedirs(kd.path("creds"), exist_ok=True)
    return kd.path(f"creds/{name}", raw, mode)


def test_a_credential_unlocks(kd, monkeypatch):
    kd.config("master-credential keyd-master\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "nobody passed credentials" in kd.refuses()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", kd.path("creds"))
    assert "cannot open" in kd.refuses()
    right = os.urandom(32)
    credential(kd, "keyd-master", right)
    kd.start()
    key = kd.add()
    kd.stop()
    assert kd.audit("daemon.start")[-1]["unlock"] == "credential"
    assert not os.path.exists(os.path.join(kd.state, "master.key"))
    assert keyfiles.load(key_path(kd, "Chor")).keys(right) == {1: key}
    os.unlink(kd.path("creds/keyd-master"))
    credential(kd, "keyd-master", os.urandom(32))
    began = time.monotonic()
    assert "wrong master key" in kd.refuses()
    assert time.monotonic() - began >= 1
    kd.refuses()
    os.unlink(kd.path("creds/keyd-master"))
    credential(kd, "keyd-master", right, 0o644)
    assert "mode 0644" in kd.refuses()
    os.chmod(kd.path("creds/keyd-master"), 0o400)
    assert kd.audit("unlock") == []
    kd.start().stop()
    refused = kd.audit("unlock")
    assert [(r["res"], r["attempts"]) for r in refused] == [("deny", 2)]
    assert 0 < refused[0]["last_s"] - refused[0]["first_s"] < 60
    kd.start().stop()
    assert len(kd.audit("unlock")) == 1


@pytest.mark.parametrize("text", ["master-credential ../x\n", "master-credential /x\n",
                                  "master-credential .x\n", 'master-credential ""\n'])
def test_the_name_of_a_credential_leads_nowhere_else(kd, text):
    kd.config(text)
    assert "expected the name of a credential" in kd.refuses()


def test_a_wrong_passphrase_costs_time(kd):
    kd.path("pass", "right\n")
    kd.config(f"passphrase-file {kd.top}/pass\n")
    kd.start().stop()
    kd.path("pass", "wrong\n")
    began = time.monotonic()
    assert "wrong passphrase" in kd.refuses()
    assert time.monotonic() - began >= 1
