#!/usr/bin/python3
"""Read a club of a store with its key: a second implementation of fs/FORMAT.md.

It exists to show that the document is complete: it was written from it alone, shares no code with the filesystem, and
needs nothing but Python's standard library and python3-cryptography.

    clubread.py STORE CLUB KEYFILE list            every path with kind, size and link text
    clubread.py STORE CLUB KEYFILE cat PATH        the contents of a file
    clubread.py STORE CLUB KEYFILE digest          every path with the SHA-256 of its contents and attributes

KEYFILE holds the 32 bytes of the club key.  Exit status 0; 1 if anything does not verify.
"""
import base64
import binascii
import hashlib
import os
import stat
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PAGE = 4096
FAN = 128
DIRECT = 100
SLOTS = 5
RECOVER = 1
REGION = [1]
for _ in range(SLOTS):
    REGION.append(1 + FAN * REGION[-1])


class Damage(Exception):
    """Something in the store is not what the key vouches for."""


def b64(text):
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise Damage("not canonical base64: " + text)
    return raw


def derive(key, label, ident, length):
    return HKDFExpand(hashes.SHA256(), length, label + b"\0" + ident).derive(key)


def gcm(key, nonce, data, tag, aad):
    try:
        return AESGCM(key).decrypt(nonce, data + tag, aad)
    except InvalidTag:
        raise Damage("a tag does not verify") from None


def place(index, level, slot, epoch):
    return struct.pack("<QBBHI", index, level, slot, 0, epoch)


