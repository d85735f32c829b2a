// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

interface IStakeToken {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function balanceOf(address account) external view returns (uint256);
}

interface IContesters {
    function isMasterContester(address candidate) external view returns (bool);
}

/// Stands in for the Arbius engine where a watcher meets it: tasks, commitments, solutions, contestations, votes, stakes,
/// with the deployed one's selectors, events, return layouts, windows, order of checks and words of refusal, for each of
/// its generations 1 to 6. What a generation did not have reverts without a word, as an unknown selector does.
///
/// Left out: emissions (a model's rate is zero, as it is until somebody sets it), the vote-escrow contracts, allow lists,
/// the fudge of `totalHeld` that upgrades brought: here it is what is held. `generation`, `upgrade` and `tune` are the
/// double's own: the deployed engine sits behind a proxy, and its parameters change by an upgrade's initializer.
contract ArbiusEngine {
    struct Model {
        uint256 fee;
        address addr;
        uint256 rate;
        bytes cid;
    }

    struct Validator {
        uint256 staked;
        uint256 since;
        address addr;
    }

    struct Withdrawal {
        uint256 unlockTime;
        uint256 amount;
    }

    struct Task {
        bytes32 model;
        uint256 fee;
        address owner;
        uint64 blocktime;
        uint8 version;
        bytes cid;
    }

    struct Solution {
        address validator;
        uint64 blocktime;
        bool claimed;
        bytes cid;
    }

    struct Contestation {
        address validator;
        uint64 blocktime;
        uint32 finish_start_index;
        uint256 slashAmount;
    }

    event ModelRegistered(bytes32 indexed id);
    event ValidatorDeposit(address indexed addr, address indexed validator, uint256 amount);
    event ValidatorWithdrawInitiated(address indexed addr, uint256 indexed count, uint256 unlockTime, uint256 amount);
    event ValidatorWithdrawCancelled(address indexed addr, uint256 indexed count);
    event ValidatorWithdraw(address indexed addr, address indexed to, uint256 indexed count, uint256 amount);
    event TaskSubmitted(bytes32 indexed id, bytes32 indexed model, uint256 fee, address indexed sender);
    event TaskRetracted(bytes32 indexed id);
    event SignalCommitment(address indexed addr, bytes32 indexed commitment);
    event SolutionSubmitted(address indexed addr, bytes32 indexed task);
    event SolutionClaimed(address indexed addr, bytes32 indexed task);
    event ContestationSubmitted(address indexed addr, bytes32 indexed task);
    event ContestationSuggested(address indexed addr, bytes32 indexed task);
    event ContestationVote(address indexed addr, bytes32 indexed task, bool yea);
    event ContestationVoteFinish(bytes32 indexed id, uint32 indexed start_idx, uint32 end_idx);
    event PausedChanged(bool indexed paused);
    event VersionChanged(uint256 version);

    error Paused();
    error NotPauser();
    error MinStakedTooLow();
    error NotMasterContester();
    error MasterContesterMinStakedTooLow();
    error InvalidRegistry();
    error ModelDoesNotExist();
    error AddressMustBeNonZero();
    error ModelAlreadyRegistered();
    error InsufficientStake();
    error RequestNotExist();
    error WaitLonger();
    error StakeInsufficient();
    error LowerFeeThanModelFee();
    error CommitmentExists();
    error TaskDoesNotExist();
    error SolutionAlreadySubmitted();
    error NonExistentCommitment();
    error CommitmentMustBeInPast();
    error SubmitSolutionCooldown();
    error SolutionRateLimit();
    error SolutionNotFound();
    error HasContestation();
    error NotEnoughDelay();
    error ClaimSolutionCooldown();
    error AlreadyClaimed();
    error ContestationAlreadyExists();
    error TooLate();
    error Wtf();
    error ContestationDoesntExist();
    error VotingPeriodNotEnded();
    error AmntTooSmall();
    error NotAllowed();

    uint256 private constant STARTING = 600_000e18;
    uint256 private constant RESERVED = 300_000e18; // generation 3 alone set it apart
    uint256 private constant ONE = 1e18;

    IStakeToken public immutable baseToken;
    address public immutable owner = msg.sender;
    address public treasury;
    address public pauser;
    bool public paused;
    uint8 public generation;
    uint256 public version;
    uint256 public accruedFees;
    bytes32 public prevhash;

    uint256 public validatorMinimumPercentage;
    uint256 public slashAmountPercentage;
    uint256 public solutionFeePercentage = 0.1e18;
    uint256 public retractionFeePercentage = 0.1e18;
    uint256 public minClaimSolutionTime;
    uint256 public minRetractionWaitTime = 10_000;
    uint256 public minContestationVotePeriodTime;
    uint256 public maxContestationValidatorStakeSince = 120;
    uint256 public exitValidatorMinUnlockTime;

    mapping(bytes32 => Model) public models;
    mapping(address => Validator) public validators;
    mapping(address => uint256) public pendingValidatorWithdrawRequestsCount;
    mapping(address => mapping(uint256 => Withdrawal)) public pendingValidatorWithdrawRequests;
    mapping(address => uint256) public validatorWithdrawPendingAmount;
    mapping(bytes32 => Task) public tasks;
    mapping(bytes32 => uint256) public commitments;
    mapping(bytes32 => Solution) public solutions;
    mapping(bytes32 => Contestation) public contestations;
    mapping(bytes32 => mapping(address => bool)) public contestationVoted;
    mapping(bytes32 => address[]) public contestationVoteYeas;
    mapping(bytes32 => address[]) public contestationVoteNays;

    // what came later, read through functions that earlier generations lack
    mapping(bytes32 => uint256) private _solutionsStake;
    uint256 private _solutionsStakeAmount;
    mapping(address => uint256) private _lastLoss;
    uint256 private _held;
    uint256 private _rateLimit;
    mapping(address => uint256) private _lastSolution;
    uint256 private _extension;
    uint256 private _modelFeePercentage;
    address private _registry;
    uint32 private _adder;

    constructor(IStakeToken token, uint8 generation_) {
        require(generation_ >= 1 && generation_ <= 6, "no such generation");
        baseToken = token;
        treasury = msg.sender;
        pauser = msg.sender;
        _upgrade(generation_);
    }

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    modifier notPaused() {
        _need(!paused, "paused", Paused.selector);
        _;
    }

    /// A function that this generation does not have yet, or no more.
    modifier only(uint8 first, uint8 last) {
        if (generation < first || generation > last) assembly { revert(0, 0) }
        _;
    }

    /// Up to generation 5 refusals are sentences, from 6 on they are errors.
    function _need(bool fine, string memory words, bytes4 name) private view {
        if (fine) return;
        if (generation < 6) revert(words);
        assembly {
            mstore(0, name)
            revert(0, 4)
        }
    }

    // --- the double's own ---------------------------------------------------------------------------------------------

    /// Goes to a later generation, as the proxy's owner would.
    function upgrade(uint8 to) external onlyOwner {
        require(to > generation && to <= 6, "no such generation");
        _upgrade(to);
    }

    /// Sets the times of the window and of the vote.
    function tune(uint256 claimTime, uint256 votePeriod, uint256 extension) external onlyOwner {
        minClaimSolutionTime = claimTime;
        minContestationVotePeriodTime = votePeriod;
        _extension = extension;
    }

    /// What each generation's initializer set; generations 2 and 4 changed no time.
    function _upgrade(uint8 to) private {
        for (uint8 step = generation + 1; step <= to; ++step) {
            if (step == 1) {
                validatorMinimumPercentage = 0.0008e18;
                slashAmountPercentage = 0.0001e18;
                minClaimSolutionTime = 2000;
                minContestationVotePeriodTime = 4000;
                exitValidatorMinUnlockTime = 86_400;
            } else if (step == 3) {
                minClaimSolutionTime = 3600;
                minContestationVotePeriodTime = 360;
                exitValidatorMinUnlockTime = 259_200;
                _rateLimit = 1e18;
                _extension = 10;
            } else if (step == 4) {
                version = 4;
            } else if (step == 5) {
                version = 5;
                validatorMinimumPercentage = 0.0024e18;
                slashAmountPercentage = 0.00001e18;
                _solutionsStakeAmount = 0.001e18;
                _modelFeePercentage = 1e18;
            } else if (step == 6) {
                version = 6;
                _adder = 50;
            }
        }
        generation = to;
    }

    // --- parameters ---------------------------------------------------------------------------------------------------

    function solutionsStake(bytes32 task) external view only(2, 6) returns (uint256) {
        return _solutionsStake[task];
    }

    function solutionsStakeAmount() external view only(2, 6) returns (uint256) {
        return _solutionsStakeAmount;
    }

    function lastContestationLossTime(address addr) external view only(2, 6) returns (uint256) {
        return _lastLoss[addr];
    }

    function totalHeld() external view only(3, 6) returns (uint256) {
        return _held;
    }

    function solutionRateLimit() external view only(3, 6) returns (uint256) {
        return _rateLimit;
    }

    function lastSolutionSubmission(address addr) external view only(3, 6) returns (uint256) {
        return _lastSolution[addr];
    }

    function contestationVoteExtensionTime() external view only(3, 6) returns (uint256) {
        return _extension;
    }

    function veRewards() external view only(4, 6) returns (uint256) {
        return 0;
    }

    function solutionModelFeePercentage() external view only(5, 6) returns (uint256) {
        return _modelFeePercentage;
    }

    function masterContesterRegistry() external view only(6, 6) returns (address) {
        return _registry;
    }

    function masterContesterVoteAdder() external view only(6, 6) returns (uint32) {
        return _adder;
    }

    function setMasterContesterRegistry(address registry) external only(6, 6) onlyOwner {
        if (registry == address(0)) revert InvalidRegistry();
        _registry = registry;
    }

    function setMasterContesterVoteAdder(uint32 adder) external only(6, 6) onlyOwner {
        _adder = adder;
    }

    function setVersion(uint256 version_) external onlyOwner {
        version = version_;
        emit VersionChanged(version_);
    }

    function setPaused(bool paused_) external {
        _need(msg.sender == pauser, "not pauser", NotPauser.selector);
        paused = paused_;
        emit PausedChanged(paused_);
    }

    function setMinClaimSolutionTime(uint256 amount) external only(1, 2) onlyOwner {
        minClaimSolutionTime = amount;
    }

    function setSlashAmountPercentage(uint256 amount) external only(1, 2) onlyOwner {
        slashAmountPercentage = amount;
    }

    function setSolutionStakeAmount(uint256 amount) external only(2, 2) onlyOwner {
        _solutionsStakeAmount = amount;
    }

    /// How much of the token is in circulation: all of it lay in the engine once.
    function getPsuedoTotalSupply() public view returns (uint256) {
        uint256 balance = baseToken.balanceOf(address(this));
        if (generation < 3) return balance >= STARTING ? 0 : STARTING - balance;
        if (generation == 3) {
            if (balance == 0) return STARTING - RESERVED;
            uint256 left = balance - _held - RESERVED;
            return left >= STARTING - RESERVED ? 0 : STARTING - RESERVED - left;
        }
        return balance >= STARTING ? 0 : STARTING - (balance - _held);
    }

    function getSlashAmount() public view returns (uint256) {
        uint256 supply = getPsuedoTotalSupply();
        if (generation < 3 && supply < 2000e18) return 0;
        return supply - (supply * (ONE - slashAmountPercentage)) / ONE;
    }

    function getValidatorMinimum() public view returns (uint256) {
        uint256 supply = getPsuedoTotalSupply();
        if (generation < 3 && supply < 1000e18) return 0;
        return supply - (supply * (ONE - validatorMinimumPercentage)) / ONE;
    }

    // --- models and stakes --------------------------------------------------------------------------------------------

    function registerModel(address addr, uint256 fee, bytes calldata template) external notPaused returns (bytes32 id) {
        _need(addr != address(0), "address must be non-zero", AddressMustBeNonZero.selector);
        bytes memory cid = generateIPFSCID(template);
        id = keccak256(abi.encode(msg.sender, addr, fee, cid));
        _need(models[id].addr == address(0), "model already registered", ModelAlreadyRegistered.selector);
        models[id] = Model(fee, addr, 0, cid);
        emit ModelRegistered(id);
    }

    function validatorDeposit(address validator, uint256 amount) external notPaused {
        baseToken.transferFrom(msg.sender, address(this), amount);
        _held += amount;
        uint256 least = getValidatorMinimum();
        Validator storage entry = validators[validator];
        if (entry.staked <= least && entry.staked + amount >= least) entry.since = block.timestamp;
        entry.staked += amount;
        entry.addr = validator;
        emit ValidatorDeposit(msg.sender, validator, amount);
    }

    function initiateValidatorWithdraw(uint256 amount) external notPaused returns (uint256 count) {
        _need(_usable(msg.sender) >= amount, "", InsufficientStake.selector);
        count = ++pendingValidatorWithdrawRequestsCount[msg.sender];
        uint256 unlock = block.timestamp + exitValidatorMinUnlockTime;
        pendingValidatorWithdrawRequests[msg.sender][count] = Withdrawal(unlock, amount);
        validatorWithdrawPendingAmount[msg.sender] += amount;
        emit ValidatorWithdrawInitiated(msg.sender, count, unlock, amount);
    }

    function cancelValidatorWithdraw(uint256 count) external notPaused {
        Withdrawal memory wish = pendingValidatorWithdrawRequests[msg.sender][count];
        _need(wish.unlockTime > 0, "request not exist", RequestNotExist.selector);
        validatorWithdrawPendingAmount[msg.sender] -= wish.amount;
        delete pendingValidatorWithdrawRequests[msg.sender][count];
        emit ValidatorWithdrawCancelled(msg.sender, count);
    }

    function validatorWithdraw(uint256 count, address to) external notPaused {
        Withdrawal memory wish = pendingValidatorWithdrawRequests[msg.sender][count];
        _need(wish.unlockTime > 0, "request not exist", RequestNotExist.selector);
        _need(block.timestamp >= wish.unlockTime, "wait longer", WaitLonger.selector);
        _need(validators[msg.sender].staked >= wish.amount, "stake insufficient", StakeInsufficient.selector);
        baseToken.transfer(to, wish.amount);
        validators[msg.sender].staked -= wish.amount;
        _held -= wish.amount;
        validatorWithdrawPendingAmount[msg.sender] -= wish.amount;
        delete pendingValidatorWithdrawRequests[msg.sender][count];
        emit ValidatorWithdraw(msg.sender, to, count, wish.amount);
    }

    /// Stake that no withdrawal waits for. A loser may have promised more than is left: that is an underflow, and a panic.
    function _usable(address addr) private view returns (uint256) {
        return validators[addr].staked - validatorWithdrawPendingAmount[addr];
    }

    function _onlyValidator(bytes4 name) private view {
        _need(_usable(msg.sender) >= getValidatorMinimum(), "min staked too low", name);
    }

    // --- tasks --------------------------------------------------------------------------------------------------------

    function submitTask(uint8 version_, address owner_, bytes32 model, uint256 fee, bytes calldata input)
        external
        notPaused
        returns (bytes32 id)
    {
        bytes memory cid = _orderable(model, fee, input);
        id = _addTask(version_, owner_, model, fee, cid);
        baseToken.transferFrom(msg.sender, address(this), fee);
        _held += fee;
    }

    function bulkSubmitTask(
        uint8 version_,
        address owner_,
        bytes32 model,
        uint256 fee,
        bytes calldata input,
        uint256 count
    ) external only(3, 6) notPaused {
        bytes memory cid = _orderable(model, fee, input);
        for (uint256 i = 0; i < count; ++i) _addTask(version_, owner_, model, fee, cid);
        baseToken.transferFrom(msg.sender, address(this), fee * count);
        _held += fee * count;
    }

    function _orderable(bytes32 model, uint256 fee, bytes calldata input) private view returns (bytes memory) {
        _need(models[model].addr != address(0), "model does not exist", ModelDoesNotExist.selector);
        _need(fee >= models[model].fee, "lower fee than model fee", LowerFeeThanModelFee.selector);
        return generateIPFSCID(input);
    }

    function _addTask(uint8 version_, address owner_, bytes32 model, uint256 fee, bytes memory cid)
        private
        returns (bytes32 id)
    {
        id = keccak256(abi.encode(msg.sender, prevhash, model, fee, cid));
        tasks[id] = Task(model, fee, owner_, uint64(block.timestamp), version_, cid);
        emit TaskSubmitted(id, model, fee, msg.sender);
        prevhash = id;
    }

    function retractTask(bytes32 task) external only(1, 2) notPaused {
        require(tasks[task].owner == msg.sender, "not owner");
        require(solutions[task].validator == address(0), "has solution");
        require(block.timestamp - tasks[task].blocktime > minRetractionWaitTime, "did not wait long enough");
        uint256 fee = tasks[task].fee;
        uint256 back = (fee * (ONE - retractionFeePercentage)) / ONE;
        baseToken.transfer(msg.sender, back);
        accruedFees += fee - back;
        _held -= back;
        delete tasks[task];
        emit TaskRetracted(task);
    }

    // --- solutions ----------------------------------------------------------------------------------------------------

    function generateCommitment(address sender, bytes32 task, bytes calldata cid) public pure returns (bytes32) {
        return keccak256(abi.encode(sender, task, cid));
    }

    function signalCommitment(bytes32 commitment) external notPaused {
        _need(commitments[commitment] == 0, "commitment exists", CommitmentExists.selector);
        commitments[commitment] = block.number;
        emit SignalCommitment(msg.sender, commitment);
    }

    function submitSolution(bytes32 task, bytes calldata cid) external notPaused {
        _maySubmit(1);
        _submitSolution(task, cid);
    }

    function bulkSubmitSolution(bytes32[] calldata ids, bytes[] calldata cids) external only(3, 6) notPaused {
        _maySubmit(ids.length);
        for (uint256 i = 0; i < ids.length; ++i) _submitSolution(ids[i], cids[i]);
    }

    function _maySubmit(uint256 count) private {
        if (generation >= 3) {
            uint256 cool = _lastLoss[msg.sender] + minClaimSolutionTime + minContestationVotePeriodTime;
            string memory words = "submitSolution cooldown after lost contestation";
            _need(block.timestamp > cool, words, SubmitSolutionCooldown.selector);
            validators[msg.sender].staked -= _solutionsStakeAmount * count;
            uint256 pause = block.timestamp - _lastSolution[msg.sender];
            _need(pause > (_rateLimit * count) / ONE, "solution rate limit", SolutionRateLimit.selector);
            _lastSolution[msg.sender] = block.timestamp;
        }
        _onlyValidator(MinStakedTooLow.selector);
    }

    function _submitSolution(bytes32 task, bytes calldata cid) private {
        _need(tasks[task].model != 0, "task does not exist", TaskDoesNotExist.selector);
        bool fresh = solutions[task].validator == address(0);
        _need(fresh, "solution already submitted", SolutionAlreadySubmitted.selector);
        uint256 since = commitments[generateCommitment(msg.sender, task, cid)];
        _need(since > 0, "non existent commitment", NonExistentCommitment.selector);
        _need(since < block.number, "commitment must be in past", CommitmentMustBeInPast.selector);
        solutions[task] = Solution(msg.sender, uint64(block.timestamp), false, cid);
        if (generation == 2) validators[msg.sender].staked -= _solutionsStakeAmount;
        if (generation >= 2) _solutionsStake[task] = _solutionsStakeAmount;
        emit SolutionSubmitted(msg.sender, task);
    }

    function claimSolution(bytes32 task) external notPaused {
        Solution storage solution = solutions[task];
        if (generation >= 2) {
            bool staked = _usable(solution.validator) >= getValidatorMinimum();
            _need(staked, "validator min staked too low", MinStakedTooLow.selector);
        }
        _need(solution.validator != address(0), "solution not found", SolutionNotFound.selector);
        bool calm = contestations[task].validator == address(0);
        _need(calm, "has contestation", HasContestation.selector);
        bool late = solution.blocktime < block.timestamp - minClaimSolutionTime;
        _need(late, "not enough delay", NotEnoughDelay.selector);
        if (generation >= 2) {
            uint256 cool = _lastLoss[solution.validator] + minClaimSolutionTime + minContestationVotePeriodTime;
            string memory words = "claimSolution cooldown after lost contestation";
            _need(solution.blocktime > cool, words, ClaimSolutionCooldown.selector);
        }
        _need(!solution.claimed, "already claimed", AlreadyClaimed.selector);
        solution.claimed = true;
        emit SolutionClaimed(solution.validator, task);
        _payFees(task);
    }

    /// The fee goes to model, treasury and solver, and the stake that lay beside the solution back to its solver.
    function _payFees(bytes32 task) private {
        Model storage model = models[tasks[task].model];
        address solver = solutions[task].validator;
        uint256 whole = tasks[task].fee;
        uint256 modelFee = model.fee > whole ? 0 : model.fee;
        uint256 toTreasury = generation >= 5 ? modelFee - (modelFee * (ONE - _modelFeePercentage)) / ONE : 0;
        if (modelFee > toTreasury) baseToken.transfer(model.addr, modelFee - toTreasury);
        uint256 rest = whole - modelFee;
        uint256 cut = rest - (rest * (ONE - solutionFeePercentage)) / ONE;
        if (rest > cut) {
            if (generation < 6) baseToken.transfer(solver, rest - cut);
            else validators[solver].staked += rest - cut;
        }
        accruedFees += toTreasury + cut;
        _held -= whole - (toTreasury + cut);
        validators[solver].staked += _solutionsStake[task];
    }

    // --- contestations ------------------------------------------------------------------------------------------------

    function submitContestation(bytes32 task) external notPaused {
        if (generation < 6) _onlyValidator(MinStakedTooLow.selector);
        else if (!IContesters(_registry).isMasterContester(msg.sender)) revert NotMasterContester();
        _contestable(task);
        if (generation == 6) _onlyValidator(MasterContesterMinStakedTooLow.selector);

        uint256 slash = getSlashAmount();
        contestations[task] = Contestation(msg.sender, uint64(block.timestamp), 0, slash);
        emit ContestationSubmitted(msg.sender, task);
        _vote(task, true, msg.sender);
        // whoever holds less than one slash has none to put against
        address accused = solutions[task].validator;
        if (validators[accused].staked >= slash) _vote(task, false, accused);
    }

    function suggestContestation(bytes32 task) external only(6, 6) notPaused {
        _contestable(task);
        emit ContestationSuggested(msg.sender, task);
    }

    function _contestable(bytes32 task) private view {
        Solution storage solution = solutions[task];
        _need(solution.validator != address(0), "solution does not exist", SolutionNotFound.selector);
        bool first = contestations[task].validator == address(0);
        _need(first, "contestation already exists", ContestationAlreadyExists.selector);
        _need(block.timestamp < solution.blocktime + minClaimSolutionTime, "too late", TooLate.selector);
        _need(!solution.claimed, "wtf", Wtf.selector);
    }

    function votingPeriodEnded(bytes32 task) external view only(3, 6) returns (bool) {
        return block.timestamp > _lastVote(task);
    }

    /// The last second in which a vote counts: from generation 3 on each vote moves it on.
    function _lastVote(bytes32 task) private view returns (uint256) {
        uint256 votes = contestationVoteYeas[task].length + contestationVoteNays[task].length;
        uint256 more = generation < 3 ? 0 : votes * _extension;
        return contestations[task].blocktime + minContestationVotePeriodTime + more;
    }

    function validatorCanVote(address addr, bytes32 task) public view returns (uint256) {
        Contestation storage contest = contestations[task];
        if (contest.validator == address(0)) return 1;
        if (block.timestamp > _lastVote(task)) return 2;
        if (contestationVoted[task][addr]) return 3;
        uint256 since = validators[addr].since;
        if (since == 0) return 4;
        if (since < maxContestationValidatorStakeSince) return 5;
        if (since - maxContestationValidatorStakeSince > contest.blocktime) return 6;
        return 0;
    }

    function voteOnContestation(bytes32 task, bool yea) external notPaused {
        _onlyValidator(MinStakedTooLow.selector);
        _need(validatorCanVote(msg.sender, task) == 0, "not allowed", NotAllowed.selector);
        _vote(task, yea, msg.sender);
    }

    /// A vote costs one slash until the count; who holds less than that panics.
    function _vote(bytes32 task, bool yea, address addr) private {
        contestationVoted[task][addr] = true;
        (yea ? contestationVoteYeas[task] : contestationVoteNays[task]).push(addr);
        validators[addr].staked -= contestations[task].slashAmount;
        emit ContestationVote(addr, task, yea);
    }

    /// Counts, and pays the next `amnt` of those who were right. Nothing says that all are paid: further calls do nothing.
    function contestationVoteFinish(bytes32 task, uint32 amnt) external notPaused {
        Contestation storage contest = contestations[task];
        _need(contest.validator != address(0), "contestation doesn't exist", ContestationDoesntExist.selector);
        uint256 last = _lastVote(task);
        bool over = generation < 3 ? block.timestamp >= last : block.timestamp > last;
        _need(over, "voting period not ended", VotingPeriodNotEnded.selector);
        _need(amnt > 0, "amnt too small", AmntTooSmall.selector);

        uint32 start = contest.finish_start_index;
        uint32 end = start + amnt;
        address[] storage yeas = contestationVoteYeas[task];
        address[] storage nays = contestationVoteNays[task];
        uint32 yeaCount = uint32(yeas.length) + (generation == 6 ? _adder : 0);
        uint32 nayCount = uint32(nays.length);
        if (yeaCount > nayCount) {
            // of what the nays lose half goes to the contester, all of it where nobody stood beside
            uint256 pot = nayCount * contest.slashAmount;
            _payVoters(yeas, contest.slashAmount, pot, yeaCount == 1 ? pot : pot - pot / 2, start, end);
            if (start == 0) {
                baseToken.transfer(tasks[task].owner, tasks[task].fee);
                _held -= tasks[task].fee;
                if (generation >= 2) {
                    validators[yeas[0]].staked += _solutionsStake[task];
                    _lastLoss[solutions[task].validator] = block.timestamp;
                }
            }
        } else {
            uint256 pot = yeaCount * contest.slashAmount;
            _payVoters(nays, contest.slashAmount, pot, nayCount == 1 ? pot : pot / 2, start, end);
            if (start == 0) _payFees(task);
        }
        contest.finish_start_index = end;
        emit ContestationVoteFinish(task, start, end);
    }

    /// Gives each of these its slash back, and its share of the pot: `toFirst` to the first, the rest in equal parts.
    function _payVoters(
        address[] storage winners,
        uint256 slash,
        uint256 pot,
        uint256 toFirst,
        uint256 start,
        uint256 end
    ) private {
        uint256 toOthers = winners.length > 1 ? (pot - toFirst) / (winners.length - 1) : 0;
        for (uint256 i = start; i < end && i < winners.length; ++i) {
            uint256 share = i == 0 ? toFirst : toOthers;
            validators[winners[i]].staked += slash;
            if (generation == 6) {
                validators[winners[i]].staked += share;
            } else {
                baseToken.transfer(winners[i], share);
                _held -= share;
            }
        }
    }

    // --- content identifiers ------------------------------------------------------------------------------------------

    /// The CIDv0 of one file in one UnixFS leaf, as bytes: 0x1220 and the sha-256 of its dag-pb block.
    function generateIPFSCID(bytes calldata content) public pure returns (bytes memory) {
        require(content.length <= 65_536, "Max content size is 65536 bytes");
        bytes memory size = _varint(content.length);
        bytes memory file = bytes.concat(hex"080212", size, content, hex"18", size);
        return bytes.concat(hex"1220", sha256(bytes.concat(hex"0a", _varint(file.length), file)));
    }

    function _varint(uint256 value) private pure returns (bytes memory out) {
        while (value > 0x7f) {
            out = bytes.concat(out, bytes1(uint8(0x80 | (value & 0x7f))));
            value >>= 7;
        }
        return bytes.concat(out, bytes1(uint8(value)));
    }
}
