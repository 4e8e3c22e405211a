"""A site: key daemons, stores and mounts of one test, all below one directory of its own.

Everything that a site started is stopped by close(), whatever happened before, and close()
says what did not end as it should.  Nothing here imports pytest, so the demo's and the
benchmark's helpers can use it too.
"""
import ctypes
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("CLUBFS_BIN", os.path.join(REPO, "build")))
SAN = bool(os.environ.get("CLUBFS_SAN"))
START_S = 60 if SAN else 20
STOP_S = 60 if SAN else 20
# What ASan, UBSan, TSan and LSan print when they have found something.
SAN_SPEAKS = re.compile(r"(ERROR|WARNING): \w*Sanitizer|runtime error:|Sanitizer:DEADLYSIGNAL")
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


class SiteError(Exception):
    """Something did not start, or did not end, as it should."""


def wait_for(what, true, timeout=START_S):
    """Poll until true() is truthy and return that; SiteError naming @what when it never is."""
    end = time.monotonic() + timeout
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise SiteError(f"gave up after {timeout} s: {what}")
        time.sleep(0.01)


def mounted(path):
    """The filesystem type of the topmost mount at exactly @path, or None."""
    return dict(mount_points()).get(os.path.abspath(path))


def mount_points():
    """[(mount point, type)] in the order of mounting."""
    found = []
    with open("/proc/self/mountinfo", "rb") as f:
        for line in f.read().splitlines():
            left, right = line.split(b" - ", 1)
            point = re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8)]), left.split()[4])
            found.append((os.fsdecode(point), right.split()[0].decode()))
    return found


def detach(path):
    """Take a mount away even if it is dead or busy.  True if there was one."""
    if os.geteuid() == 0:
        return _libc.umount2(os.fsencode(path), MNT_DETACH | UMOUNT_NOFOLLOW) == 0
    return subprocess.run(["fusermount3", "-u", "-z", "-q", path], check=False).returncode == 0


