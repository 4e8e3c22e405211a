"""A tree of 2,000 files goes in and comes back byte for byte; rsync and tar are the judges.

The tree is full of markers, and none of them may be found by a byte search over the store.
"""
import os
import random
import re
import socket
import subprocess

import pytest

import clubsite

NFILES = 2000
# In every name, file, symlink target and xattr of the tree.
MARKER = "Ehrungsakte"
SPELLINGS = [MARKER.encode(e) for e in ("utf-8", "utf-16-le", "utf-16-be")]
MAYBE_OWNERS = [(0, 0), (1000, 1000), (1001, 100), (clubsite.NOBODY, clubsite.NOBODY)]


class Tree:
    """Makes the tree at @top.  The same seed makes the same tree."""

    def __init__(self, top, seed=2026):
        self.top, self.rnd = top, random.Random(seed)
        self.dirs, self.files, self.others, self.count = [top], [], [], 0

    def name(self):
        """A new path in one of the directories, with the kinds of names that people use."""
        self.count += 1
        odd = self.rnd.choice(["", " mit Leerzeichen", "-Präsidium", "'quoted\"", ".mdb~", "日本"])
        name = f"{MARKER}{odd} {self.count}"
        if self.count % 300 == 0:
            name = "-" + name
        if self.count % 250 == 0:       # as long as names get: 255 bytes
            name += "ä" * ((254 - len(name.encode())) // 2)
            name += "b" * (255 - len(name.encode()))
        return os.path.join(self.rnd.choice(self.dirs), name)

    def content(self, size):
        words = [f"{MARKER} {i:06d}; ".encode() for i in range(0, 64)]
        plain = b"".join(self.rnd.choice(words) for _ in range(size // 20 + 1))
        noise = self.rnd.randbytes(size // 2)
        return (plain[:size - len(noise)] + noise)[:size]

    def dir(self):
        path = self.name()
        os.mkdir(path)
        self.dirs.append(path)

    def file(self):
        """Sizes around all borders: empty, one byte, block and page ends, the direct entries."""
        size = self.rnd.choice([0, 1, 11, 4095, 4096, 4097, 8192, self.rnd.randrange(20000),
                                self.rnd.randrange(20000)])
        if self.count % 97 == 0:
            size = self.rnd.choice([409600, 409601, 524288, 1 << 20, 1300000])
        path = self.name()
        with open(path, "xb") as f:
            f.write(self.content(size))
        self.files.append(path)

    def sparse(self, offsets, size):
        path = self.name()
        with open(path, "xb") as f:
            for at in offsets:
                f.seek(at)
                f.write(self.content(5000))
            f.truncate(size)
        self.files.append(path)

    def special(self):
        """What is neither file nor directory."""
        for i in range(40):
            target = self.rnd.choice(self.files)
            self.others.append(self.name())
            os.symlink([target, f"../{MARKER}/nowhere", f"{MARKER}{i}" + "x" * 900][i % 3],
                       self.others[-1])
        for _ in range(30):
            os.link(self.rnd.choice(self.files), self.name())
        self.others.append(self.name())
        os.mkfifo(self.others[-1])
        with socket.socket(socket.AF_UNIX) as s:
            self.others.append(os.path.join(self.top, f"{MARKER}.sock"))
            folder, name = os.path.split(self.others[-1])
            here = os.open(folder, os.O_RDONLY)     # the whole path is too long for a socket
            s.bind(f"/proc/self/fd/{here}/{name}")
            os.close(here)
        if os.geteuid() == 0:
            self.others.append(self.name())
            os.mknod(self.others[-1], 0o20600, os.makedev(1, 3))

    def attributes(self):
        for path in self.files + self.dirs[1:]:
            if os.geteuid() == 0:
                os.chown(path, *self.rnd.choice(MAYBE_OWNERS))
            isdir = os.path.isdir(path)
            os.chmod(path, self.rnd.choice([0o755, 0o1777, 0o2750] if isdir else
                                           [0o644, 0o600, 0o444, 0o4755, 0o2711, 0o640]))
            if self.rnd.random() < 0.2:
                os.setxattr(path, f"user.{MARKER}.a", f"{MARKER} {path}".encode())
                os.setxattr(path, "user.DOSATTRIB", self.rnd.randbytes(40))
                os.setxattr(path, "user.empty", b"")
        for path in self.others:        # rsync copies these times in whole seconds only
            os.utime(path, (10 ** 9, self.rnd.randrange(10 ** 9)), follow_symlinks=False)
        for path in [*self.files, *reversed(self.dirs)]:
            atime, mtime = (self.rnd.randrange(10 ** 9, 2 * 10 ** 18) for _ in range(2))
            os.utime(path, ns=(atime, mtime))

    def make(self):
        for i in range(NFILES):
            if i % 40 == 0:
                self.dir()
            self.file()
        self.sparse([0], 24 << 20)
        self.sparse([3 << 20, 20 << 20], 32 << 20)
        self.sparse([], 200 << 20)
        self.special()
        self.attributes()
        return self


def run(*argv, **more):
    return subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace",
                          **more)


def copy_in(source, target):
    done = run("rsync", "-aHXS", f"{source}/", f"{target}/")
    assert done.returncode == 0, done.stderr


def differences(source, target):
    """What two judges say about two trees that should be the same: every line they print."""
    judged = run("rsync", "-aHXn", "--checksum", "--delete", "--itemize-changes",
                 "--modify-window=-1", f"{source}/", f"{target}/")
    assert judged.returncode == 0, judged.stderr
    tar = subprocess.Popen(["tar", "-C", source, "--sparse", "-cf", "-", "."],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    compared = run("tar", "-C", target, "--compare", "-f", "-", stdin=tar.stdout)
    tar.stdout.close()
    assert tar.wait() == 0
    said = judged.stdout.splitlines() + (compared.stdout + compared.stderr).splitlines()
    return [line[:200] for line in said]


def entries(top):
    """Every path below @top, links not followed."""
    for folder, dirs, names in os.walk(os.fsencode(top)):
        for name in dirs + names:
            yield os.path.join(folder, name)


def texts_on_disk(top):
    """(what, bytes) for everything that the disk holds below @top."""
    for path in entries(top):
        yield "name", os.path.basename(path)
        for attr in os.listxattr(path, follow_symlinks=False):
            yield "xattr name", attr.encode()
            yield "xattr value", os.getxattr(path, attr, follow_symlinks=False)
        if os.path.islink(path):
            yield "symlink target", os.readlink(path)
        elif os.path.isfile(path) and os.stat(path).st_blocks * 512 < 256 << 20:
            with open(path, "rb") as f:
                yield "content", holes_skipped(f)


def holes_skipped(f):
    """The data of a file without its holes."""
    parts, at, end = [], 0, os.fstat(f.fileno()).st_size
    while at < end:
        try:
            at = os.lseek(f.fileno(), at, os.SEEK_DATA)
        except OSError:
            break
        stop = os.lseek(f.fileno(), at, os.SEEK_HOLE)
        parts.append(os.pread(f.fileno(), stop - at, at))
        at = stop
    return b"\0".join(parts)


def found(top, spellings):
    """The kinds of places below @top that hold one of the @spellings."""
    search = re.compile(b"|".join(re.escape(s) for s in spellings))
    return {what for what, text in texts_on_disk(top) if search.search(text)}


@pytest.fixture
def source(site):
    path = site.mkdir("source")
    return Tree(path).make()


def test_a_tree_of_2000_files_comes_back_byte_for_byte(site, keyd, source):
    store = site.store("alpha")
    mnt = site.mount(store)
    club = mnt.join("alpha")
    copy_in(source.top, club)
    assert differences(source.top, club) == []
    mnt.umount()

    mnt = site.mount(store)     # now nothing comes from a cache
    assert differences(source.top, club) == []
    for path in source.files[-3:]:
        there = os.stat(os.path.join(club, os.path.relpath(path, source.top)))
        assert there.st_blocks * 512 < 1 << 20, f"{path} is not sparse any more"

    # The judges are awake: each of these is one change, and each is seen.
    some = os.path.relpath(source.files[5], source.top)
    here, there = (os.path.dirname(os.path.join(t, some)) for t in (source.top, club))
    some = os.path.join(club, some)
    before = os.stat(some)
    os.chmod(some, before.st_mode ^ 0o001)
    assert differences(here, there) != []
    os.chmod(some, before.st_mode)
    os.utime(some, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert differences(here, there) != []
    os.utime(some, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.setxattr(some, "user.more", b"1")
    assert differences(here, there) != []


def test_no_plaintext_content_or_name_is_in_the_store(site, keyd, source):
    # What Windows programs write: the marker in UTF-16, in a file of its own.
    for i, spelling in enumerate(SPELLINGS):
        with open(os.path.join(source.top, f"{MARKER}-utf-{i}"), "wb") as f:
            f.write(b"\0" * 5000 + spelling)
    kinds = {"name", "content", "symlink target", "xattr name", "xattr value"}
    assert found(source.top, SPELLINGS) == kinds        # the search does find
    for spelling in SPELLINGS:
        assert "content" in found(source.top, [spelling])

    store = site.store("alpha")
    mnt = site.mount(store)
    club = mnt.join("alpha")
    copy_in(source.top, club)
    with open(os.path.join(club, f"{MARKER}-deleted"), "wb") as f:
        f.write(MARKER.encode() * 1000)
    os.sync()
    assert found(store, SPELLINGS) == set()
    os.unlink(os.path.join(club, f"{MARKER}-deleted"))
    mnt.umount()
    assert found(store, SPELLINGS) == set()
    assert found(site.path("state"), SPELLINGS) == set()
