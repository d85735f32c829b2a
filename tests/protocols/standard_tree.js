// Roots and proofs by npm's @openzeppelin/merkle-tree: reads [[tee, in, out, signature, timestamp], …] lists, one JSON
// list of lists on standard input, writes [{root, tree, proofs}, …].
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");
const ENCODING = ["bytes32", "bytes32", "bytes32", "bytes", "uint256"];
const batches = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(batches.map((values) => {
  const tree = StandardMerkleTree.of(values, ENCODING);
  return { root: tree.root, tree: tree.dump().tree, proofs: values.map((_, i) => tree.getProof(i)) };
})));
