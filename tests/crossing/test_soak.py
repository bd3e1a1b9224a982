"""The soak of tests/soak: 2,000 calls of 50 callers at once, twice, so that what stays behind would show."""

from soak.waves import run


def test_interleaved_parked_calls_of_many_callers_stay_apart_and_leave_nothing() -> None:
    report = run(calls=2000, callers=50, waves=2, ttl_s=2.0)
    assert report["first"] == []
    assert report["ok"]
    counts = report["counts"]
    assert report["server"]["begun"] == report["calls"] == 4000
    first, second = report["waves"]
    assert second["rss_mib"] < first["rss_mib"] + 16  # a leak of 10 KiB for each call would be more
    assert (second["tasks"], second["sessions"]) == (first["tasks"], first["sessions"])
    for fate in ("answered", "abandoned", "cancelled", "doubled", "replayed", "stolen"):
        assert counts[fate], fate
    # Every replay and every theft was refused; of an abandoned call the person's silence was told to the server.
    assert counts["refused"] == counts["replayed"] + counts["stolen"]
    assert report["server"]["given up"] >= counts["abandoned"]
