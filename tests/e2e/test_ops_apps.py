"""What programs do with a mount: databases, threads, two clubs, and everything over a remount."""
import errno
import glob
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import threading

import pytest

from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import (PAGE, RENAME_EXCHANGE, KEEP_SIZE, PUNCH_HOLE, describe_tree, fails, fallocate,
                   get, pattern, put, renameat2)

ACCESS_FILES = os.environ.get("ACCESS_FILES") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../../shared/data/access")


##### Everything is still there after a remount

def make_everything(top):
    """One of everything that a club can hold."""
    for name, size in (("empty", 0), ("small", 10), ("page", PAGE), ("direct", 100 * PAGE),
                       ("indirect", 101 * PAGE + 5), ("big", 300 * PAGE)):
        put(top / name, pattern(size, name))
    os.makedirs(top / "a" / "b" / "c")
    put(top / "a" / "b" / "c" / ("ü" * 127), b"long name")
    os.mkdir(top / ("d" * 255))
    put(top / ("d" * 255) / "inside", b"in a long directory")
    os.link(top / "small", top / "a" / "hard link")
    os.link(top / "small", top / ("h" * 240))
    os.symlink("../small", top / "a" / "symlink")
    os.symlink("x" * 3055, top / ("s" * 250))
    os.mkfifo(top / "fifo", 0o620)
    fd = os.open(top / "sparse", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"island", 50 * PAGE + 7)
    os.pwrite(fd, pattern(3 * PAGE), 500 * PAGE)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 501 * PAGE, PAGE)
    os.ftruncate(fd, 1000 * PAGE + 1)
    os.close(fd)
    for path in (top / "small", top / "a", top / "big", top / ("d" * 255)):
        os.setxattr(path, "user.note", os.fsencode(path.name))
        os.setxattr(path, "user.empty", b"")
    os.chmod(top / "page", 0o4711)
    os.chmod(top / "a" / "b", 0o1770)
    if os.geteuid() == 0:
        os.setxattr(top / "small", "trusted.t", b"for root")
        os.mknod(top / "device", 0o20640, os.makedev(7, 77))
        os.chown(top / "direct", 1234, 5678)
        os.chown(top / "a" / "symlink", 1234, 5678, follow_symlinks=False)
    for i, path in enumerate((top / "a" / "b" / "c", top / "a", top / "small", top / "fifo",
                              top / "a" / "symlink")):
        os.utime(path, ns=(10**18 + i, 10**18 + 7 * i), follow_symlinks=False)


def test_everything_survives_a_remount(place, d):
    make_everything(d)
    before = describe_tree(d)
    assert len(before) >= 20
    place.remount()
    assert describe_tree(d) == before


def test_changes_of_an_existing_tree_survive_a_remount(place, d):
    make_everything(d)
    place.remount()
    os.rename(d / "a" / "b", d / "moved")
    renameat2(d / "small", d / ("d" * 255), RENAME_EXCHANGE)
    os.unlink(d / ("h" * 240))
    os.truncate(d / "big", 150 * PAGE + 3)
    put(d / "page", b"now short")
    with open(d / "indirect", "ab") as f:
        f.write(pattern(3 * PAGE))
    os.removexattr(d / "a", "user.note")
    os.rename(d / ("s" * 250), d / "short again")
    shutil.rmtree(d / "moved" / "c")
    before = describe_tree(d)
    place.remount()
    assert describe_tree(d) == before
    assert get(d / "indirect") == pattern(101 * PAGE + 5, "indirect") + pattern(3 * PAGE)


def test_unlinked_open_files_leave_nothing_behind(place, d):
    fds = [os.open(d / f"f{i}", os.O_CREAT | os.O_RDWR) for i in range(20)]
    for i, fd in enumerate(fds):
        os.write(fd, pattern(2 * PAGE))
        os.unlink(d / f"f{i}")
    for fd in fds:
        os.close(fd)
    place.remount()
    assert os.listdir(d) == []
    os.rmdir(d)


##### Two clubs

