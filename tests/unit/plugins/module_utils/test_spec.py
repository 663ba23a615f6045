# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._spec import environment, mounts


def test_environment() -> None:
    spec = {"process": {"env": ["PATH=/bin", "PASSWORD=s3cret=", "EMPTY=", "BARE", "PATH=/usr/bin"]}}
    assert environment(spec) == {"BARE": "", "EMPTY": "", "PASSWORD": "s3cret=", "PATH": "/usr/bin"}
    assert list(environment(spec)) == sorted(environment(spec))


def test_mounts() -> None:
    spec = {"mounts": [{"destination": "/data", "source": "/srv", "type": "bind", "options": ["rw"]}, {}]}
    assert mounts(spec) == [
        {"source": "/srv", "destination": "/data", "type": "bind"},
        {"source": "", "destination": "", "type": ""},
    ]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["process", "env", "mounts"]), inner),
    max_leaves=8,
)


@given(json)
def test_whatever_it_holds_nothing_breaks(spec: object) -> None:
    assert all(isinstance(text, str) for pair in environment(spec).items() for text in pair)
    assert all(set(mount) == {"source", "destination", "type"} for mount in mounts(spec))


@pytest.mark.parametrize("spec", [None, [], {"process": None}, {"process": {"env": None}}, {"mounts": {}}])
def test_nothing_is_nothing(spec: object) -> None:
    assert environment(spec) == {} and mounts(spec) == []
