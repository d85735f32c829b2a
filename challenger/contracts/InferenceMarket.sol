// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Case} from "./IAdjudicator.sol";
import {Layout} from "./Layout.sol";
import {MarketLedger} from "./MarketLedger.sol";
import {Demand, Dispute, Job, Model, Params, Task} from "./MarketTypes.sol";
import {TaskDesk} from "./TaskDesk.sol";

/// Commitments to AI inference that may be disputed for a while. Models, tasks and commitments are in `TaskDesk`, money
/// is in `MarketLedger`; here are disputes, demands for withheld data, and the end of a job. docs/protocol.md has the
/// rules, who loses what, and why.
contract InferenceMarket is TaskDesk {
    uint8 private constant JOB_OPEN = 0;
    uint8 private constant JOB_FINAL = 1;
    uint8 private constant JOB_FRAUD = 2;
    uint8 private constant JOB_VOID = 3;

    uint8 private constant OPEN = 0;
    uint8 private constant CHALLENGER = 1;
    uint8 private constant PROVIDER = 2;
    uint8 private constant EXPIRED = 3;
    uint8 private constant MOOT = 4;

    uint8 private constant ANSWERED = 1;
    uint8 private constant LOST = 2;
    uint8 private constant DEMAND_MOOT = 3;

    uint8 private constant INPUT = 0;
    uint8 private constant WEIGHTS = 1;
    uint8 private constant OUTPUT = 2;
    uint8 private constant OPENING = 3;

    mapping(address => mapping(bytes32 => uint64)) private _seals; // block in which the challenger sealed
    mapping(uint256 => Dispute) private _disputes;
    mapping(uint256 => Demand) private _demands;
    mapping(bytes32 => mapping(uint256 => uint256)) private _demanded; // job => part and index => demand
    uint32 private _disputeCount;
    uint256 private _demandCount;

    constructor(Params memory p) MarketLedger(p) {}

    // --- disputes ---------------------------------------------------------------------------------------------------

    /// First half of a challenge: a digest that hides the claim. Kept per sender, so that copying one gains nothing.
    function seal(bytes32 sealed_) external {
        _seals[msg.sender][sealed_] = uint64(block.number);
        emit Sealed(sealed_, msg.sender);
    }

    /// Second half, in a later block: opens the seal and the dispute.
    function challenge(
        bytes32 jobId,
        bytes32 claimedOutputRoot,
        bytes32 claimedStateRoot,
        bytes32 evidence,
        bytes32 salt
    ) external payable returns (uint256 id) {
        _exactly(_challengeBond);
        Job storage j = _openJob(jobId);
        if (j.withheld || block.timestamp >= j.windowEnd) revert WindowClosed();
        if (j.openDisputes >= _maxDisputes) revert DisputesFull();
        if (claimedOutputRoot == j.outputRoot && claimedStateRoot == j.stateRoot) revert SameRoots();
        _unseal(
            keccak256(
                abi.encode("seal/1", msg.sender, jobId, claimedOutputRoot, claimedStateRoot, evidence, salt)
            )
        );
        id = ++_disputeCount;
        j.queue |= id << (32 * uint256(j.openDisputes));
        ++j.openDisputes;
        Dispute storage d = _disputes[id];
        d.job = jobId;
        d.challenger = msg.sender;
        d.openedAt = uint64(block.timestamp);
        bytes32 digest = keccak256(
            abi.encode(
                "case/1", jobId, j.outputRoot, j.stateRoot, claimedOutputRoot, claimedStateRoot, evidence
            )
        );
        // the adjudicator is fixed at deployment; all but rulingBy, which it names, is written before it is called
        uint64 rulingBy = _adjudicator.opened(Case(id, jobId, j.provider, msg.sender, digest));
        if (rulingBy <= block.timestamp || rulingBy > block.timestamp + MAX_PERIOD) revert BadRulingPeriod();
        d.rulingBy = rulingBy;
        emit Challenged(
            id, jobId, msg.sender, claimedOutputRoot, claimedStateRoot, evidence, _challengeBond, rulingBy
        );
    }

    /// The provider admits a fraud. Only towards the oldest open dispute and with no demand for its own data pending, so
    /// that it cannot choose a friend as winner over whoever accused it first.
    function concede(uint256 id) external {
        Dispute storage d = _openDispute(id);
        Job storage j = _openJob(d.job);
        if (msg.sender != j.provider) revert NotProvider();
        if (j.openOwnDemands != 0) revert ProviderDemandOpen();
        _proven(id, d, j);
    }

    /// Carries the adjudicator's ruling, or its silence, into effect. Anyone may call.
    function settle(uint256 id) external {
        Dispute storage d = _openDispute(id);
        bytes32 jobId = d.job;
        Job storage j = _jobs[jobId];
        if (j.status != JOB_OPEN) {
            _closeDispute(id, d, j, MOOT);
            _credit(d.challenger, _challengeBond);
            emit Settled(id, jobId, MOOT, 0, 0);
            return;
        }
        uint8 ruling = _adjudicator.ruling(address(this), id);
        if (ruling == CHALLENGER) {
            _proven(id, d, j);
        } else if (ruling == PROVIDER) {
            bool wasFull = j.openDisputes >= _maxDisputes;
            _closeDispute(id, d, j, PROVIDER);
            (uint256 paid, uint256 burnt) = _split(_challengeBond, j.provider);
            emit Settled(id, jobId, PROVIDER, paid, burnt);
            // while all slots were taken nobody else could challenge: the time starts anew
            if (wasFull) _extend(jobId, j);
            _voidIfDone(jobId, j);
            _burn(burnt);
        } else if (block.timestamp < d.rulingBy) {
            revert Undecided(d.rulingBy);
        } else {
            j.expired = true;
            _closeDispute(id, d, j, EXPIRED);
            _credit(d.challenger, _challengeBond);
            emit Settled(id, jobId, EXPIRED, 0, 0);
            _voidIfDone(jobId, j);
        }
    }

    // --- demands ----------------------------------------------------------------------------------------------------

    /// Asks for data that was only named. Possible in the job's first window, and as long as a dispute over it is open;
    /// once per (job, part, index).
    function demand(bytes32 jobId, uint8 part, uint32 index) external payable returns (uint256 id) {
        _exactly(_demandBond);
        Job storage j = _openJob(jobId);
        if (j.withheld || (block.timestamp >= j.committedAt + _window && j.openDisputes == 0)) revert WindowClosed();
        if (part > OPENING) revert BadPart();
        if (part == INPUT ? _tasks[j.task].inputInline : part == OUTPUT && j.outputInline) revert GivenInline();
        if (index >= _places(j, part)) revert BadIndex();
        uint256 key = (uint256(part) << 32) | index;
        if (_demanded[jobId][key] != 0) revert AlreadyDemanded(_demanded[jobId][key]);
        id = ++_demandCount;
        _demanded[jobId][key] = id;
        uint64 answerBy = uint64(block.timestamp) + _answerPeriod;
        _demands[id] = Demand(jobId, msg.sender, uint64(block.timestamp), part, OPEN, index, answerBy);
        ++j.openDemands;
        if (part >= OUTPUT) ++j.openOwnDemands;
        emit Demanded(id, jobId, msg.sender, part, index, _demandBond, answerBy);
    }

    /// Posts a demanded input or output: the whole bundle. Anyone may.
    function answer(uint256 id, bytes calldata data) external {
        (Demand storage d, Job storage j) = _answerable(id);
        if (d.part == INPUT) _checkRoot(data, _tasks[j.task].inputRoot);
        else if (d.part == OUTPUT) _checkRoot(data, j.outputRoot);
        else revert WrongAnswer();
        _answered(id, d, j, data);
    }

    /// Posts a demanded tile of the weights (1024 bytes) or leaf of the state root (32 bytes) with its path. Anyone may.
    function answerTile(uint256 id, bytes calldata leaf, bytes32[] calldata path) external {
        (Demand storage d, Job storage j) = _answerable(id);
        if (d.part != WEIGHTS && d.part != OPENING) revert WrongAnswer();
        bool weights = d.part == WEIGHTS;
        if (leaf.length != (weights ? Layout.TILE : 32)) revert WrongAnswer();
        bytes32 node = weights ? Layout.tileHash(leaf) : bytes32(leaf);
        bytes32 root = weights ? _models[j.model].artefactRoot : j.stateRoot;
        if (!Layout.verify(node, d.index, _places(j, d.part), path, root)) revert BadPath();
        _answered(id, d, j, leaf);
    }

    /// Ends a demand that nobody answered in time, or one whose job is over.
    function claimDemand(uint256 id) external {
        Demand storage d = _openDemand(id);
        bytes32 jobId = d.job;
        Job storage j = _jobs[jobId];
        if (j.status != JOB_OPEN) {
            _closeDemand(d, j, DEMAND_MOOT);
            _credit(d.demander, _demandBond);
            emit DemandClosed(id, jobId, DEMAND_MOOT, "", 0, 0);
            return;
        }
        if (block.timestamp < d.answerBy) revert TooEarly();
        if (d.part >= OUTPUT) {
            uint256 first = uint32(j.queue);
            // whoever had accused the provider when the demand was made comes first; a tie is the accuser's, or a cheat
            // that sees an accusation could put a friend's demand behind it in the same block
            if (first != 0 && _disputes[first].openedAt <= d.openedAt) revert EarlierDisputeOpen(first);
        }
        _closeDemand(d, j, LOST);
        _credit(d.demander, _demandBond);
        uint256 paid;
        uint256 burnt;
        if (d.part == INPUT) {
            j.withheld = true;
            Task storage t = _tasks[j.task];
            uint256 fee = t.fee;
            t.fee = 0;
            (paid, burnt) = _split(fee, d.demander);
        } else if (d.part == WEIGHTS) {
            j.withheld = true;
            (paid, burnt) = _condemn(j.model, d.demander);
            _refund(_tasks[j.task]);
        } else {
            (paid, burnt) = _slash(jobId, j, d.demander);
        }
        emit DemandClosed(id, jobId, LOST, "", paid, burnt);
        _voidIfDone(jobId, j);
        _burn(burnt);
    }

    // --- the end of a job -------------------------------------------------------------------------------------------

    /// Closes a job whose window is over and over which nothing is open.
    function finalise(bytes32 jobId) external {
        Job storage j = _openJob(jobId);
        if (block.timestamp < j.windowEnd) revert WindowOpen();
        if (j.openDisputes != 0 || j.openDemands != 0) revert StillOpen(j.openDisputes, j.openDemands);
        if (j.expired) {
            _void(jobId, j);
        } else {
            _release(j.provider);
            _closeJob(jobId, j, JOB_FINAL);
            Task storage t = _tasks[j.task];
            uint256 fee = t.fee;
            t.fee = 0;
            _credit(j.provider, fee);
        }
    }

    // --- views ------------------------------------------------------------------------------------------------------

    function dispute(uint256 id) external view returns (Dispute memory) {
        return _disputes[id];
    }

    function demand(uint256 id) external view returns (Demand memory) {
        return _demands[id];
    }

    /// The demand made for this part and index of the job; 0 where none was.
    function demandOf(bytes32 jobId, uint8 part, uint32 index) external view returns (uint256) {
        return _demanded[jobId][(uint256(part) << 32) | index];
    }

    /// The block in which `challenger` last sealed this digest; 0 where none is pending.
    function sealedIn(address challenger, bytes32 sealed_) external view returns (uint64) {
        return _seals[challenger][sealed_];
    }

    // --- inner: disputes --------------------------------------------------------------------------------------------

    function _unseal(bytes32 sealed_) private {
        uint256 since = _seals[msg.sender][sealed_];
        if (since == 0) revert NotSealed();
        if (block.number < since + _sealAge) revert SealTooYoung();
        if (block.number > since + _maxSealAge) revert SealTooOld();
        delete _seals[msg.sender][sealed_];
    }

    /// The commitment is wrong. The oldest open dispute wins the bounty: a later one, ruled upon sooner, waits for it.
    function _proven(uint256 id, Dispute storage d, Job storage j) private {
        uint256 first = uint32(j.queue);
        if (first != id) revert EarlierDisputeOpen(first);
        bytes32 jobId = d.job;
        _closeDispute(id, d, j, CHALLENGER);
        _credit(d.challenger, _challengeBond);
        (uint256 paid, uint256 burnt) = _slash(jobId, j, d.challenger);
        emit Settled(id, jobId, CHALLENGER, paid, burnt);
        _burn(burnt);
    }

    function _closeDispute(uint256 id, Dispute storage d, Job storage j, uint8 outcome) private {
        d.outcome = outcome;
        --j.openDisputes;
        uint256 queue = j.queue;
        uint256 shift = 0;
        while (uint32(queue >> shift) != id) shift += 32;
        uint256 below = queue & ((1 << shift) - 1);
        j.queue = below | ((queue >> shift >> 32) << shift);
    }

    // --- inner: demands ---------------------------------------------------------------------------------------------

    /// How many things of this part there are to ask for.
    function _places(Job storage j, uint8 part) private view returns (uint256) {
        if (part == WEIGHTS) return _models[j.model].artefactTiles;
        if (part == OPENING) return _models[j.model].boundaries;
        return 1;
    }

    function _answerable(uint256 id) private view returns (Demand storage d, Job storage j) {
        d = _openDemand(id);
        j = _openJob(d.job);
        if (block.timestamp >= d.answerBy) revert TooLate();
    }

    /// The demander's bond pays for the answer: it goes to the provider where the provider answered, else to whoever had
    /// to, so that answering one's own demand as a bystander costs the bond.
    function _answered(uint256 id, Demand storage d, Job storage j, bytes calldata data) private {
        bytes32 jobId = d.job;
        _closeDemand(d, j, ANSWERED);
        address to = j.provider;
        if (msg.sender != to && d.part == INPUT) to = _tasks[j.task].requester;
        else if (msg.sender != to && d.part == WEIGHTS) to = _models[j.model].registrar;
        _credit(to, _demandBond);
        emit DemandClosed(id, jobId, ANSWERED, data, _demandBond, 0);
        _extend(jobId, j);
        _voidIfDone(jobId, j);
    }

    function _closeDemand(Demand storage d, Job storage j, uint8 outcome) private {
        d.outcome = outcome;
        --j.openDemands;
        if (d.part >= OUTPUT) --j.openOwnDemands;
    }

    function _condemn(bytes32 modelId, address winner) private returns (uint256 paid, uint256 burnt) {
        Model storage m = _models[modelId];
        if (m.status == MODEL_ACTIVE) emit ModelDisabled(modelId);
        m.status = MODEL_CONDEMNED;
        uint256 bond = m.bond;
        m.bond = 0;
        return _split(bond, winner);
    }

    // --- inner: jobs ------------------------------------------------------------------------------------------------

    /// At least a whole window remains; not for a job that cannot finalise any more.
    function _extend(bytes32 jobId, Job storage j) private {
        uint64 end = uint64(block.timestamp) + _window;
        if (j.expired || j.withheld || end <= j.windowEnd) return;
        j.windowEnd = end;
        emit WindowExtended(jobId, end);
    }

    /// The provider loses its collateral and the job is FRAUD; the fee goes back. The caller burns.
    function _slash(bytes32 jobId, Job storage j, address winner) private returns (uint256 paid, uint256 burnt) {
        _forfeit(j.provider);
        _closeJob(jobId, j, JOB_FRAUD);
        (paid, burnt) = _split(_jobCollateral, winner);
        _refund(_tasks[j.task]);
    }

    /// A job over which input or weights were withheld ends as soon as no accusation of its provider is open.
    function _voidIfDone(bytes32 jobId, Job storage j) private {
        if (j.status == JOB_OPEN && j.withheld && j.openDisputes == 0 && j.openOwnDemands == 0) _void(jobId, j);
    }

    function _void(bytes32 jobId, Job storage j) private {
        _release(j.provider);
        _closeJob(jobId, j, JOB_VOID);
        _refund(_tasks[j.task]);
    }

    function _closeJob(bytes32 jobId, Job storage j, uint8 status) private {
        j.status = status;
        --_models[j.model].work;
        emit JobClosed(jobId, status);
    }

    function _openJob(bytes32 id) private view returns (Job storage j) {
        j = _jobs[id];
        if (j.provider == address(0)) revert UnknownJob();
        if (j.status != JOB_OPEN) revert JobNotOpen();
    }

    function _openDispute(uint256 id) private view returns (Dispute storage d) {
        d = _disputes[id];
        if (d.challenger == address(0)) revert UnknownDispute();
        if (d.outcome != OPEN) revert DisputeNotOpen();
    }

    function _openDemand(uint256 id) private view returns (Demand storage d) {
        d = _demands[id];
        if (d.demander == address(0)) revert UnknownDemand();
        if (d.outcome != OPEN) revert DemandNotOpen();
    }
}
