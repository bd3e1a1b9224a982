"""Seconds of each fault of a network, between a real Bascule and real servers; `chaos.py` does minutes."""

import asyncio

from soak.proxy import FAULTS
from soak.storm import table, weather

EACH_S = 3.0


def test_whatever_the_network_does_each_call_gets_its_own_answer_in_time_and_nothing_is_left() -> None:
    report = asyncio.run(weather([*((fault, EACH_S) for fault in FAULTS), ("all", EACH_S)], seed=1))
    said = table(report)
    assert not report.wrong, said
    # A network that does nothing, or a Bascule that answers nothing, proves nothing.
    for fault in FAULTS:
        assert report.faults[fault] >= 5, said
        assert report.figures[fault].outcomes["ok"] >= 5, said
    assert report.figures["black hole"].outcomes["timeout"], said
    assert report.figures["reset"].outcomes["ok"] < report.figures["reset"].outcomes.total(), said


def test_of_a_server_that_fails_most_calls_are_spared_and_every_one_is_answered() -> None:
    report = asyncio.run(weather([("reset", EACH_S)], seed=2, patient=False))
    said = table(report)
    assert not report.wrong, said
    assert report.figures["reset"].outcomes["circuit_open"], said
