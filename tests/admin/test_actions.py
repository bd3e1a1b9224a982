"""The one place where operations are checked, and put on record."""

from pathlib import Path
from typing import Any

import pytest
from gateway import until

from bascule.admin.actions import Actions, Operation, Said
from bascule.call import Caller
from bascule.policy.scopes import Authority
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

ANN = Caller("ann", Authority(frozenset({"bascule.status:read"})), proof="key")


async def test_what_a_fault_of_ours_broke_off_is_not_said_to_be_done(tmp_path: Path) -> None:
    async def run(_: Caller, __: Said) -> Any:
        raise ZeroDivisionError("a fault")

    records = Records(tmp_path / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    broken = Operation(name="it.breaks", method="POST", path="/api/it", about="It breaks.", run=run, recorded=True)
    with pytest.raises(ZeroDivisionError):
        await Actions([broken], records.audit).perform(broken, ANN, {})

    async def entries() -> list[Any]:
        return list(records.writer.read("SELECT json_extract(entry, '$.outcome', '$.decision') FROM audit"))

    assert await until(entries, bool) == [('["internal","deny"]',)]
    await records.close()
