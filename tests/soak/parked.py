"""`python tests/soak/parked.py --calls 2000 --callers 50`: thousands of parked calls; one line of JSON.

Exit 1 if any answer went to the wrong call or caller, or if anything is left afterwards: see waves.py.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

    from soak.waves import main

    sys.exit(main())
