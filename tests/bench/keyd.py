"""Leases measured, with the real daemons: what a key costs, many at once, and taking them back.

	keyd.py [--clubs N] [--dir DIR]

Prints each figure with the one it is to be compared with.
"""
import argparse
import itertools
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import clubsite     # noqa: E402  pylint: disable=wrong-import-position

USERS = 300         # further users of one club
FILES = 100


def timed(action, *args):
    began = time.perf_counter()
    action(*args)
    return time.perf_counter() - began


def missing(path, count=itertools.count()):
    """The cheapest way into a directory: a name that is not there, and that nobody asked for yet."""
    name = f"none{next(count)}"
    try:
        os.stat(os.path.join(path, name))
    except FileNotFoundError:
        return
    raise SystemExit(f"{path} has a file {name}")


def ms(seconds):
    return f"{1000 * statistics.median(seconds):.2f} ms"


def sync_once(fd):
    os.write(fd, b"x" * 500)
    os.fdatasync(fd)


def one_sync(top):
    """What a record costs at least, on the same disk."""
    with open(os.path.join(top, "sync"), "ab", buffering=0) as f:
        return [timed(sync_once, f.fileno()) for _ in range(USERS)]


def as_further_users(club):
    took = []
    for uid in range(100000, 100000 + USERS):
        os.seteuid(uid)
        try:
            took.append(timed(missing, club))
        finally:
            os.seteuid(0)
    return took


def fetches(mnt, names, top):
    """A fetch alone: the club is unlocked, a user comes who has not been there."""
    first = [timed(missing, mnt.join(n)) for n in names[:USERS]]
    sync = one_sync(top)
    further = as_further_users(mnt.join(names[0]))
    known = [timed(missing, mnt.join(names[0])) for _ in range(USERS)]
    above = 1000 * (statistics.median(further) - statistics.median(sync))
    print(f"one fdatasync {ms(sync)}; first access of a further user {ms(further)}, "
          f"{above:+.2f} ms, ratio {statistics.median(further) / statistics.median(sync):.2f}; "
          f"of a club {ms(first)}; with a lease {ms(known)}")


def burst(keyd, mnt, names):
    todo, before = list(names), len(keyd.audit())

    def enter():
        while todo:
            try:
                missing(mnt.join(todo.pop()))
            except IndexError:
                return

    crowd = [threading.Thread(target=enter) for _ in range(16)]
    took = timed(lambda: [t.start() for t in crowd] and [t.join() for t in crowd])
    records = len(keyd.audit()) - before
    print(f"{len(names)} clubs unlocked in {took:.2f} s, {len(names) / took:.0f}/s, "
          f"{records} records")


def revoke(site, mnt, club):
    fds = []
    for i in range(FILES):
        path = pathlib.Path(mnt.join(club), f"f{i}")
        path.write_bytes(b"x" * 20000)
        fds.append(os.open(path, os.O_RDWR))
    last = [0.0]

    def read():
        try:
            while True:
                for fd in fds:
                    os.pread(fd, 4096, 8192)
                last[0] = time.perf_counter()
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.2)
    began = time.perf_counter()
    site.ctl("revoke", club)
    took = time.perf_counter() - began
    reader.join()
    print(f"revoke with {FILES} open files: last byte after {last[0] - began:.3f} s, "
          f"done after {took:.3f} s")
    for fd in fds:
        os.close(fd)


def run(site, count):
    names = [f"club{i:05}" for i in range(count)]
    keyd = site.keyd()
    store = site.store()
    for i in range(0, count, 500):
        site.ctl("add", store, *names[i:i + 500], timeout=600)
    mnt = site.mount(store, "allow_other")
    fetches(mnt, names, site.top)
    mnt.umount()
    keyd.stop()
    keyd = site.keyd()
    mnt = site.mount(store, "allow_other")
    burst(keyd, mnt, names)
    revoke(site, mnt, names[0])


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--clubs", type=int, default=5000)
    args.add_argument("--dir", default="/var/tmp")
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root, to be several users")
    site = clubsite.Site(tempfile.mkdtemp(prefix="clubfs-bench-", dir=args.dir))
    try:
        run(site, args.clubs)
    finally:
        for line in site.close():
            print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
