"""Where metrics are read and where spans go is checked when the configuration is."""

import msgspec
import pytest

from bascule.observe.options import LogsOptions, MetricsOptions, TracingOptions, address_of


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9464", ("::1", 9464)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(said: str, address: tuple[str, int]) -> None:
    assert address_of(said) == address


@pytest.mark.parametrize(
    "said", ["", "9464", ":9464", "127.0.0.1", "127.0.0.1:", "::1:9464", "h:65536", "h:+1", "h:\uff11"]
)
def test_anything_else_is_none(said: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"listen": said}, MetricsOptions)


def test_metrics_that_are_off_are_listened_for_nowhere() -> None:
    assert MetricsOptions(enabled=False, listen="127.0.0.1:9464").address is None
    assert MetricsOptions().address is None


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector.example/", "https://collector.example/v1/traces"),
        ("https://collector.example/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
    ],
)
def test_a_collector_that_is_named_without_a_path_has_the_usual_one(endpoint: str, url: str) -> None:
    assert TracingOptions(endpoint=endpoint).url == url


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://collector", "http://", "http://user:secret@collector"])
def test_what_is_no_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"endpoint": endpoint}, TracingOptions)


@pytest.mark.parametrize("sample", [-0.1, 1.1])
def test_a_part_is_between_none_and_all(sample: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sample": sample}, TracingOptions)


def test_the_key_of_a_collector_is_never_shown() -> None:
    assert "s3cret" not in repr(TracingOptions(endpoint="http://collector", headers={"authorization": "s3cret"}))


def test_nothing_is_said_of_calls_unless_somebody_asks_for_it() -> None:
    assert LogsOptions() == LogsOptions(format="text", calls="off")
