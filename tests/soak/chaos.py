"""`python tests/soak/chaos.py --minutes 10`: calls through Bascule over a network that misbehaves; prints a table.

Exit 1 if a call hung, an answer went to the wrong call, or anything is left afterwards: see storm.py and proxy.py.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "behaviour")]

    from soak.storm import main

    sys.exit(main())
