"""Every operation that CLI, REST and console share, as plain functions."""
