// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// The byte layout that is committed to (spec version 1): SHA-256, the first byte hashed is a domain tag.
///   tile    0x00 ‖ 1024 bytes of one row, zero-padded at the row's end
///   node    0x01 ‖ left ‖ right; a tree is padded to a power of two with leaves of 32 zero bytes
///   tensor  0x02 ‖ dtype ‖ rank ‖ dims (4 bytes big-endian each) ‖ root of its tiles, row after row
///   bundle  0x03 ‖ count ‖ per tensor: nameLen ‖ name ‖ tensor hash
/// A bundle's bytes: count (1..8), then per tensor nameLen (1..32) ‖ name (printable ASCII, none twice) ‖ dtype ‖ rank
/// (1..6) ‖ dims (each >= 1) ‖ elements; nothing follows. An element has 4 bytes (dtypes 1 float32 and 2 int32) or 8 (3
/// int64).
/// The parser is total: bytes that are no canonical bundle revert with `MalformedBundle` and the offset at fault.
library Layout {
    error MalformedBundle(uint256 offset);

    uint256 internal constant TILE = 1024;
    uint256 private constant MAX_TENSORS = 8;
    uint256 private constant MAX_NAME = 32;
    uint256 private constant MAX_RANK = 6;

    /// Root of a bundle's canonical bytes.
    function bundleRoot(bytes calldata data) internal view returns (bytes32) {
        uint256 count = data.length == 0 ? 0 : uint8(data[0]);
        if (count == 0 || count > MAX_TENSORS) revert MalformedBundle(0);
        bytes memory preimage = abi.encodePacked(hex"03", uint8(count));
        bytes32[] memory names = new bytes32[](count);
        uint256 offset = 1;
        for (uint256 i = 0; i < count; ++i) {
            uint256 start = offset;
            bytes32 root;
            bytes calldata name;
            (name, root, offset) = _tensor(data, offset);
            names[i] = keccak256(name);
            for (uint256 k = 0; k < i; ++k) {
                if (names[k] == names[i]) revert MalformedBundle(start);
            }
            preimage = abi.encodePacked(preimage, uint8(name.length), name, root);
        }
        if (offset != data.length) revert MalformedBundle(offset);
        return sha256(preimage);
    }

    /// Hash of one tile of exactly `TILE` bytes.
    function tileHash(bytes calldata tile) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"00", tile));
    }

    /// Whether `leaf` stands at `index` of the tree of `count` leaves under `root`; siblings run from the leaves upwards.
    function verify(bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata path, bytes32 root)
        internal
        pure
        returns (bool)
    {
        if (index >= count || path.length != depth(count)) return false;
        for (uint256 i = 0; i < path.length; ++i) {
            leaf = index & 1 == 0 ? _node(leaf, path[i]) : _node(path[i], leaf);
            index >>= 1;
        }
        return leaf == root;
    }

    /// ⌈log2 count⌉ for count >= 1.
    function depth(uint256 count) internal pure returns (uint256 levels) {
        while (1 << levels < count) ++levels;
    }

    /// Parses the tensor at `start`; gives its name, its hash and the offset behind it.
    function _tensor(bytes calldata data, uint256 start)
        private
        view
        returns (bytes calldata name, bytes32 root, uint256 next)
    {
        uint256 left = data.length - start;
        uint256 nameLength = left == 0 ? 0 : uint8(data[start]);
        // nameLen, the name, dtype and rank must be there before any of them is read
        if (nameLength == 0 || nameLength > MAX_NAME || left < nameLength + 3) revert MalformedBundle(start);
        name = data[start + 1:start + 1 + nameLength];
        for (uint256 i = 0; i < nameLength; ++i) {
            if (name[i] < 0x21 || name[i] > 0x7e) revert MalformedBundle(start + 1 + i);
        }
        uint256 head = start + 1 + nameLength;
        uint256 rank = uint8(data[head + 1]);
        uint256 width = _width(uint8(data[head]));
        if (width == 0) revert MalformedBundle(head);
        if (rank == 0 || rank > MAX_RANK) revert MalformedBundle(head + 1);
        uint256 body = head + 2 + 4 * rank;
        if (data.length < body) revert MalformedBundle(head + 2);
        uint256 rows = 1;
        uint256 columns = 1; // at most 2^192 elements: six factors below 2^32
        for (uint256 i = 0; i < rank; ++i) {
            uint256 offset = head + 2 + 4 * i;
            rows *= columns;
            columns = uint32(bytes4(data[offset:offset + 4]));
            if (columns == 0) revert MalformedBundle(offset);
        }
        uint256 size = width * rows * columns;
        if (data.length - body < size) revert MalformedBundle(body);
        next = body + size;
        root = sha256(abi.encodePacked(hex"02", data[head:body], _tilesRoot(data[body:next], rows, width * columns)));
    }

    /// Bytes of one element; 0 for a dtype that is none.
    function _width(uint256 dtype) private pure returns (uint256) {
        if (dtype == 0 || dtype > 3) return 0;
        return dtype == 3 ? 8 : 4;
    }

    /// Root over the tiles of `rows` rows of `rowBytes` bytes; body.length = rows * rowBytes, both at least 1.
    function _tilesRoot(bytes calldata body, uint256 rows, uint256 rowBytes) private view returns (bytes32 root) {
        uint256 perRow = (rowBytes + TILE - 1) / TILE;
        bytes32[] memory nodes = new bytes32[](rows * perRow + 1); // one more, so that an odd level finds room to pad
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore(buffer, 0) // the tag of a tile is its first byte, zero
            let out := add(nodes, 32)
            let source := body.offset
            for { let row := 0 } lt(row, rows) { row := add(row, 1) } {
                for { let left := rowBytes } left {} {
                    let size := left
                    if gt(size, 1024) { size := 1024 }
                    calldatacopy(add(buffer, 1), source, size)
                    // reading behind the end of calldata gives zeros
                    calldatacopy(add(add(buffer, 1), size), calldatasize(), sub(1024, size))
                    if iszero(staticcall(gas(), 2, buffer, 1025, out, 32)) { revert(0, 0) } // out of gas
                    out := add(out, 32)
                    source := add(source, size)
                    left := sub(left, size)
                }
            }
        }
        return _merkle(nodes, rows * perRow);
    }

    /// Root of the first `count` entries; `nodes` is used up and has room for one more.
    function _merkle(bytes32[] memory nodes, uint256 count) private view returns (bytes32) {
        bytes32 pad = 0; // the root of a padding subtree as high as the current level
        while (count > 1) {
            if (count & 1 == 1) nodes[count++] = pad;
            count >>= 1;
            assembly ("memory-safe") {
                let buffer := mload(0x40)
                mstore8(buffer, 1)
                let source := add(nodes, 32)
                let out := source
                for { let end := add(out, shl(5, count)) } lt(out, end) { out := add(out, 32) } {
                    mcopy(add(buffer, 1), source, 64)
                    if iszero(staticcall(gas(), 2, buffer, 65, out, 32)) { revert(0, 0) } // out of gas
                    source := add(source, 64)
                }
            }
            pad = _node(pad, pad);
        }
        return nodes[0];
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"01", left, right));
    }
}
