"""A client of the SMB 2.1 protocol for the tests: what no packaged client offers are locks on
byte ranges, and several clients in one program whose every step a test can order.

It comes as a guest, signs nothing and waits for each answer.  Numbers and layouts are those of
the published [MS-SMB2] and [MS-NLMP].
"""
import os
import socket
import struct

NEGOTIATE, SESSION_SETUP, TREE_CONNECT = 0, 1, 3
CREATE, CLOSE, FLUSH, READ, WRITE, LOCK = 5, 6, 7, 8, 9, 10
QUERY_INFO, SET_INFO = 16, 17
PENDING, MORE_PROCESSING = 0x103, 0xC0000016
NOT_GRANTED, NOT_LOCKED = 0xC0000055, 0xC000007E
END_OF_FILE, DENIED, DELETE_PENDING = 0xC0000011, 0xC0000022, 0xC0000056
SHARED, EXCLUSIVE, UNLOCK, AT_ONCE = 1, 2, 4, 16
READ_ONLY, HIDDEN, SYSTEM, ARCHIVE = 1, 2, 4, 32
ALL_ACCESS = 0x02000000         # as much as is allowed
READ_DATA, FULL = 0x00120089, 0x001F01FF
OPEN, OPEN_IF = 1, 3
DIRECTORY, DELETE_ON_CLOSE = 1, 0x1000
FILE_INFO, SECURITY_INFO, BASIC = 1, 3, 4
DACL = 4


class SmbError(Exception):
    def __init__(self, status):
        super().__init__(f"NT status {status:#010x}")
        self.status = status


class refuses:
    """with refuses(NOT_GRANTED): the block must end in exactly this status."""

    def __init__(self, status):
        self.status = status

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        assert kind is not None, f"expected {self.status:#x}, but it succeeded"
        if not issubclass(kind, SmbError):
            return False
        assert value.status == self.status, f"expected {self.status:#x}, got {value}"
        return True


