"""Programs that other processes run on an audit: `python audit_programs.py NAME FOLDER …`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditing import Life, call


async def post(state: Path, caller: str, records: str) -> None:
    """Say so, wait for a line, then post that many, a few at a time, with a transaction of its own after each."""
    life = await Life(state).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(int(records)):
        life.audit.post(call(number, caller=caller, note=str(number)))
        if number % 7 == 0:
            await life.settled()
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