class File:
    """One ciphertext file."""

    def __init__(self, path, club_key, kind=1, ident=None):
        self.f = open(path, "rb")
        size = os.fstat(self.f.fileno()).st_size
        page = self.page(0)
        (magic, version, got_kind, _compat, _ro, incompat, self.epoch, self.ident, self.parent, _gen, self.size,
         self.flags, self.xlen) = struct.unpack_from("<8s6I16s16sQQII", page)
        if magic != b"CLUBFILE" or version != 1 or incompat or got_kind != kind:
            raise Damage(path + ": not a file of this version")
        if ident is not None and ident != self.ident:
            raise Damage(path + ": belongs to another object")
        self.key = derive(club_key, b"clubfs xattr 1" if kind == 2 else b"clubfs file 1", self.ident, 32)
        gcm(self.key, page[4060:4072], b"", page[4072:4088], place(0, 255, 0, 0) + page[:4060])
        if size != self.cipher_size(self.size):
            raise Damage(path + ": was cut or lengthened")
        self.header = page

    def page(self, number, length=PAGE):
        self.f.seek(number * PAGE)
        data = self.f.read(length)
        if len(data) != length:
            raise Damage("file is too short")
        return data

    @staticmethod
    def find(block):
        """Its page, and the index pages above it as (page, entry, level, slot, index), from the top down."""
        if block < DIRECT:
            return 1 + block, []
        rel, page, slot = block - DIRECT, 1 + DIRECT, 1
        while rel >= FAN ** slot:
            rel -= FAN ** slot
            page += REGION[slot]
            slot += 1
        way, left = [], rel
        for level in range(slot, 0, -1):
            below = FAN ** (level - 1)
            way.append((page, left // below, level, slot, rel // FAN ** level))
            page += 1 + left // below * REGION[level - 1]
            left %= below
        return page, way

    def cipher_size(self, size):
        if size == 0:
            return PAGE
        last = (size - 1) // PAGE
        return self.find(last)[0] * PAGE + size - last * PAGE

    def block(self, number):
        """The plaintext of one block, at its own length."""
        length = min(PAGE, self.size - number * PAGE)
        page, way = self.find(number)
        if number < DIRECT:
            entry = self.header[288 + 32 * number:][:32]
        else:
            slot = way[0][3]
            entry = self.header[128 + 32 * (slot - 1):][:32]
            for at, child, level, slot, index in way:
                if entry == bytes(32):
                    return bytes(length)
                data = self.page(at)
                gcm(self.key, entry[:12], b"", entry[12:28], place(index, level, slot, self.epoch) + data)
                entry = data[32 * child:][:32]
        if entry == bytes(32):
            return bytes(length)
        return gcm(self.key, entry[:12], self.page(page, length), entry[12:28], place(number, 0, 0, self.epoch))

    def blocks(self):
        return (self.block(i) for i in range((self.size + PAGE - 1) // PAGE))

    def inline(self):
        entry = self.header[88:120]
        if self.xlen == 0:
            return b""
        return gcm(self.key, entry[:12], self.header[3488:3488 + self.xlen], entry[12:28],
                   place(0, 254, 0, self.epoch))


def attributes(data):
    out = {}
    while data:
        name, value = struct.unpack_from("<HI", data)
        out[data[6:6 + name]] = data[6 + name:6 + name + value]
        data = data[6 + name + value:]
    return out


class Club:
    def __init__(self, store, name, key):
        self.top = os.path.join(store, "clubs", name)
        self.key = key
        with open(os.path.join(self.top, "club"), "rb") as f:
            head = f.read()
        magic, version, _, _, _, incompat, self.epoch, ident = struct.unpack_from("<8sIIIIII16s", head)
        if len(head) != PAGE or magic != b"CLUBCLUB" or version != 1 or incompat & ~RECOVER:
            raise Damage("not a club of this version")
        if incompat & RECOVER:
            raise Damage("the club was not closed in order: what its journal holds has to be replayed first")
        gcm(derive(key, b"clubfs club 1", ident, 32), head[4060:4072], b"", head[4072:4088], head[:4060])
        self.siv = AESSIV(derive(key, b"clubfs name 1", ident, 64))

    def unseal(self, sealed, aad):
        try:
            return self.siv.decrypt(sealed, [aad])
        except InvalidTag:
            raise Damage("a name or target does not verify") from None

    def dirid(self, path):
        raw = b64(os.readlink(os.path.join(path, ".dirid")))
        version, epoch = struct.unpack_from("<BI", raw)
        if version != 1 or epoch != self.epoch:
            raise Damage(path + ": directory id of another version or epoch")
        return self.unseal(raw[5:], b"d" + struct.pack("<I", epoch))

    def entries(self, path):
        """(name, path in the store) of everything in a directory of the store."""
        ident = self.dirid(path)
        for enc in sorted(os.listdir(path)):
            if "." in enc:
                continue
            full = os.path.join(path, enc)
            sealed = b64(os.readlink(full + ".name") if enc.startswith("=") else enc)
            if enc.startswith("="):
                want = base64.urlsafe_b64encode(hashlib.sha256(sealed).digest()).rstrip(b"=").decode()
                if enc != "=" + want:
                    raise Damage(full + ": side-car of another name")
            yield self.unseal(sealed, b"n" + ident), full

    def walk(self, path=None, prefix=b""):
        """(plaintext path, path in the store, lstat) of everything below."""
        for name, full in self.entries(path or os.path.join(self.top, "tree")):
            st = os.lstat(full)
            yield prefix + name, full, st
            if stat.S_ISDIR(st.st_mode):
                yield from self.walk(full, prefix + name + b"/")

    def target(self, full):
        return self.unseal(b64(os.readlink(full)), b"s")

    def file(self, full):
        return File(full, self.key)

    def overflow(self, ident):
        name = base64.urlsafe_b64encode(ident).rstrip(b"=").decode()
        path = os.path.join(self.top, "xattr", name)
        return attributes(b"".join(File(path, self.key, 2, ident).blocks())) if os.path.exists(path) else {}

    def attributes(self, full, st):
        if stat.S_ISDIR(st.st_mode):
            return self.overflow(self.dirid(full))
        if not stat.S_ISREG(st.st_mode):
            return {}
        f = self.file(full)
        return self.overflow(f.ident) if f.flags & 1 else attributes(f.inline())


def shown(raw):
    return raw.decode("utf-8", "backslashreplace").replace("\n", "\\x0a")


def listing(club):
    for path, full, st in club.walk():
        kind = stat.filemode(st.st_mode)[0]
        size = club.file(full).size if kind == "-" else 0
        print(kind, size, shown(path), shown(club.target(full)) if kind == "l" else "", sep="\t")


def digests(club):
    for path, full, st in club.walk():
        h = hashlib.sha256()
        if stat.S_ISREG(st.st_mode):
            for block in club.file(full).blocks():
                h.update(block)
        elif stat.S_ISLNK(st.st_mode):
            h.update(club.target(full))
        for name, value in sorted(club.attributes(full, st).items()):
            h.update(b"\0" + name + b"=" + value)
        print(h.hexdigest(), shown(path), sep="\t")


def cat(club, wanted):
    for path, full, _ in club.walk():
        if path == os.fsencode(wanted):
            for block in club.file(full).blocks():
                sys.stdout.buffer.write(block)
            return
    raise Damage("no such path: " + wanted)


def main(argv):
    if len(argv) < 5 or argv[4] not in ("list", "cat", "digest") or (argv[4] == "cat") != (len(argv) == 6):
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[3], "rb") as f:
        key = f.read()
    try:
        club = Club(argv[1], argv[2], key)
        {"list": listing, "digest": digests}[argv[4]](club) if argv[4] != "cat" else cat(club, argv[5])
    except (Damage, OSError, binascii.Error, struct.error) as e:
        print("clubread:", e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
