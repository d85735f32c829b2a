// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// Who are the master contesters of engine V6. Here the owner names them; the deployed registry holds an election a week
/// over locked tokens, and lets its owner add and remove by the same two calls.
contract ArbiusContesters {
    address public immutable owner = msg.sender;
    address[] private _elected;

    event EmergencyMasterContesterAdded(address indexed contester);
    event EmergencyMasterContesterRemoved(address indexed contester);

    error AlreadyMasterContester();
    error NotMasterContester();

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    function emergencyAddMasterContester(address contester) external onlyOwner {
        if (isMasterContester(contester)) revert AlreadyMasterContester();
        _elected.push(contester);
        emit EmergencyMasterContesterAdded(contester);
    }

    function emergencyRemoveMasterContester(address contester) external onlyOwner {
        if (!isMasterContester(contester)) revert NotMasterContester();
        for (uint256 i = 0; i < _elected.length; ++i) {
            if (_elected[i] != contester) continue;
            _elected[i] = _elected[_elected.length - 1];
            _elected.pop();
            break;
        }
        emit EmergencyMasterContesterRemoved(contester);
    }

    function getMasterContesters() external view returns (address[] memory) {
        return _elected;
    }

    function isMasterContester(address candidate) public view returns (bool) {
        for (uint256 i = 0; i < _elected.length; ++i) if (_elected[i] == candidate) return true;
        return false;
    }
}
