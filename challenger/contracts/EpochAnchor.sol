// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// A public, write-once notebook for watchers: before an epoch opens a watcher anchors a commitment to its sampling
/// secret and policy, after the epoch's windows have closed it reveals the secret. The contract does not check the one
/// against the other (the preimage holds more than the secret); whoever audits the epoch does.
contract EpochAnchor {
    struct Entry {
        bytes32 commitment;
        bytes32 secret;
        uint64 anchoredBlock;
        uint64 revealedBlock;
    }

    event Anchored(address indexed watcher, uint64 indexed epoch, bytes32 commitment);
    event Revealed(address indexed watcher, uint64 indexed epoch, bytes32 secret);

    error EmptyValue();
    error AlreadyAnchored(uint64 epoch);
    error NotAnchored(uint64 epoch);
    error AlreadyRevealed(uint64 epoch);

    mapping(address => mapping(uint64 => Entry)) private _entries;

    function anchor(uint64 epoch, bytes32 commitment) external {
        if (commitment == 0) revert EmptyValue();
        Entry storage entry = _entries[msg.sender][epoch];
        if (entry.commitment != 0) revert AlreadyAnchored(epoch);
        entry.commitment = commitment;
        entry.anchoredBlock = uint64(block.number);
        emit Anchored(msg.sender, epoch, commitment);
    }

    function reveal(uint64 epoch, bytes32 secret) external {
        if (secret == 0) revert EmptyValue();
        Entry storage entry = _entries[msg.sender][epoch];
        if (entry.commitment == 0) revert NotAnchored(epoch);
        if (entry.secret != 0) revert AlreadyRevealed(epoch);
        entry.secret = secret;
        entry.revealedBlock = uint64(block.number);
        emit Revealed(msg.sender, epoch, secret);
    }

    /// What `watcher` wrote for `epoch`; zeros where nothing was written.
    function entryOf(address watcher, uint64 epoch) external view returns (Entry memory) {
        return _entries[watcher][epoch];
    }
}
