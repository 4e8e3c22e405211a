"""bench.py [ROW...]: the same work on clubfs and on what it is compared with, side by side.

plain        the directory beneath, no FUSE at all
passthrough  libfuse's packaged example passthrough_ll: FUSE and nothing else
gocryptfs, securefs, encfs
             the encrypted filesystems that Debian packages, with their own defaults
gocryptfs-shared
             gocryptfs -allow_other, where the kernel checks permissions as it does in clubfs
clubfs       ours
clubfs-wb    ours with -o writeback

One round does every row on every one of them before the next round begins, and every round
begins with another one, so that whatever else the machine does hits all alike.  The table shows
medians; higher is better.
"""
import argparse
import glob
import gzip
import json
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import alone         # noqa: E402  pylint: disable=wrong-import-position
import clubsite     # noqa: E402  pylint: disable=wrong-import-position
from disk import Disk, drop_caches  # noqa: E402  pylint: disable=wrong-import-position

BUILD = os.path.join(clubsite.REPO, "build-bench")
EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
TREE = "/usr/include"
TREE_FILES = 3000
SQL_ROWS = 100000
OURS = ("clubfs", "clubfs-wb")


##### Rows: the work, and with what caches

class Row:
    """One line of the table.  A cold one begins with no cache at all."""

    def __init__(self, key, unit, what, cold=False, run=None):
        self.key, self.unit, self.what, self.cold = key, unit, what, cold
        self.run = run or named(key)


def work(key, where):
    """Let the C program do it; returns (seconds, amount)."""
    done = subprocess.run([os.path.join(BUILD, "work"), key, where], check=True,
                          stdout=subprocess.PIPE, text=True)
    seconds, amount = done.stdout.split()
    return float(seconds), int(amount)


def named(key):
    return lambda where: work(key, where)


