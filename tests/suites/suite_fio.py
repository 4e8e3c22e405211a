"""fio: every block written carries a checksum of itself, and is read back and compared.

Each engine reaches the filesystem in another way: plain calls, O_DIRECT, the page cache of a
mapping, and both kinds of asynchronous calls.  Block sizes are mixed and mostly no multiple of
the 4096 bytes in which clubs are encrypted; the jobs on one file share such blocks."""
NAME = "fio"
NEEDS = ["fio"]

MIXED = "bssplit=512/20:1536/20:4k/30:20k/20:128k/10"
PAGES = "bssplit=4k/60:16k/20:128k/20"          # what O_DIRECT takes everywhere
# Four processes, each with its own part of one file; the parts begin inside a page.
SHARED = ["filename=shared", "numjobs=4", "size=6m", "offset_increment=6292992"]
SHARED_PAGES = ["filename=shared", "numjobs=4", "size=6m", "offset_increment=6m"]

CASES = {
    "psync-seq": ["ioengine=psync", "rw=write", "bs=64k", "size=48m"],
    "psync-rand": ["ioengine=psync", "rw=randwrite", MIXED, "size=24m"],
    "psync-randrw-backlog": ["ioengine=psync", "rw=randrw", MIXED, "size=24m",
                             "verify_backlog=256"],
    "psync-fdatasync": ["ioengine=psync", "rw=randwrite", MIXED, "size=8m", "fdatasync=16"],
    "psync-shared": ["ioengine=psync", "rw=randwrite", MIXED, *SHARED],
    "psync-shared-seq": ["ioengine=psync", "rw=write", MIXED, *SHARED],
    "direct-seq": ["ioengine=sync", "direct=1", "rw=write", "bs=64k", "size=32m"],
    "direct-rand": ["ioengine=sync", "direct=1", "rw=randwrite", PAGES, "size=16m"],
    "direct-shared": ["ioengine=sync", "direct=1", "rw=randwrite", PAGES, *SHARED_PAGES],
    "libaio-direct": ["ioengine=libaio", "direct=1", "iodepth=16", "rw=randwrite", PAGES,
                      "size=24m"],
    "libaio-buffered": ["ioengine=libaio", "iodepth=8", "rw=randwrite", MIXED, "size=24m"],
    "libaio-shared": ["ioengine=libaio", "direct=1", "iodepth=8", "rw=randwrite", PAGES,
                      *SHARED_PAGES],
    "mmap-seq": ["ioengine=mmap", "rw=write", "bs=64k", "size=24m"],
    "mmap-rand": ["ioengine=mmap", "rw=randwrite", MIXED, "size=16m"],
    # Not on one file: fio maps it from 0 whatever the offset, so its processes meet there.
    "mmap-files": ["ioengine=mmap", "rw=randwrite", MIXED, "numjobs=4", "size=6m"],
    "posixaio-seq": ["ioengine=posixaio", "iodepth=8", "rw=write", MIXED, "size=24m"],
    "posixaio-rand": ["ioengine=posixaio", "iodepth=8", "rw=randwrite", MIXED, "size=16m"],
    "posixaio-shared": ["ioengine=posixaio", "iodepth=4", "rw=randwrite", MIXED, *SHARED],
    "many-files": ["ioengine=psync", "rw=randwrite", MIXED, "nrfiles=64", "size=16m",
                   "numjobs=2"],
}
# Written, unmounted, mounted, and only then compared.
REMOUNTED = ["psync-rand", "mmap-rand", "libaio-direct"]
QUICK = ["psync-rand", "psync-shared", "direct-shared", "libaio-direct", "mmap-rand",
         "posixaio-shared"]


def fio(place, where, case, *more):
    options = ["name=t", f"directory={where}", "verify=crc32c", "verify_fatal=1",
               "group_reporting=1", *CASES[case], *more]
    return place.run(["fio", *[f"--{o}" for o in options]], timeout=120)


def run(place):
    for case in QUICK if place.quick else CASES:
        done = fio(place, place.fresh(case), case)
        place.note(case, done.result(), done.tail())
        place.empty()
    for case in REMOUNTED[:1] if place.quick else REMOUNTED:
        where = place.fresh(case)
        done = fio(place, where, case, "do_verify=0")
        if done.status == 0:
            place.remount()
            done = fio(place, where, case, "verify_only=1")
        place.note(f"{case}-remounted", done.result(), done.tail())
        place.empty()
