// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAdjudicator} from "./IAdjudicator.sol";
import {IMarketErrors, IMarketEvents, Params} from "./MarketTypes.sol";

/// Parameters and money. Everything that anybody is owed is credited here and fetched by `withdraw`, the only call into
/// a stranger's code; so no receiver can stop another's payment. The contract holds exactly
///   Σ balances + Σ stakes (free and locked) + Σ fees held + Σ bonds of open disputes and demands + Σ model bonds.
abstract contract MarketLedger is IMarketEvents, IMarketErrors {
    struct Provider {
        uint256 free;
        uint64 work; // tasks taken and jobs open; each locks one jobCollateral
    }

    address public constant BURNT_TO = 0x000000000000000000000000000000000000dEaD;
    /// Longest bundle that may be given by URI: whatever its shape, the whole of it can be posted in one transaction of
    /// less than 2^24 gas (the dearest shape, rows of one element, takes 15 million).
    uint32 public constant MAX_POSTED = 45_056;
    uint256 public constant MAX_URI = 2_048;
    uint64 public constant MAX_PERIOD = 90 days;
    uint256 private constant WHOLE = 1_000_000;
    uint256 private constant MAX_BOUNTY = 500_000;
    uint256 private constant MAX_QUEUE = 8; // dispute ids of 32 bits in one word

    uint64 internal immutable _window;
    uint64 internal immutable _answerPeriod;
    uint64 internal immutable _sealAge;
    uint64 internal immutable _maxSealAge;
    uint8 internal immutable _maxDisputes;
    uint256 internal immutable _jobCollateral;
    uint256 internal immutable _modelBond;
    uint256 internal immutable _challengeBond;
    uint256 internal immutable _demandBond;
    uint32 internal immutable _bountyMillionths;
    uint32 internal immutable _maxInline;
    IAdjudicator internal immutable _adjudicator;

    mapping(address => uint256) public balanceOf;
    mapping(address => Provider) internal _providers;

    constructor(Params memory p) {
        if (p.window == 0 || p.window > MAX_PERIOD) revert BadParams("window");
        if (p.answerPeriod == 0 || p.answerPeriod > MAX_PERIOD) revert BadParams("answerPeriod");
        if (p.sealAge == 0) revert BadParams("sealAge");
        if (p.maxSealAge < p.sealAge) revert BadParams("maxSealAge");
        if (p.maxDisputes == 0 || p.maxDisputes > MAX_QUEUE) revert BadParams("maxDisputes");
        if (p.jobCollateral == 0) revert BadParams("jobCollateral");
        // withholding weights must not be cheaper than owning up to a fraud
        if (p.modelBond < p.jobCollateral) revert BadParams("modelBond");
        if (p.challengeBond == 0) revert BadParams("challengeBond");
        if (p.demandBond == 0) revert BadParams("demandBond");
        if (p.bountyMillionths > MAX_BOUNTY) revert BadParams("bountyMillionths");
        if (p.maxInline > MAX_POSTED) revert BadParams("maxInline");
        if (address(p.adjudicator).code.length == 0) revert BadParams("adjudicator");
        _window = p.window;
        _answerPeriod = p.answerPeriod;
        _sealAge = p.sealAge;
        _maxSealAge = p.maxSealAge;
        _maxDisputes = p.maxDisputes;
        _jobCollateral = p.jobCollateral;
        _modelBond = p.modelBond;
        _challengeBond = p.challengeBond;
        _demandBond = p.demandBond;
        _bountyMillionths = p.bountyMillionths;
        _maxInline = p.maxInline;
        _adjudicator = p.adjudicator;
    }

    function params() external view returns (Params memory) {
        return Params({
            window: _window,
            answerPeriod: _answerPeriod,
            sealAge: _sealAge,
            maxSealAge: _maxSealAge,
            maxDisputes: _maxDisputes,
            jobCollateral: _jobCollateral,
            modelBond: _modelBond,
            challengeBond: _challengeBond,
            demandBond: _demandBond,
            bountyMillionths: _bountyMillionths,
            maxInline: _maxInline,
            adjudicator: _adjudicator
        });
    }

    function freeStake(address provider) external view returns (uint256) {
        return _providers[provider].free;
    }

    /// Tasks taken and jobs open of `provider`; each of them locks one jobCollateral of its stake.
    function openWork(address provider) external view returns (uint256) {
        return _providers[provider].work;
    }

    function stake() external payable {
        if (msg.value == 0) revert WrongValue(1);
        _providers[msg.sender].free += msg.value;
        emit Staked(msg.sender, msg.value);
    }

    /// Moves free stake to the caller's balance. Only without open work: while a window is open nobody can tell how much
    /// of what a provider has will still be its own.
    function unstake(uint256 amount) external {
        Provider storage p = _providers[msg.sender];
        if (p.work != 0) revert WorkOpen(p.work);
        if (amount == 0 || amount > p.free) revert InsufficientStake(p.free, amount);
        p.free -= amount;
        emit Unstaked(msg.sender, amount);
        _credit(msg.sender, amount);
    }

    function withdraw() external {
        uint256 amount = balanceOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw();
        balanceOf[msg.sender] = 0;
        emit Withdrawn(msg.sender, amount);
        (bool ok,) = msg.sender.call{value: amount}("");
        if (!ok) revert PaymentFailed();
    }

    function _lock(address provider) internal {
        Provider storage p = _providers[provider];
        if (p.free < _jobCollateral) revert InsufficientStake(p.free, _jobCollateral);
        p.free -= _jobCollateral;
        ++p.work;
    }

    function _release(address provider) internal {
        Provider storage p = _providers[provider];
        p.free += _jobCollateral;
        --p.work;
    }

    /// Takes one locked collateral away; whoever calls splits it.
    function _forfeit(address provider) internal {
        --_providers[provider].work;
    }

    function _credit(address account, uint256 amount) internal {
        if (amount == 0) return;
        balanceOf[account] += amount;
        emit Credited(account, amount);
    }

    /// Splits a loser's money: `paid` is credited to `winner`, the caller burns `burnt` as its last act.
    function _split(uint256 amount, address winner) internal returns (uint256 paid, uint256 burnt) {
        paid = amount * _bountyMillionths / WHOLE;
        burnt = amount - paid;
        _credit(winner, paid);
    }

    /// The burn address has no code and cannot refuse; should it ever, the money stays credited to it, and nobody's
    /// settlement hangs on it.
    function _burn(uint256 amount) internal {
        if (amount == 0) return;
        emit Burnt(amount);
        (bool ok,) = BURNT_TO.call{value: amount}("");
        if (!ok) _credit(BURNT_TO, amount);
    }

    function _exactly(uint256 expected) internal view {
        if (msg.value != expected) revert WrongValue(expected);
    }
}
