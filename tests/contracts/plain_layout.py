"""The committed layout once more, as plainly as it can be written: the tests' own opinion, numpy-free."""

from __future__ import annotations

from hashlib import sha256

Tensor = tuple[int, tuple[int, ...], bytes]  # dtype code, dims, elements


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def levels(leaves: list[bytes]) -> list[list[bytes]]:
    width = 1
    while width < len(leaves):
        width *= 2
    rows = [leaves + [bytes(32)] * (width - len(leaves))]
    while len(rows[-1]) > 1:
        last = rows[-1]
        rows.append([node(last[i], last[i + 1]) for i in range(0, len(last), 2)])
    return rows


def root(leaves: list[bytes]) -> bytes:
    return levels(leaves)[-1][0]


def path(leaves: list[bytes], index: int) -> list[bytes]:
    siblings = []
    for row in levels(leaves)[:-1]:
        siblings.append(row[index ^ 1])
        index //= 2
    return siblings


def tile(data: bytes) -> bytes:
    return sha256(b"\x00" + data.ljust(1024, b"\0")).digest()


def tensor(dtype: int, dims: tuple[int, ...], data: bytes) -> bytes:
    width = (8 if dtype == 3 else 4) * dims[-1]
    rows = [data[i : i + width] for i in range(0, len(data), width)]
    tiles = [tile(row[i : i + 1024]) for row in rows for i in range(0, width, 1024)]
    head = bytes([dtype, len(dims)]) + b"".join(dim.to_bytes(4, "big") for dim in dims)
    return sha256(b"\x02" + head + root(tiles)).digest()


def bundle(tensors: dict[bytes, Tensor]) -> bytes:
    out = bytes([len(tensors)])
    for name, (dtype, dims, data) in tensors.items():
        out += bytes([len(name)]) + name + bytes([dtype, len(dims)])
        out += b"".join(dim.to_bytes(4, "big") for dim in dims) + data
    return out


def bundle_root(tensors: dict[bytes, Tensor]) -> bytes:
    out = b"\x03" + bytes([len(tensors)])
    for name, (dtype, dims, data) in tensors.items():
        out += bytes([len(name)]) + name + tensor(dtype, dims, data)
    return sha256(out).digest()
