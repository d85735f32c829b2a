// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Case, IAdjudicator} from "./IAdjudicator.sol";

/// Rules disputes by k of n named signers, who replay the task for themselves and sign over (chain, this contract,
/// market, dispute, case digest, verdict). Serves any number of markets: a case belongs to the market that opened it.
contract SignerAdjudicator is IAdjudicator {
    struct Docket {
        bytes32 digest;
        uint64 rulingBy;
        uint8 ruled; // 0 undecided, 1 the commitment is wrong, 2 it is right
    }

    event Opened(
        address indexed market,
        uint256 indexed dispute,
        bytes32 indexed job,
        address provider,
        address challenger,
        bytes32 digest,
        uint64 rulingBy
    );
    event Ruled(address indexed market, uint256 indexed dispute, bool fraud);

    error BadSigners();
    error BadPeriod();
    error CaseExists();
    error UnknownCase();
    error AlreadyRuled();
    error TooLate();
    error TooFewSignatures(uint256 given, uint256 needed);
    error BadSignature(uint256 index);
    error NotASigner(address recovered);
    error SignersNotAscending(uint256 index);

    /// The longest wait that a signer set may promise; a market refuses more.
    uint64 public constant MAX_PERIOD = 90 days;
    uint256 private constant MAX_SIGNERS = 64;
    /// Half the order of secp256k1: of a signature's two forms only the one with the lower s counts.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant RULING_TYPE =
        keccak256("Ruling(address market,uint256 dispute,bytes32 digest,bool fraud)");

    uint8 public immutable k;
    uint64 public immutable rulingPeriod;
    address[] private _signers;
    mapping(address => bool) public isSigner;
    mapping(address => mapping(uint256 => Docket)) private _dockets;

    /// `signers_` ascending and without the zero address, 1 <= k_ <= n.
    constructor(address[] memory signers_, uint8 k_, uint64 rulingPeriod_) {
        uint256 n = signers_.length;
        if (k_ == 0 || k_ > n || n > MAX_SIGNERS) revert BadSigners();
        if (rulingPeriod_ == 0 || rulingPeriod_ > MAX_PERIOD) revert BadPeriod();
        address last = address(0);
        for (uint256 i = 0; i < n; ++i) {
            if (signers_[i] <= last) revert BadSigners();
            last = signers_[i];
            isSigner[last] = true;
        }
        _signers = signers_;
        k = k_;
        rulingPeriod = rulingPeriod_;
    }

    function opened(Case calldata c) external returns (uint64 rulingBy) {
        Docket storage docket = _dockets[msg.sender][c.dispute];
        if (docket.rulingBy != 0) revert CaseExists();
        rulingBy = uint64(block.timestamp) + rulingPeriod;
        docket.digest = c.digest;
        docket.rulingBy = rulingBy;
        emit Opened(msg.sender, c.dispute, c.job, c.provider, c.challenger, c.digest, rulingBy);
    }

    /// Records the verdict that at least k signers agree on. Anyone may carry it. Signatures are r ‖ s ‖ v (65 bytes),
    /// ordered by their signers' addresses, so that none can count twice.
    function rule(address market, uint256 dispute, bool fraud, bytes[] calldata signatures) external {
        Docket storage docket = _dockets[market][dispute];
        if (docket.rulingBy == 0) revert UnknownCase();
        if (docket.ruled != 0) revert AlreadyRuled();
        if (block.timestamp >= docket.rulingBy) revert TooLate();
        if (signatures.length < k) revert TooFewSignatures(signatures.length, k);
        bytes32 digest = _typedDigest(market, dispute, docket.digest, fraud);
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = _recover(digest, signatures[i], i);
            if (!isSigner[signer]) revert NotASigner(signer);
            if (signer <= last) revert SignersNotAscending(i);
            last = signer;
        }
        docket.ruled = fraud ? 1 : 2;
        emit Ruled(market, dispute, fraud);
    }

    function ruling(address market, uint256 dispute) external view returns (uint8) {
        return _dockets[market][dispute].ruled;
    }

    function docketOf(address market, uint256 dispute) external view returns (Docket memory) {
        return _dockets[market][dispute];
    }

    function signers() external view returns (address[] memory) {
        return _signers;
    }

    /// What the signers of this case have to sign for the verdict `fraud`.
    function rulingDigest(address market, uint256 dispute, bool fraud) external view returns (bytes32) {
        return _typedDigest(market, dispute, _dockets[market][dispute].digest, fraud);
    }

    /// Computed anew each time, so that a fork of the chain does not share rulings.
    function _typedDigest(address market, uint256 dispute, bytes32 digest, bool fraud) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256("SignerAdjudicator"), keccak256("1"), block.chainid, address(this))
        );
        bytes32 message = keccak256(abi.encode(RULING_TYPE, market, dispute, digest, fraud));
        return keccak256(abi.encodePacked(hex"1901", domain, message));
    }

    function _recover(bytes32 digest, bytes calldata signature, uint256 index) private pure returns (address signer) {
        if (signature.length != 65) revert BadSignature(index);
        bytes32 r = bytes32(signature[:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28)) revert BadSignature(index);
        signer = ecrecover(digest, v, r, s);
        if (signer == address(0)) revert BadSignature(index);
    }
}