def timed(amount, *argv):
    """A row that is a program: @amount things done by it, in the directory."""
    def run(where):
        began = time.perf_counter()
        subprocess.run(argv, cwd=where, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, amount
    return run


def database(where, mode):
    db = sqlite3.connect(os.path.join(where, "db.sqlite"), isolation_level=None)
    got = db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    if got != mode:
        raise RuntimeError(f"{where}: no journal mode {mode}, but {got}")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS t(i INTEGER PRIMARY KEY, v TEXT)")
    return db


def commits(mode, count):
    def run(where):
        db = database(where, mode)
        began = time.perf_counter()
        for _ in range(count):
            db.execute("INSERT INTO t(v) VALUES (?)", ("Erika Mustermann" * 8,))
        seconds = time.perf_counter() - began
        db.close()
        return seconds, count
    return run


def bulk_load(where):
    db = database(where, "delete")
    began = time.perf_counter()
    db.execute("BEGIN")
    db.executemany("INSERT INTO t(v) VALUES (?)",
                   (("Erika Mustermann" * 8,) for _ in range(SQL_ROWS)))
    db.execute("COMMIT")
    seconds = time.perf_counter() - began
    db.close()
    return seconds, SQL_ROWS


def full_scan(where):
    db = database(where, "delete")
    began = time.perf_counter()
    db.execute("SELECT sum(length(v)) FROM t").fetchone()
    seconds = time.perf_counter() - began
    db.close()
    return seconds, SQL_ROWS


# Rows of one group follow each other in one directory, each on what the ones before it left.
GROUPS = [
    [
        Row("stream-write", "MiB/s", "write 256 MiB, then fsync"),
        Row("stream-read-cold", "MiB/s", "read it, no cache", True, named("stream-read")),
        Row("stream-read-hot", "MiB/s", "read it again", False, named("stream-read")),
        Row("rand-read-hot", "op/s", "read 4 KiB anywhere, cached"),
        Row("rand-read-cold", "op/s", "read 4 KiB anywhere, no cache", True),
        Row("rand-read-4t", "op/s", "the same in 4 threads, no cache", True),
        Row("rand-write", "op/s", "overwrite 4 KiB anywhere, no sync"),
        Row("rand-write-4t", "op/s", "the same in 4 threads on one file"),
        Row("rand-write-sync", "op/s", "overwrite 4 KiB, fdatasync each"),
        Row("access", "op/s", "lock, read 4 pages, write one, unlock"),
    ],
    [Row("append", "op/s", "append 512 bytes, fsync at the end")],
    [
        Row("small-create", "op/s", "create and write 5,000 small files"),
        Row("small-stat", "op/s", "stat them, no cache", True),
        Row("small-read", "op/s", "open and read them, no cache", True),
        Row("small-unlink", "op/s", "remove them"),
    ],
    [
        Row("untar", "file/s", f"unpack {TREE_FILES} headers", False,
            timed(TREE_FILES, "tar", "-xf", os.path.join(BUILD, "tree.tar"))),
        Row("du", "file/s", "du of them, no cache", True, timed(TREE_FILES, "du", "-s", ".")),
        Row("grep", "file/s", "grep in them, no cache", True,
            timed(TREE_FILES, "grep", "-rc", "include", ".")),
    ],
    [
        Row("sqlite-load", "row/s", f"{SQL_ROWS} rows in one transaction", False, bulk_load),
        Row("sqlite-scan", "row/s", "read the table, no cache", True, full_scan),
        Row("sqlite-rollback", "op/s", "300 commits, rollback journal", False,
            commits("delete", 300)),
        Row("sqlite-wal", "op/s", "500 commits, write-ahead log", False, commits("wal", 500)),
    ],
]
ROWS = [row for group in GROUPS for row in group]


##### What is compared: each gives a directory to work in

class Foreign(clubsite.Daemon):
    """Somebody else's filesystem as a daemon of the site."""

    def __init__(self, site, name, path, argv):
        super().__init__(name, argv, site.environment(), site.log_file(name))
        self.path, self.site = path, site

    def start(self):
        self.wait_up("the mount was up", lambda: clubsite.mounted(self.path))
        return self

    end = clubsite.Mount.umount


def plain(site):
    return site.mkdir("plain")


def passthrough(site):
    source, path = site.mkdir("pt-source"), site.mkdir("pt")
    site.add(Foreign(site, "passthrough_ll", path, [
        os.path.join(BUILD, "passthrough_ll"), "-f",
        "-o", f"source={source},cache=always,timeout=86400,default_permissions", path]))
    return path


def gocryptfs(site, *options):
    tag = "gc" + "".join(options)
    source, path = site.mkdir(tag + "-source"), site.mkdir(tag)
    secret = site.write(tag + "-password", "benchmark\n")
    subprocess.run(["gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", secret, source],
                   check=True)
    site.add(Foreign(site, "gocryptfs", path, [
        "gocryptfs", "-fg", "-q", *options, "-passfile", secret, source, path]))
    return path


def gocryptfs_shared(site):
    return gocryptfs(site, "-allow_other")


def securefs(site):
    source, path = site.mkdir("sf-source"), site.mkdir("sf")
    subprocess.run(["securefs", "create", "--pass", "benchmark", "--pbkdf",
                    "pkcs5-pbkdf2-hmac-sha256", "-r", "1000", source], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    site.add(Foreign(site, "securefs", path, [
        "securefs", "mount", "--pass", "benchmark", source, path]))
    return path


def encfs(site):
    source, path = site.mkdir("ef-source"), site.mkdir("ef")
    secret = site.write("ef-password", "benchmark\n")
    site.add(Foreign(site, "encfs", path, [
        "encfs", "-f", "--standard", f"--extpass=cat {secret}", source, path]))
    return path


def clubfs(site):
    site.keyd()
    return site.mount(site.store("alpha")).join("alpha")


def clubfs_writeback(site):
    return site.mount(site.store("beta", name="store-wb"), "writeback", name="mnt-wb").join("beta")


TARGETS = {
    "plain": plain, "passthrough": passthrough, "gocryptfs": gocryptfs,
    "gocryptfs-shared": gocryptfs_shared, "securefs": securefs, "encfs": encfs,
    "clubfs": clubfs, "clubfs-wb": clubfs_writeback,
}


##### Building, measuring, printing

def compiled(source, name, *flags):
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-w", "-D_GNU_SOURCE", source, "-o",
                    os.path.join(BUILD, name), *flags], check=True)


