// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

interface ITaskTaker {
    function submitTask(uint8 version, address owner, bytes32 model, uint256 fee, bytes calldata input) external;
}

/// A contract that orders tasks whose input it makes itself: no transaction's call data holds it.
contract ArbiusRequester {
    function order(ITaskTaker engine, bytes32 model, uint256 number) external {
        bytes memory input = abi.encodePacked('{"prompt":"', bytes1(uint8(65 + (number % 26))), '"}');
        engine.submitTask(0, msg.sender, model, 0, input);
    }
}
