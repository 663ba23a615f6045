# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils._digest import SMALL, WAITING, Digest

SIZES = [0, 1, 512, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL]


@given(st.lists(st.sampled_from(SIZES), max_size=3 * WAITING))
def test_digest_is_of_all_chunks_in_their_order(sizes) -> None:
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    digest = Digest()
    for chunk in chunks:
        digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_digest_can_be_asked_for_in_between() -> None:
    digest = Digest()
    digest.update(b"one")
    assert digest.hexdigest() == hashlib.sha256(b"one").hexdigest()
    digest.update(b"two")
    assert digest.hexdigest() == hashlib.sha256(b"onetwo").hexdigest()
