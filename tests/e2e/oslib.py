"""System calls that Python's os module lacks, and small helpers for the tests of operations."""
import ctypes
import errno
import hashlib
import os
import random
import stat

PAGE = 4096
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
                            ctypes.c_uint]
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.opendir.restype = ctypes.c_void_p
for _name in ("closedir", "readdir", "telldir", "rewinddir"):
    getattr(_libc, _name).argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_libc.telldir.restype = ctypes.c_long
_libc.readdir.restype = ctypes.c_void_p
AT_FDCWD = -100


def _check(result, *what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *what)
    return result


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


class Dir:
    """opendir(3) and friends, with positions."""

    class Dirent(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64),
                    ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                    ("name", ctypes.c_char * 256)]

    def __init__(self, path):
        self.dir = _libc.opendir(os.fsencode(path))
        if not self.dir:
            _check(-1, path)

    def read(self):
        ctypes.set_errno(0)
        entry = _libc.readdir(self.dir)
        if not entry:
            if ctypes.get_errno():
                _check(-1)
            return None
        return ctypes.string_at(entry + Dir.Dirent.name.offset)

    def rest(self):
        return list(iter(self.read, None))

    def tell(self):
        return _libc.telldir(self.dir)

    def seek(self, position):
        _libc.seekdir(self.dir, position)

    def rewind(self):
        _libc.rewinddir(self.dir)

    def close(self):
        _libc.closedir(self.dir)


class fails:
    """with fails(errno.ENOENT): the block must end in exactly this error."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        wanted = "/".join(errno.errorcode[n] for n in self.numbers)
        assert kind is not None, f"expected {wanted}, but it succeeded"
        if not issubclass(kind, OSError):
            return False
        got = errno.errorcode.get(value.errno, value.errno)
        assert value.errno in self.numbers, f"expected {wanted}, got {got}: {value}"
        return True


def opened(path, flags=os.O_RDWR, mode=0o644):
    """For `with`: a descriptor in .fileno(), opened with these flags and closed at the end."""
    return os.fdopen(os.open(path, flags, mode), "rb", buffering=0)


def pattern(length, seed=0):
    """Bytes that differ everywhere and that a seed gives again."""
    return random.Random(f"{seed}/{length}").randbytes(length)


def put(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while len(view):
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


def pread(path, length, offset):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


def pwrite(path, data, offset):
    fd = os.open(path, os.O_WRONLY)
    try:
        assert os.pwrite(fd, data, offset) == len(data)
    finally:
        os.close(fd)


def describe(path):
    """Everything of one object that a user can see, as a comparable tuple."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content = xattrs = None
    if kind == stat.S_IFREG:
        content = hashlib.sha256(get(path)).hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        xattrs = tuple((n, os.getxattr(path, n)) for n in sorted(os.listxattr(path)))
    return (oct(st.st_mode), st.st_ino, st.st_nlink if kind != stat.S_IFDIR else None, st.st_uid,
            st.st_gid, st.st_rdev, st.st_size if kind != stat.S_IFDIR else None, st.st_mtime_ns,
            content, xattrs)


def describe_tree(top):
    top = os.fsencode(top)
    found = {b".": describe(top)}
    for parent, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, top)] = describe(path)
    return found


def data_map(path):
    """The data extents of a file as SEEK_DATA and SEEK_HOLE tell them: [(start, end), ...]."""
    extents = []
    fd = os.open(path, os.O_RDONLY)
    try:
        end = 0
        while True:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO
                return extents
            end = os.lseek(fd, start, os.SEEK_HOLE)
            assert end > start
            extents.append((start, end))
    finally:
        os.close(fd)
