"""plain.py that starts late (`--delay`), or only while a file is there (`--while`)."""

import sys
import time
from pathlib import Path

from plain import REVISIONS, PlainServer
from server import options

if __name__ == "__main__":
    parser = options(__doc__)
    parser.set_defaults(revision=REVISIONS[0])
    parser.add_argument("--while", type=Path, metavar="FILE", dest="flag", help="refuse to start without it")
    parser.add_argument("--delay", type=float, default=0, metavar="SECONDS", help="before the first line is read")
    chosen = parser.parse_args()
    if chosen.flag and not chosen.flag.exists():
        sys.exit(f"there is no {chosen.flag}")
    time.sleep(chosen.delay)
    PlainServer(chosen).serve()
