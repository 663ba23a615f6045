# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import os

import pytest

from ansible_collections.ferry.podman.plugins.module_utils import _pace
from ansible_collections.ferry.podman.plugins.module_utils._errors import TransportError
from ansible_collections.ferry.podman.plugins.module_utils._pace import Pace, Sample, Setting, choose, measured, sample

MB = 1e6
TEXT = b"".join(b"name=%d,state=active;" % number for number in range(100_000))
RANDOM = os.urandom(len(TEXT))


class Sink:
    """A channel that takes so many bytes a second, after its buffers."""

    def __init__(self, rate: float, clock: list[float], buffered: int = 1 << 20) -> None:
        self.rate, self.clock, self.left, self.sent = rate, clock, buffered, 0

    def send(self, data: bytes) -> None:
        self.sent += len(data)
        taken = min(self.left, len(data))
        self.left -= taken
        self.clock[0] += (len(data) - taken) / self.rate

    def finish(self) -> str:
        return "done"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1.0]
    monkeypatch.setattr(_pace.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("rate", [3 * MB, 12 * MB, 120 * MB, 1000 * MB])
def test_link_is_measured_in_a_moment(clock: list[float], rate: float) -> None:
    found = measured(Sink(rate, clock))  # type: ignore[arg-type]
    assert 0.8 * rate < found < 1.7 * rate
    assert clock[0] - 1.0 < 2.0


def test_link_to_who_does_not_answer(clock: list[float]) -> None:
    sink = Sink(MB, clock)
    sink.finish = lambda: ""  # type: ignore[method-assign]
    with pytest.raises(TransportError):
        measured(sink)  # type: ignore[arg-type]


def test_what_cannot_be_compressed_goes_as_it_is() -> None:
    assert choose(100 * MB, [Sample(1, 2000 * MB, 1.0), Sample(3, 1000 * MB, 0.99)], 0) is None


def test_slow_links_are_worth_a_higher_level() -> None:
    samples = [Sample(1, 400 * MB, 0.4), Sample(3, 100 * MB, 0.3)]
    assert choose(10 * MB, samples, 0) == Setting(3)
    assert choose(60 * MB, samples, 0) == Setting(1)
    assert choose(500 * MB, samples, 0) is None


def test_threads_are_used_where_one_is_too_slow() -> None:
    samples = [Sample(1, 300 * MB, 0.25)]
    assert choose(120 * MB, samples, 4) == Setting(1, 4)
    assert choose(20 * MB, samples, 4) == Setting(1)


def test_sample_tells_text_from_noise() -> None:
    assert sample(TEXT, 1).ratio < 0.3
    assert sample(RANDOM, 1).ratio > 0.99
    assert sample(TEXT, 1).speed > 0


@pytest.mark.parametrize(
    ("wanted", "there", "link", "kind", "used"),
    [
        ("auto", True, 10 * MB, "text", "zstd"),
        ("auto", True, 10 * MB, "random", "none"),
        ("auto", True, 2000 * MB, "text", "none"),
        ("auto", False, 10 * MB, "text", "none"),
        ("zstd", True, 2000 * MB, "random", "zstd"),
        ("zstd", False, 10 * MB, "text", "none"),
        ("none", True, 10 * MB, "text", "none"),
    ],
)
def test_pace(wanted: str, there: bool, link: float, kind: str, used: str) -> None:
    block = {"text": TEXT, "random": RANDOM}[kind]
    pace = Pace(wanted, there)
    assert pace.measures is (wanted == "auto" and there)
    pace.know(link)
    assert (pace.setting(block) is not None) is (used == "zstd")
    assert pace.used == used


@pytest.mark.parametrize("setting", [Setting(1), Setting(3, 2)])
def test_frames_prove_themselves(setting: Setting) -> None:
    import zstandard

    compressor = setting.compressor().compressobj()
    packed = compressor.compress(TEXT) + compressor.flush()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == TEXT
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompressobj().decompress(packed[:-4] + b"\0\0\0\0")
