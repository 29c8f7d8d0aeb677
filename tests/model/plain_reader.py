"""A second implementation of docs/wire-format.md: it follows that page and shares no code with the library.

Values are given in the notation of the vectors: JSON, and where JSON has no word for it, an object with
one name that begins with "$".
"""

import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCALARS = {3: "$decimal", 5: "$datetime", 6: "$date", 7: "$time", 8: "$microseconds", 9: "$html"}
CODES = {word: code for code, word in SCALARS.items()}
LARGEST_SAFE = 2**53 - 1


class Refused(Exception):
    """What a reader must not accept."""


# msgpack


def decode(data):
    """Read one msgpack value that fills *data*."""
    value, end = decode_at(data, 0)
    if end != len(data):
        raise Refused("trailing bytes")
    return value


def number_at(data, at, form):
    """Read one number."""
    size = struct.calcsize(form)
    if at + size > len(data):
        raise Refused("cut short")
    return struct.unpack_from(form, data, at)[0], at + size


def bytes_at(data, at, size):
    """Read some bytes."""
    if at + size > len(data):
        raise Refused("cut short")
    return data[at : at + size], at + size


LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xC7: ">B", 0xC8: ">H", 0xC9: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
COUNTS = {0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
FLOATS = {0xCA: ">f", 0xCB: ">d"}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def decode_at(data, at):  # noqa: C901, PLR0911, PLR0912  one branch for each kind of first byte
    """Read the msgpack value at *at*; give it and where it ends."""
    kind, at = number_at(data, at, ">B")
    if kind <= 0x7F:
        return kind, at
    if kind <= 0x8F:
        return map_at(data, at, kind & 0x0F)
    if kind <= 0x9F:
        return array_at(data, at, kind & 0x0F)
    if kind <= 0xBF:
        raw, at = bytes_at(data, at, kind & 0x1F)
        return text(raw), at
    if kind >= 0xE0:
        return kind - 256, at
    if kind in CONSTANTS:
        return CONSTANTS[kind], at
    if kind in NUMBERS:
        number, at = number_at(data, at, NUMBERS[kind])
        return (number if abs(number) <= LARGEST_SAFE else {"$int": str(number)}), at
    if kind in FLOATS:
        number, at = number_at(data, at, FLOATS[kind])
        return {"$float": repr(number)}, at
    if kind in COUNTS:
        count, at = number_at(data, at, COUNTS[kind])
        return array_at(data, at, count) if kind <= 0xDD else map_at(data, at, count)
    if kind in LENGTHS:
        size, at = number_at(data, at, LENGTHS[kind])
    elif 0xD4 <= kind <= 0xD8:
        size = 1 << (kind - 0xD4)
    else:
        raise Refused("not msgpack")
    if 0xC7 <= kind <= 0xC9 or 0xD4 <= kind <= 0xD8:
        code, at = number_at(data, at, ">b")
        raw, at = bytes_at(data, at, size)
        return extension(code, raw), at
    raw, at = bytes_at(data, at, size)
    return (text(raw) if kind >= 0xD9 else {"$bytes": raw.hex()}), at


def text(raw):
    """Read UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


def array_at(data, at, count):
    """Read *count* values."""
    items = []
    for _ in range(count):
        item, at = decode_at(data, at)
        items.append(item)
    return items, at


def map_at(data, at, count):
    """Read *count* pairs."""
    pairs = []
    for _ in range(count):
        key, at = decode_at(data, at)
        value, at = decode_at(data, at)
        pairs.append([key, value])
    if all(isinstance(key, str) for key, _ in pairs):
        return dict(pairs), at
    return {"$map": pairs}, at


def extension(code, raw):
    """Read what an ext type holds."""
    if code in {1, 2}:
        items = decode(raw)
        if not isinstance(items, list):
            raise Refused("a tuple or set holds an array")
        return {"$tuple" if code == 1 else "$set": items}
    if code == 4:
        if len(raw) != 16:
            raise Refused("a UUID has 16 bytes")
        return {"$uuid": raw.hex()}
    if code not in SCALARS:
        raise Refused("unknown ext type")
    return {SCALARS[code]: text(raw)}


def encode(value):
    """Write a value of the notation as msgpack, each part in its shortest form."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, str):
        return sized(value.encode(), (0xA0, 31), (0xD9, 0xDA, 0xDB))
    if isinstance(value, list):
        return counted(len(value), 0x90, 0xDC) + b"".join(map(encode, value))
    word = next(iter(value), "")
    if not word.startswith("$") or len(value) != 1:
        pairs = value.items()
    elif word == "$map":
        pairs = value[word]
    else:
        return tagged(word, value[word])
    return counted(len(pairs), 0x80, 0xDE) + b"".join(encode(part) for pair in pairs for part in pair)


def tagged(word, value):
    """Write what JSON has no word for."""
    if word == "$int":
        return integer(int(value))
    if word == "$float":
        return b"\xcb" + struct.pack(">d", float(value))
    if word == "$bytes":
        return sized(bytes.fromhex(value), None, (0xC4, 0xC5, 0xC6))
    if word == "$tuple":
        return ext(1, encode(value))
    if word == "$set":
        parts = sorted(map(encode, value))
        return ext(2, counted(len(parts), 0x90, 0xDC) + b"".join(parts))
    return ext(4, bytes.fromhex(value)) if word == "$uuid" else ext(CODES[word], value.encode())


def integer(number):
    """Write an integer in its shortest form."""
    if -32 <= number <= 127:
        return struct.pack(">b", number) if number < 0 else bytes([number])
    forms = ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"))
    if number < 0:
        forms = ((0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q"))
    for kind, form in forms:
        try:
            return bytes([kind]) + struct.pack(form, number)
        except struct.error:
            continue
    raise Refused("an integer has 64 bits")


def sized(raw, short, kinds):
    """Write bytes or text behind their length."""
    if short and len(raw) <= short[1]:
        return bytes([short[0] | len(raw)]) + raw
    for kind, form in zip(kinds, (">B", ">H", ">I"), strict=True):
        if len(raw) < 1 << 8 * struct.calcsize(form):
            return bytes([kind]) + struct.pack(form, len(raw)) + raw
    raise Refused("too long")


def counted(count, short, kind):
    """Write the head of an array or a map."""
    if count <= 15:
        return bytes([short | count])
    return bytes([kind]) + struct.pack(">H", count) if count < 1 << 16 else bytes([kind + 1]) + struct.pack(">I", count)


def ext(code, raw):
    """Write an extension."""
    if len(raw) in {1, 2, 4, 8, 16}:
        return bytes([0xD3 + len(raw).bit_length(), code]) + raw
    for kind, form in ((0xC7, ">B"), (0xC8, ">H"), (0xC9, ">I")):
        if len(raw) < 1 << 8 * struct.calcsize(form):
            return bytes([kind]) + struct.pack(form, len(raw)) + bytes([code]) + raw
    raise Refused("too long")


# Identifiers, keys, places


def unpadded(raw):
    """Write base64url without padding."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def parse_identifier(identifier):
    """Take an identifier apart: partition, handle, secret."""
    try:
        raw = urlsafe_b64decode(identifier + "=" * (-len(identifier) % 4))
    except ValueError:
        raise Refused("not base64url") from None
    if len(identifier) != 51 or unpadded(raw) != identifier or raw[0] != 1:
        raise Refused("not an identifier")
    return raw[1], raw[2:14], raw[14:38]


def expand(key, info):
    """HKDF-Expand to 32 bytes."""
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def master(key):
    """Read a key's text."""
    assert key.startswith("cck_")
    return urlsafe_b64decode(key[4:] + "=")


def key_id(key):
    """Give the two bytes that a record names its key by."""
    return expand(master(key), b"coatcheck key id 1")[:2]


def derived(secret):
    """Make a master key from another secret."""
    return hmac.new(b"coatcheck derived key 1", secret, hashlib.sha256).digest()


def name_of(prefix, partition, handle):
    """Name a record for the cryptography."""
    return bytes([len(prefix)]) + prefix.encode() + bytes([partition]) + handle


def record_key(key, prefix, partition, handle, compartment=""):
    """Derive the key of one record, a session's or a compartment's."""
    return expand(master(key), b"coatcheck record 1" + name_of(prefix, partition, handle) + compartment.encode())


def activity_key(key, prefix, partition, handle):
    """Derive the key of a session's activity."""
    return expand(master(key), b"coatcheck activity 1" + name_of(prefix, partition, handle))


def place(key, prefix, subject):
    """Say where a subject's index is: partition and digest."""
    subject_key = expand(master(key), b"coatcheck subject 1")
    digest = hmac.new(subject_key, prefix.encode() + b"\0" + subject.encode(), hashlib.sha256).digest()
    return digest[0], unpadded(digest[1:13])


def issued_place(key, prefix, claim, issuer, value):
    """Say where the index of an issuer's session or subject is: partition and digest."""
    issued_key = expand(master(key), b"coatcheck issued 1")
    message = b"\0".join(part.encode() for part in (prefix, claim, issuer, value))
    digest = hmac.new(issued_key, message, hashlib.sha256).digest()
    return digest[0], unpadded(digest[1:13])


def names_beside(prefix, tag, handle, compartment):
    """Name a compartment of a session, and its activity."""
    stem = f"{prefix}:{{{tag}}}:"
    return f"{stem}c:{unpadded(handle)}:{compartment}", f"{stem}a:{unpadded(handle)}"


def key_names(prefix, tag, handle, digest):
    """Name the record, the subject's index, the expiry index, the epoch, the events and an issuer's index."""
    stem = f"{prefix}:{{{tag}}}:"
    return f"{stem}s:{unpadded(handle)}", f"{stem}u:{digest}", f"{stem}x", f"{stem}g", f"{stem}e", f"{stem}o:{digest}"


# Records

NUMBERS_OF_THE_HEADER = (
    ("revision", 4, 4),
    ("created_at", 8, 6),
    ("absolute_deadline", 14, 6),
    ("seen_at", 20, 6),
    ("idle_timeout", 26, 6),
)


def read_header(record):
    """Read the plain part of a record; give it and its length."""
    if len(record) < 64 + 12 + 16:
        raise Refused("too short")
    if record[0] != 1 or record[1] & ~0b11111 or record[1] & 17 == 17:
        raise Refused("unknown format or flags")
    of_class = 102 if record[1] & 2 else 64
    of_dictionary = of_class + 4 if record[1] & 8 else of_class
    size = of_dictionary + 4 if record[1] & 16 else of_dictionary
    if len(record) < size + 12 + 16:
        raise Refused("too short")
    header = {"flags": record[1], "key_id": record[2:4].hex()}
    for field, at, width in NUMBERS_OF_THE_HEADER:
        header[field] = int.from_bytes(record[at : at + width], "big")
    header["digest"] = record[32:64].hex()
    if record[1] & 2:
        header["former_digest"] = record[64:96].hex()
        header["former_until"] = int.from_bytes(record[96:102], "big")
    if record[1] & 8:
        header["device_class"] = record[of_class:of_dictionary].hex()
    if record[1] & 16:
        header["dictionary"] = record[of_dictionary:size].hex()
    return header, size


def write_header(header):
    """Write the plain part of a record."""
    raw = bytes([1, header["flags"]]) + bytes.fromhex(header["key_id"])
    for field, _, width in NUMBERS_OF_THE_HEADER:
        raw += header[field].to_bytes(width, "big")
    raw += bytes.fromhex(header["digest"])
    if header["flags"] & 2:
        raw += bytes.fromhex(header["former_digest"]) + header["former_until"].to_bytes(6, "big")
    return raw + bytes.fromhex(header.get("device_class", "")) + bytes.fromhex(header.get("dictionary", ""))


def class_of(device):
    """Give what stands for a class of devices in the header."""
    return hashlib.sha256(device.encode()).digest()[:4].hex()


def open_record(record, key, prefix, partition, handle, compartment="", *, dictionary=None):
    """Open a record, a session's or a compartment's: header, system map, attributes. dictionary: what it names."""
    header, size = read_header(record)
    if header["key_id"] != key_id(key).hex():
        raise Refused("no such key")
    cipher = AESGCM(record_key(key, prefix, partition, handle, compartment))
    data = record[:size] + name_of(prefix, partition, handle) + compartment.encode()
    try:
        payload = cipher.decrypt(record[size : size + 12], record[size + 12 :], data)
    except Exception:  # noqa: BLE001  the library's InvalidTag: whatever fails here is a refusal
        raise Refused("does not open") from None
    if header["flags"] & 1:
        payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=16 * 1024 * 1024)
    if header["flags"] & 16:
        if dictionary is None or dictionary[4:8][::-1].hex() != header["dictionary"]:
            raise Refused("no such dictionary")
        decompressor = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
        payload = decompressor.decompress(b"\x28\xb5\x2f\xfd" + payload, max_output_size=16 * 1024 * 1024)
    parts = decode(payload)
    if not isinstance(parts, list) or len(parts) != 2:
        raise Refused("not a payload")
    return header, parts[0], parts[1]


def seal_record(header, payload, nonce, key, prefix, partition, handle, compartment=""):
    """Seal a payload that is compressed already, if the flags say so."""
    head = write_header(header)
    cipher = AESGCM(record_key(key, prefix, partition, handle, compartment))
    data = head + name_of(prefix, partition, handle) + compartment.encode()
    return head + nonce + cipher.encrypt(nonce, payload, data)


# Dictionaries


def dictionary_names(prefix, tag, number):
    """Name the list of the dictionaries, and one of them."""
    return f"{prefix}:{{{tag}}}:d", f"{prefix}:{{{tag}}}:d:{number}"


def dictionary_name(prefix, number):
    """Name a dictionary for the cryptography. number: its id in hexadecimal."""
    return bytes([len(prefix)]) + prefix.encode() + bytes.fromhex(number)


def dictionary_key(key, prefix, number):
    """Derive the key of a dictionary."""
    return expand(master(key), b"coatcheck dictionary 1" + dictionary_name(prefix, number))


def open_dictionary(sealed, key, prefix, number):
    """Open a dictionary: what is in Zstandard's format."""
    if len(sealed) < 3 + 12 + 16 or sealed[0] != 1:
        raise Refused("too short, or of an unknown format")
    if sealed[1:3] != key_id(key):
        raise Refused("no such key")
    cipher = AESGCM(dictionary_key(key, prefix, number))
    try:
        return cipher.decrypt(sealed[3:15], sealed[15:], sealed[:3] + dictionary_name(prefix, number))
    except Exception:  # noqa: BLE001  the library's InvalidTag: whatever fails here is a refusal
        raise Refused("does not open") from None


def seal_dictionary(content, nonce, key, prefix, number):
    """Seal a dictionary."""
    head, cipher = b"\x01" + key_id(key), AESGCM(dictionary_key(key, prefix, number))
    return head + nonce + cipher.encrypt(nonce, content, head + dictionary_name(prefix, number))


# Activity


def open_activity(entry, key, prefix, partition, handle):
    """Open an entry of a session's activity: its name and its fields."""
    if len(entry) < 3 + 12 + 16 or entry[0] != 1:
        raise Refused("too short, or of an unknown format")
    if entry[1:3] != key_id(key):
        raise Refused("no such key")
    cipher = AESGCM(activity_key(key, prefix, partition, handle))
    try:
        body = cipher.decrypt(entry[3:15], entry[15:], entry[:3] + name_of(prefix, partition, handle))
    except Exception:  # noqa: BLE001  the library's InvalidTag: whatever fails here is a refusal
        raise Refused("does not open") from None
    name, fields = decode(body)
    return name, fields


def seal_activity(name, fields, nonce, key, prefix, partition, handle):
    """Seal an entry of a session's activity."""
    head, body = b"\x01" + key_id(key), b"\x92" + encode(name) + encode(fields)
    cipher = AESGCM(activity_key(key, prefix, partition, handle))
    return head + nonce + cipher.encrypt(nonce, body, head + name_of(prefix, partition, handle))
