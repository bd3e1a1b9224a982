"""A version that is none is refused with the reason, the model mends it, and an officer puts it into force."""

import json

from agent import Agent

CALLERS = ("agent", "officer")
TOOL = "policy/update_security_policy"
TEXT = "Keys are changed every 90 days. Nobody shares one."


async def story(agent: Agent) -> None:
    agent.user("Đưa chính sách bảo mật mới vào hệ thống, phiên bản 2.0 nhé.")
    said = await agent.refused(TOOL, {"version": "2.0", "text": TEXT}, "invalid_argument", key="policy-security-2.0")
    (problem,) = said.details["problems"]
    agent.reason(f"Nothing was called. {problem['path']} {problem['problem']}. 2.0 in SemVer is 2.0.0.")

    policy = {"version": "2.0.0", "text": TEXT}
    await agent.confirm(TOOL, policy, person="officer", note="agreed on Tuesday", key="policy-security-2.0.0")
    in_force = json.loads((agent.work / "policy.json").read_text(encoding="utf-8"))
    agent.see("2.0.0 is in force", in_force == policy)

    agent.reason("Is 1.9.0 still possible? The schema allows it, and an officer may: it is the tool that says no.")
    older = {"version": "1.9.0", "text": TEXT}
    await agent.confirm(TOOL, older, person="officer", note="just to see", key="policy-security-1.9.0", then="failed")
    agent.see("2.0.0 is still in force", json.loads((agent.work / "policy.json").read_text("utf-8")) == policy)