def test_clubs_do_not_mix(place):
    alpha, beta = place.club("alpha"), place.club("beta")
    put(alpha / "same name", b"alpha's")
    put(beta / "same name", b"beta's")
    assert (get(alpha / "same name"), get(beta / "same name")) == (b"alpha's", b"beta's")
    assert os.stat(alpha / "same name").st_ino != os.stat(beta / "same name").st_ino
    os.unlink(alpha / "same name")
    assert get(beta / "same name") == b"beta's"
    if place.plain:
        pytest.skip("two directories are not two clubs")
    put(alpha / "f", b"x")
    for action in (lambda: os.rename(alpha / "f", beta / "f"),
                   lambda: os.link(alpha / "f", beta / "f"),
                   lambda: renameat2(alpha / "f", beta / "same name", RENAME_EXCHANGE)):
        with fails(errno.EXDEV):
            action()
    shutil.move(alpha / "f", beta / "moved by copying")
    assert get(beta / "moved by copying") == b"x"


def test_root_of_the_mount_shows_the_clubs_and_takes_nothing(place):
    if place.plain:
        pytest.skip("there is no mount")
    assert sorted(os.listdir(place.root)) == ["alpha", "beta"]
    for action in (lambda: put(place.root / "f"), lambda: os.mkdir(place.root / "new"),
                   lambda: os.rmdir(place.root / "beta"),
                   lambda: os.rename(place.root / "beta", place.root / "gamma"),
                   lambda: os.symlink("alpha", place.root / "link"),
                   lambda: os.unlink(place.root / "alpha")):
        with fails(errno.EPERM, errno.EACCES, errno.EROFS, errno.EISDIR, errno.EBUSY,
                   errno.ENOTSUP):
            action()
    with fails(errno.ENOENT):
        os.stat(place.root / "gamma")
    assert sorted(os.listdir(place.root)) == ["alpha", "beta"]


##### Databases

