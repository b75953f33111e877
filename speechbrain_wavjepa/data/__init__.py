"""The data path below ``speechbrain_wavjepa.dataio.stream``: from bytes to batches."""
