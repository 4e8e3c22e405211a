"""A second implementation, written from fs/FORMAT.md alone, reads what the filesystem wrote."""
import hashlib
import os
import stat
import subprocess
import sys

import keydproto

READER = os.path.join(os.path.dirname(__file__), "..", "reader", "clubread.py")


def fill(top):
    os.makedirs(os.path.join(top, "Ehrungen", "tief", "tiefer"))
    sizes = [0, 1, 4095, 4096, 4097, 400 * 1024, 400 * 1024 + 1, 932 * 1024 + 5, 3 << 20]
    for size in sizes:
        with open(os.path.join(top, f"datei {size}"), "wb") as f:
            f.write(os.urandom(size))
    with open(os.path.join(top, "sparse"), "wb") as f:
        f.write(b"begin")
        f.seek(70 << 20)
        f.write(b"end")
    for i, length in enumerate((175, 176, 255)):
        with open(os.path.join(top, "Ehrungen", "n" * length), "wb") as f:
            f.write(bytes([i]))
    with open(os.path.join(top, "Ehrungen", "=.name\n-ä"), "wb") as f:
        f.write(b"odd")
    os.symlink("../datei 1", os.path.join(top, "Ehrungen", "link"))
    os.symlink("z" * 3055, os.path.join(top, "Ehrungen", "long link"))
    os.link(os.path.join(top, "datei 1"), os.path.join(top, "Ehrungen", "tief", "zweiter Name"))
    os.mkfifo(os.path.join(top, "fifo"))
    os.setxattr(os.path.join(top, "datei 1"), "user.small", b"x" * 100)
    os.setxattr(os.path.join(top, "datei 4096"), "user.big", b"y" * 20000)
    os.setxattr(os.path.join(top, "Ehrungen"), "user.dir", b"of a directory")


def expected(top):
    """What `clubread.py digest` should print, as a dictionary."""
    out = {}
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            h = hashlib.sha256()
            if stat.S_ISLNK(st.st_mode):
                h.update(os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    while chunk := f.read(1 << 20):
                        h.update(chunk)
            if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
                for attr in sorted(os.listxattr(path)):
                    h.update(b"\0" + attr.encode() + b"=" + os.getxattr(path, attr))
            out[os.path.relpath(path, top).replace("\n", "\\x0a")] = h.hexdigest()
    return out


def club_key(keyd, store, club, path):
    with open(os.path.join(store, "clubs", club, "club"), "rb") as f:
        club_id = f.read()[32:48]
    with keydproto.Client(keyd.run) as client:
        answer = client.get(club, club_id, uid=os.getuid())
    assert answer["type"] == "KEY", answer
    with open(path, "wb") as f:
        f.write(answer["key"])
    return path


def read(*args):
    return subprocess.run([sys.executable, READER, *args], capture_output=True, text=True,
                          errors="surrogateescape",
                          check=False, timeout=120)


def test_the_format_is_documented_completely(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    top = mnt.join("alpha")
    fill(top)
    want = expected(top)
    mnt.umount()
    key = club_key(keyd, store, "alpha", site.path("key"))
    done = read(store, "alpha", key, "digest")
    assert done.returncode == 0, done.stderr
    got = {path: digest for digest, path in
           (line.split("\t") for line in done.stdout.splitlines())}
    assert got == want and len(got) > 20
    listed = read(store, "alpha", key, "list")
    assert listed.returncode == 0 and f"-\t{3 << 20}\tdatei {3 << 20}" in listed.stdout
    assert read(store, "alpha", key, "cat", "Ehrungen/tief/zweiter Name").returncode == 0


def test_the_reader_does_not_believe_damage(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    with open(mnt.join("alpha", "f"), "wb") as f:
        f.write(os.urandom(1 << 20))
    ino = os.stat(mnt.join("alpha", "f")).st_ino
    mnt.umount()
    key = club_key(keyd, store, "alpha", site.path("key"))
    tree = os.path.join(store, "clubs", "alpha", "tree")
    path, = (e.path for e in os.scandir(tree) if e.inode() == ino)
    assert read(store, "alpha", key, "digest").returncode == 0
    for offset in (100, 300, 4096, 101 * 4096 + 7, 900000):
        with open(path, "r+b") as f:
            f.seek(offset)
            was = f.read(1)
            f.seek(offset)
            f.write(bytes([was[0] ^ 1]))
        done = read(store, "alpha", key, "digest")
        assert done.returncode == 1 and "verify" in done.stderr, offset
        with open(path, "r+b") as f:
            f.seek(offset)
            f.write(was)
    assert read(store, "alpha", key, "digest").returncode == 0
    with open(site.path("other"), "wb") as f:
        f.write(bytes(32))
    assert read(store, "alpha", site.path("other"), "list").returncode == 1


def test_the_reader_leaves_an_open_club_alone(site, keyd):
    store = site.store("alpha")
    mnt = site.mount(store)
    fill(mnt.join("alpha"))
    want = expected(mnt.join("alpha"))
    key = club_key(keyd, store, "alpha", site.path("key"))
    done = read(store, "alpha", key, "digest")
    assert done.returncode == 1 and "not closed in order" in done.stderr
    mnt.expect_status = None
    mnt.proc.kill()
    mnt.umount([])
    done = read(store, "alpha", key, "digest")
    assert done.returncode == 1 and "not closed in order" in done.stderr
    again = site.mount(store, name="again")
    assert expected(again.join("alpha")) == want
    again.umount()
    done = read(store, "alpha", key, "digest")
    assert done.returncode == 0, done.stderr
    assert {path: digest for digest, path in
            (line.split("\t") for line in done.stdout.splitlines())} == want
