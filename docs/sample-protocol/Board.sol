// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// A board: whoever likes registers a model, asks it something, answers with a collateral, and disputes an answer with a
/// bond while its window is open. One judge decides. As small as a protocol can be that a watcher can work on.
///
/// Money is credited and fetched by `withdraw`. Half of a lost collateral goes to the challenger, the other half is burnt,
/// so that nobody cheats for free by disputing himself; a lost bond goes to the provider.
contract Board {
    enum Status { None, Open, Final, Fraud }
    enum Outcome { Open, Challenger, Provider, Expired }

    /// A model as the replay engine needs it: all answers are exact, to the last bit.
    struct Model {
        bytes32 fileDigest;
        bytes32 artefactRoot;
        bytes32 programRoot;
        uint32 specVersion;
        string uri;
        bytes knownInput;
        bytes32 knownOutputRoot;
    }
    struct Task { address requester; bytes32 model; uint256 fee; bool answered; }
    struct Answer {
        address provider;
        uint64 since; // seconds
        Status status;
        uint256 dispute; // the one that is open, 0 without one
        bytes32 task;
        bytes32 outputRoot;
        bytes32 stateRoot;
    }
    struct Dispute {
        bytes32 answer;
        address challenger;
        uint64 rulingBy; // seconds
        Outcome outcome;
        Outcome ruling; // Open while the judge has not spoken
    }

    uint256 public constant COLLATERAL = 0.1 ether;
    uint256 public constant BOND = 0.05 ether;
    uint64 public constant RULING_PERIOD = 30 minutes;
    address public constant BURNT_TO = 0x000000000000000000000000000000000000dEaD;

    address public owner;
    address public judge;
    /// Seconds in which an answer may be disputed. Live: a change counts for all open answers at once.
    uint64 public window;
    mapping(bytes32 => bool) public models;
    mapping(bytes32 => Task) public tasks;
    mapping(bytes32 => Answer) public answers;
    mapping(uint256 => Dispute) public disputes;
    mapping(address => uint256) public balanceOf;
    uint256 private _tasks;
    uint256 private _disputes;

    event Registered(bytes32 indexed model, address indexed registrar, Model facts);
    event Asked(bytes32 indexed task, bytes32 indexed model, address indexed requester, bytes32 inputRoot, bytes input, uint256 fee);
    event Answered(
        bytes32 indexed answer,
        bytes32 indexed task,
        address indexed provider,
        bytes32 model,
        bytes32 outputRoot,
        bytes32 stateRoot,
        bytes output,
        uint64 since
    );
    event Disputed(
        uint256 indexed dispute,
        bytes32 indexed answer,
        address indexed challenger,
        bytes32 outputRoot,
        bytes32 stateRoot,
        bytes32 evidence,
        uint256 bond,
        uint64 rulingBy
    );
    event DisputeEnded(uint256 indexed dispute, bytes32 indexed answer, Outcome outcome, uint256 paid, uint256 burnt);
    event AnswerEnded(bytes32 indexed answer, Status status);
    event WindowSet(uint64 window);

    error NotYours();
    error Unknown();
    error Again();
    error WrongAmount(uint256 wanted);
    error Empty();
    error OutOfTime(uint256 until);
    error TooEarly(uint256 from);
    error NothingToDispute();
    error TooLong();
    error PaymentFailed();

    constructor(address judge_, uint64 window_) {
        owner = msg.sender;
        judge = judge_;
        setWindow(window_);
    }

    function setWindow(uint64 window_) public {
        if (msg.sender != owner) revert NotYours();
        if (window_ > 30 days) revert TooLong();
        window = window_;
        emit WindowSet(window_);
    }

    function register(Model calldata facts) external returns (bytes32 model) {
        model = keccak256(abi.encode("model", block.chainid, address(this), facts));
        if (models[model]) revert Again();
        models[model] = true;
        emit Registered(model, msg.sender, facts);
    }

    function ask(bytes32 model, bytes32 inputRoot, bytes calldata input) external payable returns (bytes32 task) {
        if (!models[model]) revert Unknown();
        if (input.length == 0) revert Empty();
        task = keccak256(abi.encode("task", block.chainid, address(this), ++_tasks, msg.sender, model, inputRoot));
        tasks[task] = Task(msg.sender, model, msg.value, false);
        emit Asked(task, model, msg.sender, inputRoot, input, msg.value);
    }

    /// The id names what is answered: a dispute can never hit another answer that a reorganisation put in its place.
    function answer(bytes32 task, bytes32 outputRoot, bytes32 stateRoot, bytes calldata output) external payable {
        Task storage asked = tasks[task];
        if (asked.requester == address(0)) revert Unknown();
        if (asked.answered) revert Again();
        if (msg.value != COLLATERAL) revert WrongAmount(COLLATERAL);
        if (output.length == 0) revert Empty();
        asked.answered = true;
        bytes32 id = keccak256(abi.encode("answer", block.chainid, address(this), task, msg.sender, outputRoot, stateRoot));
        answers[id] = Answer(msg.sender, uint64(block.timestamp), Status.Open, 0, task, outputRoot, stateRoot);
        emit Answered(id, task, msg.sender, asked.model, outputRoot, stateRoot, output, uint64(block.timestamp));
    }

    function dispute(bytes32 id, bytes32 outputRoot, bytes32 stateRoot, bytes32 evidence) external payable {
        Answer storage given = answers[id];
        if (given.status != Status.Open) revert Unknown();
        if (given.dispute != 0) revert Again();
        if (block.timestamp >= given.since + window) revert OutOfTime(given.since + window);
        if (outputRoot == given.outputRoot && stateRoot == given.stateRoot) revert NothingToDispute();
        if (msg.value != BOND) revert WrongAmount(BOND);
        given.dispute = ++_disputes;
        uint64 by = uint64(block.timestamp) + RULING_PERIOD;
        disputes[_disputes] = Dispute(id, msg.sender, by, Outcome.Open, Outcome.Open);
        emit Disputed(_disputes, id, msg.sender, outputRoot, stateRoot, evidence, BOND, by);
    }

    function rule(uint256 which, bool forChallenger) external {
        Dispute storage case_ = disputes[which];
        if (msg.sender != judge) revert NotYours();
        if (case_.challenger == address(0)) revert Unknown();
        if (case_.ruling != Outcome.Open || case_.outcome != Outcome.Open) revert Again();
        if (block.timestamp >= case_.rulingBy) revert OutOfTime(case_.rulingBy);
        case_.ruling = forChallenger ? Outcome.Challenger : Outcome.Provider;
    }

    /// Anybody may end a dispute that was ruled on, or on which no ruling came in time.
    function close(uint256 which) external {
        Dispute storage case_ = disputes[which];
        if (case_.challenger == address(0)) revert Unknown();
        if (case_.outcome != Outcome.Open) revert Again();
        Outcome outcome = case_.ruling;
        if (outcome == Outcome.Open) {
            if (block.timestamp < case_.rulingBy) revert TooEarly(case_.rulingBy);
            outcome = Outcome.Expired;
        }
        case_.outcome = outcome;
        Answer storage given = answers[case_.answer];
        given.dispute = 0;
        if (outcome == Outcome.Provider) {
            balanceOf[given.provider] += BOND;
            emit DisputeEnded(which, case_.answer, outcome, 0, 0);
            _finish(case_.answer, given);
            return;
        }
        uint256 won = outcome == Outcome.Challenger ? COLLATERAL / 2 : 0;
        balanceOf[case_.challenger] += BOND + won;
        emit DisputeEnded(which, case_.answer, outcome, BOND + won, won);
        if (won == 0) return;
        Task storage asked = tasks[given.task];
        given.status = Status.Fraud;
        balanceOf[BURNT_TO] += COLLATERAL - won;
        balanceOf[asked.requester] += asked.fee;
        emit AnswerEnded(case_.answer, Status.Fraud);
    }

    /// Pays for an answer whose window is over.
    function finish(bytes32 id) external {
        Answer storage given = answers[id];
        if (given.status != Status.Open) revert Unknown();
        if (given.dispute != 0) revert Again();
        if (block.timestamp < given.since + window) revert TooEarly(given.since + window);
        _finish(id, given);
    }

    function withdraw() external {
        uint256 amount = balanceOf[msg.sender];
        balanceOf[msg.sender] = 0;
        (bool sent, ) = msg.sender.call{value: amount}("");
        if (!sent) revert PaymentFailed();
    }

    function _finish(bytes32 id, Answer storage given) private {
        given.status = Status.Final;
        balanceOf[given.provider] += COLLATERAL + tasks[given.task].fee;
        emit AnswerEnded(id, Status.Final);
    }
}
