"""Known answers: small programs at worst-case magnitudes, whose exact bits are frozen here.

A backend that gives one other bit is refused before it may judge anybody. ``known_cases`` and ``known_network`` have the programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import get_args

import numpy as np

from replay.importers.build import Builder
from replay.kernels.known_cases import cases
from replay.kernels.known_inputs import Case
from replay.kernels.state import State
from replay.layout import Array, encode_bundle
from replay.model import Model
from replay.operators import DType, TensorType
from replay.program import Port
from replay.run import NONFINITE, Prepared, evaluate, execute, load_backend, prepare_with


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the self-test: ``detail`` is the digest got, with the one wanted when they differ."""

    name: str
    ok: bool
    detail: str


def model_of(case: Case) -> Model:
    """The case's program, which writes ``y``, and its weights."""
    symbols = {"T": len(case.x)} if case.pieces else {}
    ports = []
    for name, array in case.inputs.items():
        dtype: DType = next(known for known in get_args(DType) if array.dtype == np.dtype(known))
        ports.append(Port(name, TensorType(dtype, (*symbols, *array.shape[len(symbols) :]))))
    builder = Builder(ports, symbols, case.grid)
    return builder.model({"y": case.build(builder)}, [])


def compute(case: Case, backend: type) -> bytes:
    """Canonical bytes of what a backend class makes of one case."""
    prepared = prepare_with(backend, model_of(case))
    return encode_bundle(_decoded(prepared, case) if case.pieces else execute(prepared, case.inputs).outputs)


def _decoded(prepared: Prepared, case: Case) -> dict[str, Array]:
    """The output for all tokens, read piece by piece."""
    program, kernels, state = prepared.model.program, prepared.kernels, State()
    (output,) = program.outputs
    parts = []
    for size in case.pieces:
        inputs = {"x": case.x[state.position : state.position + size]}
        values, lost = evaluate(program, kernels, inputs, {"T": size}, state=state)
        if lost is not None:
            return {NONFINITE: np.array(lost, np.int32)}
        parts.append(kernels.unload(values[output.value]))
        state.position += size
    return {output.name: np.concatenate(parts)}


def known_answers(backend: str) -> list[Answer]:
    """Run every case on a backend. Raises ``UnknownBackend``."""
    kind = load_backend(backend)
    return [*(judge(case, compute(case, kind)) for case in cases()), _judge_roots(kind.root)]


def _judge_roots(root: Callable[[Array], bytes]) -> Answer:
    """How a backend hashes: every dtype, rows that fill their tiles or do not, trees of many sizes."""
    made = sha256()
    for dtype in get_args(DType):
        for rows, width in ((1, 1), (1, 256), (2, 255), (3, 257), (5, 512), (7, 1025), (33, 64), (1000, 3)):
            ramp = np.arange(rows * width, dtype=np.int64).reshape(rows, width) * 2_654_435_761 >> 7
            made.update(root((ramp & (1 if dtype == "bool" else 0xFFFF)).astype(dtype)))
    got = made.hexdigest()[:32]
    return Answer("roots", got == ROOTS, got if got == ROOTS else f"{got}, wanted {ROOTS}")


def judge(case: Case, output: bytes) -> Answer:
    got, wanted = sha256(output).hexdigest()[:32], KNOWN.get(case.name, "")
    return Answer(case.name, got == wanted, got if got == wanted else f"{got}, wanted {wanted or 'nothing'}")


