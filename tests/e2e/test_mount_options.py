"""The mount itself: options, refusals, who may use a club, and how it ends."""
import contextlib
import errno
import json
import mmap
import os
import pathlib
import signal
import stat
import subprocess
import threading
import time

import pytest

import clubsite
from oslib import fails, get, put

ALICE, BOB = 2001, 2002
as_root = pytest.mark.root
# Root runs the mount and the tests; a user that is not named gets no key.
POLICY = f"""
allow root
	uid 0
	acting-uid 0 {ALICE}
allow tools
	uid 0
	op admin
"""


def mount_options(path):
    """(filesystem type, source, options) of the mount at @path, as findmnt shows them."""
    done = subprocess.run(["findmnt", "-J", "-o", "FSTYPE,SOURCE,OPTIONS", "-M", path],
                          check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)["filesystems"][0]
    return found["fstype"], found["source"], found["options"].split(",")


def key_requests(keyd):
    return [r for r in keyd.audit() if r["ev"] == "key.get"]


def bad_mount(site, *argv):
    """What clubfs says when it refuses, with its status in front."""
    done = site.run("clubfs", *argv, check=False)
    return done.returncode, done.stderr


def try_in(path):
    """What opening a directory gives: None or an errno.  Runs in a child as another user."""
    try:
        os.listdir(path)
    except OSError as e:
        return e.errno
    return None


@pytest.fixture
def policed(site):
    """A key daemon that gives root and ALICE keys, and a mount with allow_other."""
    policy = site.write("policy", POLICY)
    keyd = site.keyd(config=f"policy {policy}\n")
    mnt = site.mount(site.store("alpha", "beta"), "allow_other")
    for club in ("alpha", "beta"):
        os.chmod(mnt.join(club), 0o777)
    return keyd, mnt


def test_the_mount_table_names_the_store_and_the_type(site, keyd):
    store = site.store("alpha", name="a store, with commas")
    mnt = site.mount(store, "nosuid,nodev,noatime,_netdev,nofail,x-systemd.automount,rw")
    kind, source, options = mount_options(mnt.path)
    assert (kind, source) == ("fuse.clubfs", store)
    assert {"rw", "nosuid", "nodev", "noatime", "default_permissions"} <= set(options)


