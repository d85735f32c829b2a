"""What of the Arbius engine's interface a watcher uses: its ABI, as the deployed contracts have it. Facts, no code.

Written down here and not taken from the test double, so that one mistake cannot stand on both sides.
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]


def _parts(text: str, *, indexed: bool = False) -> list[Entry]:
    """``"address to, uint64 blocktime"`` as components; a type alone gives an unnamed one."""
    found = []
    for one in filter(None, (piece.strip() for piece in text.split(","))):
        kind, *rest = one.split()
        entry: Entry = {"type": kind, "name": rest[-1] if rest else ""}
        found.append(entry | ({"indexed": rest[0] == "indexed"} if indexed else {}))
    return found


def _entry(kind: str, text: str, outputs: str = "") -> Entry:
    name, _, rest = text.partition("(")
    entry: Entry = {"type": kind, "name": name, "inputs": _parts(rest.removesuffix(")"), indexed=kind == "event")}
    return entry | ({"outputs": _parts(outputs)} if kind == "function" else {})


_VIEWS = {
    "paused()": "bool",
    "version()": "uint256",
    "baseToken()": "address",
    "minClaimSolutionTime()": "uint256",
    "minContestationVotePeriodTime()": "uint256",
    "maxContestationValidatorStakeSince()": "uint256",
    "getSlashAmount()": "uint256",
    "getValidatorMinimum()": "uint256",
    "validatorWithdrawPendingAmount(address)": "uint256",
    "commitments(bytes32)": "uint256",
    "models(bytes32)": "uint256 fee, address addr, uint256 rate, bytes cid",
    "validators(address)": "uint256 staked, uint256 since, address addr",
    "tasks(bytes32)": "bytes32 model, uint256 fee, address owner, uint64 blocktime, uint8 version, bytes cid",
    "solutions(bytes32)": "address validator, uint64 blocktime, bool claimed, bytes cid",
    "contestations(bytes32)": "address validator, uint64 blocktime, uint32 finish_start_index, uint256 slashAmount",
    "contestationVoteYeas(bytes32,uint256)": "address",
    "contestationVoteNays(bytes32,uint256)": "address",
    "validatorCanVote(address,bytes32)": "uint256",
    # from generation 2 on
    "solutionsStake(bytes32)": "uint256",
    "solutionsStakeAmount()": "uint256",
    "lastContestationLossTime(address)": "uint256",
    # from generation 3 on
    "contestationVoteExtensionTime()": "uint256",
    # from generation 4 on
    "veRewards()": "uint256",
    # from generation 5 on
    "solutionModelFeePercentage()": "uint256",
    # generation 6
    "masterContesterRegistry()": "address",
    "masterContesterVoteAdder()": "uint32",
}

_CALLS = (
    "registerModel(address addr,uint256 fee,bytes template)",
    "validatorDeposit(address validator,uint256 amount)",
    "initiateValidatorWithdraw(uint256 amount)",
    "submitTask(uint8 version,address owner,bytes32 model,uint256 fee,bytes input)",
    "bulkSubmitTask(uint8 version,address owner,bytes32 model,uint256 fee,bytes input,uint256 n)",
    "signalCommitment(bytes32 commitment)",
    "submitSolution(bytes32 task,bytes cid)",
    "bulkSubmitSolution(bytes32[] tasks,bytes[] cids)",
    "claimSolution(bytes32 task)",
    "submitContestation(bytes32 task)",
    "suggestContestation(bytes32 task)",
    "voteOnContestation(bytes32 task,bool yea)",
    "contestationVoteFinish(bytes32 task,uint32 amnt)",
)

_EVENTS = (
    "ModelRegistered(bytes32 indexed id)",
    "TaskSubmitted(bytes32 indexed id,bytes32 indexed model,uint256 fee,address indexed sender)",
    "TaskRetracted(bytes32 indexed id)",
    "SolutionSubmitted(address indexed addr,bytes32 indexed task)",
    "SolutionClaimed(address indexed addr,bytes32 indexed task)",
    "ContestationSubmitted(address indexed addr,bytes32 indexed task)",
    "ContestationVoteFinish(bytes32 indexed id,uint32 indexed start_idx,uint32 end_idx)",
)

#: Told by the chain, and no neutral event.
_OTHER_EVENTS = (
    "SignalCommitment(address indexed addr,bytes32 indexed commitment)",
    "ContestationVote(address indexed addr,bytes32 indexed task,bool yea)",
    "ContestationSuggested(address indexed addr,bytes32 indexed task)",
)

#: What engine V6 says in place of a sentence; none has arguments.
_ERRORS = (
    "Paused", "MinStakedTooLow", "NotMasterContester", "MasterContesterMinStakedTooLow", "ModelDoesNotExist",
    "LowerFeeThanModelFee", "CommitmentExists", "TaskDoesNotExist", "SolutionAlreadySubmitted", "NonExistentCommitment",
    "CommitmentMustBeInPast", "SubmitSolutionCooldown", "SolutionRateLimit", "SolutionNotFound", "HasContestation",
    "NotEnoughDelay", "ClaimSolutionCooldown", "AlreadyClaimed", "ContestationAlreadyExists", "TooLate", "Wtf",
    "ContestationDoesntExist", "VotingPeriodNotEnded", "AmntTooSmall", "NotAllowed", "InsufficientStake",
)  # fmt: skip

VIEWS = [_entry("function", text, outputs) for text, outputs in _VIEWS.items()]
CALLS = [_entry("function", text) for text in _CALLS]
EVENTS = [_entry("event", text) for text in _EVENTS]
OTHER_EVENTS = [_entry("event", text) for text in _OTHER_EVENTS]
ERRORS = [_entry("error", f"{name}()") for name in _ERRORS]
#: The registry of V6 and the stake token.
REGISTRY = [_entry("function", "isMasterContester(address)", "bool")]
TOKEN = [_entry("function", "balanceOf(address)", "uint256")]
