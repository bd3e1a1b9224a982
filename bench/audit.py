"""What the audit costs: records per second that are written in batches, and microseconds of the event loop per record.

    python bench/audit.py [--records 100000]

Records are posted as fast as they are taken in, with arguments, in a process that does nothing else; the time ends
when the last one is written. On a busy machine the CPU says more than the clock. The cost of a post is measured by
itself, between flushes.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bascule.store.audit import BATCH, Audit
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.writer import Writer

ARGUMENTS: Final = (
    b'{"email":"ada@example.com","name":"Ada Lovelace","value":12000,"tags":["lead","q3"],"source":"web"}'
)


def record(number: int) -> Record:
    return Record(
        kind="call",
        at_us=time.time_ns() // 1000,
        call=f"{number:032x}",
        trace_id=f"{number:032x}",
        caller="sales-agent",
        proof="key",
        method="tools/call",
        thing="crm/create_lead",
        version="1.2.0",
        server="crm",
        era="modern",
        decision="allow",
        outcome="answered",
        sent=True,
        attempts=1,
        cost_nano_usd=2_000_000,
        took_us=1834,
    )


async def measured(state: Path, records: int, *, arguments: bytes | None, keep: bool) -> tuple[float, float, float]:
    """(records per second, microseconds of the loop per record, making it included, microseconds of all its CPU)."""
    writer = Writer(state)
    audit = Audit(writer, state, AuditOptions(arguments="redacted" if keep else "digest"))
    writer.start(audit)
    await audit.start(lambda boot: False)
    taken_us = []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for first in range(0, records, BATCH):
        if audit.full:
            await audit.room()
        from_s = time.perf_counter()
        for number in range(first, first + BATCH):
            audit.post(record(number), arguments)
        taken_us.append((time.perf_counter() - from_s) * 1_000_000 / BATCH)
        await asyncio.sleep(0)
    audit.stop()
    await asyncio.to_thread(writer.close)
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    audit.close()
    assert audit.status()["entries"] == records, "none was lost"
    return records / took_s, statistics.median(taken_us), took_cpu_s * 1_000_000 / records


async def alone_us(state: Path, records: int) -> float:
    """Microseconds of one post, on a quiet machine: the writer sleeps until all are in."""
    writer = Writer(state)
    audit = Audit(writer, state, AuditOptions())
    made = [record(number) for number in range(records)]
    writer.start(audit)
    await audit.start(lambda boot: False)
    taken_us = []
    for first in range(0, records, BATCH - 1):
        from_s = time.perf_counter()
        for each in made[first : first + BATCH - 1]:
            audit.post(each, ARGUMENTS)
        taken_us.append((time.perf_counter() - from_s) * 1_000_000 / (BATCH - 1))
        while audit.waiting():  # noqa: ASYNC110 - the audit tells nobody when it has written
            await asyncio.sleep(0.05)
    audit.stop()
    await asyncio.to_thread(writer.close)
    return statistics.median(taken_us)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    records = parser.parse_args().records // BATCH * BATCH
    loads: tuple[tuple[str, bytes | None, bool], ...] = (
        ("no arguments", None, False),
        ("digest of the arguments", ARGUMENTS, False),
        ("redacted arguments kept", ARGUMENTS, True),
    )
    for name, arguments, keep in loads:
        with tempfile.TemporaryDirectory(prefix="bascule-audit-") as folder:
            rate, loop_us, cpu_us = asyncio.run(measured(Path(folder), records, arguments=arguments, keep=keep))
        print(
            f"{name:<26} {rate:>9,.0f} records/s   {loop_us:6.2f} µs of the loop per record   {cpu_us:6.1f} µs of CPU"
        )
    with tempfile.TemporaryDirectory(prefix="bascule-audit-") as folder:
        print(f"{'one post, alone':<26} {asyncio.run(alone_us(Path(folder), 4000)):>9.2f} µs")


if __name__ == "__main__":
    main()
