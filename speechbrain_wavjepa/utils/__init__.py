"""Files, folders, runs and processes: what every tool here relies on."""
