"""`python -m bascule.packs NAME`: the process of one pack. Its options are JSON in the variable BASCULE_PACK."""

import asyncio
import json
import os
import signal
import sys

from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from bascule.packs.entry import VARIABLE
from bascule.packs.server import serve


def main() -> None:
    """Serve the pack until its client is gone; 2 is the exit code for options that are none."""
    # What the terminal sends to all of a group is for the one who started us: it ends our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name = sys.argv[1]
    try:
        pack = catalog.build(name, catalog.options_of(name, json.loads(os.environ.pop(VARIABLE, "{}"))))
    except ConfigInvalid as error:
        sys.stderr.write(f"bascule: pack {name}: {error}\n")
        sys.exit(2)
    asyncio.run(serve(pack))


if __name__ == "__main__":
    main()
