"""A small language model of characters: the weights that the simulation serves, and the script that made them.

``train`` writes ``model.safetensors``, ``config.json`` and ``tokenizer.json`` in this folder, from text that comes with
Python itself; nothing is downloaded. ``text`` turns text into ids and back.
"""
