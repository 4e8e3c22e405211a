"""Where things lie in a ciphertext file: FORMAT.md 4 once more, apart from the C code."""
import ctypes

PAGE, FAN, DIRECT, SLOTS = 4096, 128, 100, 5
REGION = [1]
for _ in range(SLOTS):
    REGION.append(1 + FAN * REGION[-1])

# Offsets in a header page.
HDR_VERSION, HDR_KIND, HDR_INCOMPAT, HDR_EPOCH, HDR_ID, HDR_PARENT = 8, 12, 24, 28, 32, 48
HDR_GENERATION, HDR_SIZE, HDR_FLAGS, HDR_ROOTS, HDR_DIRECT = 64, 72, 80, 128, 288
HDR_XDATA, HDR_NONCE, HDR_TAG, HDR_SUM = 3488, 4060, 4072, 4088
ENTRY = 32

_xxhash = ctypes.CDLL("libxxhash.so.0")
_xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_xxhash.XXH3_64bits.restype = ctypes.c_uint64


def xxh3(data):
    return _xxhash.XXH3_64bits(bytes(data), len(data))


def slot_of(block):
    """(slot, block number within it, first page of the slot); slot 0 is the direct blocks."""
    if block < DIRECT:
        return 0, block, 1
    rel, page, k = block - DIRECT, 1 + DIRECT, 1
    while rel >= FAN ** k:
        rel -= FAN ** k
        page += REGION[k]
        k += 1
    return k, rel, page


def _descend(block, level):
    """The page at which the region of @level around @block begins."""
    slot, rel, page = slot_of(block)
    for k in range(slot, level, -1):
        page += 1 + rel // FAN ** (k - 1) * REGION[k - 1]
        rel %= FAN ** (k - 1)
    return page


def block_offset(block):
    slot, rel, page = slot_of(block)
    return PAGE * (page + rel if slot == 0 else _descend(block, 0))


def index_offset(block, level=1):
    """Of the index page of @level over a block that is not direct."""
    return PAGE * _descend(block, level)


def entry_offset(block):
    slot, rel, _ = slot_of(block)
    if slot == 0:
        return HDR_DIRECT + ENTRY * block
    return index_offset(block) + ENTRY * (rel % FAN)


def blocks_below(block, level=1):
    """All blocks of the index page of @level over @block."""
    _, rel, _ = slot_of(block)
    first = block - rel % FAN ** level
    return range(first, first + FAN ** level)


def fix_checksum(raw):
    """The keyless checksum of the header page in @raw: what an attacker can put right."""
    raw[HDR_SUM:PAGE] = xxh3(raw[:HDR_SUM]).to_bytes(8, "little")