def build():
    """The work program, the passthrough example, and the archive to unpack."""
    os.makedirs(BUILD, exist_ok=True)
    compiled(os.path.join(HERE, "work.c"), "work", "-pthread")
    for path in glob.glob(os.path.join(os.path.dirname(EXAMPLE), "passthrough_*")):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rb") as src, \
                open(os.path.join(BUILD, os.path.basename(path).removesuffix(".gz")), "wb") as dst:
            shutil.copyfileobj(src, dst)
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    compiled(os.path.join(BUILD, "passthrough_ll.c"), "passthrough_ll", "-DHAVE_UTIMENSAT",
             "-DHAVE_POSIX_FALLOCATE", "-DHAVE_SETXATTR", *flags)
    names = sorted(os.path.join(d, n) for d, _, ns in os.walk(TREE) for n in ns
                   if n.endswith(".h"))[:TREE_FILES]
    if len(names) < TREE_FILES:
        raise SystemExit(f"bench: {TREE} holds fewer than {TREE_FILES} headers")
    subprocess.run(["tar", "-cf", os.path.join(BUILD, "tree.tar"), "-P", "--transform", "s,^/,,",
                    "--null", "-T", "-"], input="\0".join(names), text=True, check=True)


def measure(group, wanted, where, note):
    """The rows of @group in a new directory below @where; note(row, rate) for the wanted ones."""
    place = tempfile.mkdtemp(prefix=group[0].key, dir=where)
    last = max(i for i, row in enumerate(group) if row in wanted)
    try:
        for row in group[:last + 1]:
            os.sync()       # nobody pays for what another one left to be written
            if row.cold:
                drop_caches()
            seconds, amount = row.run(place)
            if row in wanted:
                note(row, amount / seconds)
    finally:
        shutil.rmtree(place)


def first_line(*argv):
    try:
        done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT)
        return done.stdout.splitlines()[0]
    except (OSError, IndexError):
        return "?"


def grepped(pattern, path):
    with open(path, encoding="utf-8", errors="replace") as f:
        found = re.search(pattern, f.read(), re.M)
    return found[1] if found else "?"


def machine(where):
    """What one has to know to compare these numbers with others."""
    aes = sorted(set(grepped(r"^flags\s*: (.*)", "/proc/cpuinfo").split())
                 & {"aes", "vaes", "avx2", "avx512f", "vpclmulqdq"})
    memory = int(grepped(r"MemTotal:\s+(\d+)", "/proc/meminfo")) >> 20
    return [
        f"{time.strftime('%Y-%m-%d')}, {grepped(r'PRETTY_NAME=.(.*).$', '/etc/os-release')}, "
        f"kernel {platform.release()}",
        f"{os.cpu_count()} x {grepped(r'^model name.*: (.*)', '/proc/cpuinfo')} "
        f"({' '.join(aes)}), {memory} GiB memory",
        f"directory on {first_line('findmnt', '-no', 'FSTYPE,SOURCE', '-T', where)}",
        f"libfuse {first_line('pkg-config', '--modversion', 'fuse3')}, "
        f"{first_line('openssl', 'version')}",
        "; ".join(version(n) for n in ("gocryptfs", "securefs", "encfs")),
    ]


def version(package):
    return package + " " + first_line("dpkg-query", "-W", "-f=${Version}", package)


def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}"


