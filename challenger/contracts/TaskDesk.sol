// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Layout} from "./Layout.sol";
import {MarketLedger} from "./MarketLedger.sol";
import {Job, Model, ModelSpec, Task} from "./MarketTypes.sol";

/// From a model to a commitment: registration, tasks, take-up, commitment.
abstract contract TaskDesk is MarketLedger {
    uint8 internal constant MODEL_ACTIVE = 1;
    uint8 internal constant MODEL_RETIRED = 2;
    uint8 internal constant MODEL_CONDEMNED = 3;

    uint8 internal constant TASK_OPEN = 1;
    uint8 internal constant TASK_TAKEN = 2;
    uint8 internal constant TASK_COMMITTED = 3;
    uint8 internal constant TASK_CANCELLED = 4;
    uint8 internal constant TASK_LAPSED = 5;

    /// A block's hash can be read for 256 blocks.
    uint256 private constant LAST_TAKE = 256;
    uint8 private constant MODES = 3;

    mapping(bytes32 => Model) internal _models;
    mapping(bytes32 => Task) internal _tasks;
    mapping(bytes32 => Job) internal _jobs;
    uint256 private _taskCount;

    // --- models -----------------------------------------------------------------------------------------------------

    function registerModel(ModelSpec calldata spec) external payable returns (bytes32 id) {
        _exactly(_modelBond);
        if (spec.mode >= MODES) revert BadSpec("mode");
        if (spec.boundaries < 2) revert BadSpec("boundaries");
        if (spec.artefactTiles == 0) revert BadSpec("artefactTiles");
        if (bytes(spec.uri).length == 0) revert BadSpec("uri");
        if (bytes(spec.uri).length > MAX_URI) revert UriTooLong(bytes(spec.uri).length, MAX_URI);
        if (spec.knownInput.length > _maxInline) revert TooLong(spec.knownInput.length, _maxInline);
        Layout.bundleRoot(spec.knownInput); // reverts unless it is a bundle
        id = keccak256(
            abi.encode(
                "model/1",
                block.chainid,
                address(this),
                msg.sender,
                spec.fileDigest,
                spec.artefactRoot,
                spec.programRoot,
                spec.specVersion,
                spec.mode,
                spec.boundaries,
                spec.artefactTiles,
                spec.uri,
                spec.knownInput,
                spec.knownOutputRoot
            )
        );
        Model storage m = _models[id];
        if (m.status != 0) revert ModelExists();
        m.registrar = msg.sender;
        m.status = MODEL_ACTIVE;
        m.mode = spec.mode;
        m.specVersion = spec.specVersion;
        m.boundaries = spec.boundaries;
        m.artefactTiles = spec.artefactTiles;
        m.artefactRoot = spec.artefactRoot;
        m.programRoot = spec.programRoot;
        m.bond = msg.value;
        emit ModelRegistered(id, msg.sender, spec);
    }

    /// Takes the model out of service; the bond goes back once no work on it is open (call again then).
    function retireModel(bytes32 id) external {
        Model storage m = _model(id);
        if (msg.sender != m.registrar) revert NotRegistrar();
        if (m.status == MODEL_ACTIVE) {
            m.status = MODEL_RETIRED;
            emit ModelDisabled(id);
        } else if (m.work != 0) {
            revert WorkOpen(m.work);
        } else if (m.bond == 0) {
            revert ModelInactive();
        }
        if (m.work == 0) {
            uint256 bond = m.bond;
            m.bond = 0;
            _credit(msg.sender, bond);
        }
    }

    // --- tasks ------------------------------------------------------------------------------------------------------

    /// The fee is what is sent along. Exactly one of `inputData` and `inputUri` is given.
    function openTask(
        bytes32 modelId,
        bytes32 inputRoot,
        bytes calldata inputData,
        string calldata inputUri,
        uint32 inputLength,
        bytes32 entropy,
        uint64 deadline
    ) external payable returns (bytes32 id) {
        if (_model(modelId).status != MODEL_ACTIVE) revert ModelInactive();
        if (deadline <= block.timestamp) revert BadDeadline();
        bool isInline = _checkData(inputRoot, inputData, inputUri, inputLength);
        id = keccak256(
            abi.encode("task/1", block.chainid, address(this), msg.sender, modelId, inputRoot, entropy, ++_taskCount)
        );
        Task storage t = _tasks[id];
        t.requester = msg.sender;
        t.openedBlock = uint64(block.number);
        t.status = TASK_OPEN;
        t.inputInline = isInline;
        t.deadline = deadline;
        t.model = modelId;
        t.inputRoot = inputRoot;
        t.entropy = entropy;
        t.fee = msg.value;
        emit TaskOpened(
            id, modelId, msg.sender, inputRoot, inputData, inputUri, inputLength, entropy, msg.value, deadline
        );
    }

    /// Fixes provider and seed. The beacon is the hash of the block after the task's own: nobody knew it when the entropy
    /// was chosen, and nobody but the maker of that one block had a say in it.
    function take(bytes32 id) external {
        Task storage t = _task(id);
        if (t.status != TASK_OPEN) revert TaskNotOpen();
        if (block.timestamp >= t.deadline) revert DeadlinePassed();
        Model storage m = _models[t.model];
        if (m.status != MODEL_ACTIVE) revert ModelInactive();
        if (block.number < t.openedBlock + 2) revert BeaconNotReady();
        if (block.number > t.openedBlock + LAST_TAKE) revert BeaconGone();
        _lock(msg.sender);
        ++m.work;
        bytes32 beacon = blockhash(t.openedBlock + 1);
        bytes32 seed = sha256(abi.encodePacked("seed/1", block.chainid, address(this), id, t.entropy, beacon));
        t.status = TASK_TAKEN;
        t.provider = msg.sender;
        t.seed = seed;
        emit TaskTaken(id, msg.sender, seed);
    }

    /// The requester takes an untaken task back.
    function cancelTask(bytes32 id) external {
        Task storage t = _task(id);
        if (msg.sender != t.requester) revert NotRequester();
        if (t.status != TASK_OPEN) revert TaskNotOpen();
        t.status = TASK_CANCELLED;
        emit TaskCancelled(id);
        _refund(t);
    }

    /// Ends a task whose provider let the deadline pass. Where the model's weights were meanwhile found withheld the
    /// provider keeps its collateral: it may have been unable to work.
    function lapseTask(bytes32 id) external {
        Task storage t = _task(id);
        if (t.status != TASK_TAKEN) revert TaskNotTaken();
        if (block.timestamp < t.deadline) revert DeadlineNotPassed();
        t.status = TASK_LAPSED;
        Model storage m = _models[t.model];
        --m.work;
        uint256 paid;
        uint256 burnt;
        if (m.status == MODEL_CONDEMNED) {
            _release(t.provider);
        } else {
            _forfeit(t.provider);
            (paid, burnt) = _split(_jobCollateral, t.requester);
        }
        emit TaskLapsed(id, t.provider, paid, burnt);
        _refund(t);
        _burn(burnt);
    }

    /// The taker's answer. `firstPath` and `lastPath` prove that the state root begins with the task's input root and ends
    /// with `outputRoot`.
    function commit(
        bytes32 taskId,
        bytes32 outputRoot,
        bytes32 stateRoot,
        bytes calldata outputData,
        string calldata outputUri,
        uint32 outputLength,
        bytes32[] calldata firstPath,
        bytes32[] calldata lastPath
    ) external returns (bytes32 id) {
        Task storage t = _task(taskId);
        if (t.status != TASK_TAKEN) revert TaskNotTaken();
        if (msg.sender != t.provider) revert NotProvider();
        if (block.timestamp >= t.deadline) revert DeadlinePassed();
        bytes32 modelId = t.model;
        {
            uint256 leaves = _models[modelId].boundaries;
            if (!Layout.verify(t.inputRoot, 0, leaves, firstPath, stateRoot)) revert BadPath();
            if (!Layout.verify(outputRoot, leaves - 1, leaves, lastPath, stateRoot)) revert BadPath();
        }
        bool isInline = _checkData(outputRoot, outputData, outputUri, outputLength);
        id = keccak256(
            abi.encode(
                "job/1", block.chainid, address(this), taskId, msg.sender, modelId, outputRoot, stateRoot
            )
        );
        t.status = TASK_COMMITTED;
        uint64 committedAt = uint64(block.timestamp);
        Job storage j = _jobs[id];
        j.provider = msg.sender;
        j.committedAt = committedAt;
        j.outputInline = isInline;
        j.windowEnd = committedAt + _window;
        j.task = taskId;
        j.model = modelId;
        j.outputRoot = outputRoot;
        j.stateRoot = stateRoot;
        emit Committed(
            id,
            taskId,
            msg.sender,
            modelId,
            outputRoot,
            stateRoot,
            outputData,
            outputUri,
            outputLength,
            committedAt,
            committedAt + _window
        );
    }

    // --- views ------------------------------------------------------------------------------------------------------

    function model(bytes32 id) external view returns (Model memory) {
        return _models[id];
    }

    function task(bytes32 id) external view returns (Task memory) {
        return _tasks[id];
    }

    function job(bytes32 id) external view returns (Job memory) {
        return _jobs[id];
    }

    /// The first second at which the job can no longer be challenged, as things stand.
    function windowEnd(bytes32 id) external view returns (uint64) {
        return _jobs[id].windowEnd;
    }

    /// Root of a bundle's bytes, or a revert: what `openTask`, `commit` and `answer` will find.
    function bundleRoot(bytes calldata data) external view returns (bytes32) {
        return Layout.bundleRoot(data);
    }

    // --- inner ------------------------------------------------------------------------------------------------------

    /// Inline data is hashed here and now; data by URI can be demanded later, so it must be short enough to be posted.
    function _checkData(bytes32 root, bytes calldata data, string calldata uri, uint32 length)
        private
        view
        returns (bool isInline)
    {
        uint256 uriLength = bytes(uri).length;
        isInline = data.length != 0;
        if (isInline == (uriLength != 0)) revert InlineOrUri();
        if (isInline) {
            if (data.length > _maxInline) revert TooLong(data.length, _maxInline);
            if (data.length != length) revert LengthMismatch(length, data.length);
            _checkRoot(data, root);
        } else {
            if (uriLength > MAX_URI) revert UriTooLong(uriLength, MAX_URI);
            if (length == 0) revert LengthMismatch(length, 1);
            if (length > MAX_POSTED) revert TooLong(length, MAX_POSTED);
        }
    }

    function _checkRoot(bytes calldata data, bytes32 root) internal view {
        bytes32 computed = Layout.bundleRoot(data);
        if (computed != root) revert RootMismatch(computed);
    }

    /// What is left of the fee goes back to the requester.
    function _refund(Task storage t) internal {
        uint256 fee = t.fee;
        t.fee = 0;
        _credit(t.requester, fee);
    }

    function _model(bytes32 id) private view returns (Model storage m) {
        m = _models[id];
        if (m.status == 0) revert UnknownModel();
    }

    function _task(bytes32 id) private view returns (Task storage t) {
        t = _tasks[id];
        if (t.status == 0) revert UnknownTask();
    }
}
