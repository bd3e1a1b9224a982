"""The soak of tests/soak, small enough for every run."""

from soak.waves import run


def test_interleaved_parked_calls_of_many_callers_stay_apart_and_leave_nothing() -> None:
    report = run(calls=200, callers=10, waves=1, ttl_s=2.0)
    assert report["first"] == []
    assert report["ok"]
    counts = report["counts"]
    assert report["server"]["begun"] == report["calls"] == 200
    for fate in ("answered", "abandoned", "cancelled", "doubled", "replayed", "stolen"):
        assert counts[fate], fate
    # Every replay and every theft was refused; of an abandoned call the person's silence was told to the server.
    assert counts["refused"] == counts["replayed"] + counts["stolen"]
    assert report["server"]["given up"] >= counts["abandoned"]
