"""What is measured of clubfs alone."""
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time

import clubsite
from disk import drop_caches

##### Recovery, in seconds

RECOVERY_MIB = 44       # of pages overwritten: close to where a checkpoint comes by itself


def recover_once(site, mnt):
    """Fill the journal with overwrites, kill the daemon, and time the first look into the club."""
    path = mnt.join("alpha", "db")
    with open(path, "wb") as f:
        f.write(os.urandom(RECOVERY_MIB << 20))
    mnt.umount()
    mnt = site.mount(mnt.store, "commit=300")
    fd = os.open(path, os.O_RDWR)
    for i in range(RECOVERY_MIB << 8):
        os.pwrite(fd, os.urandom(4096), i * 7919 % (RECOVERY_MIB << 8) << 12)
    os.fsync(fd)
    os.close(fd)
    size = os.path.getsize(os.path.join(mnt.store, "clubs", "alpha", "journal"))
    mnt.expect_status = None
    mnt.proc.kill()
    mnt.umount([])
    drop_caches()
    mnt = site.mount(mnt.store)
    began = time.perf_counter()
    os.listdir(mnt.join("alpha"))
    return mnt, time.perf_counter() - began, size


def recovery(rounds, where):
    site = clubsite.Site(tempfile.mkdtemp(prefix="clubfs-bench-", dir=where))
    took = []
    try:
        site.keyd()
        mnt = site.mount(site.store("alpha"))
        for _ in range(rounds):
            mnt, seconds, size = recover_once(site, mnt)
            took.append(seconds)
    finally:
        site.close()
    print(f"\nrecovery of a journal of {size >> 20} MiB, {RECOVERY_MIB} MiB of it overwritten pages, caches "
          f"empty: median {statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f})")


##### Memory and descriptors

FIND_FILES = 500000
FIND_DIRS = 500
STREAM_GIB = 10


class Watch:
    """The most memory and descriptors that a daemon had while the with block ran."""

    def __init__(self, mnt):
        self.pid = mnt.pid
        self.files = self.peak = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.done.wait(0.1):
            self.files = max(self.files, len(os.listdir(f"/proc/{self.pid}/fd")))

    def __enter__(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")        # the peak begins anew
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            self.peak = int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) >> 10

    def say(self, what, seconds):
        print(f"{what}: at most {self.peak} MiB resident and {self.files} descriptors, "
              f"{seconds:.0f} s")


def timed(watch, action):
    began = time.perf_counter()
    with watch:
        action()
    return time.perf_counter() - began


def many_files(path):
    for i in range(FIND_DIRS):
        os.mkdir(f"{path}/{i}")
        for j in range(FIND_FILES // FIND_DIRS):
            os.mknod(f"{path}/{i}/{j}", 0o644)


def stream(path, mode):
    buf = bytearray(1 << 20)
    with open(path, mode, buffering=0) as f:
        for _ in range(STREAM_GIB << 10):
            if mode == "wb":
                f.write(buf)
            else:
                f.readinto(buf)


def memory(where):
    site = clubsite.Site(tempfile.mkdtemp(prefix="clubfs-bench-", dir=where))
    try:
        site.keyd()
        mnt = site.mount(site.store("alpha"))
        path = mnt.join("alpha")
        watch = Watch(mnt)
        watch.say(f"\nmaking {FIND_FILES:,} files", timed(watch, lambda: many_files(path)))
        mnt.umount()
        drop_caches()
        mnt = site.mount(mnt.store)
        watch = Watch(mnt)
        watch.say("find -size over them", timed(watch, lambda: subprocess.run(
            ["find", path, "-type", "f", "-size", "+1"], check=True)))
        watch = Watch(mnt)
        watch.say(f"writing a stream of {STREAM_GIB} GiB",
                  timed(watch, lambda: stream(path + "/big", "wb")))
        drop_caches()
        watch = Watch(mnt)
        watch.say("reading it", timed(watch, lambda: stream(path + "/big", "rb")))
    finally:
        site.close()
