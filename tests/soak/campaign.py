"""The kill campaign: story after story, each from the next seed, and what was found in all of them."""

import argparse
import asyncio
import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from soak.lives import Bank, prepare_forks
from soak.records import make_template
from soak.story import POINTS, RECOVERED, Findings, Story, judge_executions

PER_STORY: Final = 4
LATEST_EXECUTION_S: Final = 1.2  # a payment that was begun before a kill may still be made so long after it


async def campaign(
    seeds: Sequence[int], per_story: int, side_by_side: int, kept: Path | None = None, within_s: float = math.inf
) -> Findings:
    """Run one story for each of *seeds*, and begin none later than *within_s*."""
    until = time.monotonic() + within_s
    found = Findings()
    prepare_forks()
    with tempfile.TemporaryDirectory(prefix="bascule-kill-") as name:
        folder = Path(name)
        template = folder / "template"
        await asyncio.to_thread(make_template, template)
        async with Bank(folder).open() as bank:
            waiting = iter(seeds)

            async def tell() -> None:
                for seed in itertools.takewhile(lambda _: time.monotonic() < until, waiting):
                    place = (kept or folder) / f"seed-{seed}"
                    shutil.copytree(template, place / "state")
                    story = Story(seed, per_story, place, bank, found)
                    await _told(story)
                    if kept is None:
                        shutil.rmtree(place)

            await asyncio.gather(*(tell() for _ in range(side_by_side)))
            await asyncio.sleep(LATEST_EXECUTION_S)
            judge_executions(found, bank.executions())
            if left := await bank.orphans():
                found.wrong.append(f"seed {seeds[-1]} or another: processes {left} have outlived their Bascule")
    return found


async def _told(story: Story) -> None:
    try:
        await story.run()
    except (TimeoutError, OSError) as error:
        story.wrong(f"the story broke off: {error!r}")


def report(found: Findings, took_s: float) -> str:
    """What was seen, ending with the line that matters."""
    kills = sum(found.kills.values())
    lines = [f"{'killed at':10} {'kills':>6}  what the call that was killed there got when it was sent again"]
    for point in POINTS:
        got = ", ".join(f"{kind} {count}" for kind, count in sorted(found.outcomes.get(point, {}).items()))
        lines.append(f"{point:10} {found.kills[point]:>6}  {got}")
    recovered = ", ".join(f"{point} {found.counts[f'{point} recovered']}" for point in RECOVERED)
    lines.append(f"calls whose end the next life wrote into the audit (outcome_recovered): {recovered}")
    lines += found.wrong[:20]
    if found.wrong:
        seeds = sorted({int(each.split()[1].rstrip(":")) for each in found.wrong})
        lines.append(f"{len(found.wrong)} wrong; seeds {seeds[:20]}; to repeat one: python tests/soak/kill.py --seed N")
    lines.append(f"processes told to stop while they paid: {found.counts['stopped while they paid']}")
    lines.append(f"{len(found.payments)} payments, {took_s:.0f} s, {took_s / max(1, kills):.2f} s for each kill")
    chain = "ok" if not found.broken_chain else f"broken {len(found.broken_chain)}"
    wrong = f" wrong {len(found.wrong)}" if found.wrong else ""
    lines.append(f"kills {kills} double {len(found.double)} lost {len(found.lost)} chain {chain}{wrong}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=PER_STORY, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first story; each has the next")
    parser.add_argument("--per-story", type=int, default=PER_STORY, help="kills on one state folder")
    parser.add_argument("--side-by-side", type=int, default=2, help="stories at one time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no story later than that")
    parser.add_argument("--keep", type=Path, help="leave the state folders and logs there")
    chosen = parser.parse_args()
    stories = -(-chosen.kills // chosen.per_story)
    seeds = range(chosen.seed, chosen.seed + stories)
    began = time.monotonic()
    found = asyncio.run(campaign(seeds, chosen.per_story, chosen.side_by_side, chosen.keep, chosen.minutes * 60))
    print(report(found, time.monotonic() - began))  # noqa: T201 - a command prints
    return 0 if found.ok else 1
