"""plain.py with one more tool, whose definition (odd.json) holds everything that a careless gateway loses."""

import json
from pathlib import Path

from plain import REVISIONS, PlainServer
from server import Tool, echo, options

if __name__ == "__main__":
    parser = options(__doc__)
    parser.set_defaults(revision=REVISIONS[0])
    odd = PlainServer(parser.parse_args())
    odd.tools["odd"] = Tool("odd", echo)
    odd.tools["odd"].definition = json.loads(Path(__file__).with_suffix(".json").read_text())
    odd.serve()
