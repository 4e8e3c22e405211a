"""Attempts to steal keys from the real daemons: debuggers, memory, cores, files, forbidden acts.

Root with CAP_SYS_PTRACE can stop a process and make it do things; what memfd_secret keeps from
him is the memory that holds the keys, and that is what the tests as root look for."""
import base64
import contextlib
import ctypes
import errno
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import time

import pytest

import clubsite
import keyfiles
from clubsite import NOBODY, as_user
from test_keyd import (ID, KEYD, Keyd, code, kd, root, started_by_systemd,  # noqa: F401 (a fixture)
                       strace, wait_for)

SAN = clubsite.SAN
no_san = pytest.mark.skipif(SAN, reason="a sanitizer needs what the sandbox forbids")
OTHER_UID = 65533
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
SIGSYS_STATUS = -signal.SIGSYS

# fs/DESIGN.md 9.1
KEPT = ("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "mknod", "ipc_lock",
        "sys_admin")
CAP_BIT = {"chown": 0, "dac_override": 1, "dac_read_search": 2, "fowner": 3, "fsetid": 4,
           "ipc_lock": 14, "sys_ptrace": 19, "sys_admin": 21, "mknod": 27}

libc = ctypes.CDLL(None, use_errno=True)


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def as_nobody(kd):
    """Start the daemon as an ordinary user, as its unit does."""
    os.chmod(kd.top, 0o777)
    return kd.start(preexec_fn=lambda: (os.setgroups([]), os.setresgid(NOBODY, NOBODY, NOBODY),
                                        os.setresuid(NOBODY, NOBODY, NOBODY)))


def memory(pid):
    """Every piece of the process' memory that can be read, and how much could not."""
    pieces, refused = [], 0
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps, \
            open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if "r" not in line.split()[1] or "[v" in line:
                continue
            try:
                mem.seek(begin)
                pieces.append(mem.read(end - begin))
            except OSError:
                refused += end - begin
    return b"".join(pieces), refused


def forms(secret):
    """As it could stand in a file or message."""
    return [secret, secret.hex().encode(), secret.hex().upper().encode(),
            base64.b64encode(secret)[:40]]


def files_with(top, secrets, but=()):
    found = []
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if path in but or not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            with open(path, "rb") as f:
                raw = f.read()
            found += [path for secret in secrets if any(form in raw for form in forms(secret))]
    return found


# ---- debuggers and memory

def attack(pid):
    """What a process that is not root gets when it tries to look into @pid."""
    got = {}
    for name, request in (("attach", PTRACE_ATTACH), ("seize", PTRACE_SEIZE)):
        r = libc.ptrace(request, pid, 0, 0)
        got[name] = ctypes.get_errno() if r < 0 else 0
    for name in ("mem", "environ", "maps", "auxv", "stack", "io"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as f:
                f.read(1)
            got[name] = 0
        except OSError as e:
            got[name] = e.errno
    buf = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buf), 8)
    remote = (ctypes.c_void_p * 2)(0x400000, 8)
    r = libc.process_vm_readv(pid, local, 1, remote, 1, 0)
    got["process_vm_readv"] = ctypes.get_errno() if r < 0 else 0
    for name in ("fd", "map_files"):
        try:
            os.listdir(f"/proc/{pid}/{name}")
            got[name] = 0
        except OSError as e:
            got[name] = e.errno
    return got


@root
@pytest.mark.parametrize("uid", [NOBODY, OTHER_UID])
def test_neither_the_same_nor_another_user_can_look_into_the_key_daemon(kd, uid):
    as_nobody(kd)
    as_user(NOBODY, kd.add)
    got = as_user(uid, attack, kd.pid())
    assert set(got.values()) <= {errno.EPERM, errno.EACCES}, got
    done = subprocess.run(["gdb", "-batch", "-nx", "-p", str(kd.pid()), "-ex", "info registers"],
                          capture_output=True, text=True, check=False, user=uid, group=uid,
                          extra_groups=[], stdin=subprocess.DEVNULL, timeout=60)
    assert "ptrace: Operation not permitted" in done.stderr
    assert "rip" not in done.stdout
    os.kill(kd.pid(), signal.SIGTERM)
    assert kd.proc.wait(20) == 0


