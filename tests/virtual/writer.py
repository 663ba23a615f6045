# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A program whose every page of memory knows when it was last written: writer.py MEGABYTES MEGABYTES_PER_SECOND

It writes to its pages in turn, at that rate, and answers datagrams: ``check`` goes through all of them.
"""

import array
import os
import select
import socket
import struct
import sys
import time

PAGE = 4096
STEP = 0.05


def main():
    pages, rate = int(sys.argv[1]) * 1000000 // PAGE, float(sys.argv[2]) * 1e6 / PAGE
    memory = bytearray(os.urandom(pages * PAGE))
    # When each page was last written; a page that was not moved, or an older one, does not agree.
    written = array.array("Q", bytes(8 * pages))
    for page in range(pages):
        struct.pack_into("<QQ", memory, page * PAGE, page, 0)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 7001))
    number, due = 0, time.monotonic()
    while True:
        ready = select.select([server], [], [], STEP)[0]
        if ready:
            question, client = server.recvfrom(64)
            server.sendto(checked(memory, written) if question == b"check" else question, client)
        now = time.monotonic()
        # What was missed while it stood still is not made up for.
        for _step in range(min(int((now - due) * rate), int(rate * 4 * STEP))):
            page = number % pages
            number += 1
            written[page] = number
            struct.pack_into("<QQ", memory, page * PAGE, page, number)
            struct.pack_into("<Q", memory, page * PAGE + PAGE - 8, number)
        due = now


def checked(memory, written):
    wrong = 0
    for page, number in enumerate(written):
        found = struct.unpack_from("<QQ", memory, page * PAGE)
        end = struct.unpack_from("<Q", memory, page * PAGE + PAGE - 8)[0]
        wrong += found != (page, number) or (number != 0 and end != number)
    return b"%d wrong of %d, %d written" % (wrong, len(written), sum(map(bool, written)))


main()
