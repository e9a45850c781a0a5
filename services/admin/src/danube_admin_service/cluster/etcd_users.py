"""Gives each service its user in etcd, and may be repeated.

    python -m danube_admin_service.cluster.etcd_users HOST:PORT FOLDER

FOLDER holds the certificate of `ROOT` as ``tls.crt`` and ``tls.key``, and the authority ``ca.crt``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from danube_common.cluster.key_writers import KINDS, etcd_grants
from danube_common.errors import DanubeError
from danube_common.metadata.etcd_link import EtcdTls
from danube_common.metadata.etcd_users import set_users


def main() -> int:
    """Make the users; return the status of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint", help="a member of etcd, host:port")
    parser.add_argument("folder", type=Path, help="the certificates of root")
    given = parser.parse_args()
    try:
        ca, cert, key = ((given.folder / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        users = {kind: etcd_grants(kind) for kind in KINDS}
        asyncio.run(set_users(given.endpoint, EtcdTls(ca, cert, key), users))
    except (OSError, DanubeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"users of etcd: {' '.join(users)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
