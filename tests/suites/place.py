"""Where a suite works: first a plain directory, then a club; and how it runs other programs."""
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import clubsite     # noqa: E402  pylint: disable=wrong-import-position

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Whatever our programs leave running becomes our child, so that end_strays() finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes():
    """{pid: (parent, name, has it ended?)} of the whole machine."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                left, right = f.read().rsplit(")", 1)
        except OSError:
            continue
        state, parent = right.split()[:2]
        found[int(pid)] = (int(parent), left.split("(", 1)[1], state == "Z")
    return found


def end_strays(keep=()):
    """Kill every process that came from us, but for those of the pids in @keep and theirs.

    Returns the names of those that were still running."""
    names = set()
    for _ in range(200):
        every, below, new = processes(), set(), {os.getpid()}
        while new:
            new = {p for p, (parent, _, _) in every.items() if parent in new and p not in keep}
            below |= new
        if not below:
            break
        for pid in below:
            parent, name, ended = every[pid]
            try:
                if not ended:
                    names.add(name)
                    os.kill(pid, signal.SIGKILL)
                elif parent == os.getpid():
                    os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                pass
        time.sleep(0.02)
    return sorted(names)


class Done:
    """How a program ended: .status as a shell shows it, or None after the time limit."""

    def __init__(self, status, output, seconds):
        self.status, self.output, self.seconds = status, output, seconds

    def result(self):
        if self.status is None:
            return "timeout"
        return "ok" if self.status == 0 else f"status-{self.status}"

    def tail(self, lines=8):
        return "\n".join(self.output.strip().splitlines()[-lines:])


class Place:
    """One of the two: .dir is an empty directory there, .scratch one that is on neither."""

    def __init__(self, site, name, quick):
        self.site, self.name, self.quick = site, name, quick
        self.scratch = site.mkdir(f"scratch-{name}")
        self.mnt = None
        if name == "clubfs":
            site.keyd()
            self.mnt = site.mount(site.store("alpha"), "allow_other" if os.geteuid() == 0 else "")
        self.top = self.mnt.join("alpha") if self.mnt else site.mkdir(name)
        os.chmod(self.top, 0o755)
        self.dir = os.path.join(self.top, "work")
        os.mkdir(self.dir)
        self.results = {}       # test: (result, what the program said)

    def note(self, test, result, said=""):
        self.results[test] = (result, said)

    def fresh(self, name):
        """A new empty directory for one test."""
        return tempfile.mkdtemp(prefix=name + "-", dir=self.dir)

    def remount(self):
        """Let everything come from the disk again: of a plain directory only as far as it goes."""
        if self.mnt:
            self.mnt.umount()
            self.mnt = self.site.mount(self.mnt.store,
                                       "allow_other" if os.geteuid() == 0 else "")
        else:
            os.sync()

    def empty(self):
        """Remove what a test left in .dir; a server may at that moment remove some of it too."""
        # a test that was ended may have left files that nobody may remove
        subprocess.run(["chattr", "-R", "-f", "-ai", self.dir], check=False, capture_output=True)

        def attempt():
            for name in os.listdir(self.dir):
                path = os.path.join(self.dir, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
            return not os.listdir(self.dir)
        clubsite.wait_for(f"{self.dir} is empty", attempt)

    def daemons(self):
        return {d.pid for d in self.site.daemons}

    def run(self, argv, timeout=120, stdin=None, cwd=None, env=None, text=True):
        """Run a program, and whatever it starts, to the end or to the time limit."""
        began = time.monotonic()
        with subprocess.Popen(
                argv, cwd=cwd or self.scratch, env=env or dict(os.environ, LC_ALL="C.UTF-8"),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT if text else subprocess.PIPE,
                start_new_session=True) as proc:
            try:
                out, _ = proc.communicate(stdin, timeout)
                status = proc.returncode if proc.returncode >= 0 else 128 - proc.returncode
            except subprocess.TimeoutExpired as e:
                status, out = None, e.output or b""
            finally:        # also when somebody presses Ctrl-C
                try:
                    os.killpg(proc.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if text:
            out = out.decode("utf-8", "replace")
        return Done(status, out, time.monotonic() - began)
