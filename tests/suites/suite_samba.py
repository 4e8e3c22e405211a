"""Samba's own tests against a server with the settings of systemd/smb.conf.sample.

The server belongs to this run: its files, passwords and port are its own, and no configuration
of the machine is read.  The tests come as one user of the machine, as a member of a club does."""
import os
import pwd
import re

from place import clubsite

NAME = "samba"
NEEDS = ["smbd", "smbpasswd", "smbtorture", "unshare"]
ROOT = True

SAMPLE = os.path.join(clubsite.REPO, "systemd", "smb.conf.sample")
USER, PASSWORD = "games", "suite"       # an account that every Debian has
SMB2 = """lock rename read rw create dir getinfo setinfo acls mkdir fileid openattr winattr
    timestamps delete-on-close-perms compound compound_find sharemode check-sharemode deny ioctl
    streams sdread mangle""".split()
RAW = """lock rename read write open close mkdir seek unlink chkpath qfileinfo sfileinfo qfsinfo
    search streams eas mux acls context composite samba3caseinsensitive samba3badpath
    samba3checkfsp""".split()
BASE = """lock delete unlink rename attr openattr open rw1 trans2 createx_sharemodes_file chkpath
    properties mangle winattr dir1 dir2 denydos ntdeny1 ntdeny2 xcopy vuid tcon charset
    disconnect""".split()
SETS = [f"{kind}.{name}" for kind, names in (("smb2", SMB2), ("raw", RAW), ("base", BASE))
        for name in names]
SLOW = """smb2.dir smb2.timestamps smb2.compound_find raw.lock raw.open raw.search raw.streams
    raw.mux base.createx_sharemodes_file base.dir2 base.ntdeny1 base.ntdeny2 base.trans2
    base.disconnect raw.sfileinfo""".split()
QUICK = [s for s in SETS if s not in SLOW]
SET_S = 120
OUTCOME = re.compile(r"^(success|failure|error|skip): (.*?)(?: \[)?$", re.M)

# Server and client look for the name of their machine with every connection, and where that is
# unknown wait for the DNS each time.  So they live on a machine that is called localhost.
RENAMED = ["unshare", "--uts", "sh", "-c",
           "echo localhost >/proc/sys/kernel/hostname; exec \"$0\" \"$@\""]

# What the sample cannot say: that this server is a private one.  Some tests speak SMB 1.
PRIVATE = """
[global]
	server min protocol = NT1
	client min protocol = NT1
	ntlm auth = yes
	interfaces = lo
	bind interfaces only = yes
	disable netbios = yes
	smb ports = {port}
	passdb backend = tdbsam:{top}/private/passdb.tdb
	private dir = {top}/private
	lock directory = {top}
	state directory = {top}
	cache directory = {top}
	pid directory = {top}
	ncalrpc dir = {top}/ncalrpc
	rpc start on demand helpers = no
	log file = {top}/log
	panic action = /bin/false
	usershare path =
"""


def configuration(text, path, top, port):
    """The sample with the path and the user of this run, and what makes the server private."""
    for was, now in ((r"\[alpha\]", "[share]"), (r"path = .*", f"path = {path}"),
                     (r"valid users = .*", f"valid users = {USER}"),
                     (r"force group = .*", f"force group = {USER}")):
        text, count = re.subn(rf"^(\s*){was}$", lambda m, n=now: m[1] + n, text, flags=re.M)
        if count != 1:
            raise ValueError(f"{SAMPLE}: {count} lines are like '{was}'")
    return text + PRIVATE.format(top=top, port=port)


class Smbd(clubsite.Daemon):
    """A running smbd for the directory @path."""

    def __init__(self, place, path):
        self.site, self.port = place.site, clubsite.free_port()
        # Servers look there, as the user they act for, whether other servers are alive: all
        # must get into it, or locks and share modes of others are taken for stale ones.
        top = self.site.mkdir(f"samba-{place.name}")
        self.site.mkdir(f"samba-{place.name}/private", 0o700)
        with open(SAMPLE, encoding="utf-8") as f:
            text = configuration(f.read(), path, top, self.port)
        self.conf = self.site.write(f"smb-{place.name}.conf", text)
        added = place.run(["smbpasswd", "-c", self.conf, "-s", "-a", USER],
                          stdin=f"{PASSWORD}\n{PASSWORD}\n".encode())
        if added.status != 0:
            raise clubsite.SiteError(f"smbpasswd failed\n{added.output}")
        super().__init__("smbd", [*RENAMED, "smbd", "-F", "-s", self.conf, "-l", top],
                         self.site.environment(), self.site.log_file("smbd"))
        self.expect_status = None

    def start(self):
        self.wait_up("it listened", lambda: clubsite.listening(self.port))
        return self

    def end(self, problems):
        if self.running():
            self.proc.terminate()
        self.reap(problems)
        clubsite.wait_for("the end of all servers", self._gone)
        self.site.forget(self)

    def _gone(self):
        """smbd leads a process group, whose members end a moment after it and become ours."""
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False


def torture(place, smbd, name):
    """One set of tests: {test: (outcome, what was said)}"""
    done = place.run(
        [*RENAMED, "smbtorture", "//127.0.0.1/share", "-p", str(smbd.port),
         "-U", f"{USER}%{PASSWORD}", "-s", smbd.conf, "--target=samba3", "--fullname", "--seed=1",
         f"--basedir={place.scratch}", name], timeout=SET_S)
    found = {}
    parts = OUTCOME.split(done.output)
    for outcome, test, said in zip(parts[1::3], parts[2::3], parts[3::3]):
        result = "ok" if outcome == "success" else outcome
        found[test.replace(" ", "_")] = (result, said.strip()[:2000])
    if not found or done.status is None:
        found[name] = (done.result(), done.tail(20))
    return found, done


def run(place):
    user = pwd.getpwnam(USER)
    os.chown(place.dir, user.pw_uid, user.pw_gid)
    os.chmod(place.dir, 0o770)
    smbd = place.site.add(Smbd(place, place.dir))
    for name in QUICK if place.quick else SETS:
        found, _ = torture(place, smbd, name)
        for test, (result, said) in found.items():
            place.note(test, result, said)
        place.empty()
    problems = []
    smbd.end(problems)
    if problems:
        place.note("the server", "failed", "\n".join(problems))
