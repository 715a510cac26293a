"""Everything around an experiment: files, directories, training, sweeps, reports, commands."""
