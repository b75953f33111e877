"""Seeds that are the same on every machine.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib


def stable_seed(*parts: int) -> int:
    """Mix integers to a seed between 0 and 2**63 - 1; their order counts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
