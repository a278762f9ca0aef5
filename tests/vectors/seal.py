"""Vectors of the sealed box, made without our code: `python3 tests/vectors/seal.py > tests/vectors/seal.json`.

Needs the package `cryptography`. Written from the description of the format alone (shared
contract, section 8); the numbers are fixed, so the output is the same each time.
"""

import json
from hashlib import sha256
from struct import pack

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(key, salt, info, length):
    return HKDF(SHA256(), length, salt, info).derive(key)


def field(value):
    return pack(">I", len(value)) + value


def seal(key, key_id, salt, purpose, fields, plaintext):
    header = b"\x01\x01" + key_id + salt
    aad = b"api_tokens/" + purpose + b"/v1\x00" + header + b"".join(map(field, fields))
    okm = hkdf(key, salt, b"api_tokens v1 " + purpose + b"\x00" + sha256(aad).digest(), 76)
    return header + okm[44:] + AESGCM(okm[:32]).encrypt(okm[32:44], plaintext, aad)


def value(number, namespace, key_name, version, plaintext):
    key, key_id, salt = (sha256(f"{what} {number}".encode()).digest() for what in ("key", "id", "salt"))
    fields = [namespace.encode(), key_name.encode(), pack(">Q", version)]
    sealed = seal(key, key_id[:16], salt[:24], b"value", fields, plaintext.encode())
    return {"key": key.hex(), "namespace": namespace, "key_name": key_name, "version": version,
            "plaintext": plaintext, "sealed": sealed.hex()}


def dek(number, namespace):
    kek, plaintext, dek_id, salt = (sha256(f"{what} {number}".encode()).digest() for what in ("kek", "dek", "dek id", "salt"))
    kek_id = hkdf(kek, b"", b"api_tokens kek id v1", 16)
    sealed = seal(kek, kek_id, salt[:24], b"dek", [dek_id[:16], namespace.encode()], plaintext)
    return {"key": kek.hex(), "kek_id": kek_id.hex(), "dek_id": dek_id[:16].hex(), "namespace": namespace,
            "plaintext": plaintext.hex(), "sealed": sealed.hex()}


print(json.dumps({
    "values": [
        value(1, "acme", "stripe", 1, "sk_live_0123456789"),
        value(2, "ä", "ключ", 2**31 - 1, "välue \U0001f511"),
        value(3, "n" * 512, "k" * 256, 7, ""),
        value(4, "acme", "long", 3, "x" * 5000),
    ],
    "deks": [dek(1, "acme"), dek(2, "ä")],
}, indent=1, ensure_ascii=False))
