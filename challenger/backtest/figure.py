"""A backtest as a picture: what became of the frauds, and of the money, policy by policy. PNG or SVG, by the file's name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from challenger.backtest.score import Score
from challenger.backtest.simulate import Fate
from challenger.errors import ConfigError

FORMATS = (".png", ".svg")
#: From what we want to what we do not; told apart without colours by their order and the legend.
_COLOURS = {
    Fate.CAUGHT: "#1b7837",
    Fate.OTHERS: "#7fbf7b",
    Fate.REFUSED: "#fdb863",
    Fate.LATE: "#b2182b",
    Fate.SHED: "#d6604d",
    Fate.UNDRAWN: "#d9d9d9",
}
_MONEY = {"won_wei": ("won", "#1b7837"), "gas_wei": ("spent on gas", "#b2182b")}


def check(path: Path) -> None:
    """Before the work is done, not after it. Raises ConfigError."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot: a figure is a file named …{' or …'.join(FORMATS)}", file=path)
    if path.is_dir():
        raise ConfigError("--plot: there is a folder of this name", file=path)
    if not path.parent.is_dir():
        raise ConfigError("--plot: there is no such folder", file=path.parent)
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'inference-challenger[plot]'", file=path)


def draw(scores: Sequence[Score], title: str, path: Path) -> None:
    """Writes it to ``path``, over whatever is there, when it is whole. Raises OSError."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # the same scores give the same file; text stays text
    with rc_context({"svg.hashsalt": "backtest", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 1.6 + 0.5 * max(2, len(scores))), layout="constrained")
        FigureCanvasAgg(figure)
        fates, money = figure.subplots(1, 2, sharey=True)
        names = [score.name for score in scores]
        left = [0.0] * len(scores)
        for fate, colour in _COLOURS.items():
            widths = [score[fate.value].mean for score in scores]
            fates.barh(names, widths, left=left, color=colour, label=fate.value, edgecolor="white", linewidth=0.5)
            left = [at + width for at, width in zip(left, widths, strict=True)]
        fates.invert_yaxis()
        fates.set_xlabel(f"frauds, mean of {scores[0].draws} draws")
        fates.legend(ncols=3, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        height = 0.35
        for number, (measure, (label, colour)) in enumerate(_MONEY.items()):
            spreads = [score[measure] for score in scores]
            means = [spread.mean / 10**18 for spread in spreads]
            error = [
                [max(0.0, (spread.mean - spread.low) / 10**18) for spread in spreads],
                [max(0.0, (spread.high - spread.mean) / 10**18) for spread in spreads],
            ]
            places = [place + (number - 0.5) * height for place in range(len(scores))]
            money.barh(places, means, height, color=colour, label=label, xerr=error, error_kw={"linewidth": 0.8})
        money.set_xlabel("ether, mean with least and most")
        money.legend(ncols=2, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        figure.suptitle(title, fontsize="medium")
        draft = path.with_name(f".{path.name}.part")
        kind = path.suffix.lower().removeprefix(".")
        try:
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
