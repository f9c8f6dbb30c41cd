"""Measurements that others can repeat: `make bench`. Ratios to a floor of the same run, never a bare figure."""
