"""Who asks: the pid games that a client could play with clubkeyd, and what the record says of it.

Where the kernel gives pidfds (SO_PEERPIDFD, Linux 6.5) a daemon that is told it does not is the
one of an older kernel: a seccomp filter around it answers as that kernel would."""
import array
import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from clubsite import as_user
from keydproto import Client, Closed, encode
from test_keyd import BIN, ID, NOBODY, code, good_get, kd, root, wait_for   # noqa: F401  pylint: disable=unused-import

SO_PEERPIDFD = 77
ENOPROTOOPT = 92


def kernel_gives_pidfd():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        try:
            os.close(a.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
        return True


def without_peerpidfd():
    """For the child: getsockopt(SO_PEERPIDFD) fails as it does before Linux 6.5."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 55, "aarch64": 209}[os.uname().machine]
    code_ld, code_jeq, code_ret = 0x20, 0x15, 0x06
    filters = [(code_ld, 0, 0, 0), (code_jeq, 0, 3, number),
               (code_ld, 0, 0, 32), (code_jeq, 0, 1, SO_PEERPIDFD),     # the third argument
               (code_ret, 0, 0, 0x00050000 | ENOPROTOOPT), (code_ret, 0, 0, 0x7fff0000)]
    program = b"".join(struct.pack("HBBI", *f) for f in filters)
    buffer = ctypes.create_string_buffer(program, len(program))
    prog = struct.pack("HxxxxxxP", len(filters), ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(prog, len(prog))
    assert libc.prctl(38, 1, 0, 0, 0) == 0          # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, holder, 0, 0) == 0     # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def landlocked():
    """For the child: it may not look into other processes, as a sandboxed daemon may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    rules = ctypes.create_string_buffer(struct.pack("Q", 1 << 12), 8)   # MAKE_SYM
    fd = libc.syscall(444, rules, 8, 0)
    assert fd >= 0 and libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.syscall(446, fd, 0) == 0
    os.close(fd)


@pytest.fixture(params=["kernel", "hello"])
def way(request, kd):       # noqa: F811  pylint: disable=redefined-outer-name
    """A daemon that gets pidfds in one of both ways; start() starts it."""
    if request.param == "kernel":
        if not kernel_gives_pidfd():
            pytest.skip("needs Linux 6.5")
        kd.method, kd.up = "peerpidfd", kd.start
    else:
        kd.method, kd.up = "pidfd-hello", lambda: kd.start(preexec_fn=without_peerpidfd)
    return kd


def in_child(function):
    """Run it in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 99
        with contextlib.suppress(BaseException):
            status = function()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return int(f.read().rsplit(")", 1)[1].split()[19])


def test_the_record_says_how_the_caller_is_known(way):
    way.up()
    way.add()
    with way.client() as client:
        assert client.get("Chor", ID)["type"] == "KEY"
    peer = way.audit("key.get")[0]["peer"]
    assert (peer["pid"], peer["id"], peer["start"]) == (os.getpid(), way.method,
                                                        start_of(os.getpid()))
    way.stop()


def test_without_a_pidfd_only_uid_and_gid_count(kd):     # noqa: F811
    kd.config("policy " + kd.path("pol", f"deny unit\n unit *\nallow rest\n uid {os.geteuid()}\n"))
    kd.start(preexec_fn=without_peerpidfd)
    kd.add()
    with Client(kd.run, pidfd=None) as client:
        assert client.get("Chor", ID)["type"] == "KEY"
    record = kd.audit("key.get")[0]
    assert record["rule"] == "rest"
    assert record["peer"]["id"] == "cred-only"
    assert "start" not in record["peer"] and "unit" not in record["peer"]
    kd.stop()


def test_a_pidfd_can_be_required(kd):       # noqa: F811
    kd.config("require-pidfd yes\n")
    kd.start(preexec_fn=without_peerpidfd)
    with pytest.raises(Closed, match="ACCESS"):
        Client(kd.run, pidfd=None)
    with kd.client() as client:
        assert client.ping()["type"] == "PONG"
    deny, = kd.audit("deny")
    assert (deny["rule"], deny["why"]) == ("require-pidfd", "no pidfd")
    kd.config("require-pidfd maybe\n")
    kd.stop()
    assert "require-pidfd: expected yes or no" in kd.refuses()


def test_our_own_programs_show_their_pidfd(kd):      # noqa: F811
    kd.config("require-pidfd yes\n")
    kd.start(preexec_fn=without_peerpidfd)
    done = subprocess.run([os.path.join(BIN, "clubctl"), "policy", "reload"], check=False,
                          env=dict(os.environ, CLUBKEYD_RUN=kd.run), timeout=30)
    assert done.returncode == 0
    assert kd.audit("policy.load")[1]["peer"]["id"] == "pidfd-hello"
    kd.stop()


@pytest.mark.parametrize("kind", ["parent's", "pipe", "dead child's", "file"])
def test_a_foreign_descriptor_is_refused(kd, kind, tmp_path):    # noqa: F811
    kd.start(preexec_fn=without_peerpidfd)
    rfd, wfd = os.pipe()
    child = subprocess.Popen(["sleep", "0"])
    fds = {"parent's": os.pidfd_open(os.getppid()), "pipe": wfd,
           "dead child's": os.pidfd_open(child.pid),
           "file": os.open(tmp_path / "x", os.O_CREAT | os.O_RDWR)}
    child.wait()
    with pytest.raises(Closed, match="PROTO"):
        Client(kd.run, pidfd=fds[kind])
    deny, = kd.audit("deny")
    assert deny["why"] == "the descriptor in HELLO is not a pidfd of the sender"
    for fd in fds.values():
        os.close(fd)
    wait_for(lambda: os.read(rfd, 1) == b"", "it is closed")
    os.close(rfd)
    with kd.client() as client:     # the honest one is known by the same means
        assert client.ping()["type"] == "PONG"
    kd.stop()


def test_a_child_cannot_use_the_connection_that_it_inherits(way):
    way.up()
    way.add()
    with way.client() as client:
        def child():
            return 0 if code(client.raw(good_get())) == "PROTO" else 1
        assert in_child(child) == 0
        with pytest.raises((Closed, BrokenPipeError)):
            client.ping()
    deny, = way.audit("deny")
    assert "another process" in deny["why"]
    assert [r for r in way.audit("key.get")] == []
    way.stop()


def passed_on(sock, other):
    """Give the connected socket @sock to whoever has the other end of @other."""
    other.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                            array.array("i", [sock.fileno()]))])


def taken(other):
    _, ancillary, _, _ = other.recvmsg(1, 64)
    return socket.socket(fileno=struct.unpack("i", ancillary[0][2][:4])[0])


def test_a_connection_does_not_outlive_its_process(way):
    """A child connects and greets, hands its socket on, and ends."""
    way.up()
    way.add()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        def child():
            client = way.client()
            passed_on(client.sock, theirs)
            ours.close()
            theirs.recv(1)
            return 0
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                child()
            os._exit(0)
        theirs.close()
        with taken(ours) as sock:
            sock.settimeout(10)
            ours.send(b"x")
            os.waitpid(pid, 0)
            assert sock.recv(4096) == b""       # closed by the daemon, though we still hold it
            with pytest.raises(OSError):
                sock.send(good_get())
    assert way.audit("key.get") == []
    way.stop()


def test_a_request_of_a_dead_process_gets_no_key(way):
    """A child asks and ends before the daemon looks; its socket lives on in us."""
    way.up()
    way.add()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                client = way.client()
                passed_on(client.sock, theirs)
                os.kill(way.pid(), signal.SIGSTOP)
                client.raw(good_get(), answer=False)
            os._exit(0)
        os.waitpid(pid, 0)
        with taken(ours) as sock:
            sock.settimeout(10)
            os.kill(way.pid(), signal.SIGCONT)
            answers = []
            with contextlib.suppress(OSError):
                while True:
                    answers.append(sock.recv(4096))
                    if not answers[-1]:
                        break
    assert all(len(answer) < 60 for answer in answers)     # a refusal at most
    assert [r["res"] for r in way.audit("key.get")] == []
    way.stop()


@pytest.mark.parametrize("seen", [True, pytest.param(False, marks=pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, 0, 1) < 1, reason="needs Landlock"))])
def test_another_program_cannot_use_the_connection(kd, seen):      # noqa: F811
    """The process connects as one program and asks as another: noticed also by a daemon that may
    not see which program it is."""
    kd.start(preexec_fn=None if seen else landlocked)
    kd.add()
    here = os.path.dirname(os.path.abspath(__file__))
    perl = ("open(S, '+<&=', $ARGV[0]); syswrite(S, pack('H*', $ARGV[1])); "
            "sysread(S, $b, 4096); exit(ord(substr($b, 5, 1)))")
    python = ("import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.settimeout(9); "
              "s.send(bytes.fromhex(sys.argv[2])); sys.exit(s.recv(4096)[5])")
    script = f"""
import os, sys
sys.path.insert(0, {here!r})
import keydproto
client = keydproto.Client({kd.run!r})
client.sock.setblocking(True)
os.set_inheritable(client.sock.fileno(), True)
program, text = sys.argv[1:]
option = "-c" if "python" in program else "-e"
os.execv(program, [program, option, text, str(client.sock.fileno()), {good_get().hex()!r}])
"""
    run = [sys.executable, "-c", script]
    done = subprocess.run([*run, "/usr/bin/perl", perl], check=False, timeout=30)
    assert done.returncode == 5     # DENY
    assert "another program" in kd.audit("key.get")[0]["why"]
    assert kd.audit("key.get")[0]["rule"] == "protocol"
    assert seen or "exe" not in kd.audit("key.get")[0]["peer"]
    done = subprocess.run([*run, sys.executable, python], check=False, timeout=30)
    assert done.returncode == 4     # KEY: the same program again is as good as before
    kd.stop()


@root
@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup"), reason="needs cgroups")
def test_the_unit_is_known_and_decides(way):
    """A process in the cgroup that systemd would make for a service is in that unit."""
    tops = [t for t in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup")
            if os.path.exists(os.path.join(t, "cgroup.procs"))]
    if not tops:
        pytest.skip("no cgroup hierarchy that libsystemd reads")
    name = f"clubfs@t{time.monotonic_ns()}.service"
    slices = [os.path.join(t, f"t{time.monotonic_ns()}.slice") for t in tops]   # nobody else's
    made = []
    try:
        for path in slices + [os.path.join(s, name) for s in slices]:
            os.mkdir(path)
            made.append(path)
        way.config("policy " + way.path("pol", "allow fs\n unit clubfs@*.service\n"))
        way.up()
        way.add()

        def ask():
            with way.client() as client:
                return code(client.get("Chor", ID))
        assert ask() == "ACCESS"

        def enter_and_ask():
            for path in slices:
                with open(os.path.join(path, name, "cgroup.procs"), "w", encoding="ascii") as f:
                    f.write(str(os.getpid()))
            return 0 if ask() == "KEY" else 1
        assert in_child(enter_and_ask) == 0
        records = way.audit("key.get")
        assert [(r["rule"], r["peer"].get("unit")) for r in records][1] == ("fs", name)
        assert records[0]["peer"].get("unit") is None
        way.stop()
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


@root
def test_the_uid_is_that_of_the_packet_too(way):
    """Connected as root, asked as somebody else: the connection is of no use any more."""
    way.config("socket-mode 0666\n")
    way.up()
    way.add()

    def ask():
        client = way.client()
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return code(client.raw(good_get()))
    assert as_user(0, ask) == "PROTO"
    assert way.audit("key.get") == []
    way.stop()


class HangingMount:
    """A FUSE filesystem that never answers FLUSH: who closes a file of it, waits."""

    OPS = {"LOOKUP": 1, "GETATTR": 3, "OPEN": 14, "FLUSH": 25, "INIT": 26}

    def __init__(self, path):
        self.path = path
        os.mkdir(path)
        self.dev = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        opts = f"fd={self.dev},rootmode=40000,user_id=0,group_id=0".encode()
        assert libc.mount(b"hang", path.encode(), b"fuse", 6, opts) == 0, ctypes.get_errno()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                while True:
                    self.serve()
            os._exit(0)

    def serve(self):
        request = os.read(self.dev, 1 << 17)
        length, op, unique, node = struct.unpack_from("<IIQQ", request)
        assert length == len(request)
        attr = struct.pack("<QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0,
                           0o40755 if node == 1 else 0o100644, 1, 0, 0, 0, 4096, 0)
        if op == self.OPS["INIT"]:
            body = struct.pack("<IIIIHHIIHHI", 7, 31, 4096, 0, 0, 0, 4096, 0, 0, 0, 0) + bytes(28)
        elif op == self.OPS["LOOKUP"]:
            attr = struct.pack("<QQQQQQIIIIIIIIII", 2, 0, 0, 0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0,
                               0, 4096, 0)
            body = struct.pack("<QQQQII", 2, 1, 60, 60, 0, 0) + attr
        elif op == self.OPS["GETATTR"]:
            body = struct.pack("<QII", 60, 0, 0) + attr
        elif op == self.OPS["OPEN"]:
            body = struct.pack("<QII", 7, 0, 0)
        elif op == self.OPS["FLUSH"]:
            return
        else:
            os.write(self.dev, struct.pack("<IiQ", 16, -38, unique))
            return
        os.write(self.dev, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.dev)      # whoever waits gets an error now
        ctypes.CDLL(None).umount2(self.path.encode(), 2)


@root
def test_a_descriptor_that_hangs_when_closed_does_no_harm(way):
    way.up()
    key = way.add()
    mount = HangingMount(os.path.join(way.top, "hang"))
    try:
        # The child that opens it waits in its own close(), until the mount ends.
        pid = os.fork()
        if pid == 0:
            os.close(mount.dev)     # else it keeps alive what it waits for
            with contextlib.suppress(BaseException):
                fd = os.open(os.path.join(mount.path, "f"), os.O_RDONLY)
                for _ in range(20):
                    with contextlib.suppress(Closed):
                        Client(way.run, pidfd=fd)
                with way.client() as client:
                    client.raw(encode("PING"), [fd])
            os._exit(0)
        wait_for(lambda: any(r["why"] == "descriptors attached" for r in way.audit("deny")),
                 "it went on")
        with way.client() as client:
            assert client.get("Chor", ID)["key"] == key
    finally:
        mount.end()
    os.waitpid(pid, 0)
    way.stop()