@root
def test_another_user_cannot_look_into_the_filesystem(mnt):
    os.listdir(mnt.join("alpha"))
    got = as_user(NOBODY, attack, mnt.pid)
    assert set(got.values()) <= {errno.EPERM, errno.EACCES}, got


@root
@no_san
def test_not_even_root_finds_the_master_key_in_memory(kd):
    kd.start()
    if "memfd_secret" not in kd.said():
        pytest.skip("the kernel gives no memfd_secret: root can read the keys, as documented")
    keys = [kd.add(f"c{n}") for n in range(5)]
    with kd.client() as client, kd.admin() as admin:
        for n in range(5):
            client.get(f"c{n}", ID)
            admin.rotate(f"c{n}", 1)
        client.ping()
        data, refused = memory(kd.pid())
    with open(os.path.join(kd.state, "master.key"), "rb") as f:
        master = f.read()
    assert b"clubkeyd wrap 1" in data and len(data) > 100000       # we do see its memory
    assert refused >= 256 * 1024
    assert not any(form in data for secret in (master, *keys) for form in forms(secret))
    kd.stop()


@root
@no_san
def test_not_even_root_finds_a_clubs_key_in_the_filesystems_memory(site, keyd):
    if "memfd_secret" not in keyd.stderr():
        pytest.skip("the kernel gives no memfd_secret: root can read the keys, as documented")
    mnt = site.mount(site.store("alpha"))
    with open(mnt.join("alpha", "f"), "w", encoding="ascii") as f:
        f.write("some text of the club")
        f.flush()
        os.fsync(f.fileno())
        with open(os.path.join(keyd.state, "master.key"), "rb") as m:
            keys = keyfiles.load(os.path.join(keyd.state, "keys", "alpha.key")).keys(m.read())
        data, refused = memory(mnt.pid)
    assert len(data) > 100000 and refused >= 256 * 1024
    assert not any(form in data for form in forms(keys[1]))
    mnt.umount()


# ---- cores

def no_core_in(*places):
    return not any(name.startswith("core") for place in places for name in os.listdir(place))


