// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// A proxy as ERC-1967 has it, whose deployer may put another implementation behind it.
contract UpgradeableProxy {
    /// keccak("eip1967.proxy.implementation") - 1
    bytes32 private constant SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
    address private immutable _admin = msg.sender;

    event Upgraded(address indexed implementation);

    constructor(address implementation) {
        _put(implementation);
    }

    function upgradeTo(address implementation) external {
        require(msg.sender == _admin, "not the proxy's admin");
        _put(implementation);
    }

    function _put(address implementation) private {
        assembly {
            sstore(SLOT, implementation)
        }
        emit Upgraded(implementation);
    }

    fallback() external {
        assembly {
            calldatacopy(0, 0, calldatasize())
            let fine := delegatecall(gas(), sload(SLOT), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch fine
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }
}
