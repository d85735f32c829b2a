// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// Stand-ins for OpenGradient's on-chain inference, for tests and demonstrations: the hub, which makes the precompile behind
/// it and a contract that asks for inferences itself. Calls and events are the protocol's; the answers are planned beforehand, since no node computes.

struct Number {
    int128 value;
    int128 decimals;
}

struct NumberTensor {
    string name;
    Number[] values;
    uint32[] shape;
}

struct StringTensor {
    string name;
    string[] values;
}

struct JsonScalar {
    string name;
    string value;
}

struct ModelInput {
    NumberTensor[] numbers;
    StringTensor[] strings;
}

struct ModelOutput {
    NumberTensor[] numbers;
    StringTensor[] strings;
    JsonScalar[] jsons;
    bool is_simulation_result;
}

enum Mode {
    VANILLA,
    ZKML,
    TEE
}

struct ModelInferenceRequest {
    Mode mode;
    string modelCID;
    ModelInput input;
}

interface IInference {
    function runModelInference(ModelInferenceRequest calldata request) external returns (ModelOutput memory);
}

/// The full form of the precompile's event.
interface IFullEvents {
    event ModelInferenceEvent(string inferenceID, ModelInferenceRequest request, ModelOutput response);
}

/// The brief form: id, mode and model alone.
interface IBriefEvents {
    event ModelInferenceEvent(string inferenceID, Mode mode, string modelCID);
}

/// Answers in the order in which they were planned.
contract OpenGradientPrecompile is IInference {
    struct Planned {
        string inferenceID;
        string modelCID;
        bytes output;
    }

    error NothingPlanned();

    bool public immutable brief;
    Planned[] private planned;
    uint256 public next;

    constructor(bool brief_) {
        brief = brief_;
    }

    /// `output` is `abi.encode(ModelOutput)`; `modelCID` the model that the event will name, empty for the one asked for.
    function plan(string calldata inferenceID, string calldata modelCID, bytes calldata output) external {
        planned.push(Planned(inferenceID, modelCID, output));
    }

    function runModelInference(ModelInferenceRequest calldata request) external returns (ModelOutput memory output) {
        if (next == planned.length) revert NothingPlanned();
        Planned storage answer = planned[next++];
        output = abi.decode(answer.output, (ModelOutput));
        ModelInferenceRequest memory served = request;
        if (bytes(answer.modelCID).length != 0) served.modelCID = answer.modelCID;
        if (brief) emit IBriefEvents.ModelInferenceEvent(answer.inferenceID, served.mode, served.modelCID);
        else emit IFullEvents.ModelInferenceEvent(answer.inferenceID, served, output);
    }
}

/// What users call: hands on to its precompile and reports the output.
contract OpenGradientHub {
    OpenGradientPrecompile public immutable precompile;
    OpenGradientApp public immutable app;

    event InferenceResult(ModelOutput output);

    constructor(bool brief) {
        precompile = new OpenGradientPrecompile(brief);
        app = new OpenGradientApp();
    }

    function run(string calldata modelId, Mode inferenceMode, ModelInput calldata modelInput)
        external
        returns (ModelOutput memory output)
    {
        output = precompile.runModelInference(ModelInferenceRequest(inferenceMode, modelId, modelInput));
        emit InferenceResult(output);
    }

    /// No part of the protocol: see the precompile's function.
    function plan(string calldata inferenceID, string calldata modelCID, bytes calldata output) external {
        precompile.plan(inferenceID, modelCID, output);
    }

    /// No part of the protocol: has a contract ask for several inferences in this transaction.
    function ask(ModelInferenceRequest[] calldata requests, uint256 throughHub) external {
        app.ask(this, precompile, requests, throughHub);
    }
}

/// Asks the first `throughHub` of its requests of the hub, the others of the precompile itself.
contract OpenGradientApp {
    function ask(
        OpenGradientHub hub,
        IInference precompile,
        ModelInferenceRequest[] calldata requests,
        uint256 throughHub
    ) external {
        for (uint256 i = 0; i < requests.length; i++) {
            ModelInferenceRequest calldata one = requests[i];
            if (i < throughHub) hub.run(one.modelCID, one.mode, one.input);
            else precompile.runModelInference(one);
        }
    }
}
