"""The way in which Access programs share a database, with nothing but locks and 4096-byte pages.

Beside the database lies a lock file (.ldb) with a record of 64 bytes for each of at most 255
users.  All locks are on bytes of the lock file between 0x10000001 and 0x6FF800FF, where the file
itself never gets: one byte for each user while he is there, others for pages and for the database
as a whole.  Which byte stands for which page is our choice here.
"""
import os
import random
import signal
import struct
import zlib

import pytest

from lockers import (FREE, OFD_SET, READ, SET, WAIT, WRITE, holder, lock, others,
                     try_lock)  # noqa: F401
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import PAGE, get, pattern, put

USER, USERS = 0x10000001, 255           # one byte each, up to 0x100000FF
READING, WRITING = 0x20000001, 0x30000001   # plus the page's number
COMMIT = 0x6FF800FF
ALL = USER, COMMIT - USER + 1
RECORD = 64


##### The protocol

class TooManyUsers(Exception):
    pass


def record_of(number, name):
    return f"PC-{number}".encode().ljust(32, b"\0") + name.encode().ljust(32, b"\0")


def enter(ldb, name, cmd=SET):
    """Take the first free user's place in the lock file, and write the record of it."""
    for number in range(USERS):
        if try_lock(ldb, WRITE, USER + number, 1, cmd):
            assert os.pwrite(ldb, record_of(number, name), number * RECORD) == RECORD
            return number
    raise TooManyUsers(name)


def leave(path, ldb, number):
    """The last one removes the lock file.  True if that was us."""
    lock(ldb, FREE, USER + number, 1)
    last = holder(ldb, USER, USERS) is None
    if last:
        os.unlink(path)
    os.close(ldb)
    return last


def page_of(number, count, fill):
    """A page that tells when it is torn, misplaced or older than it says."""
    body = struct.pack("<IQ", number, count) + pattern(PAGE - 16, fill)
    return body + struct.pack("<I", zlib.crc32(body))


def check_page(data, number):
    """The count that a page holds; it must be whole."""
    assert len(data) == PAGE, f"page {number} has {len(data)} bytes"
    assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0], f"page {number} is torn"
    got, count = struct.unpack("<IQ", data[:12])
    assert got == number
    return count


def open_both(top):
    return [os.open(top / name, os.O_RDWR | os.O_CREAT, 0o666) for name in ("v.mdb", "v.ldb")]


