// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// What a market hands over when a dispute opens. `digest` binds the commitment, the challenger's claim and the
/// evidence: keccak256(abi.encode("case/1", job, outputRoot, stateRoot, claimedOutputRoot, claimedStateRoot, evidence)).
/// Whoever plays or rules brings the preimage, so that neither side stores it.
struct Case {
    uint256 dispute;
    bytes32 job;
    address provider;
    address challenger;
    bytes32 digest;
}

/// Decides whether a commitment is what the model yields. The market trusts exactly two things: that `rulingBy` bounds
/// the wait, and that a ruling, once given, stays. Both functions must be total: a revert stops the dispute.
interface IAdjudicator {
    /// Called by the market (msg.sender) when a dispute opens. `rulingBy` is the first second at which a missing ruling
    /// counts as none.
    function opened(Case calldata c) external returns (uint64 rulingBy);

    /// 0 undecided, 1 the challenger is right (the commitment is wrong), 2 the provider is right. Must not change from
    /// 0 at or after `rulingBy`, nor from 1 or 2 ever.
    function ruling(address market, uint256 dispute) external view returns (uint8);
}
