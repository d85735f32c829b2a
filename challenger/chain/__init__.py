"""All JSON-RPC: client and endpoints, log codec, block follower, transaction sender, signers, devnets."""
