# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This doc fragment is private to the collection: it may change in any release.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with MOVE in module_utils/_request.py.
    DOCUMENTATION = r"""
options:
  tcp:
    description:
      - What becomes of established TCP connections.
      - V(auto) is V(established) where the container's address moves along, and V(close) elsewhere if the destination
        has podman >= 5.7 with crun, else V(established).
      - V(established) restores them. Needs C(nft) on the destination if the container is on a macvlan or ipvlan
        network.
      - V(close) restores the container with its connections closed. Needs podman >= 5.7 and crun >= 1.23 on the
        destination.
      - With V(none), a container that has any cannot be moved, because CRIU refuses to dump them. Where open ones
        can be seen, that is the warning C(connections_open).
    type: str
    choices: [auto, established, close, none]
    default: auto
  transfer:
    description:
      - How the container's state goes to the destination.
      - V(auto) is V(thin) where that is possible and the container has 16 MiB of memory or more; else V(stream), or
        V(relay) if O(url) is an ssh URL. RV(ferry.podman.podman_migrate#module:transfer_reason) tells why.
      - With V(thin) its memory goes beside podman's archive, from host to host, while CRIU still writes it. It lies in
        memory on both hosts meanwhile (a tmpfs of its own at C(/run/ferry.podman)), or, where one of them has too
        little, on that one's disk (C(ferry.podman) beside podman's storage). The source needs the container's memory
        once more, and the destination twice. The module must run on the source as root and reach the destination by
        ssh, and the key must be allowed the command that receives it. Not together with O(keep_source). Where it
        cannot be thin that is the blocker C(not_thin).
      - With V(stream) the module runs on the source, and the state goes straight from there to the destination.
      - With V(relay) the module runs on a machine that reaches both sockets, and O(url) is an ssh URL too. Everything
        passes through that machine, and nothing of it rests on its disk.
      - With V(registry) it goes as an image through O(registry), where no straight way is fast or allowed. What the
        container has logged so far stays behind, its addresses become fixed ones, and the registry keeps the image,
        which holds the container's memory, until it is deleted there.
    type: str
    choices: [auto, thin, stream, relay, registry]
    default: auto
  compress:
    description:
      - Whether memory is compressed on its way, if it goes as V(thin) (see O(transfer)). What goes otherwise is never
        compressed.
      - V(auto) measures the link before the freeze, with up to 48 MiB that RV(ferry.podman.podman_migrate#module:bytes)
        does not count, for half a second or for a few on a slow link; not if O(bandwidth) is set. It measures the
        compressor on some of the first pages, and compresses with zstd, level 1 or 3, where that is clearly quicker.
      - V(zstd) compresses in any case, with level 1.
      - Needs Python's C(zstandard) on the source and the program C(zstd) on the destination. Without both nothing is
        compressed, with V(zstd) too, and RV(ferry.podman.podman_migrate#module:compression) is V(none).
    type: str
    choices: [auto, zstd, none]
    default: auto
  precopy:
    description:
      - Whether memory and volumes go before the freeze.
      - Memory goes in rounds, all of it first and then what has been written since. Only what the last round has left
        has to go while the container stands still.
      - V(auto) does up to five rounds where that is possible and the container has 64 MiB of memory or more. It stops
        as soon as a round is not clearly smaller than the one before, or smaller than 4 MiB.
      - With a number, from 1 to 100, there are never more rounds than that. V(never) does none.
      - Each round freezes the processes for one or two tenths of a second, which counts as no downtime here. The memory
        goes over more than once.
      - Shared memory is not tracked. It goes whole in the freeze, and where it is most of the memory there are no
        rounds. If a client was connecting during the last dump, all of the memory goes again while the container
        stands still.
      - Needs a source whose kernel tracks memory (C(criu check --feature mem_dirty_track)), and on both hosts room for
        the memory once or twice more. RV(ferry.podman.podman_migrate#module:precopy_reason) tells why there was none.
      - Where the move is not V(thin) (see O(transfer)) there is one round, which podman writes and which goes as the
        begin of the archive. With V(registry) there is none, and none where the module does not run on the source as
        root.
      - The content of volumes goes once before the freeze, unless this is V(never), if all of them have 16 MiB or more
        together, and in the freeze each file goes again whose content has changed. Needs the module on the source as
        root, an ssh URL, a transfer other than V(registry), a locale of UTF-8 there, and volumes of up to 200,000 files
        that have no access control lists, no other extended attributes that podman drops, and no symbolic links with
        several names. Otherwise they go in the archive.
        RV(ferry.podman.podman_migrate#module:precopy_volumes) has what went when.
    type: str
    default: auto
  registry:
    description:
      - Where in a registry the image goes, as C(host[:port]/path), for O(transfer=registry). Each move has a tag of
        its own there. Both hosts must reach it; before the freeze a tiny image with the tag C(ferry-rehearsal) proves
        that.
    type: str
  registry_tls_verify:
    description:
      - Whether the registry must have a certificate that the hosts trust. By default what their C(registries.conf)
        says.
    type: bool
  registry_username:
    description:
      - Name to log in to the registry with. By default what C(podman login) has left on each host.
    type: str
  registry_password:
    description: Password for O(registry_username).
    type: str
  registry_auth_file:
    description:
      - Path of a file with credentials, as C(podman login --authfile) writes it (containers-auth.json), on the host
        that the module runs on. With O(transfer=registry), both hosts are sent the entry that fits most of O(registry).
      - Programs that a file names instead (C(credHelpers), C(credsStore)) are not run.
      - Works with every Podman that this collection knows (seen with 5.4 and 5.8).
    type: path
  image_transfer:
    description:
      - How the destination gets the image that the container was made from, if it does not have that very image.
      - V(stream) brings it from the source. V(pull) has the destination pull it by its name, and fails if that gives
        another image. With V(never) a move is refused (C(image_absent)) if the image is absent.
      - The image stays on the destination, also when the move does not come about.
    type: str
    choices: [stream, pull, never]
    default: stream
  networks:
    description:
      - What to do about networks of the container that the destination lacks.
      - V(create) makes them as the source has them, and removes them again when the move does not come about. It is
        refused (C(parent_absent)) where the destination lacks the device of a macvlan or ipvlan network.
      - With V(require) the move is refused (C(network_absent)).
    type: str
    choices: [require, create]
    default: require
  ignore_volumes:
    description:
      - Leave named volumes out. The container gets volumes of the same names on the destination, those that are there
        with what is in them. On the source they stay.
    type: bool
    default: false
  publish:
    description:
      - Ports to publish on the destination instead of the container's own, each in the form that C(podman run
        --publish) takes. Those of the container that are not named here are not published there.
      - A move is refused (C(port_in_use)) if something on the destination listens on one of them.
    type: list
    elements: str
    default: []
  keep_source:
    description:
      - Leave the stopped container, its checkpoint and its volumes on the source after the move. Starting it there
        makes two copies.
      - The memory goes inside podman's archive then, by way of both disks, which takes about four times as long.
      - Its restart policy on the source is V(no) from then on. Refused for containers of C(--rm) (C(keep_source)),
        because podman removes them when they stop.
    type: bool
    default: false
  wait_healthy:
    description:
      - Run the container's health check on the destination, if it has one, and have the container back on the source
        if it does not pass within O(wait_healthy_timeout).
      - Without a health check its process must still run half a second after the restore.
      - On macvlan and ipvlan networks it runs for the first time before any client reaches the container. If it passes
        later only, what clients were told until then is lost with a way back.
    type: bool
    default: true
  wait_healthy_timeout:
    description:
      - Seconds in which the health check must have passed. It is run once a second until then.
    type: int
    default: 60
  bandwidth:
    description:
      - Most bytes per second that the state may take of the network, such as V(50M) for 50 MiB per second (a number
        with V(K), V(M) or V(G), powers of 1024). What goes in the freeze makes it longer. Anything else is an error,
        and nothing is touched.
      - The image that the container was made from is not limited in a live move, nor with O(transfer=registry) what
        podman pushes and pulls.
      - No limit by default.
    type: str
  max_downtime:
    description:
      - Refuse the move (C(downtime_exceeded)) when it is estimated to stop the container for more than these seconds.
        See RV(ferry.podman.podman_migrate#module:estimate), which knows neither the link, unless O(bandwidth) is set,
        nor compression, nor what goes before the freeze. It is not enforced while the container moves.
      - No limit by default.
    type: float
  force:
    description:
      - Move in spite of findings whose severity is V(warning), which refuse a move otherwise. Blockers refuse it in any
        case. The table of findings in the documentation has the severity of each.
    type: bool
    default: false
  journal:
    description:
      - Directory on the machine that the module runs on, in which it notes what phase a move is in. The next run of a
        move that was cut off reads it, and finishes or undoes that move. So it must outlive a reboot, and be the same
        for all runs. It is made with the mode V(0700), and its files with V(0600).
      - A move whose journal cannot be written is not begun. One whose journal cannot be read fails, because nobody
        knows what the earlier run has done.
    type: path
    default: /var/lib/ferry
  retries:
    description:
      - How many more times to try when the dump failed because a client was connecting at that very moment. The
        container runs on meanwhile. After the last one the move fails, and the container still runs on the source.
    type: int
    default: 3
"""
