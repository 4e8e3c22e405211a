"""Key files and backups of clubkeyd, read and written by a second implementation.

From keyd/keyfile.h, keyd/backup.h and keyd/PROTOCOL.md, with Python's `cryptography`.
"""
import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER = struct.Struct("<8sII16s16sI200sI")     # magic version count store club name_len name gen
ENTRY = struct.Struct("<IIQQ8x")                # epoch state created changed
STATES = ["", "pre-active", "active", "suspended", "deactivated", "compromised", "destroyed"]


def derive(key, salt, info):
    return HKDF(SHA256(), 32, salt, info).derive(key)


class KeyFile:
    """One file, decoded: .name .version .generation .store_id .club_id .entries"""

    def __init__(self, raw):
        magic, self.version, count, self.store_id, self.club_id, size, name, self.generation = \
            HEADER.unpack_from(raw)
        assert magic == b"CLUBKEY\0" and len(raw) == 256 + 128 * count
        self.name = name[:size].decode()
        self.raw = bytes(raw)
        self.entries = []
        for i in range(count):
            part = raw[256 + 128 * i:384 + 128 * i]
            epoch, state, created, changed = ENTRY.unpack_from(part)
            self.entries.append({"epoch": epoch, "state": STATES[state], "created": created,
                                 "changed": changed, "head": part[:32], "salt": part[32:64],
                                 "nonce": part[64:76], "box": part[80:128]})

    def _aad(self, entry):
        head = self.raw[:256]
        if self.version == 1:
            head = head[:12] + bytes(4) + head[16:]
        return head + entry["head"]

    def keys(self, master):
        """{epoch: key}"""
        return {e["epoch"]: AESGCM(derive(master, e["salt"], b"clubkeyd wrap 1")).decrypt(
            e["nonce"], e["box"], self._aad(e)) for e in self.entries}


def make(master, name, club_id, key, version=1, generation=0):
    """A file with one active key of epoch 1."""
    raw = name.encode()
    head = HEADER.pack(b"CLUBKEY\0", version, 1, bytes(16), club_id, len(raw), raw, generation)
    entry = ENTRY.pack(1, 2, 1700000000, 1700000000)
    salt, nonce = b"s" * 32, b"n" * 12
    aad = (head[:12] + bytes(4) + head[16:] if version == 1 else head) + entry
    box = AESGCM(derive(master, salt, b"clubkeyd wrap 1")).encrypt(nonce, key, aad)
    return head + entry + salt + nonce + bytes(4) + box


def load(path):
    with open(path, "rb") as f:
        return KeyFile(f.read())


def name_hash(name):
    """How the index calls a club."""
    return hashlib.sha256(name.encode()).digest()