def crash(pid, signo):
    """Even if somebody lifts the limit, where that is possible."""
    with contextlib.suppress(PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.kill(pid, signo)


@root
@no_san
@pytest.mark.parametrize("signo", [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT])
def test_a_crash_leaves_no_core(kd, signo):
    """The sandboxed daemon is ended by the signal, and the kernel says that it dumped nothing."""
    pid = os.fork()
    if pid == 0:
        os.chdir(kd.top)
        with open(kd.messages, "wb") as out:
            os.dup2(out.fileno(), 2)
        os.execv(KEYD, kd.argv())
    try:
        wait_for(lambda: os.path.exists(kd.messages) and "ready with" in kd.said(), "no start")
        with open(f"/proc/{pid}/limits", encoding="ascii") as f:
            assert re.search(r"Max core file size +0 +0 ", f.read())
        crash(pid, signo)
        time.sleep(0.5)
    finally:
        os.kill(pid, signal.SIGKILL)        # no more than a safety net: it is gone
        _, ended = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signo
    assert not os.WCOREDUMP(ended)
    assert no_core_in(kd.top, kd.state, kd.run, "/")


@root
@no_san
def test_a_crash_of_the_filesystem_leaves_no_core(mnt):
    os.listdir(mnt.join("alpha"))
    mnt.expect_status = None
    crash(mnt.pid, signal.SIGSEGV)
    assert mnt.proc.wait(20) == -signal.SIGSEGV
    assert no_core_in("/", mnt.site.top)


# ---- files, messages, arguments

def test_no_file_and_no_message_holds_a_key(site, keyd):
    store = site.store("alpha", "beta")
    mnt = site.mount(store)
    for club in ("alpha", "beta"):
        with open(mnt.join(club, "f"), "w", encoding="ascii") as f:
            f.write("text")
    for args in (("rotate", "alpha"), ("suspend", "beta", "--reason", "x"), ("resume", "beta"),
                 ("list", "--json"), ("status", store)):
        site.ctl(*args)
    master_file = os.path.join(keyd.state, "master.key")
    with open(master_file, "rb") as f:
        master = f.read()
    keys = [key for club in ("alpha", "beta") for key in keyfiles.load(
        os.path.join(keyd.state, "keys", f"{club}.key")).keys(master).values()]
    assert len(keys) == 3
    for pid in (keyd.pid, mnt.pid):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(PermissionError), open(f"/proc/{pid}/{name}", "rb") as f:
                raw = f.read()
                assert not any(form in raw for key in (*keys, master) for form in forms(key))
    mnt.umount()
    keyd.stop()
    assert files_with(site.top, [master]) == [master_file]      # the search does find
    assert files_with(site.top, [*keys, master], but=[master_file]) == []


# ---- the sandbox

def gdb_call(pid, *expressions):
    """Make the process do something, as somebody would who got control of it."""
    prints = [word for e in expressions for word in
              ("-ex", f"print {e}" if e[0] in "(*" else f"print (int){e}")]
    return subprocess.run(["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off",
                           "-p", str(pid), *prints],
                          capture_output=True, text=True, check=False, timeout=120,
                          stdin=subprocess.DEVNULL).stdout


@root
@no_san
@pytest.mark.parametrize("call", ["setuid(1000)", "fork()", "ptrace(0,0,0,0)", "kill(1,0)",
                                  "syscall(59,0,0,0)", "syscall(169,0,0,0)"])
def test_a_forbidden_call_ends_the_key_daemon(kd, call):
    kd.start()
    key = kd.add()
    assert "SIGSYS" in gdb_call(kd.pid(), call)
    assert kd.proc.wait(20) == SIGSYS_STATUS
    kd.start()
    with kd.client() as client:
        assert client.get("Chor", ID)["key"] == key
    kd.stop()


@root
@no_san
def test_the_key_daemon_cannot_open_what_is_not_its_own(kd):
    """Landlock: also root's process may only open its own directories."""
    outside = kd.path("outside", "x", 0o644)
    kd.start()
    pid = kd.pid()

    def opens(path):
        out = gdb_call(pid, f'open("{path}", 0)')
        return int(re.search(r"\$1 = (-?\d+)", out)[1]) >= 0
    if "no Landlock" in kd.said():
        pytest.skip("the kernel has no Landlock")
    assert opens("/etc/passwd")
    assert opens(os.path.join(kd.state, "master.key"))
    assert not opens(outside)
    assert not opens("/var/tmp")
    assert not opens("/dev/mem") and not opens("/dev/zero")
    out = gdb_call(pid, "socket(2, 1, 0)")      # no network either
    assert "= -1" in out
    with kd.client() as client:
        assert client.ping()["type"] == "PONG"
    kd.stop()


@root
@no_san
def test_the_filesystem_runs_no_program_and_goes_on(mnt):
    os.listdir(mnt.join("alpha"))
    # execve; else it were EFAULT
    out = gdb_call(mnt.pid, "((long(*)(long,...))syscall)(59,0,0,0)",
                   "*((int*(*)(void))__errno_location)()")
    assert "$1 = -1" in out and "$2 = 1\n" in out
    assert "= -1" in gdb_call(mnt.pid, "setuid(1000)")
    assert "= -1" in gdb_call(mnt.pid, "socket(2, 1, 0)")
    assert os.listdir(mnt.join("alpha")) == []
    mnt.umount()


@root
def test_capabilities(site, keyd):
    mnt = site.mount(site.store("alpha"), "allow_other")
    os.listdir(mnt.join("alpha"))
    san = 1 << CAP_BIT["sys_ptrace"] if SAN else 0
    kept = sum(1 << CAP_BIT[name] for name in KEPT) | san
    for pid, allowed in ((keyd.pid, san), (mnt.pid, kept)):
        for task in os.listdir(f"/proc/{pid}/task"):
            got = status(f"{pid}/task/{task}")
            for field in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
                assert int(got[field], 16) & ~allowed == 0, (pid, task, field, got[field])
            assert got["NoNewPrivs"] == "1"
            assert got["Seccomp"] == ("0" if SAN else "2")
    mnt.umount()


@root
def test_it_does_not_start_when_traced(kd):
    argv, _ = strace(kd, "trace=none")
    done = subprocess.run([*argv, *kd.argv()], capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == 1 and "traces this one" in done.stderr
    assert not os.path.exists(kd.state)
    kd.start(argv)      # with --traced
    assert "no seccomp filter" in kd.said()
    kd.stop()


@root
def test_it_warns_of_swap_that_is_not_encrypted(kd):
    def said(line):
        swaps = kd.path("swaps", "Filename\tType\tSize\tUsed\tPriority\n" + line, 0o644)
        kd.start(["unshare", "-m", "sh", "-c", f'mount --bind {swaps} /proc/swaps && exec "$@"',
                  "sh"])
        kd.stop()
        return "is not encrypted" in kd.said()
    assert not said("")
    assert not said("/dev/zram0 partition 1 0 -2\n")
    assert said("/dev/sda9 partition 1 0 -2\n")
    assert said("/var/swap\\040file file 1 0 -2\n")


def test_a_new_policy_file_is_read_inside_the_sandbox(kd):
    """As an editor does it: another file takes its place."""
    os.mkdir(kd.path("pol.d"))
    kd.config("policy " + kd.path("pol.d/pol", "allow all\n", 0o644))
    kd.start()
    key = kd.add()
    with kd.client() as client:
        assert client.get("Chor", ID)["key"] == key
        kd.path("pol.d/pol~", "deny user\n uid root 65534\nallow rest\n", 0o644)
        os.rename(kd.path("pol.d/pol~"), kd.path("pol.d/pol"))
        os.kill(kd.pid(), signal.SIGHUP)
        wait_for(lambda: "is in force" in kd.said(), kd.said())
        if os.geteuid() == 0:
            assert code(client.get("Chor", ID)) == "ACCESS"
    kd.stop()


@root
def test_a_user_without_a_name_is_looked_up_inside_the_sandbox(kd):
    """That loads what nsswitch.conf names; a policy with groups does, too."""
    os.chmod(kd.top, 0o755)
    kd.config("socket-mode 0666\npolicy " + kd.path("pol", "allow all\n", 0o644))
    kd.start()

    def ask():
        with kd.client() as client:
            return code(client.get("Chor", ID, uid=4242424))
    assert as_user(OTHER_UID, ask) == "ACCESS"
    assert kd.audit("key.get")[-1]["peer"]["uid"] == OTHER_UID
    kd.path("pol", "allow some\n gid users\n uid no-such-user\n", 0o644)
    os.kill(kd.pid(), signal.SIGHUP)
    wait_for(lambda: "stays as it was" in kd.said(), kd.said())
    assert as_user(OTHER_UID, ask) == "ACCESS"
    kd.stop()


# ---- the unit

def test_the_watchdog_is_told(kd):
    with started_by_systemd(kd, WATCHDOG_USEC="300000") as sock:
        assert sock.recv(4096) == b"READY=1"
        began = time.monotonic()
        for _ in range(4):
            assert sock.recv(4096) == b"WATCHDOG=1"
        assert 0.3 < time.monotonic() - began < 5
        os.kill(kd.pid(), signal.SIGSTOP)       # a loop that hangs says nothing
        time.sleep(0.2)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.recv(4096)
        time.sleep(0.5)
        with pytest.raises(BlockingIOError):
            sock.recv(4096)
        os.kill(kd.pid(), signal.SIGCONT)
    kd.kill()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_units_exposure():
    unit = os.path.join(clubsite.REPO, "systemd", "clubkeyd.service")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=10",
                           unit], capture_output=True, text=True, check=False,
                          env=dict(os.environ, LC_ALL="C.UTF-8"))
    level = float(re.search(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)[1])
    assert level <= 1.0
