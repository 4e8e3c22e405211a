"""Whoever can write the store, but has no key, is noticed.

Each case first proves that it changed the store, then that exactly the blocks concerned give EIO,
that the rest of the file and all other files read as before, and that the damage can be repaired
by writing the whole block again, or by removing the file.
"""
import base64
import contextlib
import errno
import hashlib
import os
import pathlib
import re

import pytest

import geometry as geo
from geometry import PAGE
from opsfix import d, place, places     # noqa: F401  pylint: disable=unused-import
from oslib import fails, get, pattern, pread, put, pwrite

NBLOCKS = 400
SIZE = NBLOCKS * PAGE + 100             # one more block, which is short
LAST = NBLOCKS
# Direct, in the first slot, in the second slot; first and last of their index page; the short one.
SPOTS = [0, 50, 99, 100, 163, 227, 228, 300, 355, 356, 399]


@pytest.fixture(autouse=True)
def only_encrypted(place):
    if place.plain:
        pytest.skip("a plain directory notices nothing")


def cipher_path(place, path):
    """The ciphertext file behind a file of the mount: both have one inode number."""
    ino = os.lstat(path).st_ino
    tree = place.store / "clubs" / path.relative_to(place.root).parts[0] / "tree"
    found = [p for p in tree.rglob("*") if p.lstat().st_ino == ino]
    assert len(found) == 1, found
    return found[0]