class Client:
    """One connection, one guest's session, one share."""

    def __init__(self, port, share):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.message = self.session = self.tree = 0
        self._call(NEGOTIATE, struct.pack("<HHHHI16sQH", 36, 1, 1, 0, 0, os.urandom(16), 0, 0x0210))
        flags = 0x00080A05      # Unicode, target, NTLM, anonymous, extended security
        self._setup(b"NTLMSSP\0" + struct.pack("<II16x", 1, flags))
        fields = struct.pack("<HHI", 1, 1, 64) + struct.pack("<HHI", 0, 0, 65) * 5
        self._setup(b"NTLMSSP\0" + struct.pack("<I", 3) + fields + struct.pack("<I", flags) + b"\0")
        path = f"\\\\127.0.0.1\\{share}".encode("utf-16-le")
        self._call(TREE_CONNECT, struct.pack("<HHHH", 9, 0, 72, len(path)) + path)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise ConnectionError("the server has closed the connection")
            data += more
        return data

    def _call(self, command, body, allowed=(0,)):
        """Send one request; the body of its answer, which begins 64 bytes into the message."""
        header = struct.pack("<4sHHIHHIIQIIQ16x", b"\xfeSMB", 64, 1, 0, command, 64, 0, 0,
                             self.message, 0xFEFF, self.tree, self.session)
        self.sock.sendall(struct.pack(">I", len(header) + len(body)) + header + body)
        wanted, self.message = self.message, self.message + 1
        while True:
            data = self._exactly(struct.unpack(">I", self._exactly(4))[0])
            status, answered = struct.unpack_from("<8xI12xQ", data)
            if answered == wanted and status != PENDING:
                break
        if status not in allowed:
            raise SmbError(status)
        if command == SESSION_SETUP:
            self.session = struct.unpack_from("<Q", data, 40)[0]
        elif command == TREE_CONNECT:
            self.tree = struct.unpack_from("<I", data, 36)[0]
        return data[64:]

    def _setup(self, token):
        head = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, len(token), 0)
        self._call(SESSION_SETUP, head + token, (0, MORE_PROCESSING))

    def open(self, name, access=ALL_ACCESS, disposition=OPEN_IF, options=0):
        """A handle; others may read, write and delete meanwhile."""
        text = name.replace("/", "\\").encode("utf-16-le")
        body = struct.pack("<HBBIQQIIIIIHHII", 57, 0, 0, 2, 0, 0, access, 0, 7,
                           disposition, options, 120, len(text), 0, 0)
        return self._call(CREATE, body + (text or b"\0"))[64:80]

    def close(self, handle):
        self._call(CLOSE, struct.pack("<HHI16s", 24, 0, 0, handle))

    def flush(self, handle):
        self._call(FLUSH, struct.pack("<HHI16s", 24, 0, 0, handle))

    def read(self, handle, length, offset):
        try:
            got = self._call(READ, struct.pack("<HBBIQ16sIIIHHB", 49, 80, 0, length, offset, handle,
                                               0, 0, 0, 0, 0, 0))
        except SmbError as e:
            if e.status == END_OF_FILE:
                return b""
            raise
        at, count = struct.unpack_from("<xxBxI", got)
        return got[at - 64:at - 64 + count]

    def write(self, handle, data, offset):
        got = self._call(WRITE, struct.pack("<HHIQ16sIIHHI", 49, 112, len(data), offset, handle,
                                            0, 0, 0, 0, 0) + data)
        assert struct.unpack_from("<xxxxI", got)[0] == len(data)

    def lock(self, handle, flags, start, length):
        self._call(LOCK, struct.pack("<HHI16sQQII", 48, 1, 0, handle, start, length, flags, 0))

    def try_lock(self, handle, flags, start, length):
        try:
            self.lock(handle, flags | AT_ONCE, start, length)
        except SmbError as e:
            if e.status == NOT_GRANTED:
                return False
            raise
        return True

    def unlock(self, handle, start, length):
        self.lock(handle, UNLOCK, start, length)

    def query(self, handle, kind, number=0, what=0):
        got = self._call(QUERY_INFO, struct.pack("<HBBIHHIII16sB", 41, kind, number, 65536, 0, 0, 0,
                                                 what, 0, handle, 0))
        at, count = struct.unpack_from("<xxHI", got)
        return got[at - 64:at - 64 + count]

    def set(self, handle, data, kind, number=0, what=0):
        self._call(SET_INFO, struct.pack("<HBBIHHI16s", 33, kind, number, len(data), 96, 0, what,
                                         handle) + data)

    def attributes(self, handle):
        return struct.unpack_from("<I", self.query(handle, FILE_INFO, BASIC), 32)[0]

    def set_attributes(self, handle, value):
        self.set(handle, struct.pack("<qqqqII", 0, 0, 0, 0, value, 0), FILE_INFO, BASIC)

    def drop(self):
        """Be gone without a word, as a client whose cable is cut."""
        self.sock.close()


##### Security descriptors

def sid(text):
    """S-1-5-32-544 in its binary form."""
    numbers = [int(n) for n in text.split("-")[1:]]
    return struct.pack(f"<BB6s{len(numbers) - 2}I", numbers[0], len(numbers) - 2,
                       numbers[1].to_bytes(6, "big"), *numbers[2:])


def dacl(*entries):
    """A descriptor with nothing but a list of (kind, flags, access mask, SID) in this order."""
    aces = b"".join(struct.pack("<BBHI", kind, flags, 8 + len(sid(who)), mask) + sid(who)
                    for kind, flags, mask, who in entries)
    acl = struct.pack("<BxHHxx", 2, 8 + len(aces), len(entries)) + aces
    return struct.pack("<BxHIIII", 1, 0x9004, 0, 0, 0, 20) + acl    # protected, self-relative


def entries_of(descriptor):
    """The list in a descriptor, as dacl() takes it."""
    at = struct.unpack_from("<16xI", descriptor)[0]
    count = struct.unpack_from("<4xH", descriptor, at)[0]
    at += 8
    found = []
    for _ in range(count):
        kind, flags, size, mask = struct.unpack_from("<BBHI", descriptor, at)
        revision, parts, top = struct.unpack_from("<BB6s", descriptor, at + 8)
        rest = struct.unpack_from(f"<{parts}I", descriptor, at + 16)
        found.append((kind, flags, mask, "-".join(
            ["S", str(revision), str(int.from_bytes(top, "big")), *map(str, rest)])))
        at += size
    return found