def as_user(uid, function, *args, gid=None, groups=()):
    """Run function(*args) in a child with another uid; return its value or raise its exception.

    The function may change directory, umask and so on: the child is thrown away."""
    rfd, wfd = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(rfd)
            gid = uid if gid is None else gid
            if os.geteuid() == 0:
                os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            try:
                answer = (True, function(*args))
            except BaseException as e:      # pylint: disable=broad-except
                answer = (False, e)
            with os.fdopen(wfd, "wb") as f:
                pickle.dump(answer, f)
            status = 0
        finally:
            os._exit(status)
    os.close(wfd)
    with os.fdopen(rfd, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    if not data:
        raise SiteError(f"no answer from the child that ran {function} as uid {uid}")
    good, value = pickle.loads(data)
    if good:
        return value
    raise value


def errno_as(uid, action, **ids):
    """The errno that action() gets as @uid, 0 if it succeeds."""
    try:
        as_user(uid, action, **ids)
    except OSError as e:
        return e.errno
    return 0


def free_port():
    """A port of 127.0.0.1 on which nobody listens at the moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    """Does somebody listen on this port of 127.0.0.1?"""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Daemon:
    """One foreground daemon, its pid, and what it has printed so far."""

    def __init__(self, name, argv, env, log):
        self.name, self.argv, self.log = name, argv, log
        with open(log, "wb") as out:
            # Should the test runner die, its daemons get SIGTERM and end by themselves.
            self.proc = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
        self.pid = self.proc.pid
        self.expect_status = 0      # a test that kills the daemon sets None: any will do

    def stderr(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def running(self):
        return self.proc.poll() is None

    def wait_up(self, what, true):
        def up_or_dead():
            if not self.running():
                raise SiteError(f"{self.name} ended with status {self.proc.returncode} before "
                                f"{what}")
            return true()
        try:
            return wait_for(f"{self.name}: {what}", up_or_dead)
        except SiteError as e:
            self.expect_status = None       # said once is enough
            raise SiteError(f"{e}\n{self.stderr()}") from None

    def kill(self, signo=signal.SIGKILL):
        """End it the hard way, on purpose."""
        self.expect_status = None
        if self.running():
            self.proc.send_signal(signo)
            self.proc.wait()

    def reap(self, problems):
        """Wait for the end that was asked for; append to @problems what was wrong with it."""
        try:
            status = self.proc.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            problems.append(f"{self.name} did not end within {STOP_S} s and was killed")
            status = None
        text = self.stderr()
        if status is not None and self.expect_status is not None and status != self.expect_status:
            problems.append(f"{self.name} ended with status {status}\n{text}")
        elif SAN_SPEAKS.search(text):
            problems.append(f"{self.name}: sanitizer report\n{text}")


class Keyd(Daemon):
    """A running clubkeyd: .state and .run are its directories."""

    def __init__(self, site, state, run, config=None, args=()):
        self.state, self.run, self.site = state, run, site
        argv = [site.prog("clubkeyd"), "--state", state, "--run", run, "-f", *args]
        if config:
            argv += ["--config", config]
        super().__init__("clubkeyd", argv, site.environment(run), site.log_file("clubkeyd"))

    def _listening(self):
        """Are both sockets listening?  Seen from outside, so that no connection is logged."""
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
            open_socks = [l.split() for l in f][1:]
        # connections that were accepted have the same name
        up = {l[7] for l in open_socks if len(l) > 7 and int(l[3], 16) & 0x10000}
        return all(os.path.join(self.run, s) in up for s in ("keyd.sock", "admin.sock"))

    def start(self):
        self.wait_up("its sockets were up", self._listening)
        return self

    def stop(self, problems=None):
        """SIGTERM and a clean end; SiteError (or a line in @problems) if it is not clean."""
        own = [] if problems is None else problems
        if self.running():
            self.proc.terminate()
        self.reap(own)
        self.site.forget(self)
        if problems is None and own:
            raise SiteError("\n".join(own))

    end = stop

    def audit(self):
        """All records of the audit log, oldest first, as dictionaries."""
        import json
        found = []
        top = os.path.join(self.state, "audit")
        for name in sorted(os.listdir(top)):
            if name.endswith(".jsonl"):
                with open(os.path.join(top, name), encoding="utf-8") as f:
                    found += [json.loads(line) for line in f]
        return found


class Mount(Daemon):
    """A running clubfs: .path is the mount point, .store what it shows."""

    def __init__(self, site, store, path, opts, run):
        self.path, self.store, self.site = path, store, site
        argv = [site.prog("clubfs"), store, path, "-f"]
        if opts:
            argv += ["-o", opts]
        super().__init__("clubfs", argv, site.environment(run), site.log_file("clubfs"))

    def start(self):
        self.wait_up("the mount was up", lambda: (mounted(self.path) or "").startswith("fuse"))
        return self

    def join(self, *parts):
        return os.path.join(self.path, *parts)

    def umount(self, problems=None):
        """A clean unmount and end; SiteError (or a line in @problems) if it is not clean."""
        own = [] if problems is None else problems
        if mounted(self.path):
            argv = ["umount", self.path] if os.geteuid() == 0 else ["fusermount3", "-u", self.path]
            for _ in range(50):     # whoever just used it may be about to let go
                done = subprocess.run(argv, check=False, capture_output=True, text=True)
                if "busy" not in done.stderr:
                    break
                time.sleep(0.1)
            if done.returncode != 0 and detach(self.path) and self.expect_status is not None:
                own.append(f"{self.path} had to be detached: {done.stderr.strip()}")
        self.reap(own)
        if mounted(self.path):      # it died and left the mount behind
            detach(self.path)
        self.site.forget(self)
        if problems is None and own:
            raise SiteError("\n".join(own))

    end = umount


class Site:
    """Makes and ends all of the above below the directory @top, which it removes at the end."""

    def __init__(self, top):
        self.top = top
        os.makedirs(top, 0o755, exist_ok=True)
        os.chmod(top, 0o755)
        self.daemons = []       # in the order of starting; each leaves on its end
        self.count = 0

    def prog(self, name):
        return os.path.join(BIN, name)

    def environment(self, run=None, **more):
        env = dict(os.environ, LC_ALL="C.UTF-8", **more)
        env["CLUBKEYD_RUN"] = run or os.path.join(self.top, "run")
        if SAN:
            # LSan needs ptrace on itself, which a process that is not dumpable grants only root.
            leaks = int(os.geteuid() == 0)
            env.setdefault("ASAN_OPTIONS", f"detect_leaks={leaks}:abort_on_error=0")
            env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        return env

    def log_file(self, name):
        self.count += 1
        return os.path.join(self.top, f"{name}.{self.count}.log")

    def path(self, name):
        """A name in the site's directory; nothing is made."""
        return os.path.join(self.top, name)

    def mkdir(self, name, mode=0o755):
        path = self.path(name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        return path

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def add(self, daemon):
        """Start a daemon of this site; close() will end it."""
        self.daemons.append(daemon)
        return daemon.start()

    def forget(self, daemon):
        if daemon in self.daemons:
            self.daemons.remove(daemon)

    def keyd(self, config=None, state="state", run="run", args=()):
        """Start a key daemon.  @config is the text of its configuration; None: embedded default."""
        if config is not None:
            config = self.write(f"{state}.conf", config)
        return self.add(Keyd(self, self.mkdir(state, 0o700), self.mkdir(run), config, args))

    def run(self, name, *args, check=True, uid=None, run=None, stdin=None, timeout=120):
        """Run one of our programs to its end; its output is in .stdout and .stderr."""
        ids = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        done = subprocess.run(
            [self.prog(name), *args], env=self.environment(run), check=False, text=True,
            input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True, timeout=timeout, errors="replace", **ids)
        if SAN_SPEAKS.search(done.stderr):
            raise SiteError(f"{name} {args}: sanitizer report\n{done.stderr}")
        if check and done.returncode != 0:
            raise SiteError(f"{name} {args} ended with status {done.returncode}\n{done.stderr}")
        return done

    def ctl(self, *args, **more):
        return self.run("clubctl", *args, **more)

    def store(self, *clubs, name="store", run=None):
        """Make a store with these clubs; the key daemon must run."""
        path = self.path(name)
        self.ctl("init", path, run=run)
        for club in clubs:
            self.ctl("add", path, club, run=run)
        return path

    def mount(self, store, opts="", name="mnt", run=None):
        """Mount @store at the directory @name."""
        return self.add(Mount(self, store, self.mkdir(name), opts, run))

    def abort(self):
        """Kill every daemon, so that nobody waits for an answer any more."""
        for d in list(self.daemons):
            if d.running():
                d.proc.kill()

    def close(self):
        """Stop everything, newest first, remove the directory.  Returns a list of complaints."""
        problems = []
        for d in reversed(list(self.daemons)):
            d.end(problems)
        for point, _ in reversed(mount_points()):
            if point.startswith(self.top + "/"):
                problems.append(f"{point} was still mounted")
                detach(point)
        shutil.rmtree(self.top, ignore_errors=True)
        return problems


class Watchdog:
    """Ends a test that hangs: after @seconds the site's daemons are killed, so that whoever
    waits inside a system call on the mount comes back with an error."""

    def __init__(self, site, seconds):
        self.fired = False
        self.site, self.seconds = site, seconds
        self.timer = threading.Timer(seconds, self._fire)
        self.timer.daemon = True

    def _fire(self):
        self.fired = True
        self.site.abort()

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
