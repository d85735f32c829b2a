// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// OpenGradient's TEE registry and settlement relay in one contract, as far as their events and views go. Nothing is
/// checked that the deployed ones have checked by a precompile (attestations, signatures), and nobody is kept from any
/// call: a watcher's tests need histories that are broken in every way. As deployed, nothing remembers what was settled.
contract OpenGradientSettlement {
    struct Enclave {
        address owner;
        address paymentAddress;
        string endpoint;
        bytes publicKey;
        bytes tlsCertificate;
        bytes32 pcrHash;
        uint8 teeType;
        bool enabled;
        uint256 registeredAt;
        uint256 lastHeartbeatAt;
    }

    uint256 public constant MAX_INFERENCE_AGE = 1 hours;
    uint256 public constant FUTURE_TOLERANCE = 5 minutes;

    uint256 public heartbeatMaxAge = 1800;
    /// Which registry the relay's verifier asks; what it says is checked nowhere here.
    address public registry = address(this);
    mapping(uint8 => mapping(bytes32 => bool)) public approved;
    mapping(bytes32 => Enclave) private _enclaves;
    bytes32[] private _ids;

    event TEERegistered(bytes32 indexed teeId, address indexed owner, uint8 teeType);
    event TEEEnabled(bytes32 indexed teeId);
    event TEEDisabled(bytes32 indexed teeId);
    event PCRApproved(bytes32 indexed pcrHash, uint8 indexed teeType, string version);
    event PCRRevoked(bytes32 indexed pcrHash);
    event HeartbeatReceived(bytes32 indexed teeId, uint256 timestamp);
    event RegistryUpdated(address indexed oldRegistry, address indexed newRegistry);
    event BatchSettlement(bytes32 indexed merkleRoot, uint256 batchSize, bytes walrusBlobId);
    event IndividualSettlement(
        bytes32 indexed teeId,
        address indexed ethAddress,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        bytes walrusBlobId,
        bytes signature
    );

    error PCRNotApproved();
    error TEEAlreadyExists();
    error TEENotFound();
    error TEENotEnabled();
    error HeartbeatOutOfTime();

    // the registry

    function setHeartbeatMaxAge(uint256 maxAge) external {
        heartbeatMaxAge = maxAge;
    }

    function approvePCR(bytes32 pcrHash, uint8 teeType, string calldata version) external {
        approved[teeType][pcrHash] = true;
        emit PCRApproved(pcrHash, teeType, version);
    }

    /// Disables every enclave that runs the measurement, each by an event of its own, before it says so.
    function revokePCR(bytes32 pcrHash, uint8 teeType) external {
        if (!approved[teeType][pcrHash]) revert PCRNotApproved();
        approved[teeType][pcrHash] = false;
        for (uint256 i = _ids.length; i > 0; i--) {
            Enclave storage enclave = _enclaves[_ids[i - 1]];
            if (enclave.enabled && enclave.teeType == teeType && enclave.pcrHash == pcrHash) {
                enclave.enabled = false;
                emit TEEDisabled(_ids[i - 1]);
            }
        }
        emit PCRRevoked(pcrHash);
    }

    /// `pcrHash` is what an attestation would have shown.
    function register(bytes calldata publicKey, bytes32 pcrHash, uint8 teeType) external returns (bytes32 teeId) {
        if (!approved[teeType][pcrHash]) revert PCRNotApproved();
        teeId = keccak256(publicKey);
        Enclave storage enclave = _enclaves[teeId];
        if (enclave.registeredAt != 0) revert TEEAlreadyExists();
        enclave.owner = msg.sender;
        enclave.paymentAddress = msg.sender;
        enclave.publicKey = publicKey;
        enclave.pcrHash = pcrHash;
        enclave.teeType = teeType;
        enclave.enabled = true;
        enclave.registeredAt = block.timestamp;
        enclave.lastHeartbeatAt = block.timestamp;
        _ids.push(teeId);
        emit TEERegistered(teeId, msg.sender, teeType);
    }

    function enableTEE(bytes32 teeId) external {
        Enclave storage enclave = _known(teeId);
        if (enclave.enabled) return;
        if (!approved[enclave.teeType][enclave.pcrHash]) revert PCRNotApproved();
        enclave.enabled = true;
        emit TEEEnabled(teeId);
    }

    function disableTEE(bytes32 teeId) external {
        Enclave storage enclave = _known(teeId);
        if (!enclave.enabled) revert TEENotEnabled();
        enclave.enabled = false;
        emit TEEDisabled(teeId);
    }

    function heartbeat(bytes32 teeId, uint256 timestamp) external {
        Enclave storage enclave = _known(teeId);
        if (!enclave.enabled) revert TEENotEnabled();
        if (timestamp > block.timestamp || block.timestamp - timestamp > heartbeatMaxAge) revert HeartbeatOutOfTime();
        enclave.lastHeartbeatAt = block.timestamp;
        emit HeartbeatReceived(teeId, timestamp);
    }

    function getTEE(bytes32 teeId) external view returns (Enclave memory) {
        return _known(teeId);
    }

    function isTEEActive(bytes32 teeId) external view returns (bool) {
        Enclave storage enclave = _enclaves[teeId];
        return enclave.enabled && approved[enclave.teeType][enclave.pcrHash]
            && block.timestamp - enclave.lastHeartbeatAt <= heartbeatMaxAge;
    }

    function _known(bytes32 teeId) private view returns (Enclave storage enclave) {
        enclave = _enclaves[teeId];
        if (enclave.registeredAt == 0) revert TEENotFound();
    }

    // the relay

    /// Who checks signatures and times: as deployed a contract of its own.
    function SETTLEMENT_CONTRACT() external view returns (address) {
        return address(this);
    }

    function setRegistry(address newRegistry) external {
        emit RegistryUpdated(registry, newRegistry);
        registry = newRegistry;
    }

    function batchSettle(bytes32 merkleRoot, uint256 batchSize, bytes calldata walrusBlobId) external {
        emit BatchSettlement(merkleRoot, batchSize, walrusBlobId);
    }

    function settleIndividual(
        bytes32 teeId,
        bytes32 inputHash,
        bytes32 outputHash,
        uint256 timestamp,
        address ethAddress,
        bytes calldata walrusBlobId,
        bytes calldata signature
    ) external {
        emit IndividualSettlement(teeId, ethAddress, inputHash, outputHash, timestamp, walrusBlobId, signature);
    }
}