class Victim:
    """A file of SIZE bytes, its ciphertext file, and a neighbour that must never suffer."""

    def __init__(self, place, d, size=SIZE):
        self.place, self.path, self.other = place, d / "victim", d / "neighbour"
        self.data = bytearray(pattern(size, "victim"))
        self.other_data = pattern(3 * PAGE + 1, "neighbour")
        put(self.path, self.data)
        put(self.other, self.other_data)
        self.cipher = cipher_path(place, self.path)

    @contextlib.contextmanager
    def unmounted(self):
        """Changes of self.raw, the ciphertext, go into the store while it is not mounted."""
        self.place.stop()
        try:
            before = self.cipher.read_bytes()
            self.raw = bytearray(before)
            yield self.raw
            assert self.raw != before, "this case changed nothing"
            stat = os.stat(self.cipher)
            with open(self.cipher, "r+b") as f:
                f.write(self.raw)
                f.truncate(len(self.raw))
            os.utime(self.cipher, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            assert hashlib.sha256(self.cipher.read_bytes()).digest() != \
                hashlib.sha256(before).digest()
        finally:
            self.place.start()

    def ciphertext(self):
        """As it stands on disk when nobody has it mounted."""
        self.place.stop()
        raw = self.cipher.read_bytes()
        self.place.start()
        return raw

    def overwrite(self, block, seed="new"):
        new = pattern(PAGE, f"{seed}/{block}")
        pwrite(self.path, new, block * PAGE)
        self.data[block * PAGE:(block + 1) * PAGE] = new

    def check(self, bad):
        """Exactly the blocks in @bad give EIO; the neighbour is well."""
        bad = {b for b in bad if b * PAGE < len(self.data)}
        assert os.stat(self.path).st_size == len(self.data)
        fd = os.open(self.path, os.O_RDONLY)
        wrong = []
        for b in range((len(self.data) + PAGE - 1) // PAGE):
            try:
                got = os.pread(fd, PAGE, b * PAGE)
                good = b not in bad and got == self.data[b * PAGE:(b + 1) * PAGE]
            except OSError as e:
                got = errno.errorcode[e.errno]
                good = b in bad and e.errno == errno.EIO
            if not good:
                wrong.append((b, got[:20]))
        os.close(fd)
        assert not wrong
        if bad:
            with fails(errno.EIO):
                get(self.path)
        assert get(self.other) == self.other_data

    def check_said(self, offset):
        """The daemon named the ciphertext file and the place in it."""
        name = re.escape(self.cipher.name)
        assert re.search(rf"{name}.*\b{offset}\b", self.place.said()), self.place.said()

    def repair(self, block):
        """A write to a part of a bad block makes the rest of it zeros, and says so; or the whole."""
        whole = min(PAGE, len(self.data) - block * PAGE)
        if whole == PAGE:
            pwrite(self.path, b"part", block * PAGE + 10)
            part = (b"\0" * 10 + b"part").ljust(PAGE, b"\0")
            self.data[block * PAGE:(block + 1) * PAGE] = part
            with open(self.path, "rb") as f:
                f.seek(block * PAGE)
                assert f.read(PAGE) == part
            assert re.search(r"reads as zeros from now on", self.place.said())
        new = pattern(whole, "repaired")
        pwrite(self.path, new, block * PAGE)
        self.data[block * PAGE:block * PAGE + whole] = new

    def check_repair(self, blocks):
        for b in blocks:
            self.repair(b)
        self.check([])
        self.place.remount()
        self.check([])

    def check_lost(self):
        """Nothing of the file can be read, but it can be seen and removed."""
        assert os.lstat(self.path)
        with fails(errno.EIO):
            get(self.path)
        with fails(errno.EIO):
            pwrite(self.path, b"x", 10)
        assert self.cipher.name in self.place.said()
        assert get(self.other) == self.other_data
        assert sorted(os.listdir(self.path.parent)) == ["neighbour", "victim"]
        os.unlink(self.path)
        put(self.path, b"another")
        assert get(self.path) == b"another"
        assert not self.cipher.exists() or self.cipher.stat().st_size < 2 * PAGE


@pytest.fixture
def victim(place, d):
    return Victim(place, d)


def span(block):
    start = geo.block_offset(block)
    return slice(start, start + PAGE)


def entry(block):
    start = geo.entry_offset(block)
    return slice(start, start + geo.ENTRY)


##### The arithmetic of these tests is right

def test_the_places_are_where_the_format_says(victim):
    raw = victim.ciphertext()
    assert len(raw) == geo.block_offset(LAST) + 100
    assert raw[:8] == b"CLUBFILE"
    assert geo.xxh3(raw[:geo.HDR_SUM]) == int.from_bytes(raw[geo.HDR_SUM:PAGE], "little")
    for b in SPOTS:
        assert geo.xxh3(raw[span(b)]) & 0xffffffff == \
            int.from_bytes(raw[entry(b)][28:], "little"), b
    for slot, block, level in ((1, 100, 1), (2, 228, 2)):
        page = geo.index_offset(block, level)
        root = geo.HDR_ROOTS + geo.ENTRY * (slot - 1)
        assert geo.xxh3(raw[page:page + PAGE]) & 0xffffffff == \
            int.from_bytes(raw[root + 28:root + 32], "little")


##### Blocks

@pytest.mark.parametrize("block", SPOTS)
@pytest.mark.parametrize("at", [0, 2048, 4095])
def test_flipped_bit(victim, block, at):
    with victim.unmounted() as raw:
        raw[geo.block_offset(block) + at] ^= 1
    victim.check({block})
    victim.check_said(geo.block_offset(block))
    victim.check_repair([block])


def test_flipped_bit_in_the_short_last_block(victim):
    with victim.unmounted() as raw:
        raw[-1] ^= 0x80
    victim.check({LAST})
    victim.check_said(geo.block_offset(LAST))
    victim.check_repair([LAST])


@pytest.mark.parametrize("a,b", [(3, 4), (10, 150), (101, 102), (100, 228), (300, 301)])
def test_two_blocks_swapped(victim, a, b):
    with victim.unmounted() as raw:
        raw[span(a)], raw[span(b)] = raw[span(b)], raw[span(a)]
    victim.check({a, b})
    victim.check_said(geo.block_offset(a))
    victim.check_said(geo.block_offset(b))
    victim.check_repair([a, b])


@pytest.mark.parametrize("a,b", [(101, 102), (110, 227), (300, 301)])
def test_two_blocks_swapped_with_their_tags(victim, a, b):
    """Both blocks still match their tags, but the page of tags has changed."""
    with victim.unmounted() as raw:
        raw[span(a)], raw[span(b)] = raw[span(b)], raw[span(a)]
        raw[entry(a)], raw[entry(b)] = raw[entry(b)], raw[entry(a)]
    victim.check(geo.blocks_below(a))
    victim.check_said(geo.index_offset(a))


def test_two_direct_blocks_swapped_with_their_tags(victim):
    with victim.unmounted() as raw:
        raw[span(3)], raw[span(4)] = raw[span(4)], raw[span(3)]
        raw[entry(3)], raw[entry(4)] = raw[entry(4)], raw[entry(3)]
        geo.fix_checksum(raw)
    victim.check_lost()


@pytest.mark.parametrize("source,target", [(3, 4), (4, 3), (5, 200), (200, 5), (120, 350)])
def test_moved_block(victim, source, target):
    with victim.unmounted() as raw:
        raw[span(target)] = raw[span(source)]
    victim.check({target})
    victim.check_repair([target])


@pytest.mark.parametrize("source,target", [(101, 102), (120, 350)])
def test_moved_block_with_its_tag(victim, source, target):
    with victim.unmounted() as raw:
        raw[span(target)] = raw[span(source)]
        raw[entry(target)] = raw[entry(source)]
    victim.check(geo.blocks_below(target))


@pytest.mark.parametrize("block", SPOTS)
def test_zeroed_block(victim, block):
    with victim.unmounted() as raw:
        raw[span(block)] = bytes(PAGE)
    victim.check({block})
    victim.check_said(geo.block_offset(block))
    victim.check_repair([block])


@pytest.mark.parametrize("block", [50, 163, 300])
def test_punched_block(victim, place, block):
    """A real hole in the ciphertext file, which no byte of it shows."""
    from oslib import KEEP_SIZE, PUNCH_HOLE, data_map, fallocate
    place.stop()
    fd = os.open(victim.cipher, os.O_RDWR)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, geo.block_offset(block), PAGE)
    os.close(fd)
    assert len(data_map(victim.cipher)) == 2
    place.start()
    victim.check({block})
    victim.check_repair([block])


@pytest.mark.parametrize("block", [100, 163, 227, 228, 300])
def test_forged_hole(victim, block):
    """All zero, the tag too, as a true hole looks: peers let this pass as zeros."""
    with victim.unmounted() as raw:
        raw[span(block)] = bytes(PAGE)
        raw[entry(block)] = bytes(geo.ENTRY)
    victim.check(geo.blocks_below(block))
    victim.check_said(geo.index_offset(block))


@pytest.mark.parametrize("block", [0, 50, 99])
@pytest.mark.parametrize("fixed", [False, True], ids=["sum-wrong", "sum-right"])
def test_forged_direct_hole(victim, block, fixed):
    with victim.unmounted() as raw:
        raw[span(block)] = bytes(PAGE)
        raw[entry(block)] = bytes(geo.ENTRY)
        if fixed:
            geo.fix_checksum(raw)
    victim.check_lost()


@pytest.mark.parametrize("slot,blocks", [(1, range(100, 228)), (2, range(228, 401))])
def test_forged_hole_of_a_whole_slot(victim, slot, blocks):
    with victim.unmounted() as raw:
        for b in blocks:
            raw[span(b)] = bytes(len(raw[span(b)]))
        root = geo.HDR_ROOTS + geo.ENTRY * (slot - 1)
        raw[root:root + geo.ENTRY] = bytes(geo.ENTRY)
        geo.fix_checksum(raw)
    victim.check_lost()


def test_data_put_into_a_true_hole(place, d):
    """The other way round: bytes where the authenticated record says that there are none."""
    victim = Victim(place, d)
    os.truncate(victim.path, 0)
    os.truncate(victim.path, SIZE)
    victim.overwrite(7)
    victim.data[:] = bytes(7 * PAGE) + victim.data[7 * PAGE:8 * PAGE] + bytes(SIZE - 8 * PAGE)
    with victim.unmounted() as raw:
        for b in (8, 150, 300):
            raw[span(b)] = pattern(PAGE)
    victim.check([])        # a hole reads as zeros, whatever lies there


@pytest.mark.parametrize("block", SPOTS)
def test_older_block(victim, block):
    old = victim.ciphertext()
    victim.overwrite(block)
    with victim.unmounted() as raw:
        assert raw[span(block)] != old[span(block)]
        raw[span(block)] = old[span(block)]
    victim.check({block})
    victim.check_said(geo.block_offset(block))
    victim.check_repair([block])


@pytest.mark.parametrize("block", [100, 163, 300])
def test_older_block_with_its_tag(victim, block):
    old = victim.ciphertext()
    victim.overwrite(block)
    with victim.unmounted() as raw:
        raw[span(block)] = old[span(block)]
        raw[entry(block)] = old[entry(block)]
    victim.check(geo.blocks_below(block))


def test_block_of_a_rewrite_with_the_same_plaintext(victim):
    """The same content sealed twice is not the same block: the nonce is new."""
    old = victim.ciphertext()
    same = bytes(victim.data[5 * PAGE:6 * PAGE])
    pwrite(victim.path, same, 5 * PAGE)
    with victim.unmounted() as raw:
        assert raw[span(5)] != old[span(5)]
        raw[span(5)] = old[span(5)]
    victim.check({5})


def test_block_of_another_file(place, victim, d):
    """Same club, same number, same plaintext: another key."""
    put(d / "twin", victim.data)
    twin = cipher_path(place, d / "twin").read_bytes()
    with victim.unmounted() as raw:
        raw[span(5)] = twin[span(5)]
        raw[span(300)] = twin[span(300)]
    victim.check({5, 300})


##### Index pages

@pytest.mark.parametrize("block,level", [(100, 1), (228, 1), (228, 2), (360, 1)])
@pytest.mark.parametrize("at", [0, 33, 4095])
def test_flipped_bit_in_an_index_page(victim, block, level, at):
    with victim.unmounted() as raw:
        raw[geo.index_offset(block, level) + at] ^= 4
    victim.check(geo.blocks_below(block, level))
    victim.check_said(geo.index_offset(block, level))


@pytest.mark.parametrize("block,level", [(100, 1), (228, 1), (228, 2)])
def test_zeroed_index_page(victim, block, level):
    with victim.unmounted() as raw:
        page = geo.index_offset(block, level)
        raw[page:page + PAGE] = bytes(PAGE)
    victim.check(geo.blocks_below(block, level))


@pytest.mark.parametrize("block,level", [(163, 1), (300, 1), (300, 2)])
def test_older_index_page(victim, block, level):
    old = victim.ciphertext()
    victim.overwrite(block)
    with victim.unmounted() as raw:
        page = geo.index_offset(block, level)
        assert raw[page:page + PAGE] != old[page:page + PAGE]
        raw[page:page + PAGE] = old[page:page + PAGE]
    victim.check(geo.blocks_below(block, level))
    victim.check_said(geo.index_offset(block, level))


def test_index_pages_swapped(victim):
    with victim.unmounted() as raw:
        a, b = geo.index_offset(228), geo.index_offset(356)
        raw[a:a + PAGE], raw[b:b + PAGE] = raw[b:b + PAGE], raw[a:a + PAGE]
    victim.check({*geo.blocks_below(228), *geo.blocks_below(356)})


def test_file_with_a_bad_index_page_can_be_removed(victim):
    with victim.unmounted() as raw:
        raw[geo.index_offset(228, 2)] ^= 1
    os.truncate(victim.path, 100 * PAGE)
    del victim.data[100 * PAGE:]
    victim.check([])
    os.unlink(victim.path)
    assert os.listdir(victim.path.parent) == ["neighbour"]


##### The header page

FIELDS = [0, geo.HDR_VERSION, geo.HDR_KIND, 16, 20, geo.HDR_INCOMPAT, geo.HDR_EPOCH, geo.HDR_ID,
          geo.HDR_PARENT, geo.HDR_GENERATION, geo.HDR_SIZE, geo.HDR_FLAGS, 84, 88, 120,
          geo.HDR_ROOTS, geo.HDR_DIRECT, geo.HDR_DIRECT + 99 * 32 + 31, geo.HDR_XDATA, 4050,
          geo.HDR_NONCE, geo.HDR_TAG]


@pytest.mark.parametrize("at", FIELDS)
@pytest.mark.parametrize("fixed", [False, True], ids=["sum-wrong", "sum-right"])
def test_flipped_bit_in_the_header(victim, at, fixed):
    with victim.unmounted() as raw:
        raw[at] ^= 2
        if fixed:
            geo.fix_checksum(raw)
    victim.check_lost()


def test_flipped_bit_in_the_checksum(victim):
    with victim.unmounted() as raw:
        raw[geo.HDR_SUM] ^= 1
    victim.check_lost()


def test_zeroed_header(victim):
    with victim.unmounted() as raw:
        raw[:PAGE] = bytes(PAGE)
    victim.check_lost()


def test_older_header(place, d):
    """It verifies by itself, but vouches for blocks that are no longer there."""
    victim = Victim(place, d, 50 * PAGE + 9)
    old = victim.ciphertext()
    victim.overwrite(5)
    victim.overwrite(40)
    with victim.unmounted() as raw:
        assert raw[:PAGE] != old[:PAGE]
        raw[:PAGE] = old[:PAGE]
    victim.check({5, 40})


def test_older_header_over_newer_index_pages(victim):
    old = victim.ciphertext()
    victim.overwrite(163)
    with victim.unmounted() as raw:
        raw[:PAGE] = old[:PAGE]
    victim.check(geo.blocks_below(163))


def test_older_header_and_index_page(victim):
    old = victim.ciphertext()
    victim.overwrite(163)
    victim.overwrite(170)
    with victim.unmounted() as raw:
        page = geo.index_offset(163)
        raw[:PAGE], raw[page:page + PAGE] = old[:PAGE], old[page:page + PAGE]
    victim.check({163, 170})


def test_older_header_of_a_shorter_file(victim):
    old = victim.ciphertext()
    with open(victim.path, "ab") as f:
        f.write(b"more")
    with victim.unmounted() as raw:
        raw[:PAGE] = old[:PAGE]
    victim.check_lost()


def test_header_of_another_file(place, victim, d):
    put(d / "twin", victim.data)
    twin = cipher_path(place, d / "twin")
    victim_path = victim.path
    with victim.unmounted() as raw:
        raw[:PAGE] = twin.read_bytes()[:PAGE]
    with fails(errno.EIO):
        get(victim_path)
    for b in (0, 99, 100, 399):
        with fails(errno.EIO):
            pread(victim_path, PAGE, b * PAGE)
    assert get(d / "twin") == victim.data


def test_file_of_another_club(place, victim):
    """A whole file, valid in its own club, moved into another under a name that is valid there."""
    stranger = place.club("beta") / "stranger"
    put(stranger, victim.data)
    cipher = cipher_path(place, stranger)
    with victim.unmounted() as raw:
        raw[:] = cipher.read_bytes()
    victim.check_lost()


##### The size

CUTS = [0, PAGE, 2 * PAGE, geo.block_offset(50), geo.block_offset(99), geo.block_offset(100),
        geo.block_offset(100) + PAGE, geo.block_offset(228), geo.block_offset(300),
        geo.block_offset(LAST), geo.block_offset(LAST) + 99, geo.index_offset(228), 100, 4095]


@pytest.mark.parametrize("size", CUTS)
def test_cut(victim, size):
    with victim.unmounted() as raw:
        del raw[size:]
    victim.check_lost()


def test_cut_with_the_size_in_the_header_put_right(victim):
    with victim.unmounted() as raw:
        del raw[geo.block_offset(50):]
        raw[geo.HDR_SIZE:geo.HDR_SIZE + 8] = (50 * PAGE).to_bytes(8, "little")
        geo.fix_checksum(raw)
    victim.check_lost()


@pytest.mark.parametrize("more", [1, 100, PAGE - 100, PAGE, 100 * PAGE])
@pytest.mark.parametrize("fill", [0, 0x5a])
def test_lengthened(victim, more, fill):
    with victim.unmounted() as raw:
        raw.extend(bytes([fill]) * more)
    victim.check_lost()


def test_lengthened_by_a_copy_of_the_last_block(place, d):
    victim = Victim(place, d, 10 * PAGE)
    with victim.unmounted() as raw:
        raw.extend(raw[span(9)])
    victim.check_lost()


def test_lengthened_with_the_size_in_the_header_put_right(place, d):
    victim = Victim(place, d, 10 * PAGE)
    with victim.unmounted() as raw:
        raw.extend(raw[span(9)])
        raw[entry(10)] = raw[entry(9)]
        raw[geo.HDR_SIZE:geo.HDR_SIZE + 8] = (11 * PAGE).to_bytes(8, "little")
        geo.fix_checksum(raw)
    victim.check_lost()


##### Attributes and symlinks

def overflow_file(place, change):
    """The overflow file that change() makes."""
    top = place.store / "clubs" / "alpha" / "xattr"
    before = set(top.glob("*")) if top.exists() else set()
    change()
    new = set(top.glob("*")) - before
    assert len(new) == 1
    return new.pop()


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    assert raw != path.read_bytes()
    path.write_bytes(raw)


@pytest.mark.parametrize("kind", ["file", "dir"])
@pytest.mark.parametrize("at", [40, 300, PAGE + 5], ids=["header", "tags", "block"])
def test_changed_attributes(place, d, kind, at):
    victim = d / "victim"
    if kind == "file":
        put(victim, b"content stays")
    else:
        os.mkdir(victim)
        put(victim / "inside", b"content stays")
    over = overflow_file(place, lambda: os.setxattr(victim, "user.v", b"v" * 3000))
    place.stop()
    flip(over, at)
    place.start()
    with fails(errno.EIO):
        os.getxattr(victim, "user.v")
    with fails(errno.EIO):
        os.listxattr(victim)
    assert over.name in place.said()
    assert get(victim if kind == "file" else victim / "inside") == b"content stays"


def test_swapped_attributes(place, d):
    overs = []
    for name in ("a", "b"):
        put(d / name, name.encode())
        overs.append(overflow_file(
            place, lambda path=d / name: os.setxattr(path, "user.v", b"v" * 3000)))
    place.stop()
    a, b = (p.read_bytes() for p in overs)
    assert a != b
    overs[0].write_bytes(b)
    overs[1].write_bytes(a)
    place.start()
    for name in ("a", "b"):
        with fails(errno.EIO):
            os.getxattr(d / name, "user.v")
        assert get(d / name) == name.encode()


def test_changed_attributes_in_the_header(place, d):
    victim = Victim(place, d)
    os.setxattr(victim.path, "user.v", b"v" * 100)
    with victim.unmounted() as raw:
        raw[geo.HDR_XDATA + 20] ^= 1
        geo.fix_checksum(raw)
    with fails(errno.EIO):
        os.getxattr(victim.path, "user.v")
    victim.check_lost()


def test_changed_symlink(place, d):
    put(d / "other", b"well")
    os.symlink("the true target", d / "link")
    cipher = cipher_path(place, d / "link")
    place.stop()
    text = os.readlink(cipher)
    sealed = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    sealed[20] ^= 1
    cipher.unlink()
    cipher.symlink_to(base64.urlsafe_b64encode(sealed).decode().rstrip("="))
    assert os.readlink(cipher) != text
    place.start()
    with fails(errno.EIO):
        os.readlink(d / "link")
    assert get(d / "other") == b"well"
    os.unlink(d / "link")
    assert os.listdir(d) == ["other"]


def test_changed_symlink_to_plaintext(place, d):
    """A target from outside never reaches a user of the mount."""
    os.symlink("the true target", d / "link")
    cipher = cipher_path(place, d / "link")
    place.stop()
    cipher.unlink()
    cipher.symlink_to("/etc/shadow")
    place.start()
    with fails(errno.EIO):
        os.readlink(d / "link")
    with fails(errno.EIO):
        os.stat(d / "link")


def test_a_foreign_file_in_the_store(place, d):
    """Not encrypted, or under a name that is: it shows no content, and hurts nobody."""
    put(d / "well", b"well")
    well = cipher_path(place, d / "well")
    place.stop()
    (well.parent / "plain name").write_bytes(b"plain content")
    (well.parent / base64.urlsafe_b64encode(os.urandom(40)).decode().rstrip("=")).write_bytes(
        well.read_bytes())
    assert len(list(well.parent.iterdir())) >= 3
    place.start()
    assert os.listdir(d) == ["well"]
    assert get(d / "well") == b"well"


@pytest.mark.parametrize("at,fixed", [(at, fixed) for fixed in (False, True)
                                      for at in (0, 8, 24, 28, 40, 48, 1000, 4065, 4080, 4090)
                                      if not fixed or at < geo.HDR_SUM])
def test_changed_header_of_a_club(place, at, fixed):
    """That club cannot be entered, the others can; the header put back, it can again."""
    for name in ("alpha", "beta"):
        put(place.club(name) / "here", name.encode())
    header = pathlib.Path(place.store) / "clubs" / "alpha" / "club"
    place.stop()
    good = header.read_bytes()
    raw = bytearray(good)
    raw[at] ^= 1
    if fixed:
        geo.fix_checksum(raw)
    assert raw != good
    header.write_bytes(raw)
    place.start()
    try:
        # A changed club id is another club to the key daemon, a changed epoch another key.
        with fails(errno.EIO, errno.EACCES, errno.ENOKEY):
            os.listdir(place.club("alpha"))
        with fails(errno.EIO, errno.EACCES, errno.ENOKEY):
            get(place.club("alpha") / "here")
        assert get(place.club("beta") / "here") == b"beta"
        assert sorted(os.listdir(place.root)) == ["alpha", "beta"]
    finally:
        place.stop()
        header.write_bytes(good)
        place.start()
    assert get(place.club("alpha") / "here") == b"alpha"
