"""The data path below ``speechbrain_wavjepa.shards``: from bytes to batches."""
