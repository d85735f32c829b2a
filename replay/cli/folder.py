"""``replay import``: from what people have (an ONNX file, a downloaded checkpoint) to a model folder with a manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from replay.cli import Failure, UsageError
from replay.cli.inputs import read_bounded
from replay.importers.llama_config import FAMILIES
from replay.importers.manifest import FILES, Format, write_manifest
from replay.plain import open_plain
from replay.shallow import parse_json

#: The ``model_type`` of a config.json → the format of its folder.
FORMATS: Mapping[str, Format] = {"bert": "bert", "gpt2": "gpt2", **dict.fromkeys(FAMILIES, "llama")}
_CONFIG, _CHUNK = "config.json", 1 << 20


@contextmanager
def drafted(source: Path, folder: Path, grid: str | None) -> Iterator[Path]:
    """The manifest of a draft beside ``folder``, which becomes ``folder`` when the block ends well and vanishes otherwise.

    ``source``: an ONNX file, or the folder of a checkpoint, whose files are copied. Raises ``UsageError``, ``Failure``.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already: name a new folder")
    form, files = found(source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror}", "unwritable") from error
    try:
        draft.chmod(0o755)
        for name, path in files.items():
            _copy(path, draft / name, FILES[form][name])
        yield write_manifest(draft, form, files, grid)
        draft.rename(folder)
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror}", "unwritable") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def found(source: Path) -> tuple[Format, dict[str, Path]]:
    """The format of ``source`` and its files by the names that a manifest gives them. Raises ``UsageError``, ``Failure``."""
    if not source.is_dir():
        if not source.exists():
            raise Failure(f"{source} is not there", "unreadable")
        return "onnx", {"model.onnx": source}
    if not (source / _CONFIG).exists():
        raise UsageError(f"{source} holds no {_CONFIG}: name a checkpoint's folder, or an ONNX file")
    try:
        config = parse_json(read_bounded(source / _CONFIG, FILES["bert"][_CONFIG]))
    except (ValueError, RecursionError) as error:
        raise Failure(f"{source / _CONFIG} is not JSON", "unreadable") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    form = FORMATS.get(kind) if isinstance(kind, str) else None
    if form is None:
        raise Failure(f"the model_type {str(kind)[:32]!r} is none of {', '.join(FORMATS)}", "unsupported-model")
    missing = [name for name in FILES[form] if not (source / name).exists()]
    if missing:
        raise Failure(
            f"{source} lacks {', '.join(missing)}; a {form} model is {', '.join(FILES[form])}, its weights in one file",
            "unreadable",
        )
    return form, {name: source / name for name in FILES[form]}


def _copy(source: Path, target: Path, limit: int) -> None:
    """Raises ``Failure``, and ``OSError`` where ``target`` cannot be written."""
    try:
        opened = open_plain(source)
    except OSError as error:
        raise Failure(f"{source} cannot be read: {error.strerror}", "unreadable") from error
    with opened, target.open("xb") as copy:
        left = limit
        while chunk := opened.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise Failure(f"{source} is longer than {limit} bytes", "too-large")
            copy.write(chunk)
