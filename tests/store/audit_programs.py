"""Programs that other processes run on an audit: `python audit_programs.py NAME FOLDER …`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditing import Life, call


async def post(state: Path, caller: str) -> None:
    """For each line that comes, post 50 records, with a transaction after every few, and say so."""
    life = await Life(state).start()
    number = 0
    while await asyncio.to_thread(sys.stdin.readline):
        for _ in range(50):
            life.audit.post(call(number, caller=caller, note=str(number)))
            number += 1
            if number % 7 == 0:
                await life.settled()
        await life.settled()
        sys.stdout.write("done\n")
        sys.stdout.flush()
    life.end()


async def post_for_ever(state: Path) -> None:
    """Say the number of each entry that is on disk, until somebody ends it."""
    life = await Life(state).start()
    number = 0
    while True:
        number += 1
        await life.append(call(number, note=str(number)))
        if number % 50 == 0:
            life.audit.sign_soon()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