def test_ro(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    put(mnt.join("alpha", "f"), b"x")
    mnt.umount()
    mnt = site.mount(store, "ro")
    assert get(mnt.join("alpha", "f")) == b"x"
    with fails(errno.EROFS):
        put(mnt.join("alpha", "g"))


@pytest.mark.parametrize("opts, word", [
    ("frobnicate", "'frobnicate'"),
    ("allow_other,colour=red", "'colour'"),
    ("allow_other=1", "takes no value"),
    ("threads", "needs a value"),
    ("threads=0", "threads=0"),
    ("threads=9999", "threads=9999"),
    ("threads=2x", "threads=2x"),
    ("club=.hidden", "club=.hidden"),
    ("club=", "club="),
])
def test_a_wrong_option_is_named(site, opts, word):
    status, text = bad_mount(site, site.mkdir("store"), site.mkdir("mnt"), "-o", opts)
    assert status == 2
    assert word in text


def test_usage(site):
    assert bad_mount(site)[0] == 2
    assert bad_mount(site, "one")[0] == 2
    assert bad_mount(site, "one", "two", "three")[0] == 2
    shown = site.run("clubfs", "-o", "help").stdout
    for name in ("allow_other", "ro", "club", "threads"):
        assert name in shown


def test_what_cannot_be_mounted_is_refused_with_a_reason(site, keyd):
    store, mnt = site.store("alpha"), site.mkdir("mnt")
    for argv, reason in [
            ((site.path("nowhere"), mnt), "nowhere"),
            ((site.mkdir("empty"), mnt), "empty"),
            ((store, site.path("nowhere")), "nowhere"),
            ((store, site.write("file", "")), "Not a directory"),
            ((store, os.path.join(store, "clubs")), "must not lie in the store"),
            ((store, store), "must not lie in the store"),
            ((store, site.top), "must not lie below the mountpoint"),
            ((store, mnt, "-o", "club=gamma"), "no club 'gamma'")]:
        status, text = bad_mount(site, *argv)
        assert (status, reason in text) == (1, True), text
        assert clubsite.mounted(mnt) is None
    site.mount(store)       # and none of that is in the way


def test_it_works_as_the_helper_of_mount(site, keyd):
    store, mnt = site.store("alpha"), site.mkdir("mnt")
    helper = site.path("mount.clubfs")
    os.symlink(site.prog("clubfs"), helper)
    argv = [helper, store, mnt, "-n", "-v", "-o", "rw,noauto,nofail,club=alpha"]
    env = site.environment()
    subprocess.run([*argv, "-f"], env=env, check=True)      # mount -f: only pretend
    assert clubsite.mounted(mnt) is None
    subprocess.run(argv, env=env, check=True)
    try:
        assert mount_options(mnt)[1] == store
        put(os.path.join(mnt, "alpha", "f"), b"x")
    finally:
        subprocess.run(["umount", mnt] if os.geteuid() == 0 else ["fusermount3", "-u", mnt],
                       check=True)
    # The next mount waits for the old daemon's end instead of failing.
    assert get(site.mount(store).join("alpha", "f")) == b"x"


def test_one_thread_is_enough(site, keyd):
    mnt = site.mount(site.store("alpha"), "threads=1")
    for i in range(20):
        put(mnt.join("alpha", f"f{i}"), b"x" * 5000)
    assert len(os.listdir(mnt.join("alpha"))) == 20


def test_a_second_mount_is_refused_and_names_the_holder(site, keyd):
    store = site.store("alpha")
    first, other = site.mount(store), site.mkdir("other")
    status, text = bad_mount(site, store, other)
    assert status == 1
    assert f"{store} is mounted by" in text
    assert first.path in text and str(first.pid) in text
    assert clubsite.mounted(other) is None
    assert os.listdir(first.path) == ["alpha"]


def test_club_shows_one_club_and_leaves_the_others_to_others(site, keyd):
    store = site.store("alpha", "beta")
    one = site.mount(store, "club=alpha", name="one")
    two = site.mount(store, "club=beta", name="two")
    assert (os.listdir(one.path), os.listdir(two.path)) == (["alpha"], ["beta"])
    assert not os.path.exists(one.join("beta"))
    put(one.join("alpha", "f"), b"one")
    put(two.join("beta", "f"), b"two")
    status, text = bad_mount(site, store, site.mkdir("all"))
    assert status == 1 and "is mounted by" in text


def test_the_root_is_listed_without_a_key(site, keyd):
    mnt = site.mount(site.store("alpha", "beta"))
    assert sorted(os.listdir(mnt.path)) == ["alpha", "beta"]
    subprocess.run(["ls", "-la", mnt.path], check=True, stdout=subprocess.DEVNULL)
    for club in ("alpha", "beta"):
        assert stat.S_ISDIR(os.stat(mnt.join(club)).st_mode)
    os.statvfs(mnt.path)
    assert not os.path.exists(mnt.join("gamma"))
    assert key_requests(keyd) == []
    os.listdir(mnt.join("alpha"))
    assert [r["club"] for r in key_requests(keyd)] == ["alpha"]


def test_a_club_added_later_appears(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    assert not os.path.exists(mnt.join("beta"))
    site.ctl("add", store, "beta")
    put(mnt.join("beta", "f"), b"x")
    assert sorted(os.listdir(mnt.path)) == ["alpha", "beta"]


def test_nothing_can_be_made_in_the_root(site, keyd):
    mnt = site.mount(site.store("alpha", "beta"))
    for act in (lambda: os.mkdir(mnt.join("gamma")),
                lambda: put(mnt.join("file")),
                lambda: os.symlink("x", mnt.join("link")),
                lambda: os.rmdir(mnt.join("alpha")),
                lambda: os.rename(mnt.join("alpha"), mnt.join("gamma")),
                lambda: os.chmod(mnt.path, 0o700)):
        with fails(errno.EPERM):
            act()


def test_between_clubs_is_between_filesystems(site, keyd):
    mnt = site.mount(site.store("alpha", "beta"))
    put(mnt.join("alpha", "f"), b"x")
    with fails(errno.EXDEV):
        os.rename(mnt.join("alpha", "f"), mnt.join("beta", "f"))
    with fails(errno.EXDEV):
        os.link(mnt.join("alpha", "f"), mnt.join("beta", "f"))
    assert get(mnt.join("alpha", "f")) == b"x"
    subprocess.run(["mv", mnt.join("alpha", "f"), mnt.join("beta", "f")], check=True)
    assert get(mnt.join("beta", "f")) == b"x"


def test_one_request_per_user_and_club(site, keyd):
    mnt = site.mount(site.store("alpha", "beta"))
    for _ in range(3):
        put(mnt.join("alpha", "f"), b"x")
        os.listdir(mnt.join("alpha"))
    requests = key_requests(keyd)
    assert len(requests) == 1
    assert requests[0]["acting"]["uid"] == os.geteuid()


def test_two_first_accesses_make_one_request(site, keyd):
    mnt = site.mount(site.store("alpha"))
    threads = [threading.Thread(target=os.listdir, args=(mnt.join("alpha"),)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(key_requests(keyd)) == 1


def test_locked_without_a_daemon_and_open_when_it_comes(site, keyd):
    store = site.store("alpha", "beta")
    mnt = site.mount(store)
    put(mnt.join("alpha", "f"), b"before")
    held = os.open(mnt.join("alpha", "f"), os.O_RDWR)
    keyd.stop()
    for _ in range(2):
        with fails(errno.ENOKEY):
            os.listdir(mnt.join("beta"))
    assert sorted(os.listdir(mnt.path)) == ["alpha", "beta"]
    # What this user was granted goes on.
    os.pwrite(held, b"during", 0)
    put(mnt.join("alpha", "g"), b"new")
    keyd = site.keyd()
    put(mnt.join("beta", "f"), b"after")
    assert get(mnt.join("alpha", "f")) == b"during"
    os.close(held)


@as_root
def test_a_refused_user_is_kept_out_and_the_others_go_on(policed):
    keyd, mnt = policed
    put(mnt.join("alpha", "f"), b"x", 0o666)
    os.chmod(mnt.join("alpha", "f"), 0o666)
    assert clubsite.as_user(BOB, try_in, mnt.join("alpha")) == errno.EACCES
    assert clubsite.as_user(ALICE, try_in, mnt.join("alpha")) is None
    # The kernel knows this name by now, but open always asks us.
    with fails(errno.EACCES):
        clubsite.as_user(BOB, get, mnt.join("alpha", "f"))
    assert clubsite.as_user(ALICE, get, mnt.join("alpha", "f")) == b"x"
    assert clubsite.as_user(BOB, try_in, mnt.path) is None
    said = {(r["acting"]["uid"], r["res"]) for r in key_requests(keyd)}
    assert said == {(0, "allow"), (ALICE, "allow"), (BOB, "deny")}


@as_root
def test_a_refusal_is_not_asked_again_at_once_but_soon(policed):
    keyd, mnt = policed
    for _ in range(20):
        assert clubsite.as_user(BOB, try_in, mnt.join("alpha")) == errno.EACCES
    denied = len([r for r in key_requests(keyd) if r["res"] == "deny"])
    assert 1 <= denied <= 5
    time.sleep(1.2)
    assert clubsite.as_user(BOB, try_in, mnt.join("alpha")) == errno.EACCES
    assert len([r for r in key_requests(keyd) if r["res"] == "deny"]) > denied


@as_root
def test_without_allow_other_only_the_owner_gets_in(mnt, site):
    mnt.umount()
    own = site.mount(mnt.store, "")
    assert clubsite.as_user(ALICE, try_in, own.path) == errno.EACCES


def test_a_grant_is_renewed_and_not_asked_for_again(site):
    keyd = site.keyd(config="key-ttl 2\n")
    mnt = site.mount(site.store("alpha"))
    os.listdir(mnt.join("alpha"))
    time.sleep(2.5)
    os.listdir(mnt.join("alpha"))
    assert len(key_requests(keyd)) == 1
    assert [r for r in keyd.audit() if r["ev"] == "key.renew"]


def test_names_that_were_missing_appear(club):
    d = pathlib.Path(club)
    assert not (d / "f").exists()
    put(d / "f", b"x")
    assert (d / "f").exists()
    (d / "f").rename(d / "g")
    assert (not (d / "f").exists()) and (d / "g").exists()
    os.link(d / "g", d / "f")
    assert (d / "f").exists()
    (d / "f").unlink()
    assert not (d / "f").exists()
    (d / "f").mkdir()
    assert (d / "f").is_dir()
    (d / "f").rmdir()
    os.symlink("g", d / "f")
    assert get(d / "f") == b"x"


def test_the_link_count_is_true_through_every_name(club):
    d = pathlib.Path(club)
    put(d / "a", b"x")

    def counts(*names):
        return {os.stat(d / n).st_nlink for n in names}
    os.link(d / "a", d / "b")
    os.link(d / "a", d / "c")
    assert counts("a", "b", "c") == {3}
    os.unlink(d / "a")
    assert counts("b", "c") == {2}
    put(d / "other")
    fd = os.open(d / "c", os.O_RDONLY)
    os.rename(d / "other", d / "c")
    assert (counts("b"), counts("c"), os.fstat(fd).st_nlink) == ({1}, {1}, 1)
    os.unlink(d / "b")
    assert os.fstat(fd).st_nlink == 0
    assert os.read(fd, 10) == b"x"
    os.close(fd)


@as_root
@pytest.mark.parametrize("change", ["write", "truncate", "open"])
@pytest.mark.parametrize("mode, left", [(0o6777, 0o777), (0o2767, 0o2767), (0o4666, 0o666)])
def test_a_stranger_s_change_clears_set_ids(club, change, mode, left):
    path = os.path.join(club, "f")
    os.chmod(club, 0o777)
    put(path, b"12345")
    os.chmod(path, mode)
    assert stat.S_IMODE(os.stat(path).st_mode) == mode

    def act():
        if change == "truncate":
            os.truncate(path, 1)
        fd = os.open(path, os.O_WRONLY | (os.O_TRUNC if change == "open" else 0))
        if change == "write":
            os.write(fd, b"x")
        seen = stat.S_IMODE(os.fstat(fd).st_mode)
        os.close(fd)
        return seen
    assert clubsite.as_user(ALICE, act) == left
    assert stat.S_IMODE(os.stat(path).st_mode) == left


@as_root
def test_root_s_write_keeps_set_ids_and_chown_clears_them(club):
    path = put(os.path.join(club, "f"), b"12345")
    os.chmod(path, 0o6755)
    with open(path, "r+b") as f:
        f.write(b"x")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o6755
    os.chown(path, ALICE, ALICE)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_keeps_what_was_written(site, keyd, signo):
    store = site.store("alpha")
    mnt = site.mount(store)
    held = os.open(mnt.join("alpha", "f"), os.O_RDWR | os.O_CREAT, 0o644)
    os.write(held, b"not yet closed")
    mnt.proc.send_signal(signo)
    assert mnt.proc.wait(20) == 0
    assert clubsite.mounted(mnt.path) is None
    with fails(errno.ENOTCONN, errno.ECONNABORTED):
        os.pread(held, 10, 1 << 20)
    try:
        os.close(held)
    except OSError:
        pass
    assert get(site.mount(store).join("alpha", "f")) == b"not yet closed"


def test_a_signal_writes_out_what_was_mapped(site, keyd):
    size = 4 << 20
    store = site.store("alpha")
    mnt = site.mount(store)
    areas = []
    for name in ("f", "g", "h"):
        fd = os.open(mnt.join("alpha", name), os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(fd, size)
        areas.append(mmap.mmap(fd, size))
        os.close(fd)
    for area in areas:
        for at in range(0, size, 4096):
            area[at:at + 6] = b"mapped"
    mnt.proc.send_signal(signal.SIGTERM)
    assert mnt.proc.wait(20) == 0
    for area in areas:
        area.close()
    mnt = site.mount(store)
    for name in ("f", "g", "h"):
        assert get(mnt.join("alpha", name)) == (b"mapped" + bytes(4090)) * (size // 4096)


def test_an_idle_mount_writes_out_by_itself(site, keyd):
    """What was written but neither closed nor synced is in the store after a few seconds."""
    store = site.store("alpha")
    mnt = site.mount(store)
    fd = os.open(mnt.join("alpha", "f"), os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"committed by time")
    time.sleep(6)
    mnt.kill()
    clubsite.detach(mnt.path)
    try:
        os.close(fd)
    except OSError:
        pass
    site.forget(mnt)
    assert get(site.mount(store).join("alpha", "f")) == b"committed by time"


def test_no_daemon_holds_a_core_or_can_be_read(mnt):
    status = pathlib.Path(f"/proc/{mnt.pid}/limits").read_text(encoding="utf-8")
    core = next(line for line in status.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


def read_and_look(path):
    """The access time after a read that comes from the store."""
    with open(path, "rb") as f:
        f.read()
    return os.stat(path).st_atime_ns


@pytest.mark.parametrize("option,kept", [("relatime", True), ("noatime", False), ("", False)])
def test_access_times_are_kept_when_asked_for(site, keyd, option, kept):
    mnt = site.mount(site.store("alpha"), option)
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"x" * 10000)
    old = 1_600_000_000 * 10 ** 9
    os.utime(path, ns=(old, old + 10 ** 9))
    mnt.umount()
    site.mount(mnt.store, option)
    assert (read_and_look(path) > old) == kept


@as_root
@pytest.mark.parametrize("option,kib", [("", "1024"), ("max_readahead=262144", "256"),
                                        ("max_readahead=0", "0")])
def test_how_much_is_read_ahead(site, keyd, option, kib):
    mnt = site.mount(site.store("alpha"), option)
    dev = os.stat(mnt.path).st_dev
    path = pathlib.Path(f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb")
    if not os.access(path, os.W_OK):
        pytest.skip("/sys cannot be written here")
    clubsite.wait_for("the read-ahead was set", lambda: path.read_text().strip() == kib)


def write_requests(mnt):
    return mnt.stderr().count("opcode: WRITE")


def test_with_writeback_the_kernel_collects_writes(site, keyd):
    counts = {}
    for name, option in (("alpha", "debug"), ("beta", "debug,writeback")):
        mnt = site.mount(site.store(name, name="s" + name), option, name="m" + name)
        path = pathlib.Path(mnt.join(name), "f")
        with open(path, "wb", buffering=0) as f:
            for i in range(200):
                f.write(bytes([i]) * 100)
        with open(path, "ab", buffering=0) as f:
            f.write(b"the end")
        counts[name] = write_requests(mnt)
        want = b"".join(bytes([i]) * 100 for i in range(200)) + b"the end"
        assert get(path) == want and path.stat().st_size == len(want)
        mtime = path.stat().st_mtime_ns
        mnt.umount()
        mnt = site.mount(mnt.store, name="m" + name)
        assert get(path) == want
        assert path.stat().st_mtime_ns == mtime
        mnt.umount()
    assert counts["alpha"] > 200 and counts["beta"] < 10


def test_writeback_reads_what_a_partial_page_needs(site, keyd):
    """The kernel reads the rest of a page through a file that is open for writing only."""
    mnt = site.mount(site.store("alpha"), "writeback")
    path = pathlib.Path(mnt.join("alpha"), "f")
    put(path, b"a" * 20000)
    mnt.umount()
    site.mount(mnt.store, "writeback")
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"b", 5000)
    os.close(fd)
    assert get(path) == b"a" * 5000 + b"b" + b"a" * 14999


def test_without_writeback_a_killed_daemon_loses_nothing(site, keyd):
    mnt = site.mount(site.store("alpha"), "commit=300")
    path = pathlib.Path(mnt.join("alpha"), "f")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for i in range(500):
        os.pwrite(fd, bytes([i % 256]) * 1000, i * 1000)
    mnt.expect_status = None
    mnt.proc.kill()
    with contextlib.suppress(OSError):
        os.close(fd)
    mnt.umount([])
    site.mount(mnt.store)
    assert get(path) == b"".join(bytes([i % 256]) * 1000 for i in range(500))


def test_io_uring_is_refused_with_the_reason(site):
    status, said = bad_mount(site, site.path("s"), site.path("m"), "-o", "io_uring")
    assert status == 2 and "io_uring" in said and "leave the option out" in said
