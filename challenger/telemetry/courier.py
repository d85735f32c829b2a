"""Hands one message to services of apprise, in a process of its own.

Run as a script by ``notify.py``: a hundred services' code, their waiting and their secrets stay out of the process that
holds a key. It reads one JSON object on standard input (``urls``, and unless only the URLs are to be looked at ``title``,
``body`` and ``kind``) and writes a list with a word for each URL: ``ok``, ``unknown`` (no URL that apprise understands)
or ``refused``. It ends with ``MISSING`` where apprise is not installed.
"""

from __future__ import annotations

import json
import logging
import sys

MISSING = 3


def main() -> int:
    logging.disable(logging.CRITICAL)  # what apprise and its plugins log may hold what the URLs hold
    try:
        import apprise
    except ImportError:
        return MISSING
    wanted = json.load(sys.stdin)
    words = []
    for url in wanted["urls"]:
        one = apprise.Apprise()
        if not one.add(url):
            words.append("unknown")
        elif "body" not in wanted:
            words.append("ok")
        else:
            taken = one.notify(
                title=wanted["title"],
                body=wanted["body"],
                notify_type=apprise.NotifyType(wanted["kind"]),
                body_format=apprise.NotifyFormat.TEXT,
            )
            words.append("ok" if taken else "refused")
    json.dump(words, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