def sql(path, *statements):
    done = subprocess.run(["sqlite3", "-batch", path], input=";\n".join(statements) + ";\n",
                          text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite(place, d, journal):
    db = d / "Mitglieder.sqlite"
    assert sql(db, f"PRAGMA journal_mode={journal}")[-1] == journal
    con = sqlite3.connect(db, timeout=30, isolation_level=None)
    con.execute("CREATE TABLE member(id INTEGER PRIMARY KEY, name TEXT, photo BLOB)")
    rnd = random.Random(journal)
    for batch in range(10):
        con.execute("BEGIN")
        con.executemany("INSERT INTO member(name, photo) VALUES(?, ?)",
                        [(f"Müller {batch}/{i}", rnd.randbytes(rnd.randrange(6000)))
                         for i in range(50)])
        con.execute("COMMIT")
        con.execute("BEGIN")
        con.execute("DELETE FROM member WHERE id % 7 = ?", (batch % 7,))
        con.execute("ROLLBACK" if batch % 2 else "COMMIT")
    con.execute("CREATE INDEX by_name ON member(name)")
    want = con.execute("SELECT id, name, photo FROM member ORDER BY id").fetchall()
    assert len(want) > 100
    other = sqlite3.connect(db, timeout=30)
    assert other.execute("SELECT id, name, photo FROM member ORDER BY id").fetchall() == want
    other.close()
    con.execute("VACUUM")
    con.close()
    place.remount()
    assert sql(db, "PRAGMA integrity_check") == ["ok"]
    con = sqlite3.connect(db)
    assert con.execute("SELECT id, name, photo FROM member ORDER BY id").fetchall() == want
    con.close()


def test_sqlite_writers_keep_each_other_out(d):
    """Locks: of two processes that count, none loses a step."""
    db = d / "count.sqlite"
    sql(db, "CREATE TABLE n(v INTEGER)", "INSERT INTO n VALUES(0)")
    step = "BEGIN IMMEDIATE; UPDATE n SET v = v + 1; COMMIT;\n"
    procs = [subprocess.Popen(["sqlite3", "-batch", "-cmd", ".timeout 60000", db],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
             for _ in range(3)]
    threads = [threading.Thread(target=p.communicate, args=(step * 60,)) for p in procs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(100)
    assert [p.wait(10) for p in procs] == [0, 0, 0]
    assert sql(db, "SELECT v FROM n", "PRAGMA integrity_check") == ["180", "ok"]


def mdb(*argv):
    done = subprocess.run(argv, capture_output=True, timeout=120, check=False,
                          env=dict(os.environ, MDBICONV="UTF-8"))
    return done.returncode, done.stdout


def access_samples():
    return sorted(glob.glob(os.path.join(ACCESS_FILES, "*.mdb")) +
                  glob.glob(os.path.join(ACCESS_FILES, "*.accdb")))


def test_access_databases_read_the_same(place, d):
    samples = access_samples()
    if not samples:
        pytest.skip(f"no Access databases in {ACCESS_FILES} (ACCESS_FILES names the directory)")
    for sample in samples:
        shutil.copy(sample, d)
    place.remount()
    tables = rows = 0
    for sample in samples:
        here = d / os.path.basename(sample)
        assert get(here) == get(sample)
        code, names = mdb("mdb-tables", "-1", sample)
        assert mdb("mdb-tables", "-1", here) == (code, names)
        for table in names.decode().splitlines():
            code, text = mdb("mdb-export", sample, table)
            assert mdb("mdb-export", here, table) == (code, text)
            tables += 1
            rows += text.count(b"\n")
    assert tables >= 10 and rows >= 30


##### Many at once

def run_threads(*works):
    """Run them all together; the first exception of any is raised here."""
    errors = []

    def guard(work):
        try:
            work()
        except BaseException as e:      # pylint: disable=broad-except
            errors.append(e)
    threads = [threading.Thread(target=guard, args=(w,)) for w in works]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_threads_in_files_of_their_own(d):
    def work(n):
        def run():
            rnd = random.Random(n)
            model = bytearray()
            fd = os.open(d / f"f{n}", os.O_CREAT | os.O_RDWR)
            for _ in range(150):
                offset, data = rnd.randrange(150 * PAGE), rnd.randbytes(rnd.randrange(1, 3 * PAGE))
                if len(model) < offset + len(data):
                    model.extend(bytes(offset + len(data) - len(model)))
                model[offset:offset + len(data)] = data
                assert os.pwrite(fd, data, offset) == len(data)
                at = rnd.randrange(len(model))
                assert os.pread(fd, 5000, at) == model[at:at + 5000]
            os.close(fd)
            assert get(d / f"f{n}") == model
        return run
    run_threads(*[work(n) for n in range(6)])


def test_threads_in_one_file(place, d):
    """Writers in ranges of their own that share blocks, while readers look on."""
    width, writers = 1000, 4
    put(d / "f", bytes(width * writers * 40))
    done = threading.Event()

    def writer(n):
        def run():
            fd = os.open(d / "f", os.O_RDWR)
            for turn in range(3):
                for i in range(40):
                    os.pwrite(fd, bytes([16 * (turn + 1) + n]) * width, (i * writers + n) * width)
            os.close(fd)
        return run

    def reader():
        fd = os.open(d / "f", os.O_RDONLY)
        while not done.is_set():
            data = os.pread(fd, 1 << 20, 0)
            for i, value in enumerate(data):
                if i % 97 == 0:
                    assert value == 0 or value & 15 == i // width % writers
        os.close(fd)

    def writers_then_done():
        try:
            run_threads(*[writer(n) for n in range(writers)])
        finally:
            done.set()
    run_threads(writers_then_done, reader, reader)
    want = b"".join(bytes([48 + n]) * width for n in range(writers)) * 40
    assert get(d / "f") == want
    place.remount()
    assert get(d / "f") == want


def test_truncate_races_with_writes(d):
    """What is read is a written byte or zero, and the file stays readable."""
    put(d / "f")
    done = threading.Event()

    def writer():
        fd = os.open(d / "f", os.O_WRONLY)
        for i in range(300):
            os.pwrite(fd, b"w" * 6000, i * 3331 % 100_000)
        os.close(fd)
        done.set()

    def cutter():
        while not done.is_set():
            os.truncate(d / "f", random.randrange(100_000))

    def reader():
        fd = os.open(d / "f", os.O_RDONLY)
        while not done.is_set():
            assert set(os.pread(fd, 100_000, 0)) <= set(b"w\0")
        os.close(fd)
    run_threads(writer, cutter, reader)
    assert set(get(d / "f")) <= set(b"w\0")


def test_threads_in_one_directory(d):
    """Create, rename, list and unlink at once: nothing is lost and nothing comes twice."""
    def work(n):
        def run():
            for i in range(100):
                put(d / f"{n}-{i}", f"{n}-{i}".encode())
                os.rename(d / f"{n}-{i}", d / f"{n}+{i}")
                if i % 10 == 0:
                    names = os.listdir(d)
                    assert len(names) == len(set(names))
                if i % 2:
                    os.unlink(d / f"{n}+{i}")
        return run
    run_threads(*[work(n) for n in range(5)])
    assert sorted(os.listdir(d)) == sorted(f"{n}+{i}" for n in range(5) for i in range(0, 100, 2))
    for name in os.listdir(d):
        assert get(d / name) == name.replace("+", "-").encode()


def test_rename_over_is_atomic_for_readers(d):
    """An office program saves by renaming over: a reader finds the old or the new, always whole."""
    put(d / "doc", b"0" * 9000)
    done = threading.Event()

    def saver():
        try:
            for i in range(1, 120):
                put(d / "tmp", str(i % 10).encode() * 9000)
                os.rename(d / "tmp", d / "doc")
        finally:
            done.set()

    def reader():
        while not done.is_set():
            data = get(d / "doc")
            assert len(data) == 9000 and len(set(data)) == 1
    run_threads(saver, reader, reader)


def test_directories_moved_by_threads(d):
    """Renames across each other must not lock each other up."""
    for name in "abcd":
        os.makedirs(d / name / "sub")
        put(d / name / "sub" / name, name.encode())
    stop = threading.Event()

    def mover(n):
        def run():
            rnd = random.Random(n)
            for _ in range(150):
                a, b = rnd.sample("abcd", 2)
                try:
                    os.rename(d / a / "sub", d / b / f"sub{n}")
                    os.rename(d / b / f"sub{n}", d / a / "sub")
                except (FileNotFoundError, OSError) as e:
                    assert e.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
            stop.set()
        return run
    run_threads(*[mover(n) for n in range(4)])
    leaves = sorted(p.name for p in pathlib.Path(d).rglob("*") if p.is_file())
    assert leaves == ["a", "b", "c", "d"]


def test_tools_of_every_day(place, d):
    """cp, tar, sed -i, find, du, rm: with the options that people use."""
    def sh(script):
        done = subprocess.run(["bash", "-ec", script], cwd=d, capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    make_everything(d)
    sh("rm -f fifo device; mkdir ../copy-$$; cp -a . ../copy-$$; diff -r --no-dereference . ../copy-$$;"
       "rm -r ../copy-$$")
    sh("tar --sparse --xattrs -cf /dev/null .; tar -cf sub.tar small big; mkdir x;"
       "tar -xf sub.tar -C x; cmp big x/big")
    sh("printf 'one\\ntwo\\n' >t; sed -i s/two/three/ t; echo four >>t")
    assert get(d / "t") == b"one\nthree\nfour\n"
    assert sh("find . -name 'indirect' -size +400k").split() == ["./indirect"]
    assert int(sh("du -sk .").split()[0]) > 2000
    sh("dd if=big of=copy bs=1000 2>/dev/null; cmp big copy; truncate -s 5 copy; stat copy")
    sh("flock t true; touch -r big t; [ ! t -nt big ]; ln -sfn small t; mv -T x y; rm -rf y")
    place.remount()
    sh("rm -rf ./*; [ -z \"$(ls -A)\" ]")