def change_pages(top, name, turns, pages):
    """A user who counts up pages at random and appends one now and then: (appended, his number)."""
    mdb, ldb = open_both(top)
    number = enter(ldb, name)
    rnd = random.Random(name)
    appended = 0
    for turn in range(turns):
        page = rnd.randrange(pages)
        lock(ldb, READ, READING + page, 1, WAIT)    # announced, as a reader among readers
        lock(ldb, WRITE, WRITING + page, 1, WAIT)
        count = check_page(os.pread(mdb, PAGE, page * PAGE), page)
        assert os.pwrite(mdb, page_of(page, count + 1, (name, turn)), page * PAGE) == PAGE
        lock(ldb, FREE, WRITING + page, 1)
        lock(ldb, FREE, READING + page, 1)
        if turn % 10 == 9:
            lock(ldb, WRITE, COMMIT, 1, WAIT)
            end = os.fstat(mdb).st_size
            assert end % PAGE == 0
            os.pwrite(mdb, page_of(end // PAGE, 0, (name, turn)), end)
            if turn % 20 == 19:
                os.fdatasync(mdb)
            lock(ldb, FREE, COMMIT, 1)
            appended += 1
    os.close(mdb)
    assert os.pread(ldb, RECORD, number * RECORD) == record_of(number, name)
    os.close(ldb)
    return appended, number


def read_pages(top, name, turns, pages):
    """A user who looks on: what he finds under a reader's lock is whole and never goes back."""
    mdb, ldb = open_both(top)
    number = enter(ldb, name)
    rnd = random.Random(name)
    last = [0] * pages
    for _ in range(turns):
        page = rnd.randrange(pages)
        lock(ldb, READ, WRITING + page, 1, WAIT)
        count = check_page(os.pread(mdb, PAGE, page * PAGE), page)
        lock(ldb, FREE, WRITING + page, 1)
        assert count >= last[page]
        last[page] = count
    os.close(mdb)
    os.close(ldb)
    return 0, number


def make_database(top, pages):
    put(top / "v.mdb", b"".join(page_of(n, 0, n) for n in range(pages)))
    put(top / "v.ldb")


def check_database(path, pages, changes, appended):
    data = get(path)
    assert len(data) == (pages + appended) * PAGE
    counts = [check_page(data[n * PAGE:(n + 1) * PAGE], n) for n in range(pages + appended)]
    assert sum(counts) == changes, "a change was lost"


##### Users at work

@pytest.mark.parametrize("writers, readers", [(2, 0), (4, 2)])
def test_users_at_work_lose_no_change(place, d, others, writers, readers):
    pages, turns = 8, 400
    make_database(d, pages)
    procs = others(writers + readers)
    for i, p in enumerate(procs):
        p.begin(change_pages if i < writers else read_pages, d, f"user{i}", turns, pages)
    done = [p.result() for p in procs]
    appended = sum(a for a, _ in done)
    assert appended == writers * turns // 10
    check_database(d / "v.mdb", pages, writers * turns, appended)
    assert os.stat(d / "v.ldb").st_size <= RECORD * (writers + readers)
    place.remount()
    check_database(d / "v.mdb", pages, writers * turns, appended)


def enter_many(path, first, count, cmd):
    """Take places for @count users, each with a descriptor of his own if @cmd wants that."""
    numbers = []
    for i in range(first, first + count):
        numbers.append(enter(os.open(path, os.O_RDWR), f"user{i}", cmd))
    return numbers


@pytest.mark.parametrize("processes", [1, 255])
def test_255_users_and_no_more(d, others, processes):
    """As descriptions of one process, as a file server has them, and as processes."""
    make_database(d, 1)
    each, cmd = USERS // processes, OFD_SET if processes == 1 else SET
    crowd, late = others(processes), others()[0]
    numbers = []
    for i, p in enumerate(crowd):
        numbers += p.run(enter_many, d / "v.ldb", i * each, each, cmd)
    assert numbers == list(range(USERS))
    fd = late.open(d / "v.ldb")
    with pytest.raises(TooManyUsers):
        late.run(enter, fd, "one too many", SET)
    for i in range(USERS):
        owner = -1 if processes == 1 else crowd[i].pid
        assert late.run(holder, fd, USER + i, 1) == (WRITE, USER + i, 1, owner)
    assert late.run(holder, fd, USER + USERS, COMMIT - USER - USERS) is None
    text = get(d / "v.ldb")
    assert text == b"".join(record_of(i, f"user{i}") for i in range(USERS))
    gone = crowd[-1 if processes == 1 else 100]
    gone.end(signal.SIGKILL)
    assert late.run(enter, fd, "the next", SET) == (0 if processes == 1 else 100)


def test_sharing_and_opening_exclusively_keep_each_other_out(d, others):
    make_database(d, 1)
    a, b = others(2)
    fa, fb = a.open(d / "v.ldb"), b.open(d / "v.ldb")
    assert a.run(enter, fa, "a") == 0
    assert not b.run(try_lock, fb, WRITE, *ALL)
    assert b.run(holder, fb, *ALL) == (WRITE, USER, 1, a.pid)
    a.run(lock, fa, FREE, USER, 1)
    b.run(lock, fb, WRITE, *ALL)
    with pytest.raises(TooManyUsers):
        a.run(enter, fa, "a")
    assert a.run(holder, fa, COMMIT, 1) == (WRITE, *ALL, b.pid)
    assert a.run(try_lock, fa, WRITE, COMMIT + 1, 0)
    b.run(lock, fb, FREE, *ALL)
    assert a.run(enter, fa, "a") == 0


def test_the_lock_file_comes_and_goes_with_its_users(d, others):
    path = d / "v.ldb"
    a, b = others(2)
    fa, fb = a.open(path), b.open(path)
    assert (a.run(enter, fa, "a"), b.run(enter, fb, "b")) == (0, 1)
    assert get(path) == record_of(0, "a") + record_of(1, "b")
    assert not a.run(leave, path, fa, 0)
    assert path.exists()
    assert b.run(leave, path, fb, 1)
    assert not path.exists()
    fa = a.open(path)
    assert a.run(enter, fa, "again") == 0
    assert get(path) == record_of(0, "again")
    assert a.run(leave, path, fa, 0)
    assert os.listdir(d) == []


def stop_in_the_middle(top, name, page):
    """Hold everything that one user can hold, with half of a change made."""
    mdb, ldb = open_both(top)
    number = enter(ldb, name)
    lock(ldb, READ, READING + page, 1)
    lock(ldb, WRITE, WRITING + page, 1)
    lock(ldb, WRITE, COMMIT, 1)
    count = check_page(os.pread(mdb, PAGE, page * PAGE), page)
    os.pwrite(mdb, page_of(page, count + 1, name), page * PAGE)
    return number


def test_a_killed_user_holds_up_nobody(d, others):
    pages, turns = 2, 20
    make_database(d, pages)
    victim, a, b, watcher = others(4)
    assert victim.run(stop_in_the_middle, d, "victim", 0) == 0
    fw = watcher.open(d / "v.ldb")
    for p, name in ((a, "a"), (b, "b")):
        p.begin(change_pages, d, name, turns, pages)
        p.wait_blocked()
    assert watcher.run(holder, fw, WRITING, 1)[3] == watcher.run(holder, fw, COMMIT, 1)[3] \
        == victim.pid
    victim.end(signal.SIGKILL)
    done = [p.result() for p in (a, b)]
    assert {number for _, number in done} == {1, 2}
    check_database(d / "v.mdb", pages, 2 * turns + 1, sum(n for n, _ in done))
    assert watcher.run(holder, fw, *ALL) is None
    assert watcher.run(enter, fw, "the next one") == 0
    assert get(d / "v.ldb")[:RECORD] == record_of(0, "the next one")
