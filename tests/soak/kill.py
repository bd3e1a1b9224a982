"""`python tests/soak/kill.py --kills 2000`: Bascule is killed again and again while it pays; ends with what was found.

The last line is `kills N double 0 lost 0 chain ok`, or says otherwise; then the exit code is 1. See campaign.py.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "behaviour")]

    from soak.campaign import main

    sys.exit(main())
