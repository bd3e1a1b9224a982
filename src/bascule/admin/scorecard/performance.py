"""Performance and scale: six criteria."""

from typing import Final

from bascule.admin.doctor.finding import names, plural
from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, idle, met, missing, partly
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions


def _resource_limits(scene: Scene) -> Verdict:
    seen = scene.files.holding(r"^\s*(limits:|mem_limit:|memory:\s*\S|MemoryMax=|CPUQuota=)|--memory[= ]")
    if seen:
        return met(f"{seen[0]} bounds processor and memory")
    overload = scene.setup.config.overload
    evidence = f"work is turned away over {overload.max_memory_percent:g} % of memory and {overload.max_calls} calls"
    return partly(evidence, "deploy.resources.limits in Compose: {cpus: '2.0', memory: 2G}")


def _caching(scene: Scene) -> Verdict:
    tools = [each for _, each in scene.setup.contracts() if each.kind == "tool"]
    cached = [each.id for each in tools if each.cache_policy]
    if cached:
        return met(f"results are kept of {names(cached)}")
    harmless = [each.id for each in tools if not each.side_effect]
    if tools and not harmless:
        return idle("every tool with a contract has side effects")
    gain = (
        f"cache_policy: {{ttl_seconds: 3600}} in the contract of {harmless[0]}"
        if harmless
        else "side_effect: false and cache_policy, in the contracts of tools that only read"
    )
    return missing("every call goes to its server", gain)


def _pooling(scene: Scene) -> Verdict:
    servers = scene.setup.config.servers
    if not servers:
        return idle("there are no servers")
    alone = [name for name, each in servers.items() if isinstance(each, StdioOptions) and each.sharing != "shared"]
    remote = [each for each in servers.values() if isinstance(each, HttpOptions)]
    if alone:
        return partly(
            f"{names(alone)} start a process for each client",
            f"servers.{alone[0]}.sharing: shared, if it keeps clients apart",
        )
    pools = f"up to {max(each.max_connections for each in remote)} connections are kept and shared" if remote else ""
    return met(pools or f"{plural(len(servers), 'process', 'processes')}, shared by all clients")


def _auto_scaling(scene: Scene) -> Verdict:
    seen = scene.files.holding(r"HorizontalPodAutoscaler|ScaledObject|autoscaling_config|autoscaling:|min_replicas")
    if seen:
        return met(f"{seen[0]} adds replicas when there is more to do")
    return missing("nothing is seen that adds replicas", "a HorizontalPodAutoscaler for the edge")


def _load_balancing(scene: Scene) -> Verdict:
    replicas = scene.setup.config.replicas
    seen = scene.files.holding(
        r"^\s*upstream\s+\w+\s*\{|kind:\s*(Service|Ingress)\b|loadbalancer|^\s*lb_policy|^\s*balance\s"
    )
    if seen and replicas > 1:
        return met(f"{seen[0]} spreads calls over {replicas} replicas")
    if seen:
        return partly(
            f"{seen[0]} could spread calls, and there is one replica", "replicas: 2, with seal.keys and shared state"
        )
    return missing(
        "one process takes all calls", "replicas: 2, with seal.keys, behind a proxy that knows /health/ready"
    )


def _asynchronous(scene: Scene) -> Verdict:
    overload, limits = scene.setup.config.overload, scene.setup.config.limits
    return met(
        f"no call waits for another: up to {overload.max_calls} at once, {limits.queued} wait where places are taken"
    )


GROUP: Final = Group(
    "Performance",
    [
        Criterion("resource-limits", "Processor and memory are bounded", "critical", _resource_limits),
        Criterion("caching", "What seldom changes is kept", "important", _caching),
        Criterion("connection-pooling", "Connections are used again", "important", _pooling),
        Criterion("auto-scaling", "Replicas come and go with the work", "nice", _auto_scaling),
        Criterion("load-balancing", "Calls are spread over replicas", "important", _load_balancing),
        Criterion("async-processing", "Calls do not wait for each other", "important", _asynchronous),
    ],
)
