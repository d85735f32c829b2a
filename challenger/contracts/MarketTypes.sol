// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAdjudicator} from "./IAdjudicator.sol";

/// Fixed at deployment. Times are seconds, ages are blocks, amounts are wei.
struct Params {
    uint64 window; // W: how long a commitment may be disputed
    uint64 answerPeriod; // D: how long a demand may be answered
    uint64 sealAge; // least blocks between a seal and its challenge
    uint64 maxSealAge; // most blocks between them
    uint8 maxDisputes; // m: most disputes open over one job at a time
    uint256 jobCollateral;
    uint256 modelBond; // at least jobCollateral
    uint256 challengeBond;
    uint256 demandBond;
    uint32 bountyMillionths; // share of a loser's money that the winner gets; the rest is burnt
    uint32 maxInline; // most bytes of a bundle given in calldata when it is first named
    IAdjudicator adjudicator;
}

struct ModelSpec {
    bytes32 fileDigest;
    bytes32 artefactRoot;
    bytes32 programRoot;
    uint32 specVersion;
    uint8 mode; // 0 exact, 1 tolerance, 2 token
    uint32 boundaries; // leaves of a state root
    uint32 artefactTiles; // leaves of the artefact root
    string uri;
    bytes knownInput; // a bundle
    bytes32 knownOutputRoot;
}

/// What the contract remembers of a model; all of its spec is bound by its id and stands in `ModelRegistered`.
struct Model {
    address registrar;
    uint8 status; // 0 none, 1 active, 2 retired by its registrar, 3 condemned: weights were withheld
    uint8 mode;
    uint32 specVersion;
    uint32 boundaries;
    uint32 artefactTiles;
    uint64 work; // tasks taken and jobs open on it
    bytes32 artefactRoot;
    bytes32 programRoot;
    uint256 bond;
}

struct Task {
    address requester;
    uint64 openedBlock;
    uint8 status; // 0 none, 1 open, 2 taken, 3 committed, 4 cancelled, 5 lapsed
    bool inputInline;
    address provider;
    uint64 deadline;
    bytes32 model;
    bytes32 inputRoot;
    bytes32 entropy;
    bytes32 seed;
    uint256 fee; // what is still held of it
}

struct Job {
    address provider;
    uint64 committedAt;
    uint8 status; // 0 open (or none, where provider is zero), 1 final, 2 fraud, 3 void
    uint8 openDisputes;
    bool outputInline;
    uint64 windowEnd;
    uint32 openDemands;
    uint32 openOwnDemands; // those of them that the provider has to answer
    bool expired; // a dispute ended without a ruling: the job ends VOID at best
    bool withheld; // input or weights were withheld: the same, and nothing new may be opened over it
    bytes32 task;
    bytes32 model;
    bytes32 outputRoot;
    bytes32 stateRoot;
    uint256 queue; // ids of open disputes, oldest in the lowest 32 bits
}

struct Dispute {
    bytes32 job;
    address challenger;
    uint64 openedAt;
    uint8 outcome; // 0 open, 1 challenger, 2 provider, 3 expired, 4 moot
    uint64 rulingBy;
}

struct Demand {
    bytes32 job;
    address demander;
    uint64 openedAt;
    uint8 part; // 0 input, 1 weights, 2 output, 3 opening
    uint8 outcome; // 0 open, 1 answered, 2 lost, 3 moot
    uint32 index;
    uint64 answerBy;
}

/// Events and errors of the market.
interface IMarketEvents {
    event ModelRegistered(bytes32 indexed model, address indexed registrar, ModelSpec spec);
    event ModelDisabled(bytes32 indexed model);
    event Staked(address indexed provider, uint256 amount);
    event Unstaked(address indexed provider, uint256 amount);
    event TaskOpened(
        bytes32 indexed task,
        bytes32 indexed model,
        address indexed requester,
        bytes32 inputRoot,
        bytes inputData,
        string inputUri,
        uint32 inputLength,
        bytes32 entropy,
        uint256 fee,
        uint64 deadline
    );
    event TaskTaken(bytes32 indexed task, address indexed provider, bytes32 seed);
    event TaskCancelled(bytes32 indexed task);
    event TaskLapsed(bytes32 indexed task, address indexed provider, uint256 paid, uint256 burnt);
    event Committed(
        bytes32 indexed job,
        bytes32 indexed task,
        address indexed provider,
        bytes32 model,
        bytes32 outputRoot,
        bytes32 stateRoot,
        bytes outputData,
        string outputUri,
        uint32 outputLength,
        uint64 committedAt,
        uint64 windowEnd
    );
    event WindowExtended(bytes32 indexed job, uint64 windowEnd);
    event Sealed(bytes32 indexed sealed_, address indexed challenger);
    event Challenged(
        uint256 indexed dispute,
        bytes32 indexed job,
        address indexed challenger,
        bytes32 outputRoot,
        bytes32 stateRoot,
        bytes32 evidence,
        uint256 bond,
        uint64 rulingBy
    );
    event Settled(uint256 indexed dispute, bytes32 indexed job, uint8 outcome, uint256 paid, uint256 burnt);
    event Demanded(
        uint256 indexed demand,
        bytes32 indexed job,
        address indexed demander,
        uint8 part,
        uint32 index,
        uint256 bond,
        uint64 answerBy
    );
    event DemandClosed(
        uint256 indexed demand, bytes32 indexed job, uint8 outcome, bytes data, uint256 paid, uint256 burnt
    );
    event JobClosed(bytes32 indexed job, uint8 status);
    event Credited(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event Burnt(uint256 amount);
}

interface IMarketErrors {
    // parameters and money
    error BadParams(bytes32 field);
    error WrongValue(uint256 expected);
    error NothingToWithdraw();
    error PaymentFailed();
    error InsufficientStake(uint256 free, uint256 needed);
    error WorkOpen(uint256 count);
    // models
    error BadSpec(bytes32 field);
    error ModelExists();
    error UnknownModel();
    error ModelInactive();
    error NotRegistrar();
    // data
    error InlineOrUri();
    error UriTooLong(uint256 length, uint256 most);
    error TooLong(uint256 length, uint256 most);
    error LengthMismatch(uint256 declared, uint256 given);
    error RootMismatch(bytes32 computed);
    error BadPath();
    // tasks
    error UnknownTask();
    error TaskNotOpen();
    error TaskNotTaken();
    error NotRequester();
    error NotProvider();
    error BadDeadline();
    error DeadlinePassed();
    error DeadlineNotPassed();
    error BeaconNotReady();
    error BeaconGone();
    // disputes
    error UnknownJob();
    error JobNotOpen();
    error WindowClosed();
    error WindowOpen();
    error DisputesFull();
    error NotSealed();
    error SealTooYoung();
    error SealTooOld();
    error SameRoots();
    error BadRulingPeriod();
    error UnknownDispute();
    error DisputeNotOpen();
    error EarlierDisputeOpen(uint256 dispute);
    error Undecided(uint64 rulingBy);
    error StillOpen(uint256 disputes, uint256 demands);
    // demands
    error BadPart();
    error GivenInline();
    error BadIndex();
    error AlreadyDemanded(uint256 demand);
    error UnknownDemand();
    error DemandNotOpen();
    error WrongAnswer();
    error TooLate();
    error TooEarly();
    error ProviderDemandOpen();
}
