"""A Samba server of a test: in the foreground, on a port of 127.0.0.1, with everything that it
writes in a directory of the site."""
import contextlib
import os
import shutil

import clubsite

# What a server of Access databases should have; the test's own needs stand above it.
CONFIG = """
[global]
	server role = standalone server
	netbios name = CLUBTEST
	workgroup = CLUBTEST
	interfaces = 127.0.0.1
	bind interfaces only = yes
	smb ports = {port}
	disable netbios = yes
	server min protocol = SMB2_10
	map to guest = Bad User
	guest account = nobody
	private dir = {top}/private
	state directory = {top}/state
	cache directory = {top}/cache
	lock directory = {top}/lock
	pid directory = {top}/pid
	ncalrpc dir = {top}/ncalrpc
	log file = {top}/log
	max log size = 0
	passdb backend = tdbsam:{top}/private/passdb.tdb
	load printers = no
	disable spoolss = yes
	printcap name = /dev/null
	usershare max shares = 0
	rpc start on demand helpers = no

[club]
	path = {path}
	read only = no
	guest ok = yes
	posix locking = yes
	strict locking = auto
	oplocks = no
	level2 oplocks = no
	create mask = 0666
	store dos attributes = yes
	map archive = no
	ea support = yes
	vfs objects = acl_xattr streams_xattr
	acl_xattr:ignore system acls = yes
"""


def smbd_program():
    return shutil.which("smbd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Smbd(clubsite.Daemon):
    """A running smbd that shares @path as "club"; .port is where."""

    def __init__(self, site, path):
        self.site, self.port = site, clubsite.free_port()
        self.top = site.mkdir(f"smb{site.count}")
        for name in ("private", "state", "cache", "lock", "pid", "ncalrpc"):
            os.makedirs(os.path.join(self.top, name), 0o700 if name == "private" else 0o755)
        self.config = os.path.join(self.top, "smb.conf")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(port=self.port, top=self.top, path=path))
        # It makes a process group of its own, and signals all of that on its end.
        super().__init__("smbd", [smbd_program(), "-F", "-s", self.config, "-d", "1",
                                  "--debug-stdout"],
                         dict(os.environ, LC_ALL="C.UTF-8"), site.log_file("smbd"))

    def start(self):
        self.wait_up("its port was open", lambda: clubsite.listening(self.port))
        return self

    def end(self, problems=None):
        """SIGTERM; its children, one for each client, are gone before this returns."""
        own = [] if problems is None else problems
        if self.running():
            self.proc.terminate()
        self.expect_status = None       # it ends by the signal that it sends to its group
        self.reap(own)
        try:
            clubsite.wait_for("smbd's children end", self._alone, 20)
        except clubsite.SiteError as e:
            own.append(str(e))
        self.site.forget(self)
        if problems is None and own:
            raise clubsite.SiteError("\n".join(own))

    def children(self):
        """The processes of its group, which it leads."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                    words = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[2]) == self.pid and int(pid) != self.pid and words[0] != "Z":
                found.append(int(pid))
        return found

    def serving(self, client_port):
        """The process at the other end of a client's connection."""
        ends = f":{self.port:04X}", f":{client_port:04X}"
        with open("/proc/net/tcp", encoding="ascii") as f:
            lines = [line.split() for line in f][1:]
        inode, = [w[9] for w in lines if w[1].endswith(ends[0]) and w[2].endswith(ends[1])]
        for pid in self.children():
            folder = f"/proc/{pid}/fd"
            for fd in os.listdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(os.path.join(folder, fd)) == f"socket:[{inode}]":
                        return pid
        raise clubsite.SiteError("nobody serves that client")

    def _alone(self):
        return not self.children()