#: First 16 bytes (hex) of the SHA-256 of the roots that ``_judge_roots`` asks for.
ROOTS = "d1b9f13c1e34e710f0a7b6e0a58ac9db"
#: First 16 bytes (hex) of the SHA-256 of each case's output bundle, spec version 1.
KNOWN: Mapping[str, str] = {
    "linear/hi/17x384/120-130/10": "1324bb601194e12728a11c8e6ddbb5ba",
    "linear/hi/5x1536/127-127/11": "11107f5419d6c5b3fdb0b14319e65ff1",
    "linear/hi/3x4096/127-127/01": "0cc532a255440a1755cad2b9b7b1b213",
    "linear/hi/4x40/1-30/10": "9122054beabca0e0d112c7f3ae8feefc",
    "linear/hi/4x40/189-189/00": "f983dea80c0e355d0374cd005b8c91bd",
    "linear/lo/19x384/120-130/10": "8c715511b2cda408d1035488ab88e2a6",
    "linear/lo/3x4096/127-127/11": "783f9f882166bb4fb17ba014a2b62d2d",
    "linear/lo/1x33/100-140/00": "eead88c3719d47cdad5131c06d11305b",
    "linear/hi/corner/512": "86b7914a9a1da36a1c3ff8ced89cd5d1",
    "linear/hi/corner/2048": "9add0ca1d15e29d1310ddb4ef8c77b9f",
    "linear/lo/corner/4096": "bdba45cf8c469230a1d8beaf3dc36f8d",
    "linear/hi/digits": "1e97a1900c7ce660374e6130cd7c1047",
    "linear/lo/digits": "a1ef288486706e23c3a75bc61cdb8206",
    "linear/hi/twice": "cbd76883eaa7034d8e0bb0f54d608802",
    "linear/lo/twice": "cbd76883eaa7034d8e0bb0f54d608802",
    "linear/no-grid": "f60604f36db8f96faf03c4f8f5d0aee5",
    "matmul/2x9x11": "dccb867e21be2fc98104287eca46ba9d",
    "attention/33/4.2x32/both/9": "eeca904c9005734c0788b1c8bb911113",
    "attention/33/4.4x16/causal/9": "fb31b2a247406f1f63a67e76755b8809",
    "attention/64/2.2x32/both/0": "e10c75f331781749c85d73a988ea14be",
    "attention/33/4.1x16/causal/9/window5": "29429691c3f4fd29abf2eb4bd3efc507",
    "attention/33/2.2x16/both/9/mask": "ca6b4f5ec07826576039e32ad9018fc7",
    "attention/300/2.1x18/causal/9": "54ce57f9ba8f91ac7d873a06ed173acb",
    "attention/300/2.1x18/causal/9/window70": "20a2e272f0fc31114010b443b2469352",
    "attention/masked": "007c3d8620faf105d1dd18cb7d56d8ac",
    "attention/growing/causal": "86d564ba9a8aa6b6f8c9105336dfd774",
    "attention/growing/mask": "d2ca4aa65f48cac0cc1bf86ba77728af",
    "attention/infinite": "624ae0188866f81f8fe37a87233368cf",
    "attention/infinite/unseen": "eceb8752227803dab2a8673f8eccad7c",
    "attention/nothing": "624ae0188866f81f8fe37a87233368cf",
    "attention/left-out/causal": "a6afbb5ceea940c433eae2952b9ee6d8",
    "attention/left-out/mask": "6b1212bd85281e90c3aeca966ff05c6b",
    "decoded/0": "7483242a3317f6170bc330b00030714b",
    "decoded/5": "1ad76428bc8d15335411994150a95398",
    "layer_norm/9x384/1.0": "29ca50865278405a400b5fd7689b972a",
    "layer_norm/9x384/1000.0": "b39e3cdd5eecf070c3135a369262d1da",
    "layer_norm/3x4000/30.0": "37b929e8d8fefd58107a48c6c1f0acea",
    "rms_norm/9x384": "c3195d7f4b3886fc33b03f7129e08c8c",
    "rms_norm/bare": "65e4da03ec4c901562a016730b2cdcb0",
    "layer_norm/bare": "5e0daea9678aa2a240b78022748605d0",
    "l2_normalise/floor": "ff2407ee57b30d3b9a0abe1bb063cef2",
    "l2_normalise/steps": "3d069f75eb8de5389e9258057ee68ade",
    "l2_normalise/wide": "9e07ae9937391e10c8a2267a64593970",
    "layer_norm/no-grid": "08503f96cb6f3b63b42d2be4f31ee1bf",
    "rms_norm/no-grid": "08503f96cb6f3b63b42d2be4f31ee1bf",
    "l2_normalise/no-grid": "08503f96cb6f3b63b42d2be4f31ee1bf",
    "mean_tokens/no-grid": "f01e902f06d7de0f2568943e793fbabf",
    "matmul/no-grid": "e06bb81a01599b44c2ced8f1b394c0cd",
    "reduce_sum/no-grid": "e06bb81a01599b44c2ced8f1b394c0cd",
    "reduce_mean/no-grid": "e06bb81a01599b44c2ced8f1b394c0cd",
    "cumsum/no-grid": "08503f96cb6f3b63b42d2be4f31ee1bf",
    "mean_tokens/wide": "834ed52795fa05ebd3a7276bb78d0b51",
    "rope/0": "5d55786b62c5ea7278f689496929d8dc",
    "rope/1": "5a15dd56c017c11d6dc44f253a5dd72e",
    "tree_leaves/all": "68d8404c04b1540e73fec89fc3d1b32f",
    "embedding/ids": "ea7efe43ae6ad43f994fef7b29c6f636",
    "position_rows/4": "442b41b8e10343ec6603cbf43af6837b",
    "take/names": "d6804e18db154adc13b05f1361e7d05f",
    "relu/special": "01cbdb96d9709e7c68c4d636d03fd006",
    "floor/special": "8bdf1c9f2e3e6bce96482f64a05317ea",
    "ceil/special": "1d6eb0fc330e4e88e38c834ba1ba90f5",
    "round/special": "8b762b0d6432b0c2dfe7e2eebd48ef84",
    "sqrt/special": "63fdb56774cd9a7fdd6b629843a94248",
    "exp/special": "3afed2bfb106a17c6197a195d964a7cc",
    "log/special": "3e8edf12275a72f921d580e0c60fe9ab",
    "sin/special": "8c294572871700b8887108f23e414764",
    "cos/special": "a43a4fca12f982e91e5175f17f0fcc44",
    "tan/special": "1ac07ee462bf07c13f2726e856a9c797",
    "atan/special": "dacd37445fdecc4c44b6d8222ebc2dcb",
    "erf/special": "6c1e6af98be8669902436dba52f972cc",
    "sigmoid/special": "c94355bfe96f150c10a35ff8124745b2",
    "tanh/special": "60b885f927e0fa5d619add2771f8a230",
    "gelu_erf/special": "2d481e6bdb99b4ca619b024a5c1254f2",
    "gelu_tanh/special": "7cfa3e431f3bb9d680e9f94397aed26c",
    "silu/special": "5f87ccd9aca28f43d32a937575e65e48",
    "softplus/special": "f9ed348266b051bdc97275a1d4b9fcbb",
    "sqrt/steps": "8cffe4b414c71c846c0971e7bb047db3",
    "log/order": "29f755d5a346072e91de4128d2ce3d63",
    "log/zero": "32f8789cef0ad15933c071fda49b3a5b",
    "sin/last": "27b490bf6a283707059b5fe3cbb79e08",
    "exp/refused": "e06bb81a01599b44c2ced8f1b394c0cd",
    "sqrt/refused": "624ae0188866f81f8fe37a87233368cf",
    "log/refused": "624ae0188866f81f8fe37a87233368cf",
    "sin/refused": "a9e602562d68ffc584957ac6673268cf",
    "tan/refused": "a9e602562d68ffc584957ac6673268cf",
    "neg/special": "55602cb105e52064704472d2698f4c7b",
    "abs/special": "e2e42c17d4e26cfe5b5f36ec7f0c5155",
    "sign/special": "607890769dfd2cd6bf212e1fa12f63ee",
    "softmax/wide": "82e7e8df16e44b246b96be5846a4b3d9",
    "log_softmax/wide": "c3ce702a34d61a20cdd702509569b329",
    "softmax/masked": "e8943cf6f388cfc6678671362af19eda",
    "softmax/apart": "9de7cfcadc13cf3e006c01914e897aa2",
    "log_softmax/apart": "32f8789cef0ad15933c071fda49b3a5b",
    "argmax/ties": "180b9ddfb5c23c2223f88287780b29c9",
    "argmin/ties": "3e4493dd997be1bd763fc0b2341f08bb",
    "sample_weights/wide": "87b7126b1ddfba5782508774a9d5d8d2",
    "add/float32": "5d1a71e3ec05054e4b3d24178dde544a",
    "sub/float32": "95cca07e284de483f399cd6abd6e5dc3",
    "mul/float32": "043ccfa744ce019d5fd3911001dba48d",
    "div/float32": "a9654400d41da4a98b7becfbe29b96d2",
    "max/float32": "8904081ebcd4ba4431355865f791ddac",
    "min/float32": "57a6d92816feec4bfcbfe3d171e5d8c4",
    "less/float32": "27afa8dd3c5ee1a9bf5675ca653f8838",
    "equal/float32": "b1e82a084977c7848b47904f940e380b",
    "less_equal/float32": "b944438585a4880f4a57efa7588660c9",
    "pow/float32": "e432902ee5cec8ed2554e65b38648207",
    "pow/whole": "b3ee3d3abf03dbd5e1e4a067672b5d4a",
    "pow/corners": "565c6ed9305653d06ea6292dcf32400e",
    "pow/signs": "ef733cc0708d93ad744478ac7a0d2843",
    "pow/inverse": "0ed54a38f3126c55be102264dd8d0e62",
    "pow/roots": "83af9d37bfb71c7e03317bf5dfc972fa",
    "pow/pole": "32f8789cef0ad15933c071fda49b3a5b",
    "pow/complex": "f983dea80c0e355d0374cd005b8c91bd",
    "pow/overflow": "30a4b5dc18b3a0e51cacdc555fca5592",
    "pow/int32/inverse": "e06bb81a01599b44c2ced8f1b394c0cd",
    "add/int32": "0e413e5d469399cf9f10f5953d8cc163",
    "sub/int32": "a7790f76831540c2c67c9290e3ddf76e",
    "mul/int32": "7646304139e6d6af22cc860f023995e6",
    "max/int32": "86326d3033a1a7d0a4299f96e59628b5",
    "min/int32": "a13450024545a5dec16b8a2aa8b7da9c",
    "less/int32": "cc3394978b3cb30a0ac302ef6709b4c7",
    "equal/int32": "cf2ff38c922604ba9333a938cca46f49",
    "bit_and/int32": "dd6468af15f68095aafb8157b1389eb1",
    "bit_or/int32": "6b328a31cc0d9bee75127b2524dcd70f",
    "bit_xor/int32": "e99452d44bdd39f5f3974095e7b114a7",
    "div/int32": "a05f82c7aca654631adbd8d81384915a",
    "mod/int32": "7a4a1a8c1d106a5d499d46ce191f1726",
    "fmod/int32": "dd34c28bbfe29e54af6c9c8a4619de59",
    "div/int32/zero": "01c5d654fc533c6c160c1b9a9666fb61",
    "pow/int32": "387bc34d53c747fd7b1b8839cb86435d",
    "add/int64": "386b31d9812012f62e4688d228e856ad",
    "sub/int64": "3374edd5b473bba18080796c65acc93a",
    "mul/int64": "226e4aed10cade4616f254a8084f0421",
    "max/int64": "61fe84565f0df0226664b0dec6bbda11",
    "min/int64": "e90701b825aef05b9fde13c1915b0c4a",
    "less/int64": "35419210614fed10cc4958f049c78cd8",
    "equal/int64": "cf2ff38c922604ba9333a938cca46f49",
    "bit_and/int64": "dda17eb84f88a94e4727f417d4561391",
    "bit_or/int64": "e386b1f2e9a10e8dba363c782f235a84",
    "bit_xor/int64": "9164e96b139a034d2a21119a8d542d49",
    "div/int64": "a4ebb2414764ae64fe1fb6da6c0bc0e5",
    "mod/int64": "12794b8d33f9924eb289e4d3e25ebef0",
    "fmod/int64": "2810b53471dde89543df80c2b1a344c2",
    "div/int64/zero": "01c5d654fc533c6c160c1b9a9666fb61",
    "pow/int64": "1315b8a12785f6c213143a5d67215bd5",
    "and/bool": "6ed9e2c35fdd1adb72a7523b7e1feb93",
    "or/bool": "1eb142db52e42b25b77045168fb5d0d8",
    "xor/bool": "e1f72823242c90ee793ce0e049d5c774",
    "not/bool": "1c4d264540576e2f3ed2b7631687281e",
    "bit_not/int64": "393e624f774cb13c08c3659a9be12a25",
    "where/minus": "c2525cadbc17923fea788d734a56fc68",
    "where/float32": "7f0188d45afe1ab2bc71834881b0ba1a",
    "cast/inside": "6a4eadceab5a27e9196176947f638dc6",
    "cast/outside": "32f8789cef0ad15933c071fda49b3a5b",
    "cast/outside64": "32f8789cef0ad15933c071fda49b3a5b",
    "cast/wraps": "33e2cdfcf65bf6a45314ce7da8e728f4",
    "cast/rounds": "3d15ba517c6f3b8f3924ecb25078793c",
    "cast/rounds once": "c4f11c9d2a625c2fe987cb01c60d5ce9",
    "cast/widens": "1b4f7d61bc1d0d58e4d345a11bbd8404",
    "cast/minus": "c2525cadbc17923fea788d734a56fc68",
    "cast/bool": "035df43b8c73a8421135c4e110c1b541",
    "reduce_sum/wide": "5e96439e73eeaa930da77fe9dbe02363",
    "reduce_mean/wide": "7e69882e7c86ee73aec9615ac32afbaa",
    "reduce_max/wide": "459a2058897ca9ff6a13248fb7b52913",
    "reduce_min/wide": "910fc9c2df7eedb576dbbac5f5c1cc57",
    "reduce_sum/full": "73e99f680f84bfadd5e2d5a3b8a9e618",
    "reduce_mean/full": "f14a6bb8beed5d521640128ac92fbea9",
    "reduce_sum/int32": "a4fa0055389d4d427360ccdd0e93102f",
    "argmax/int64": "2c9a4f1e666bf73dd9ea32ef59970833",
    "argmin/int64": "eaede90ef8bca9eac1ab3797cce51168",
    "reduce_max/int64": "eaec5af2d090777804e008404a8f6d99",
    "reduce_prod/int64": "e29c7574f38f9a00906ffc2465fb28ff",
    "reduce_prod/short": "0478e23214eb3ededd07458520c61351",
    "cumsum/0": "861cc6008fb85de6275d097ff015f4c9",
    "cumsum/1": "9f70b2cda44fb8d0d6308462a9765244",
    "reduce_sum/int64": "cf9c5daeffd5623f023b46a1ba06c2cb",
    "top_values/minus": "be4909823e3cc522ee49d1f5c03f2157",
    "top_values/0": "1be18405197376d08305a4ac6c773157",
    "top_indices/0": "b16bf7d331275acb486c26a9cfe8bd5e",
    "top_indices/0/many": "a96fb5767eb0831c0c3c1feddf61f1ae",
    "top_values/1": "3de6b743aa99d07d4972229dc6fbc713",
    "top_indices/1": "dc4082cadaecd0b1921afaeb087a8e10",
    "top_indices/1/many": "60a4717c1227eb56f998768fdc765eca",
    "transpose/minus": "45225f9580524712915b5917bef57b99",
    "transpose/4": "cfc9855fbe73d7210e739eac2b9d7398",
    "reshape/minus": "45225f9580524712915b5917bef57b99",
    "expand/minus": "721c27d3a602e7d7982c61542304902d",
    "constant/minus": "322135c39fd30c9aefc1b77d45d61cb0",
    "slice/back": "8ae866457961954c2a43ffb59a7661db",
    "concat/2": "1d66664b1069413fed8fa60af251a9db",
    "pad/1": "8e115415d62c204c6f25c99e09ffe61e",
    "windows/2d": "e8c1baab5c9c085928876d64aed2ce06",
    "gather/2": "5c41b98f20883c2b8edf23197bd2c997",
    "gather/outside": "624ae0188866f81f8fe37a87233368cf",
    "gather/below": "f5470ea831533deeefe871ea7e563277",
    "gather_elements/2": "505e40389244c2efeeb48d1c4c956b21",
    "scatter_elements/2": "56bdec1c22756ce4628a682e79321ab9",
    "subnormal/add": "fb789e041983f96b4ae5840ae9abd9c3",
    "subnormal/mul": "92cef25d03dab954e6d24c5b0c8cac89",
    "overflow/mul": "01c5d654fc533c6c160c1b9a9666fb61",
    "div/zero": "ddbf43a0fd4fc8dedec077d1f6d996de",
}
