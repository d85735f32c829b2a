from __future__ import annotations

import io
import json
import logging

from challenger.telemetry.logs import LOGGER, configure, say


def test_every_line_carries_its_action_and_fields():
    out = io.StringIO()
    configure(as_json=False, stream=out)
    say("filed", commitment=b"\x01\x02", why='a "quoted" reason\nwith a break')
    LOGGER.warning("from elsewhere")
    first, second = out.getvalue().splitlines()
    assert 'info action=filed commitment=0x0102 why="a \\"quoted\\" reason\\nwith a break"' in first
    assert 'warning action=challenger message="from elsewhere"' in second


def test_json_lines_say_the_same():
    out = io.StringIO()
    configure(as_json=True, stream=out)
    say("filed", level=logging.ERROR, block=7)
    LOGGER.info("from elsewhere")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["action"], first["level"], first["block"]) == ("filed", "error", 7)
    assert (second["action"], second["message"]) == ("challenger", "from elsewhere")


def test_what_is_below_the_level_is_not_said():
    out = io.StringIO()
    configure(as_json=False, stream=out, level=logging.WARNING)
    say("quiet")
    assert out.getvalue() == ""
