// Compiles the contracts and writes artifacts/<Name>.json, and each doubles/<Name>.sol, which stands alone, to
// artifacts/doubles/<Name>.json; with --check it compares instead and exits 1 on a difference.
//
//   node build.mjs [--check] [--modules <node_modules directory>] [--only <Name.sol> --out <file.json>]
//
// With --only, one contract that stands alone, wherever it lies, in place of all these.
//
// The compiler is the npm package solc in the version that package.json pins, found in the given directory, else in
// NODE_PATH, else beside this file. Same sources, same bytes: metadata hashes are left out and keys are sorted.
import { existsSync, mkdirSync, readFileSync, readdirSync, unlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "artifacts");
const CONTRACTS = ["EpochAnchor", "IAdjudicator", "InferenceMarket", "SignerAdjudicator"];
const SIZE_LIMIT = 24576; // EIP-170
const SETTINGS = {
  evmVersion: "cancun",
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
};

function fail(message) {
  console.error(message);
  process.exit(1);
}

function loadCompiler(modules) {
  const wanted = JSON.parse(readFileSync(join(here, "package.json"), "utf8")).dependencies.solc;
  const places = modules ? [modules] : [...(process.env.NODE_PATH ?? "").split(delimiter), join(here, "node_modules")];
  const place = places.find((directory) => directory && existsSync(join(directory, "solc", "package.json")));
  if (!place) fail(`solc not found: npm install --prefix <directory> solc@${wanted}, then --modules <directory>/node_modules`);
  const found = JSON.parse(readFileSync(join(place, "solc", "package.json"), "utf8")).version;
  if (found !== wanted) fail(`solc ${found} found in ${place}, ${wanted} wanted (package.json)`);
  const solc = createRequire(join(place, "solc", "package.json"))("solc");
  return solc;
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

// Immutables by name: where in the runtime code 32-byte words are filled in at deployment.
function immutables(contract, names) {
  const found = {};
  for (const [id, places] of Object.entries(contract.evm.deployedBytecode.immutableReferences ?? {}))
    found[names.get(Number(id))] = places.map(({ start, length }) => ({ start, length }));
  return found;
}

function variableNames(node, names = new Map()) {
  if (Array.isArray(node)) node.forEach((child) => variableNames(child, names));
  else if (node && typeof node === "object") {
    if (node.nodeType === "VariableDeclaration") names.set(node.id, node.name);
    Object.values(node).forEach((child) => variableNames(child, names));
  }
  return names;
}

function sourcesIn(folder) {
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".sol")).sort() : [];
  return Object.fromEntries(files.map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }]));
}

function compile(solc, sources, wanted) {
  const outputSelection = {
    "*": {
      "": ["ast"],
      "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"],
    },
  };
  const input = { language: "Solidity", sources, settings: { ...SETTINGS, outputSelection } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = (output.errors ?? []).map((problem) => problem.formattedMessage);
  if (problems.length) fail(problems.join("\n")); // a warning is a failure too
  const names = variableNames(Object.values(output.sources).map((source) => source.ast));
  return Object.fromEntries(wanted.map((name) => {
    const contract = output.contracts[`${name}.sol`][name];
    const runtime = contract.evm.deployedBytecode.object;
    if (runtime.length / 2 > SIZE_LIMIT) fail(`${name}: ${runtime.length / 2} bytes of code, at most ${SIZE_LIMIT} may be`);
    const artifact = {
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
      deployedBytecode: `0x${runtime}`,
      immutableReferences: immutables(contract, names),
      name,
      settings: SETTINGS,
      solc: solc.version(),
    };
    return [name, JSON.stringify(sorted(artifact), null, 1) + "\n"];
  }));
}

const args = process.argv.slice(2);
const check = args.includes("--check");
const given = {};
for (let at = 0; at < args.length; at++)
  if (["--modules", "--only", "--out"].includes(args[at])) given[args[at].slice(2)] = args[++at] ?? "";
  else if (args[at] !== "--check") given.unknown = args[at];
if (given.unknown !== undefined || Object.values(given).includes("") || !given.only !== !given.out)
  fail("usage: build.mjs [--check] [--modules <directory>] [--only <Name.sol> --out <file.json>]");
const solc = loadCompiler(given.modules);
let differs = false;

// Writes, or compares, one artifact.
function keep(path, name, text) {
  const size = (JSON.parse(text).deployedBytecode.length - 2) / 2;
  if (!check) writeFileSync(path, text);
  else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
    console.error(`${name}: the artifact is not what the sources compile to`);
    differs = true;
    return;
  }
  console.log(`${name}: ${size} bytes`);
}

// Writes, or compares, the artifacts of `built` in `folder`, and takes away, or complains of, those that are no contract.
function settle(built, folder) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(built)) keep(join(folder, `${name}.json`), name, text);
  const present = readdirSync(folder).filter((name) => name.endsWith(".json"));
  for (const name of present.filter((name) => !(name.slice(0, -5) in built))) {
    if (check) {
      console.error(`${name}: no such contract`);
      differs = true;
    } else unlinkSync(join(folder, name));
  }
}

if (given.only) {
  const name = basename(given.only, ".sol");
  const sources = { [`${name}.sol`]: { content: readFileSync(given.only, "utf8") } };
  keep(given.out, name, compile(solc, sources, [name])[name]);
  process.exit(differs ? 1 : 0);
}
settle(compile(solc, sourcesIn(here), CONTRACTS), out);
const doubles = sourcesIn(join(here, "doubles"));
const standing = {};
for (const [file, source] of Object.entries(doubles)) {
  const name = file.slice(0, -4);
  Object.assign(standing, compile(solc, { [file]: source }, [name]));
}
settle(standing, join(out, "doubles"));
process.exit(differs ? 1 : 0);