def table(rows, names, rates):
    """Medians; then clubfs against the others; then how far its rounds lay apart."""
    mid = {k: statistics.median(v) for k, v in rates.items() if v}
    ours = [n for n in OURS if n in names]
    others = [n for n in names if n not in OURS] if ours else []
    print(f"{'row':17s}{'unit':>7s}" + "".join(f"{n:>17s}" for n in names))
    for row in rows:
        print(f"{row.key:17s}{row.unit:>7s}"
              + "".join(f"{number(mid[row.key, n]):>17s}" for n in names))
    for mine in ours:
        print(f"\n{mine + ' against':24s}" + "".join(f"{n:>17s}" for n in others)
              + f"{'spread':>12s}")
        for row in rows:
            own = rates[row.key, mine]
            print(f"{row.key:24s}"
                  + "".join(f"{mid[row.key, mine] / mid[row.key, n]:17.2f}" for n in others)
                  + f"{(max(own) - min(own)) / mid[row.key, mine]:12.0%}")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="\n".join(
        f"  {r.key:17s} {r.what}" for r in ROWS),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rows", nargs="*", metavar="ROW", help="only these rows; default: all")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--dir", default="/var/tmp",
                   help="where the disk's image, or without root the filesystems, lie")
    p.add_argument("--only", metavar="NAME", action="append", choices=TARGETS,
                   help="only this one of " + ", ".join(TARGETS))
    p.add_argument("--json", metavar="FILE", help="write every single rate there")
    args = p.parse_args()
    known = {r.key for r in ROWS}
    for key in args.rows:
        if key not in known:
            p.error(f"no row '{key}'; there are: {' '.join(sorted(known))}")
    return args


def run(args, rows, names, site):
    where = {n: TARGETS[n](site) for n in names}
    rates = {(r.key, n): [] for r in rows for n in names}
    groups = [g for g in GROUPS if set(g) & set(rows)]
    for i in range(args.rounds):
        turn = names[i % len(names):] + names[:i % len(names)]
        for group in groups:
            for name in turn:
                if sys.stderr.isatty():
                    print(f"\rround {i + 1}/{args.rounds} {group[0].key} {name:20s}", end="",
                          file=sys.stderr)
                measure(group, rows, where[name],
                        lambda row, rate, n=name: rates[row.key, n].append(rate))
    if sys.stderr.isatty():
        print("\r" + " " * 60, end="\r", file=sys.stderr)
    return rates


def installed(names):
    """Leave out, and say so, what Debian would give but nobody installed."""
    missing = [n for n in names if n.split("-")[0] in ("gocryptfs", "securefs", "encfs")
               and not shutil.which(n.split("-")[0])]
    for name in missing:
        print(f"left out: {name} (not installed; 'make deps-bench')")
    return [n for n in names if n not in missing]


def main():
    args = arguments()
    rows = [r for r in ROWS if not args.rows or r.key in args.rows]
    if os.geteuid() != 0:
        for row in [r for r in rows if r.cold]:
            print(f"left out: {row.key} (only root can empty the caches)")
        rows = [r for r in rows if not r.cold]
    names = installed([n for n in TARGETS if not args.only or n in args.only])
    build()
    disk = Disk(args.dir)
    try:
        return bench(args, rows, names, disk.path)
    finally:
        disk.close()


def bench(args, rows, names, where):
    site = clubsite.Site(tempfile.mkdtemp(prefix="site-", dir=where))
    try:
        about = machine(site.top)
        rates = run(args, rows, names, site)
    finally:
        problems = site.close()
    print("\n".join(about))
    print(f"medians of {args.rounds} rounds, higher is better\n")
    table(rows, names, rates)
    if os.geteuid() == 0 and "clubfs" in names and not args.rows:
        alone.recovery(args.rounds, where)
        alone.memory(where)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"machine": about, "rates": {f"{k} {n}": v for (k, n), v in rates.items()}},
                      f, indent=1)
    for p in problems:
        print(f"bench: {p}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
