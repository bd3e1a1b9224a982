"""Programs that other processes run on the sums of calls: `python usage_programs.py NAME FOLDER`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditing import call
from bascule.store.audit import Audit
from bascule.store.options import AuditOptions
from bascule.store.usage import Usage
from bascule.store.writer import Writer


async def count_for_ever(state: Path) -> None:
    """Post calls, and write their sums every now and then; say after each few that they are in the audit."""
    writer = Writer(state)
    usage = Usage(writer.path)
    audit = Audit(writer, state, AuditOptions(), sums=usage)
    writer.start(audit)
    number = 0
    while True:
        for _ in range(7):
            audit.post(call(number, version="1.0.0", thing=f"crm/tool_{number % 3}", took_us=number))
            number += 1
        await writer.write(lambda connection: None, durable=False)
        if number % 3 == 0:
            await writer.write(usage.flush, durable=False)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
